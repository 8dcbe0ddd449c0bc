//! Where the first statement of a text ends.
//!
//! SQLite can say it only by compiling, and whoever asks for each statement of a long text in turn
//! compiles them all. This follows the rules of `sqlite3_complete()`
//! (<https://www.sqlite.org/c3ref/complete.html>): a statement ends at a semicolon outside of
//! quotes and comments, one that creates a trigger at the semicolon after the END that follows one.

/// What matters of a word or sign for the end of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Semicolon,
    Blank,
    Explain,
    Create,
    Temporary,
    Trigger,
    End,
    Other,
}

/// Where in a statement we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but blanks and semicolons so far.
    Start,
    /// In a statement that ends at the next semicolon.
    Ordinary,
    /// After EXPLAIN, and QUERY PLAN if it is there.
    Explain,
    /// After CREATE, and TEMP if it is there.
    Create,
    /// In a trigger.
    Trigger,
    /// In a trigger, after a semicolon.
    TriggerSemicolon,
    /// In a trigger, after the END that follows a semicolon.
    TriggerEnd,
}

impl State {
    fn after(self, token: Token) -> State {
        use State as S;
        use Token as T;
        match (self, token) {
            (_, T::Blank) => self,
            (S::Start, T::Semicolon) => S::Start,
            (S::Start, T::Explain) => S::Explain,
            (S::Explain, T::Other) => S::Explain,
            (S::Start | S::Explain, T::Create) => S::Create,
            (S::Create, T::Temporary) => S::Create,
            (S::Create, T::Trigger) => S::Trigger,
            (S::Trigger | S::TriggerSemicolon, T::Semicolon) => S::TriggerSemicolon,
            (S::TriggerSemicolon, T::End) => S::TriggerEnd,
            (S::Trigger | S::TriggerSemicolon | S::TriggerEnd, _) => S::Trigger,
            _ => S::Ordinary,
        }
    }
}

/// The first statement of `sql`, with what comes before it but without its semicolon, and what
/// follows that semicolon. Takes time in proportion to the length, whatever is in the text.
pub(super) fn split_first(sql: &str) -> (&str, &str) {
    if memchr::memchr(b';', sql.as_bytes()).is_none() {
        return (sql, "");
    }
    let mut state = State::Start;
    let mut at = 0;
    while at < sql.len() {
        let (token, length) = next_token(&sql.as_bytes()[at..]);
        let ends = match state {
            State::Ordinary | State::Explain | State::Create | State::TriggerEnd => {
                token == Token::Semicolon
            }
            State::Start | State::Trigger | State::TriggerSemicolon => false,
        };
        if ends {
            return (&sql[..at], &sql[at + 1..]);
        }
        state = state.after(token);
        at += length;
    }
    (sql, "")
}

/// The words, literals and signs of `sql`, as they are written.
pub(super) fn tokens(mut sql: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        while !sql.is_empty() {
            let (token, mut length) = next_token(sql.as_bytes());
            while !sql.is_char_boundary(length) {
                length += 1;
            }
            let (text, rest) = sql.split_at(length);
            sql = rest;
            if token != Token::Blank {
                return Some(text);
            }
        }
        None
    })
}

/// The token at the beginning of `rest`, which is not empty, and its length in bytes. What is not
/// closed goes on to the end.
fn next_token(rest: &[u8]) -> (Token, usize) {
    let through = |close: u8, from: usize| {
        rest[from..].iter().position(|b| *b == close).map_or(rest.len(), |end| from + end + 1)
    };
    match rest[0] {
        b';' => (Token::Semicolon, 1),
        b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' => (Token::Blank, 1),
        b'\xef' if rest.starts_with("\u{feff}".as_bytes()) => (Token::Blank, 3),
        b'-' if rest.get(1) == Some(&b'-') => (Token::Blank, through(b'\n', 2)),
        b'/' if rest.get(1) == Some(&b'*') => {
            let end = rest.windows(2).skip(2).position(|w| w == b"*/");
            (Token::Blank, end.map_or(rest.len(), |end| end + 4))
        }
        quote @ (b'\'' | b'"' | b'`') => (Token::Other, through(quote, 1)),
        b'[' => (Token::Other, through(b']', 1)),
        b'$' | b'@' | b':' | b'#' => (Token::Other, variable(rest)),
        first if is_word(first) => {
            let length = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
            (keyword(&rest[..length]), length)
        }
        _ => (Token::Other, 1),
    }
}

/// The length of a parameter's name with its prefix. As SQLite takes it from Tcl, `::` may be in it,
/// and at its end a part in parentheses: of anything but blanks, quotes and semicolons too.
fn variable(rest: &[u8]) -> usize {
    let mut at = 1;
    let mut letters = 0;
    while let Some(&byte) = rest.get(at) {
        if is_word(byte) {
            letters += 1;
        } else if byte == b'(' && letters > 0 {
            let blank = |b: &u8| matches!(b, b'\t'..=b'\r' | b' ');
            let inner = &rest[at + 1..];
            let end = inner.iter().position(|b| *b == b')' || blank(b)).unwrap_or(inner.len());
            let closed = usize::from(inner.get(end) == Some(&b')'));
            return at + 1 + end + closed;
        } else if byte == b':' && rest.get(at + 1) == Some(&b':') {
            at += 1;
        } else {
            break;
        }
        at += 1;
    }
    at
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn keyword(word: &[u8]) -> Token {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("EXPLAIN") {
        Token::Explain
    } else if is("CREATE") {
        Token::Create
    } else if is("TEMP") || is("TEMPORARY") {
        Token::Temporary
    } else if is("TRIGGER") {
        Token::Trigger
    } else if is("END") {
        Token::End
    } else {
        Token::Other
    }
}

#[cfg(test)]
mod tests {
    use super::split_first;

    #[test]
    fn the_first_statement_ends_where_sqlite_ends_it() {
        crate::sqlite::memory::install();
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(a); CREATE TABLE u(\"end\", b)").unwrap();
        for (first, rest) in [
            ("SELECT 1", ""),
            ("SELECT 1", " SELECT 2"),
            ("  ;; SELECT 'a;b' -- ; c\n", " x"),
            ("SELECT \"a;\", `;`, [;] FROM (SELECT 1 AS \"a;\", 2 AS \";\")", ";"),
            ("SELECT 1 /* ; */ + /* ' */ 2", "--"),
            ("SELECT 'it''s; fine'", "'"),
            (
                "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END",
                " y",
            ),
            (
                "CREATE TRIGGER b AFTER INSERT ON t BEGIN SELECT \"end\" FROM u; /* END; */ DELETE FROM u; end",
                "",
            ),
            ("EXPLAIN QUERY PLAN CREATE TEMP TRIGGER c AFTER INSERT ON t BEGIN SELECT 1; END", "z"),
            ("CREATE TABLE \"trigger\"(a)", " SELECT 2; END;"),
            ("WITH x AS (SELECT 'ä;' AS ö) SELECT ö FROM x", "ä"),
            ("SELECT $a, @b, :c", "SELECT 3"),
            ("SELECT $a('), :b(\"), @c([), $d(/*), $e::f(;--)", "SELECT 4'\"]*/"),
            ("\u{feff}SELECT 5", ""),
        ] {
            let sql = format!("{first};{rest}");
            assert_eq!(split_first(&sql), (first, rest), "{sql}");
            // rusqlite compiles what SQLite leaves of the text, too, and refuses more than one.
            let first = first.trim_start_matches('\u{feff}');
            conn.prepare(first).unwrap_or_else(|e| panic!("{first}: {e}"));
        }
    }

    /// Lists of expressions with whatever may hold a semicolon, against the end that SQLite finds.
    #[test]
    fn generated_texts_end_where_sqlite_ends_them() {
        const ATOMS: &[&str] = &[
            "1",
            "'a'",
            "'b;'",
            "'c''d;'",
            "\"e\"",
            "`e;`",
            "[e]",
            "[e;\"]",
            "x'00'",
            "$a",
            ":b",
            "@c",
            "?1",
            "#1",
            "$a(')",
            ":b(\")",
            "@c([)",
            "$d(;)",
            "$e::f(/*)",
            "$g::(`)",
            "$h(--)",
            "$i(",
            "$j()",
            "$k( )",
            "1/*;*/",
            "2--;\n",
            "3 /*/ ;*/",
            "4/ *5",
            "6- -7",
            "ö",
            "ö$('",
            "e$('",
            "\u{feff}",
            "END",
            "a.b",
            "(8",
            ")",
            "CASE 1 WHEN 1 THEN 2 END",
            ";",
            "\u{b}",
            "$l(\u{b}')",
            "'",
        ];
        crate::sqlite::memory::install();
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(e, \"e;\", \"e;\"\"\")").unwrap();
        let (mut state, mut compiled) = (1_u64, 0);
        let mut below = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for _ in 0..50_000 {
            let list: Vec<&str> = (0..1 + below(3)).map(|_| ATOMS[below(ATOMS.len())]).collect();
            let select = format!("SELECT {} FROM t", list.join(", "));
            let sql = match below(4) {
                0 => format!("CREATE TRIGGER x AFTER INSERT ON t BEGIN {select}; END;y'"),
                1 => format!("EXPLAIN {select};'"),
                _ => format!("{select};SELECT '\""),
            };
            let text = std::ffi::CString::new(sql.clone()).unwrap();
            let (mut statement, mut tail) = (std::ptr::null_mut(), std::ptr::null());
            // SAFETY: the connection is open, the text is terminated and outlives the call, and the
            // statement is finalized before the connection closes.
            let (code, rest) = unsafe {
                let code = rusqlite::ffi::sqlite3_prepare_v2(
                    conn.handle(),
                    text.as_ptr(),
                    -1,
                    &mut statement,
                    &mut tail,
                );
                rusqlite::ffi::sqlite3_finalize(statement);
                (code, std::ffi::CStr::from_ptr(tail).to_bytes())
            };
            if code == rusqlite::ffi::SQLITE_OK {
                compiled += 1;
                assert_eq!(split_first(&sql).1.as_bytes(), rest, "{sql}");
            }
        }
        assert!(compiled > 10_000, "{compiled}");
    }

    #[test]
    fn what_is_not_closed_goes_on_to_the_end() {
        for sql in ["SELECT 'a; b", "/* ;", "-- ;", "SELECT [a;", "CREATE TRIGGER a ; b ; END", ""]
        {
            assert_eq!(split_first(sql), (sql, ""));
        }
    }
}

//! The string functions that replace SQLite's give the same answers, and cost what they say.

use std::time::Instant;

use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// A value of any type, mostly text of few different characters, some of them no UTF-8.
    fn literal(&mut self, most: usize) -> String {
        const PIECES: &[&[u8]] = &[
            b"a",
            b"A",
            b"b",
            b"%",
            b"_",
            b"*",
            b"?",
            b"[",
            b"]",
            b"^",
            b"-",
            b" ",
            b"aa",
            b"\\",
            "é".as_bytes(),
            "€".as_bytes(),
            "😀".as_bytes(),
            b"\xc3",
            b"\xa9",
            b"\xf0\x9f",
            b"\xff",
            b"\0",
        ];
        match self.below(24) {
            0 => return "NULL".into(),
            1 => return self.below(200).to_string(),
            2 => return format!("{}.5", self.below(9)),
            _ => {}
        }
        let pieces = if self.below(3) == 0 { 4 } else { PIECES.len() };
        let mut hex = String::new();
        for _ in 0..self.below(most) {
            for byte in PIECES[self.below(pieces)] {
                hex.push_str(&format!("{byte:02x}"));
            }
        }
        if self.below(8) == 0 { format!("x'{hex}'") } else { format!("CAST(x'{hex}' AS TEXT)") }
    }
}

#[test]
fn string_functions_answer_as_sqlites_own() {
    let ours = Engine::new().conn;
    let theirs = rusqlite::Connection::open_in_memory().unwrap();
    let mut random = Random(1);
    let answer = |conn: &rusqlite::Connection, sql: &str| {
        conn.query_row(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        })
        .map_err(|e| e.to_string())
    };
    for i in 0..60_000 {
        let (a, b, c) = (random.literal(9), random.literal(5), random.literal(3));
        let call = match random.below(9) {
            0 => format!("trim({a})"),
            1 => format!("trim({a}, {b})"),
            2 => format!("ltrim({a}, {b})"),
            3 => format!("rtrim({a}, {b})"),
            4 => format!("instr({a}, {c})"),
            5 => format!("replace({a}, {c}, {b})"),
            6 => format!("{b} LIKE {a}"),
            7 => format!("{a} LIKE {b} ESCAPE {c}"),
            _ => format!("{b} GLOB {a}"),
        };
        let sql = format!("SELECT typeof(x), hex(x) FROM (SELECT {call} AS x)");
        assert_eq!(answer(&ours, &sql), answer(&theirs, &sql), "{i}: {call}");
    }
}

#[test]
fn the_limits_of_string_functions_are_sqlites() {
    let engine = Engine::new();
    for (sql, code) in [
        (
            "SELECT replace(printf('%.*c', 5000, 'a'), 'a', printf('%.*c', 5000, 'b'))",
            "SQLITE_TOOBIG",
        ),
        ("SELECT 'a' LIKE printf('%.*c', 20000, 'a')", "SQLITE_ERROR"),
        ("SELECT 'a' LIKE 'b' ESCAPE 'cc'", "SQLITE_ERROR"),
        ("SELECT 'a' LIKE 'b' ESCAPE ''", "SQLITE_ERROR"),
    ] {
        assert_eq!(engine.refused(sql).code(), code, "{sql}");
    }
}

/// Each of these took minutes to days within one instruction.
#[test]
fn one_call_cannot_hold_up_the_writer() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let long = |text: &str, length: usize| Value::from(text.repeat(length / text.len()));
    let begin = Instant::now();
    for sql in [
        "INSERT INTO t SELECT trim(?1, ?2 || 'b')",
        "INSERT INTO t SELECT instr(?1, substr(?1, 2, 4000000) || substr(?2, 1, 2))",
        "INSERT INTO t SELECT replace(?1, substr(?1, 2, 4000000) || substr(?2, 1, 2), '')",
        "INSERT INTO t SELECT instr(?1, ?2 || 'c')",
    ] {
        engine.run(Statement::new(sql, vec![long("a", 8 << 20), long("bé", 4 << 20)]));
    }
    let pattern = |sql: &str, pattern: String| {
        engine.refused(Statement::new(sql, vec![long("a", 16 << 20), Value::from(pattern)]))
    };
    let error = pattern("INSERT INTO t SELECT ?1 LIKE ?2", format!("%{}b", "a".repeat(9000)));
    assert_eq!(error.code(), "SQL_TOO_LONG");
    let error = pattern("INSERT INTO t SELECT ?1 GLOB ?2", format!("*{}b", "[a-z]".repeat(1500)));
    assert_eq!(error.code(), "SQL_TOO_LONG");
    // Ten thousand wildcards are no recursion.
    engine.run(Statement::new(
        "INSERT INTO t SELECT ?1 LIKE ?2",
        vec![long("a", 25_000), Value::from("%a".repeat(5000))],
    ));
    // An hour, in SQLite; this bound is only to fail then.
    assert!(begin.elapsed().as_secs() < 300);
}

/// The deepest recursion of SQLite's own LIKE within the limit fits a small stack.
#[test]
fn a_query_with_ten_thousand_wildcards_needs_little_stack() {
    let engine = Engine::new();
    let reader = engine.reader();
    let run = move || {
        let sql = "SELECT ?1 LIKE ?2, ?1 GLOB ?3";
        let values = vec![
            Value::from("a".repeat(5000)),
            Value::from("%a".repeat(5000)),
            Value::from("*a".repeat(5000)),
        ];
        execute::read(&reader, &Statement::new(sql, values)).unwrap().into_values()
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap(), [[Value::Integer(1), Value::Integer(1)]]);
}

//! Text with several SQL statements, taken apart as SQLite's shell does.

/// The statements of `sql`, without the semicolons that end them. A semicolon within CREATE TRIGGER
/// ends nothing until the trigger's own END stands before it.
pub fn statements(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(length) = first_statement(rest) {
        let (statement, after) = rest.split_at(length);
        let statement = statement.trim().trim_end_matches(';');
        if has_token(statement) {
            found.push(statement.to_string());
        }
        rest = after;
    }
    found
}

/// The word with which a statement begins, in upper case.
pub fn keyword(sql: &str) -> String {
    Tokens(sql).next().unwrap_or_default().to_ascii_uppercase()
}

fn has_token(sql: &str) -> bool {
    Tokens(sql).next().is_some()
}

fn first_statement(sql: &str) -> Option<usize> {
    let mut tokens = Tokens(sql);
    let mut words = Vec::new();
    // The two tokens before the current one.
    let mut previous = [String::new(), String::new()];
    let mut seen = false;
    while let Some(token) = tokens.next() {
        seen = true;
        let word = token.to_ascii_uppercase();
        if words.len() < 4 {
            words.push(word.clone());
        }
        if word == ";" && (!is_trigger(&words) || previous == [";", "END"]) {
            return Some(sql.len() - tokens.0.len());
        }
        let [_, last] = previous;
        previous = [last, word];
    }
    seen.then_some(sql.len())
}

fn is_trigger(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(words[..], ["CREATE", "TRIGGER", ..] | ["CREATE", "TEMP" | "TEMPORARY", "TRIGGER", ..])
}

/// Words, quoted texts and single characters; blanks and comments are left out.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.0 = self.0.trim_start();
            if self.0.starts_with("--") {
                self.0 = self.0.find('\n').map_or("", |end| &self.0[end..]);
            } else if self.0.starts_with("/*") {
                self.0 = self.0.find("*/").map_or("", |end| &self.0[end + 2..]);
            } else {
                break;
            }
        }
        let first = self.0.chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let length = match first {
            '\'' | '"' | '`' => self.0[1..].find(first).map_or(self.0.len(), |end| end + 2),
            '[' => self.0.find(']').map_or(self.0.len(), |end| end + 1),
            c if is_word(c) => self.0.find(|c| !is_word(c)).unwrap_or(self.0.len()),
            c => c.len_utf8(),
        };
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(token)
    }
}

#[test]
fn semicolons_in_texts_comments_and_triggers_end_nothing() {
    let sql = "SELECT ';', \"a;b\" -- ; \n, 1; /* ; */ ; \
               CREATE TEMP TRIGGER t AFTER INSERT ON x BEGIN SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; \
               END; SELECT 'it''s;'";
    let found = statements(sql);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[1].ends_with("END"), "{found:?}");
    assert_eq!(keyword(&found[1]), "CREATE");
    assert_eq!(found[2], "SELECT 'it''s;'");
}

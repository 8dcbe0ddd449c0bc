//! Local time in what a schema keeps: a DEFAULT, a CHECK, a generated column, an index or a trigger. Each
//! write that meets it would be refused, so the statement that creates it is.

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::execute::{after_blanks, first_keyword};
use crate::sqlite::text;

/// The functions that take the modifier.
const FUNCTIONS: &[&str] = &["date", "time", "datetime", "julianday", "unixepoch", "strftime"];

/// Whether `sql` creates something that asks for local time. A view may: queries may read it.
///
/// `utc` may stand there: it does nothing to a time that is UTC already.
pub(in crate::sqlite) fn is_kept(sql: &str) -> bool {
    let keyword = first_keyword(sql);
    let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
    if !is(keyword, "CREATE") && !is(keyword, "ALTER") {
        return false;
    }
    let rest = after_blanks(sql).get(keyword.len()..).unwrap_or_default();
    let mut tokens = text::tokens(rest);
    let temporary = |word: &&str| is(word, "TEMP") || is(word, "TEMPORARY");
    if tokens.find(|word| !temporary(word)).is_some_and(|word| is(word, "VIEW")) {
        return false;
    }
    let mut before = "";
    // The calls that the token is in: of a function that takes the modifier, or of anything else.
    let mut open: Vec<bool> = Vec::new();
    for token in tokens {
        match token {
            "(" => open.push(FUNCTIONS.iter().any(|name| is(unquoted(before), name))),
            ")" => drop(open.pop()),
            _ if token.starts_with('\'') => {
                let modifier = token.trim_matches('\'').trim();
                if open.last() == Some(&true) && is(modifier, "localtime") {
                    return true;
                }
            }
            _ => {}
        }
        before = token;
    }
    false
}

/// A name as it is written, without the quotes that it may have.
fn unquoted(name: &str) -> &str {
    name.trim_matches(['"', '`', '[', ']'])
}

pub(in crate::sqlite) fn refusal() -> Error {
    Error::new(
        ErrorKind::Forbidden,
        "FORBIDDEN_LOCAL_TIME",
        "localtime and utc depend on the node's time zone and cannot be replicated: convert in the \
         application and write the result as a parameter, or convert when reading",
    )
}

#[cfg(test)]
mod tests {
    use super::is_kept;

    #[test]
    fn local_time_is_found_where_a_schema_keeps_it() {
        for sql in [
            "CREATE TABLE t(a DEFAULT (datetime('now','localtime')))",
            "create table t(a, b as (date ( a , /* 1, */ ' LocalTime ' )))",
            "CREATE TABLE t(a CHECK (a < \"strftime\"('%s', 'now', 'localtime')))",
            "CREATE INDEX i ON t(unixepoch(a, '+1 day', 'localtime'))",
            "ALTER TABLE t ADD COLUMN b DEFAULT (time(abs(1), 'localtime'))",
            "/* x */ CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET a = julianday(('now'), \
             'localtime'); END",
        ] {
            assert!(is_kept(sql), "{sql}");
        }
        for sql in [
            "CREATE TABLE t(a DEFAULT 'localtime', b DEFAULT (datetime('now', 'utc')))",
            "CREATE TABLE t(a DEFAULT (datetime('now', lower('localtime'))))",
            "CREATE VIEW v AS SELECT datetime(a, 'localtime') FROM t",
            "CREATE TABLE t(a) -- datetime('now', 'localtime')",
            "CREATE TABLE t(a DEFAULT ('datetime(''now'', ''localtime'')'))",
            "INSERT INTO t SELECT datetime('now', 'localtime')",
            "CREATE TABLE t(a, \"datetime(",
            "CREATE",
            "",
        ] {
            assert!(!is_kept(sql), "{sql}");
        }
    }
}

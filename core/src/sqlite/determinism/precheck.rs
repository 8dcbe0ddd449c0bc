//! What can be refused before a statement is proposed: it costs no place in the log then.
//!
//! Only what no replica would ever take, whatever its schema: the node that is asked may not have
//! applied a table that the statement needs. All else is decided when the statement is applied,
//! and equally on each node.

use crate::error::{Error, Result};
use crate::sqlite::apply::execute::{self, first_keyword};
use crate::sqlite::apply::write_steps;
use crate::sqlite::determinism::{authorizer, local_time};
use crate::statement::Statement;

/// Refuses a command whose text alone shows that it cannot be replicated.
///
/// # Errors
/// The one that applying the command would give.
pub(crate) fn refuse_early(statements: &[Statement]) -> Result<()> {
    for (i, statement) in statements.iter().enumerate() {
        if let Some(error) = refusal(statement) {
            let several = statements.len() > 1;
            return Err(if several {
                error.context(format_args!("statement {}", i + 1))
            } else {
                error
            });
        }
    }
    Ok(())
}

fn refusal(statement: &Statement) -> Option<Error> {
    if let Some(request) = write_steps::request(statement) {
        return request.err();
    }
    let sql = statement.sql.trim();
    let keyword = first_keyword(sql);
    let rest = execute::after_blanks(sql).get(keyword.len()..)?;
    let is = |words: &[&str]| words.iter().any(|word| keyword.eq_ignore_ascii_case(word));
    if is(&["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"]) {
        return Some(authorizer::transaction_control());
    }
    if is(&["ATTACH", "DETACH"]) {
        return Some(authorizer::attach());
    }
    if is(&["VACUUM"]) {
        return Some(authorizer::vacuum());
    }
    if is(&["EXPLAIN"]) {
        return Some(authorizer::explain_in_write());
    }
    if let Err(error) = execute::only_statement(sql) {
        return Some(error);
    }
    if local_time::is_kept(sql) {
        return Some(local_time::refusal());
    }
    if is(&["CREATE"]) {
        let next = first_keyword(rest);
        let temporary = ["TEMP", "TEMPORARY"].iter().any(|word| next.eq_ignore_ascii_case(word));
        return temporary.then(authorizer::temporary);
    }
    if is(&["PRAGMA"]) {
        return pragma(rest);
    }
    None
}

/// Judges `PRAGMA name`, with a value or without; a name in quotes or of another database is left
/// to SQLite.
fn pragma(rest: &str) -> Option<Error> {
    let rest = execute::after_blanks(rest);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let has_value = match execute::after_blanks(after).bytes().next() {
        None => false,
        Some(b'=' | b'(') => true,
        Some(_) => return None,
    };
    if name.is_empty() { None } else { authorizer::refused_pragma(name, has_value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_replica_would_take_is_known_by_its_text() {
        for (sql, code) in [
            ("begin", "FORBIDDEN_TRANSACTION_CONTROL"),
            (" /* x */ ;Rollback TO a", "FORBIDDEN_TRANSACTION_CONTROL"),
            ("CREATE TABLE t(a DEFAULT (time('now', 'localtime')))", "FORBIDDEN_LOCAL_TIME"),
            ("ATTACH 'x' AS y", "FORBIDDEN_ATTACH"),
            ("vacuum;", "FORBIDDEN_VACUUM"),
            ("CREATE -- x\n TEMPORARY TABLE t(a)", "FORBIDDEN_TEMP"),
            ("PRAGMA foreign_keys=OFF", "FORBIDDEN_PRAGMA"),
            ("PRAGMA foreign_keys", "FORBIDDEN_PRAGMA"),
            ("PRAGMA journal_mode (delete)", "FORBIDDEN_PRAGMA"),
            ("PRAGMA data_version;", "FORBIDDEN_PRAGMA"),
            ("SELECT 1; SELECT 2", "SQL_MULTIPLE_STATEMENTS"),
        ] {
            assert_eq!(
                refusal(&sql.into()).map(|e| e.code().to_string()).as_deref(),
                Some(code),
                "{sql}"
            );
        }
    }

    #[test]
    fn what_a_replica_may_take_passes() {
        for sql in [
            "",
            ";",
            "CREATE TABLE temp_readings(a)",
            "CREATE TABLE IF NOT EXISTS temp(a)",
            "PRAGMA user_version = 7",
            "PRAGMA main.user_version",
            "PRAGMA defer_foreign_keys = ON",
            "PRAGMA table_info(t)",
            "PRAGMA \"foreign_keys\"",
            "PRAGMA",
            "INSERT INTO begin VALUES (1)",
            "SELECT 'vacuum'",
            "REINDEX",
            "é",
        ] {
            assert!(refusal(&sql.into()).is_none(), "{sql}");
        }
        assert!(refuse_early(&["SELECT 1".into(), "SELECT 2".into()]).is_ok());
        let error = refuse_early(&["SELECT 1".into(), "COMMIT".into()]).unwrap_err();
        assert!(error.message().starts_with("statement 2: "), "{error}");
    }
}

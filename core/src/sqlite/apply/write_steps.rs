//! `PRAGMA quorumlite_write_steps`: the [`Budget`](super::budget) of a command. It is part of the
//! content, as every replica must come to the end of it at the same instruction.

use std::ops::RangeInclusive;

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::budget::DEFAULT_STEPS;
use crate::sqlite::apply::execute::{after_blanks, first_keyword, only_statement};
use crate::sqlite::apply::meta;
use crate::statement::{Params, Rows, Statement};
use crate::value::Value;

/// In lower case.
const NAME: &str = "quorumlite_write_steps";

/// Where it is kept in the meta table.
const KEY: &str = "write_steps";

/// Less would refuse honest writes; more is a day.
const STEPS: RangeInclusive<i64> = 1_000_000..=10_000_000_000_000;

/// What a statement wants of the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) enum Request {
    Look,
    Set(i64),
}

/// What `statement` wants of the setting, if that is what it is about.
///
/// # Errors
/// `Sql`: not a number of steps.
pub(in crate::sqlite) fn request(statement: &Statement) -> Option<Result<Request>> {
    let value = after_name(&statement.sql)?;
    let without_parameters = match &statement.params {
        Params::Positional(values) => values.is_empty(),
        Params::Named(values) => values.is_empty(),
    };
    let number = |text: &str| {
        let steps = text.trim().parse().ok().filter(|n| STEPS.contains(n) && without_parameters);
        steps.map(Request::Set).ok_or_else(no_number)
    };
    let value = after_blanks(value).trim_end();
    Some(match value.strip_prefix('=') {
        Some(text) => number(text.trim_end_matches([';', ' '])),
        None if value.is_empty() && without_parameters => Ok(Request::Look),
        None => {
            let value = value.trim_end_matches([';', ' ']);
            let inner = value.strip_prefix('(').and_then(|v| v.strip_suffix(')'));
            inner.ok_or_else(no_number).and_then(number)
        }
    })
}

/// Whether `statement` may change the setting.
pub(in crate::sqlite) fn is_about(statement: &Statement) -> bool {
    after_name(&statement.sql).is_some()
}

/// What comes after `PRAGMA quorumlite_write_steps`.
fn after_name(sql: &str) -> Option<&str> {
    let keyword = first_keyword(sql);
    if !keyword.eq_ignore_ascii_case("PRAGMA") {
        return None;
    }
    let sql = only_statement(sql.trim()).ok()?;
    let rest = after_blanks(after_blanks(sql).get(keyword.len()..)?);
    let (name, value) = rest.split_at_checked(NAME.len())?;
    let ends = !value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (name.eq_ignore_ascii_case(NAME) && ends).then_some(value)
}

/// The setting, as the open transaction of `conn` sees it.
///
/// # Errors
/// This node's own.
pub(in crate::sqlite) fn load(conn: &Connection) -> Result<u64> {
    let steps = meta::integer(conn, KEY)?.and_then(|steps| u64::try_from(steps).ok());
    Ok(steps.unwrap_or(DEFAULT_STEPS))
}

/// Does what was asked for, within a transaction of `conn` if it is to be set. The commands after this
/// one have what is set.
///
/// # Errors
/// This node's own.
pub(in crate::sqlite) fn run(conn: &Connection, request: Request) -> Result<Rows> {
    match request {
        Request::Set(steps) => meta::put(conn, KEY, steps).map(|()| Rows::default()),
        Request::Look => {
            let steps = i64::try_from(load(conn)?).unwrap_or(i64::MAX);
            Ok(Rows::new(vec![NAME.to_string()], vec![vec![Value::Integer(steps)]]))
        }
    }
}

fn no_number() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_WRITE_STEPS",
        format!(
            "PRAGMA {NAME} takes a number of steps from {} to {}, written into the text: a million of \
             them take some milliseconds",
            STEPS.start(),
            STEPS.end()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_told_from_other_pragmas() {
        let ask = |sql: &str| request(&sql.into()).map(|r| r.map_err(|e| e.code().to_string()));
        for sql in ["pragma quorumlite_write_steps", " /**/ PRAGMA\nQuorumlite_Write_Steps ; -- x"]
        {
            assert_eq!(ask(sql), Some(Ok(Request::Look)), "{sql}");
        }
        for sql in [
            "PRAGMA quorumlite_write_steps = 5000000",
            "PRAGMA quorumlite_write_steps=5000000;",
            "PRAGMA quorumlite_write_steps(5000000)",
            "PRAGMA quorumlite_write_steps ( 5000000 ) ;",
        ] {
            assert_eq!(ask(sql), Some(Ok(Request::Set(5_000_000))), "{sql}");
        }
        for value in
            ["= 1", "= -5000000", "= 1e7", "= 'x'", "=", "()", "(5000000", "= 99999999999999", "x"]
        {
            let sql = format!("PRAGMA quorumlite_write_steps {value}");
            assert_eq!(ask(&sql), Some(Err("SQL_WRITE_STEPS".to_string())), "{sql}");
        }
        let given =
            Statement::new("PRAGMA quorumlite_write_steps = ?", [Value::Integer(5_000_000)]);
        assert!(request(&given).unwrap().is_err());
        for sql in [
            "PRAGMA user_version",
            "PRAGMA quorumlite_write_steps_more",
            "SELECT 'PRAGMA quorumlite_write_steps'",
            "PRAGMA quorumlite_write_steps; SELECT 1",
            "",
        ] {
            assert_eq!(ask(sql), None, "{sql}");
        }
    }
}

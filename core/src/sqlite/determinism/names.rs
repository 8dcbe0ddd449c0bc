//! Column names that SQLite draws at random.
//!
//! Where columns of a subquery, a view or CREATE TABLE AS have the same name, SQLite appends `:1` to
//! `:4`, and from then on a number of its process-wide generator (sqlite3ColumnsFromExprList). Such a
//! name must reach neither the schema, nor a row, nor a result.

use rusqlite::Connection;

use super::authorizer::UserStatement;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::internal;

/// Columns that SQLite could not tell apart without chance are at least these many.
const FEWEST: usize = 5;

/// Refuses the statement that `user` has just run, and that gave these `columns`, where a name that
/// was drawn may be in what it wrote or answered.
///
/// # Errors
/// The same on every node: what was drawn differs, that it was does not.
pub(in crate::sqlite) fn check(
    conn: &Connection,
    user: &UserStatement,
    columns: &[String],
) -> Result<Option<Error>> {
    if drawn(columns) {
        return Ok(Some(refusal("the result")));
    }
    if let Some(table) = user.created_from_select() {
        let names = columns_of(conn, &table)?;
        if drawn(&names) {
            return Ok(Some(refusal(&format!("the new table {table}"))));
        }
    }
    for asked in user.asked_columns() {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = ?1 COLLATE NOCASE";
        let is_view = internal::with(conn, sql, |s| s.exists([&asked]))?;
        if is_view && drawn(&columns_of(conn, &asked)?) {
            return Ok(Some(refusal(&format!("the view {asked}"))));
        }
    }
    Ok(None)
}

fn columns_of(conn: &Connection, table: &str) -> Result<Vec<String>> {
    internal::with(conn, "SELECT name FROM pragma_table_xinfo(?1)", |s| {
        s.query_map([table], |row| row.get(0))?.collect()
    })
}

/// Whether one of `names` was drawn: `x:1`, `x:2`, `x:3` and `x:4` are taken, and there is another
/// `x:N`.
fn drawn(names: &[String]) -> bool {
    if names.len() < FEWEST {
        return false;
    }
    let numbered = |name: &str| {
        let (base, number) = name.rsplit_once(':')?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| (base.to_ascii_lowercase(), number.parse::<u64>().unwrap_or(u64::MAX)))
    };
    let numbers: Vec<(String, u64)> = names.iter().filter_map(|name| numbered(name)).collect();
    numbers.iter().any(|(base, number)| {
        !(1..=4).contains(number)
            && (1..=4).all(|n| numbers.iter().any(|(b, m)| b == base && *m == n))
    })
}

fn refusal(of: &str) -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_DUPLICATE_COLUMNS",
        format!(
            "six or more columns of {of} have the same name, and SQLite would draw names for them \
             at random, others on each node: name them with AS"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn a_name_that_was_drawn_is_known_by_its_neighbours() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
        assert!(drawn(&names(&["x", "X:1", "x:2", "x:3", "x:4", "x:2871234567"])));
        assert!(drawn(&names(&["x:1", "x:2", "x:3", "x:4", "x:77"])));
        assert!(drawn(&names(&["", ":1", ":2", ":3", ":4", ":99999999999999999999999"])));
        assert!(!drawn(&names(&["x", "x:1", "x:2", "x:3", "x:4"])));
        assert!(!drawn(&names(&["a:5", "b:1", "b:2", "b:3", "b:4", "x:y"])));
        assert!(!drawn(&names(&["a:10", "a:11", "a:12", "a:13", "a:14", "a:15"])));
    }
}

//! Nothing of a user's may hang on the tables in which virtual tables keep their content.
//!
//! An index, a trigger or a foreign key there could fail while a full-text index writes what it held
//! back, which happens at a savepoint or COMMIT, where an error is nobody's; and the statement journal
//! that SQLite then opens is a savepoint itself, which begins the same again, without end.

use rusqlite::{Connection, OptionalExtension};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::internal;

/// What the names of such tables end with (xShadowName of FTS5 and R*Tree).
const SHADOWS: &str = "WITH shadow(name) AS MATERIALIZED (
    SELECT v.name || '_' || s.column1
    FROM sqlite_schema AS v, (VALUES ('config'), ('content'), ('data'), ('docsize'), ('idx'),
                              ('node'), ('parent'), ('rowid')) AS s
    WHERE v.type = 'table' AND v.rootpage = 0)";

/// Looks through the schema after it was changed.
///
/// # Errors
/// Only this node's own trouble; the answer is the refusal.
pub(in crate::sqlite) fn check(conn: &Connection) -> Result<Option<Error>> {
    let virtual_tables = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND rootpage = 0";
    if !internal::with(conn, virtual_tables, |s| s.exists([]))? {
        return Ok(None);
    }
    let sql = format!(
        "{SHADOWS}
         SELECT o.type || ' ' || o.name, s.name FROM sqlite_schema AS o, shadow AS s
         WHERE o.type IN ('index', 'trigger') AND o.sql IS NOT NULL
           AND o.tbl_name = s.name COLLATE NOCASE
         UNION ALL
         SELECT 'foreign key of ' || t.name, s.name
         FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f, shadow AS s
         WHERE t.type = 'table' AND t.rootpage > 0 AND f.\"table\" = s.name COLLATE NOCASE
         LIMIT 1"
    );
    let found: Option<(String, String)> = internal::with(conn, &sql, |s| {
        s.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    })?;
    Ok(found.map(|(what, table)| {
        Error::new(
            ErrorKind::Forbidden,
            "FORBIDDEN_SHADOW_TABLE",
            format!(
                "the {what} would hang on {table}, in which a virtual table keeps its content: put \
                 it on a table of your own"
            ),
        )
    }))
}

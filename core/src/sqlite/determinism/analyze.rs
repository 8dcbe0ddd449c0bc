//! ANALYZE and the planner's statistics, the same on each replica.
//!
//! Two things in SQLite depend on how a connection came to its schema: the order in which ANALYZE
//! goes through the tables (that of a hash table), and what the planner still knows of tables whose
//! statistics are gone. So the writer goes through the tables by name, and reads its schema anew
//! after each command that may have changed statistics.

use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::apply::execute::{after_blanks, first_keyword};
use crate::sqlite::internal;
use crate::statement::Statement;

/// Statements after which the statistics in memory may not be those of the file.
const CHANGING: &[&str] = &["ALTER", "ANALYZE", "CREATE", "DROP"];

/// Whether `sql` is an ANALYZE of all tables.
pub(in crate::sqlite) fn is_of_all_tables(sql: &str) -> bool {
    if !first_keyword(sql).eq_ignore_ascii_case("ANALYZE") {
        return false;
    }
    let what = after_blanks(&after_blanks(sql)["ANALYZE".len()..]);
    if what.is_empty() {
        return true;
    }
    ["main", "\"main\"", "'main'", "`main`", "[main]"].iter().any(|database| {
        what.get(..database.len()).is_some_and(|start| start.eq_ignore_ascii_case(database))
            && after_blanks(&what[database.len()..]).is_empty()
    })
}

/// Analyzes all tables but the state machine's, in the order of their names.
///
/// # Errors
/// As SQLite says.
pub(in crate::sqlite) fn all_tables(conn: &Connection) -> rusqlite::Result<()> {
    // Creates the tables of statistics where there is nothing else to analyze.
    conn.execute_batch("ANALYZE main.sqlite_schema")?;
    let mut names = conn.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 \
         AND name NOT LIKE 'sqlite~_%' ESCAPE '~' AND name NOT LIKE '~_quorumlite~_%' ESCAPE '~' \
         ORDER BY name",
    )?;
    let names = names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for name in names {
        conn.execute_batch(&format!("ANALYZE main.\"{}\"", name.replace('"', "\"\"")))?;
    }
    Ok(())
}

/// Whether `statement` may change the schema or the statistics.
pub(in crate::sqlite) fn changes(statement: &Statement) -> bool {
    let keyword = first_keyword(&statement.sql);
    CHANGING.iter().any(|word| keyword.eq_ignore_ascii_case(word))
}

/// Forgets every compiled statement where `statement`, which has run or was rolled back, may have
/// changed the schema. SQLite would compile them again while they run, at another time on each node,
/// and under other bounds than those of compiling.
pub(in crate::sqlite) fn forget_compiled(conn: &Connection, statement: &Statement) {
    if changes(statement) {
        conn.flush_prepared_statement_cache();
    }
}

/// Whether the schema must be read anew after `statements`, with or without success. Forgets what
/// was compiled before them, too: they may have been rolled back.
pub(in crate::sqlite) fn may_have_changed(
    conn: &Connection,
    statements: &[Statement],
) -> Result<bool> {
    if !statements.iter().any(changes) {
        return Ok(false);
    }
    conn.flush_prepared_statement_cache();
    // They may have existed until now.
    let dropped = |s: &Statement| s.sql.to_ascii_lowercase().contains("sqlite_stat");
    Ok(statements.iter().any(dropped)
        || conn
            .table_exists(Some("main"), "sqlite_stat1")
            .map_err(crate::sqlite::error::internal)?)
}

/// Forgets the schema and the statistics; the next statement reads them, as after a restart. Virtual
/// tables connect anew, so none may hold changes that it has not written yet: to be called right
/// after a SAVEPOINT.
pub(in crate::sqlite) fn reload(conn: &Connection) -> Result<()> {
    internal::batch(conn, "PRAGMA writable_schema = RESET")?;
    conn.flush_prepared_statement_cache();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_of_all_tables;

    #[test]
    fn analyze_of_all_tables_is_told_from_that_of_one() {
        for sql in [
            "analyze",
            " /* a */ ANALYZE ;-- b",
            "ANALYZE Main",
            "ANALYZE/**/[main] ;",
            "ANALYZE\n\"main\"",
        ] {
            assert!(is_of_all_tables(sql), "{sql}");
        }
        for sql in ["ANALYZE t", "ANALYZE main.t", "ANALYZE mainly", "SELECT 1", "", "ANALYZE temp"]
        {
            assert!(!is_of_all_tables(sql), "{sql}");
        }
    }
}

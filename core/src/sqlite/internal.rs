//! The SQL that the node itself runs on its own connections.

use rusqlite::{CachedStatement, Connection};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::apply::execute::INTERNAL_MARK;
use crate::sqlite::error;

/// Runs `f` on the cached statement `sql`, marked so that no text of a user's ever finds it in the
/// statement cache.
///
/// # Errors
/// Whatever SQLite says is this node's own trouble.
pub(super) fn with<T>(
    conn: &Connection,
    sql: &str,
    f: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<T>,
) -> Result<T> {
    let mut text = String::with_capacity(INTERNAL_MARK.len() + 1 + sql.len());
    text.push_str(INTERNAL_MARK);
    text.push(' ');
    text.push_str(sql);
    conn.prepare_cached(&text).and_then(|mut s| f(&mut s)).map_err(error::internal)
}

/// Runs one cached statement without parameters or rows.
pub(super) fn run(conn: &Connection, sql: &str) -> Result<()> {
    with(conn, sql, |s| s.raw_execute().map(|_| ()))
}

/// Runs several statements.
pub(super) fn batch(conn: &Connection, sql: &str) -> Result<()> {
    conn.execute_batch(sql).map_err(error::internal)
}

/// A failure of this node itself, never a result of a command.
pub(super) fn node_error(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, code, message).with_retryable(false)
}

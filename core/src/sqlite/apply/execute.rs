//! Running one statement of a user's: compile (cached), bind, step, collect.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, ffi};

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::budget::Budget;
use crate::sqlite::determinism::authorizer::{self, Role, UserStatement};
use crate::sqlite::determinism::{analyze, clock_vfs, context};
use crate::sqlite::error;
pub(crate) use crate::sqlite::error::Failure;
use crate::sqlite::storage::disk_full;
use crate::statement::{Params, Rows, Statement};
use crate::value::Value;

/// How every statement of our own that is compiled with `prepare_cached` must begin.
///
/// A compiled statement keeps its permission, and the cache knows it by its text: a user's text
/// must never find one of ours, so [`run`] refuses texts that begin like this.
pub(crate) const INTERNAL_MARK: &str = "/* quorumlite */";

/// The most bytes of values that one read may return.
const RESULT_LIMIT: usize = 64 << 20;

/// The most bytes of values that all statements of one command may return. Less than a message
/// between nodes can carry: the answer of a write that was applied must always arrive.
pub(crate) const COMMAND_RESULT_LIMIT: usize = 16 << 20;

/// What a row and a value count towards [`RESULT_LIMIT`] beside their bytes: about the memory that
/// they take. Fixed numbers, as each node must come to the same sum.
const ROW_SIZE: usize = 24;
const VALUE_SIZE: usize = 32;

/// Texts longer than this are compiled each time: 256 of them would be too much memory.
const CACHED_SQL: usize = 16 << 10;

/// What one statement did.
#[derive(Debug, Default)]
pub(crate) struct StatementOutcome {
    /// `sqlite3_changes()` for INSERT, UPDATE and DELETE, 0 for all others.
    pub rows_affected: u64,
    /// The rowid of the last row that this statement inserted, else 0.
    pub last_insert_rowid: i64,
    /// The rows of SELECT or RETURNING.
    pub rows: Rows,
    /// What the rows count towards [`COMMAND_RESULT_LIMIT`].
    pub result_bytes: usize,
}

/// Runs `statement` on a writer connection. `result_limit` is what the command's statements before
/// this one have left of [`COMMAND_RESULT_LIMIT`].
///
/// The caller has entered the command's context and a savepoint, and rolls back to it on any
/// failure: a failed statement may have left changes behind (`OR FAIL`, a result that was too
/// large, a rowid at the maximum).
///
/// # Errors
/// [`Failure::Statement`] is the same on every node; [`Failure::Node`] is this node's trouble.
pub(crate) fn run(
    conn: &Connection,
    statement: &Statement,
    result_limit: usize,
) -> Result<StatementOutcome, Failure> {
    let total_before = conn.total_changes();
    let rowid_before = conn.last_insert_rowid();
    let watch = RowidWatch::begin();
    disk_full::forget();
    let result = step_all(conn, statement, Role::Writer, result_limit);
    // Once a rowid is at the maximum SQLite picks further ones at random, so whatever happened
    // after that is not to be trusted, success or not.
    if watch.saw_maximum() && !matches!(result, Err(Failure::Node(_))) {
        return Err(Failure::Statement(rowid_exhausted()));
    }
    if let Some(table) = watch.merge_option_of()
        && !matches!(result, Err(Failure::Node(_)))
        && is_virtual(conn, &table).map_err(Failure::Node)?
    {
        forget_automerge(conn, &table).map_err(Failure::Node)?;
        return Err(Failure::Statement(automerge()));
    }
    let (rows, result_bytes) = result?;
    let rowid = conn.last_insert_rowid();
    let inserted = rowid != rowid_before || watch.last_inserted() == Some(rowid);
    Ok(StatementOutcome {
        // Only INSERT, UPDATE and DELETE move the total, and each sets the number of changes.
        rows_affected: if conn.total_changes() == total_before { 0 } else { conn.changes() },
        last_insert_rowid: if inserted { rowid } else { 0 },
        rows,
        result_bytes,
    })
}

/// Runs `statement` on a reader connection.
///
/// # Errors
/// Also [`ErrorKind::Forbidden`] where the statement writes.
pub(in crate::sqlite) fn read(conn: &Connection, statement: &Statement) -> Result<Rows, Failure> {
    step_all(conn, statement, Role::Reader, RESULT_LIMIT).map(|(rows, _)| rows)
}

/// Makes `last_insert_rowid()` 0, and `changes()` too where somebody may ask for it, as on a fresh
/// connection: what an earlier command left there depends on how commands were spread over
/// transactions and restarts. To be called before each command, inside its transaction, on a
/// database that has the meta table.
///
/// # Errors
/// Only this node's own trouble.
pub(crate) fn reset_connection_state(conn: &Connection, uses_changes: bool) -> crate::Result<()> {
    // SAFETY: the handle is open.
    unsafe { ffi::sqlite3_set_last_insert_rowid(conn.handle(), 0) };
    if uses_changes && conn.changes() != 0 {
        // There is no call that sets changes(); a DELETE that deletes nothing does.
        conn.prepare_cached("/* quorumlite */ DELETE FROM _quorumlite_meta WHERE 0")
            .and_then(|mut statement| statement.raw_execute())
            .map_err(error::internal)?;
    }
    Ok(())
}

/// Notices that another connection changed the schema. A SELECT does so by itself; a PRAGMA or EXPLAIN
/// answers from the schema that this connection read last.
fn reload_schema(conn: &Connection) -> crate::Result<()> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")
        .and_then(|mut statement| statement.exists([]))
        .map(drop)
        .map_err(error::internal)
}

fn step_all(
    conn: &Connection,
    statement: &Statement,
    role: Role,
    result_limit: usize,
) -> Result<(Rows, usize), Failure> {
    let sql = statement.sql.trim();
    let keyword = first_keyword(sql);
    check_text(sql, keyword, role).map_err(Failure::Statement)?;
    let looks = |word: &str| role == Role::Reader && keyword.eq_ignore_ascii_case(word);
    if looks("EXPLAIN") {
        // One that was compiled with an older schema would go on showing the plan of then: nothing
        // makes SQLite compile it again.
        conn.flush_prepared_statement_cache();
    }
    if looks("PRAGMA") || looks("EXPLAIN") {
        reload_schema(conn).map_err(Failure::Node)?;
    }
    let user = UserStatement::begin(keyword);
    let fail = |error: rusqlite::Error| explain(&user, without_offset(role, error));

    let mut prepared = match conn.prepare_cached(sql) {
        // SQLite compiles with the schema that this connection read last, and of some errors it
        // does not ask whether that is still the one in the file.
        Err(_) if role == Role::Reader => {
            drop(user.denial());
            user.pause();
            reload_schema(conn).map_err(Failure::Node)?;
            user.resume();
            conn.prepare_cached(sql)
        }
        result => result,
    }
    .map_err(fail)?;
    // EXPLAIN only shows the program. Of the pragmas the authorizer lets through those that look;
    // SQLite says of some of them that they could write.
    let only_looks = prepared.is_explain() != 0 || looks("PRAGMA");
    if role == Role::Reader && !only_looks && !prepared.readonly() {
        return Err(Failure::Statement(authorizer::write_in_query()));
    }
    match bind(&mut prepared, &statement.params) {
        Ok(()) => {}
        Err(BindError::Parameters(error)) => {
            // A statement from this node's cache may no longer compile, and another node, without
            // it in its cache, would say so instead.
            prepared.discard();
            conn.prepare(sql).map_err(fail)?;
            return Err(Failure::Statement(error));
        }
        Err(BindError::Sqlite(error)) => return Err(fail(error)),
    }
    if role == Role::Writer && analyze::is_of_all_tables(sql) {
        user.pause();
        analyze::all_tables(conn).map_err(fail)?;
        return Ok((Rows::default(), 0));
    }
    user.step();
    let _budget = (role == Role::Writer).then(|| Budget::begin(&prepared));

    let mut values = Vec::new();
    let mut size = 0;
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next().map_err(fail)? {
        // Stepping may have compiled the statement again, with other columns: count them now.
        let columns = row.as_ref().column_count();
        let mut line = Vec::with_capacity(columns);
        size += ROW_SIZE + columns * VALUE_SIZE;
        for column in 0..columns {
            let value = value(row.get_ref(column).map_err(fail)?, column)?;
            size += value.size();
            line.push(value);
        }
        if size > result_limit {
            return Err(Failure::Statement(result_too_large(role)));
        }
        values.push(line);
    }
    drop(cursor);
    let columns = column_names(&prepared).map_err(fail)?;
    if sql.len() > CACHED_SQL {
        prepared.discard();
    }
    Ok((Rows::new(columns, values), size))
}

fn column_names(prepared: &CachedStatement<'_>) -> rusqlite::Result<Vec<String>> {
    (0..prepared.column_count()).map(|i| prepared.column_name(i).map(str::to_string)).collect()
}

fn value(value: ValueRef<'_>, column: usize) -> Result<Value, Failure> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::Integer(v),
        ValueRef::Real(v) => Value::Real(v),
        ValueRef::Blob(v) => Value::Blob(v.to_vec()),
        ValueRef::Text(v) => match std::str::from_utf8(v) {
            Ok(text) => Value::Text(text.to_string()),
            Err(_) => {
                return Err(Failure::Statement(Error::new(
                    ErrorKind::Sql,
                    "SQL_INVALID_UTF8",
                    format!(
                        "the TEXT in column {column} of the result is not valid UTF-8: read it \
                         with CAST(... AS BLOB)"
                    ),
                )));
            }
        },
    })
}

fn result_too_large(role: Role) -> Error {
    let limit = match role {
        Role::Writer => COMMAND_RESULT_LIMIT,
        Role::Reader => RESULT_LIMIT,
    };
    Error::new(
        ErrorKind::Busy,
        "BUSY_RESULT_TOO_LARGE",
        format!(
            "the result is larger than {} MiB: ask for fewer rows or columns at once",
            limit >> 20
        ),
    )
    .with_retryable(false)
}

fn rowid_exhausted() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_ROWID_EXHAUSTED",
        "a row would get the largest rowid there is (9223372036854775807), after which SQLite picks \
         rowids at random: use a smaller one",
    )
}

/// Whether there is a virtual table of this name.
fn is_virtual(conn: &Connection, table: &str) -> crate::Result<bool> {
    conn.prepare_cached(
        "/* quorumlite */ SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE \
         AND type = 'table' AND rootpage = 0",
    )
    .and_then(|mut statement| statement.exists([table]))
    .map_err(error::internal)
}

/// Brings this connection back to where a fresh one is: the option is also kept in memory, which
/// no rollback reaches. What this writes itself is rolled back.
fn forget_automerge(conn: &Connection, table: &str) -> crate::Result<()> {
    let name = table.replace('"', "\"\"");
    conn.execute_batch(&format!(
        "SAVEPOINT quorumlite_automerge; INSERT INTO \"{name}\"(\"{name}\") VALUES ('automerge=0'); \
         ROLLBACK TO quorumlite_automerge; RELEASE quorumlite_automerge"
    ))
    .map_err(error::internal)
}

fn automerge() -> Error {
    Error::new(
        ErrorKind::Forbidden,
        "FORBIDDEN_STATEMENT",
        "automerge of an FTS3 or FTS4 table merges when a transaction ends, and each node has its \
         own transactions: send 'merge=X,Y' or 'optimize' from time to time, or use FTS5",
    )
}

/// Forgets where in a writer's statement an error was found: SQLite tells only when the statement
/// is compiled for the first time, not when it comes from this node's statement cache and is
/// compiled again, so replicas would give different messages.
fn without_offset(role: Role, error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqlInputError { error, msg, .. } if role == Role::Writer => {
            rusqlite::Error::SqliteFailure(error, Some(msg))
        }
        other => other,
    }
}

/// Turns what SQLite says into what the user should know.
fn explain(user: &UserStatement, error: rusqlite::Error) -> Failure {
    if let Some(denial) = user.denial() {
        return Failure::Statement(denial);
    }
    match error::failure(error) {
        Failure::Node(e) if e.code() == "SQLITE_INTERRUPT" && Budget::is_spent() => {
            Failure::Statement(Error::new(
                ErrorKind::Sql,
                "SQL_TOO_LONG",
                "the statement takes longer than a replicated write may: split it into several, or \
                 read with query() and write the result",
            ))
        }
        // No write to a file found the disk full, so it is the other thing that SQLite says in
        // these words, which is the same on each node.
        Failure::Node(e) if e.code() == "SQLITE_FULL" && !disk_full::seen() => Failure::Statement(
            Error::new(
                ErrorKind::Sql,
                "SQLITE_FULL",
                "the table has used up its AUTOINCREMENT rowids: lower its entry in \
                     sqlite_sequence, or give the rowid",
            )
            .with_sqlite_code(ffi::SQLITE_FULL),
        ),
        Failure::Statement(e)
            if e.message() == clock_vfs::LOCAL_TIME_REFUSED && context::is_active() =>
        {
            Failure::Statement(Error::new(
                ErrorKind::Forbidden,
                "FORBIDDEN_LOCAL_TIME",
                "localtime and utc depend on the node's time zone and cannot be replicated: \
                 convert in the application and write the result as a parameter, or convert when \
                 reading",
            ))
        }
        other => other,
    }
}

/// What can be said about a text before SQLite sees it.
fn check_text(sql: &str, keyword: &str, role: Role) -> Result<(), Error> {
    if sql.as_bytes().contains(&0) {
        return Err(Error::new(
            ErrorKind::Sql,
            "SQL_NUL",
            "the SQL text holds a NUL character, at which SQLite would stop reading: pass it in a \
             parameter",
        ));
    }
    if sql.starts_with(INTERNAL_MARK) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "FORBIDDEN_STATEMENT",
            format!("a statement may not begin with the comment {INTERNAL_MARK}"),
        ));
    }
    if keyword.is_empty() && after_blanks(sql).is_empty() {
        return Err(Error::new(
            ErrorKind::Sql,
            "SQL_EMPTY",
            "the text holds no SQL statement, only blanks or comments",
        ));
    }
    if keyword.eq_ignore_ascii_case("VACUUM") {
        return Err(authorizer::vacuum());
    }
    // A foreign key or a new name that refers to our tables is nothing that the authorizer sees.
    if role == Role::Writer
        && (keyword.eq_ignore_ascii_case("CREATE") || keyword.eq_ignore_ascii_case("ALTER"))
        && sql.to_ascii_lowercase().contains(authorizer::INTERNAL_PREFIX)
    {
        return Err(authorizer::internal_table());
    }
    Ok(())
}

/// The word with which the statement begins, past blanks, comments and empty statements.
pub(in crate::sqlite) fn first_keyword(sql: &str) -> &str {
    let rest = after_blanks(sql);
    let end = rest.bytes().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
    &rest[..end]
}

/// The text without the blanks, comments and empty statements at its beginning.
pub(in crate::sqlite) fn after_blanks(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\x0c', '\r', ';', '\u{feff}']);
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.find('\n').map_or("", |end| &comment[end..])
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map_or("", |end| &comment[end + 2..])
        } else {
            return rest;
        };
    }
}

enum BindError {
    Parameters(Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for BindError {
    fn from(error: rusqlite::Error) -> Self {
        BindError::Sqlite(error)
    }
}

impl From<String> for BindError {
    fn from(message: String) -> Self {
        BindError::Parameters(Error::new(ErrorKind::Sql, "SQL_PARAMETERS", message))
    }
}

fn bind(prepared: &mut CachedStatement<'_>, params: &Params) -> Result<(), BindError> {
    let expected = prepared.parameter_count();
    match params {
        Params::Positional(values) => {
            if let Some(name) = (1..=expected).find_map(|i| name_of(prepared, i)) {
                return Err(format!(
                    "the statement names its parameters (:{name}): give them by name"
                )
                .into());
            }
            if values.len() != expected {
                return Err(format!(
                    "the statement takes {expected} parameters, {} were given",
                    values.len()
                )
                .into());
            }
            for (i, value) in values.iter().enumerate() {
                prepared.raw_bind_parameter(i + 1, Bound(value))?;
            }
        }
        Params::Named(values) => bind_named(prepared, values, expected)?,
    }
    Ok(())
}

fn bind_named(
    prepared: &mut CachedStatement<'_>,
    values: &[(String, Value)],
    expected: usize,
) -> Result<(), BindError> {
    let mut used = vec![false; values.len()];
    for i in 1..=expected {
        let Some(name) = name_of(prepared, i) else {
            return Err(format!(
                "parameter {i} of the statement has no name (?), but parameters were given by \
                 name: give a list, or write :name"
            )
            .into());
        };
        let mut found = None;
        for (given, (candidate, value)) in values.iter().enumerate() {
            if candidate == name {
                if found.is_some() {
                    return Err(format!("parameter {name} was given twice").into());
                }
                found = Some(value);
                used[given] = true;
            }
        }
        let Some(value) = found else {
            return Err(format!("the statement's parameter {name} was not given").into());
        };
        prepared.raw_bind_parameter(i, Bound(value))?;
    }
    if let Some(unknown) = used.iter().position(|used| !used) {
        let name = &values[unknown].0;
        let advice =
            if name.starts_with([':', '@', '$']) { " (give names without prefix)" } else { "" };
        return Err(format!(
            "parameter {name} was given, but the statement has none of that name{advice}"
        )
        .into());
    }
    Ok(())
}

/// The name of parameter `i` without its prefix; none for `?` and `?NNN`.
fn name_of<'a>(prepared: &'a CachedStatement<'_>, i: usize) -> Option<&'a str> {
    prepared.parameter_name(i)?.strip_prefix([':', '@', '$'])
}

/// Binds a [`Value`] without copying it first.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(v) => ValueRef::Integer(*v),
            Value::Real(v) => ValueRef::Real(*v),
            Value::Text(v) => ValueRef::Text(v.as_bytes()),
            Value::Blob(v) => ValueRef::Blob(v),
        }))
    }
}

/// The row of an FTS3 or FTS4 table's `%_stat` that keeps its automerge option (SQLite's
/// FTS_STAT_AUTOINCRMERGE).
const AUTOMERGE_ROW: i64 = 2;

thread_local! {
    static LAST_INSERTED: Cell<Option<i64>> = const { Cell::new(None) };
    static MAXIMUM_SEEN: Cell<bool> = const { Cell::new(false) };
    static MERGE_OPTION_OF: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the update hook saw since the watch began.
struct RowidWatch;

impl RowidWatch {
    fn begin() -> Self {
        LAST_INSERTED.set(None);
        MAXIMUM_SEEN.set(false);
        MERGE_OPTION_OF.take();
        RowidWatch
    }

    fn last_inserted(&self) -> Option<i64> {
        LAST_INSERTED.get()
    }

    /// The table whose automerge option was written, if it is one of FTS3 or FTS4.
    fn merge_option_of(&self) -> Option<String> {
        MERGE_OPTION_OF.take()
    }

    fn saw_maximum(&self) -> bool {
        MAXIMUM_SEEN.get()
    }
}

/// Makes the writer's connection report the rowids that it writes. Not rusqlite's own hook: this
/// one runs for each row, and needs no names.
pub(in crate::sqlite) fn install_update_hook(conn: &Connection) {
    // SAFETY: the handle is open, and the hook has no state that could end before it.
    unsafe { ffi::sqlite3_update_hook(conn.handle(), Some(on_update), ptr::null_mut()) };
}

unsafe extern "C" fn on_update(
    _: *mut c_void,
    operation: c_int,
    _: *const c_char,
    table: *const c_char,
    rowid: ffi::sqlite3_int64,
) {
    if operation == ffi::SQLITE_INSERT {
        LAST_INSERTED.set(Some(rowid));
    }
    if rowid == AUTOMERGE_ROW && operation == ffi::SQLITE_INSERT && !table.is_null() {
        // SAFETY: SQLite passes the table's name, which lives as long as this call.
        let table = unsafe { CStr::from_ptr(table) }.to_bytes();
        if let Some(Ok(of)) = table.strip_suffix(b"_stat").map(std::str::from_utf8) {
            MERGE_OPTION_OF.replace(Some(of.to_string()));
        }
    }
    if rowid == i64::MAX && operation != ffi::SQLITE_DELETE {
        MAXIMUM_SEEN.set(true);
    }
}

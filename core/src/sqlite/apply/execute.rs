//! Running one statement of a user's: compile (cached), bind, step, collect.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, ffi};

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::budget::Budget;
use crate::sqlite::apply::write_steps::{self, Request};
use crate::sqlite::determinism::authorizer::{self, Questions, Role, UserStatement};
use crate::sqlite::determinism::planner::Sampling;
use crate::sqlite::determinism::{analyze, clock_vfs, context, local_time, names, shadow};
pub(crate) use crate::sqlite::error::Failure;
use crate::sqlite::memory::{self, Allowance};
use crate::sqlite::storage::disk_full;
#[cfg(unix)]
use crate::sqlite::storage::temporary::TemporaryFiles;
use crate::sqlite::text;
use crate::sqlite::{error, internal};
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

/// What compiling one statement may ask the authorizer, beside once for each byte of its text: each
/// table, column and function that it reads, also within views and triggers.
pub(in crate::sqlite) const MOST_QUESTIONS: usize = 20_000;

/// A read that finds less than this of its thread's stack left, in bytes, gets one of its own.
const STACK: usize = 1 << 20;
const NEW_STACK: usize = 4 << 20;

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
    if let Some(request) = write_steps::request(statement) {
        let request = request.map_err(Failure::Statement)?;
        let rows = write_steps::run(conn, request).map_err(Failure::Node)?;
        return Ok(StatementOutcome { rows, ..StatementOutcome::default() });
    }
    let total_before = conn.total_changes();
    let rowid_before = conn.last_insert_rowid();
    let watch = RowidWatch::begin();
    disk_full::forget();
    let result = step_all(conn, statement, Role::Writer, result_limit);
    analyze::forget_compiled(conn, statement);
    // Once a rowid is at the maximum SQLite picks further ones at random, so whatever happened
    // after that is not to be trusted, success or not.
    if watch.saw_maximum() && !matches!(result, Err(Failure::Node(_))) {
        return Err(Failure::Statement(rowid_exhausted()));
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
    match write_steps::request(statement) {
        None => {}
        Some(Err(error)) => return Err(Failure::Statement(error)),
        Some(Ok(Request::Set(_))) => return Err(Failure::Statement(authorizer::write_in_query())),
        Some(Ok(Request::Look)) => {
            return write_steps::run(conn, Request::Look).map_err(Failure::Node);
        }
    }
    // The thread may be anybody's. What SQLite needs at most follows from its limits on depth.
    stacker::maybe_grow(STACK, NEW_STACK, || {
        step_all(conn, statement, Role::Reader, RESULT_LIMIT).map(|(rows, _)| rows)
    })
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
pub(in crate::sqlite) fn reload_schema(conn: &Connection) -> crate::Result<()> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema LIMIT 1")
        .and_then(|mut statement| statement.exists([]))
        .map(drop)
        .map_err(error::internal)
}

/// Runs `statement` on a reader connection and hands each row over as it comes, with what it counts
/// towards limits; gives the names of the columns. No row is larger than [`RESULT_LIMIT`].
///
/// # Errors
/// As [`read`], and those of `each`.
pub(in crate::sqlite) fn read_each(
    conn: &Connection,
    statement: &Statement,
    each: EachRow<'_>,
) -> Result<Vec<String>, Failure> {
    step_each(conn, statement, Role::Reader, RESULT_LIMIT, each)
}

/// Takes a row, and the statement that it comes from.
pub(in crate::sqlite) type EachRow<'a> =
    &'a mut dyn FnMut(&rusqlite::Statement<'_>, Vec<Value>, usize) -> Result<(), Failure>;

fn step_all(
    conn: &Connection,
    statement: &Statement,
    role: Role,
    result_limit: usize,
) -> Result<(Rows, usize), Failure> {
    let mut values = Vec::new();
    let mut size = 0;
    let columns = step_each(conn, statement, role, result_limit, &mut |_, line, bytes| {
        size += bytes;
        if size > result_limit {
            return Err(Failure::Statement(result_too_large(role)));
        }
        values.push(line);
        Ok(())
    })?;
    Ok((Rows::new(columns, values), size))
}

fn step_each(
    conn: &Connection,
    statement: &Statement,
    role: Role,
    row_limit: usize,
    each: EachRow<'_>,
) -> Result<Vec<String>, Failure> {
    let sql = statement.sql.trim();
    let keyword = first_keyword(sql);
    check_text(sql, keyword, role).map_err(Failure::Statement)?;
    let sql = only_statement(sql).map_err(Failure::Statement)?;
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

    // From compiling on: what ANALYZE compiles without samples does not count the rows that it would
    // run over with them.
    let _sampling = (role == Role::Writer && keyword.eq_ignore_ascii_case("ANALYZE"))
        .then(|| Sampling::begin(conn));
    let mut prepared = compile(conn, sql, role, &user)?;
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
            compile(conn, sql, role, &user)?;
            return Err(Failure::Statement(error));
        }
        Err(BindError::Sqlite(error)) => return Err(fail(error)),
    }
    let _allowance = Allowance::running(role == Role::Writer);
    #[cfg(unix)]
    let _temporary = TemporaryFiles::of(conn);
    if role == Role::Writer && analyze::is_of_all_tables(sql) {
        user.pause();
        analyze::all_tables(conn).map_err(fail)?;
        return Ok(Vec::new());
    }
    user.step();
    if role == Role::Writer {
        Budget::of(&prepared);
    }

    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next().map_err(fail)? {
        // Stepping may have compiled the statement again, with other columns: count them now.
        let columns = row.as_ref().column_count();
        let mut line = Vec::with_capacity(columns);
        let mut size = ROW_SIZE + columns * VALUE_SIZE;
        for column in 0..columns {
            let value = value(row.get_ref(column).map_err(fail)?, column)?;
            size += value.size();
            line.push(value);
            if size > row_limit {
                return Err(Failure::Statement(result_too_large(role)));
            }
        }
        each(row.as_ref(), line, size)?;
    }
    drop(cursor);
    let columns = column_names(&prepared).map_err(fail)?;
    // A pragma in the cache would not ask the authorizer again.
    if sql.len() > CACHED_SQL || keyword.eq_ignore_ascii_case("PRAGMA") {
        prepared.discard();
    }
    if role == Role::Writer {
        user.pause();
        let mut refusal = names::check(conn, &user, &columns).map_err(Failure::Node)?;
        if refusal.is_none() && analyze::changes(statement) {
            refusal = shadow::check(conn).map_err(Failure::Node)?;
        }
        if let Some(error) = refusal {
            return Err(Failure::Statement(error));
        }
    }
    Ok(columns)
}

/// Compiles a statement, or finds it compiled.
///
/// What that takes is bounded but not charged, since some nodes have done it before. It depends a
/// little on what a connection remembers of its views: near the bound a writer forgets all that and
/// compiles again, which decides.
fn compile<'conn>(
    conn: &'conn Connection,
    sql: &str,
    role: Role,
    user: &UserStatement,
) -> Result<CachedStatement<'conn>, Failure> {
    let _free = Budget::free();
    let attempt = || {
        let allowance = Allowance::compiling();
        let questions = Questions::begin(MOST_QUESTIONS + sql.len());
        let result = conn.prepare_cached(sql).map_err(|error| {
            if allowance.was_refused() || questions.were_too_many() {
                return Failure::Statement(too_complex());
            }
            explain(user, without_offset(role, error))
        });
        (result, allowance.was_close() || questions.were_many())
    };
    let (result, close) = attempt();
    match role {
        Role::Reader => match result {
            // SQLite compiles with the schema that this connection read last, and of some errors it
            // does not ask whether that is still the one in the file.
            Err(_) if !close => {
                drop(user.denial());
                user.pause();
                reload_schema(conn).map_err(Failure::Node)?;
                user.resume();
                attempt().0
            }
            result => result,
        },
        Role::Writer if close => {
            if let Ok(prepared) = result {
                prepared.discard();
            }
            drop(user.denial());
            user.pause();
            forget_all(conn)?;
            user.resume();
            attempt().0
        }
        Role::Writer => result,
    }
}

/// Has virtual tables write what they hold back, within the transaction. They would do so at the next
/// savepoint or COMMIT, where an error is nobody's.
pub(in crate::sqlite) fn flush_virtual_tables(conn: &Connection) -> Result<(), Failure> {
    let result = conn.prepare_cached("/* quorumlite */ SAVEPOINT quorumlite_flush");
    let user = UserStatement::begin("");
    user.pause();
    let _allowance = Allowance::running(true);
    result
        .and_then(|mut statement| statement.raw_execute())
        .map_err(|error| explain(&user, error))?;
    internal::run(conn, "RELEASE quorumlite_flush").map_err(Failure::Node)
}

/// Makes the writer's connection one that remembers nothing, as after a restart, at any place within
/// a transaction.
pub(in crate::sqlite) fn forget_all(conn: &Connection) -> Result<(), Failure> {
    flush_virtual_tables(conn)?;
    analyze::reload(conn).map_err(Failure::Node)
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_TOO_LONG",
        "the write takes longer than a replicated one may: split it into several, let it work on \
         fewer or smaller values, read with query() and write the result, or allow more with PRAGMA \
         quorumlite_write_steps",
    )
}

/// The error of a statement that does not get done with being compiled.
pub(crate) fn too_complex() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_TOO_COMPLEX",
        "the statement takes too much memory to compile: views, subqueries or generated columns that \
         name another one twice double it each time. Use fewer of them on top of each other, or \
         store what is between",
    )
}

fn too_much_memory() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_TOO_MUCH_MEMORY",
        "the statement builds values that take more memory than one statement may: let it work on \
         fewer or smaller values at once",
    )
}

pub(in crate::sqlite) fn column_names(
    prepared: &rusqlite::Statement<'_>,
) -> rusqlite::Result<Vec<String>> {
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
    let (limit, advice) = match role {
        Role::Writer => (COMMAND_RESULT_LIMIT, ""),
        Role::Reader => (RESULT_LIMIT, ", or read it in pieces, with query_stream()"),
    };
    Error::new(
        ErrorKind::Busy,
        "BUSY_RESULT_TOO_LARGE",
        format!(
            "the result is larger than {} MiB: ask for fewer rows or columns at once{advice}",
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
        Failure::Node(e)
            if matches!(e.code(), "SQLITE_INTERRUPT" | "SQLITE_NOMEM" | "SQLITE_IOERR_NOMEM")
                && Budget::is_spent() =>
        {
            Failure::Statement(too_long())
        }
        Failure::Statement(e) if e.code() == "SQLITE_TOOBIG" && Budget::limits_values() => {
            Failure::Statement(too_long())
        }
        Failure::Node(e) if e.code().ends_with("NOMEM") && memory::was_refused() => {
            Failure::Statement(too_much_memory())
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
            Failure::Statement(local_time::refusal())
        }
        other => other,
    }
}

/// The one statement of a text that is not empty. SQLite must not see what comes after it: whoever
/// compiles that too, to see whether it is anything, may have thousands of statements to compile.
pub(in crate::sqlite) fn only_statement(sql: &str) -> Result<&str, Error> {
    let begin = sql.len() - after_blanks(sql).len();
    let (first, rest) = text::split_first(&sql[begin..]);
    if after_blanks(rest).is_empty() {
        return Ok(first);
    }
    Err(error::multiple_statements())
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
    if role == Role::Writer && keyword.eq_ignore_ascii_case("EXPLAIN") {
        return Err(authorizer::explain_in_write());
    }
    if role == Role::Writer && local_time::is_kept(sql) {
        return Err(local_time::refusal());
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
        if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return rest;
        }
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
        Params::Positional(values) => bind_positional(prepared, values, expected)?,
        Params::Named(values) => bind_named(prepared, values, expected)?,
    }
    Ok(())
}

fn bind_positional(
    prepared: &mut CachedStatement<'_>,
    values: &[Value],
    expected: usize,
) -> Result<(), BindError> {
    let wrong_number = |expected: usize| {
        format!("the statement takes {expected} parameters, {} were given", values.len())
    };
    let first_name = (1..=expected).find_map(|i| name_of(prepared, i));
    let Some(name) = first_name else {
        if values.len() != expected {
            return Err(wrong_number(expected).into());
        }
        for (i, value) in values.iter().enumerate() {
            prepared.raw_bind_parameter(i + 1, Bound(value))?;
        }
        return Ok(());
    };
    // `$1` and the like are names to SQLite, and places to users of other databases.
    let places = (1..=expected).map(|i| place_of(prepared, i)).collect::<Option<Vec<usize>>>();
    let Some(places) = places else {
        let error = format!("the statement names its parameters (:{name}): give them by name");
        return Err(error.into());
    };
    let last = places.iter().copied().max().unwrap_or(0);
    if values.len() != last {
        return Err(wrong_number(last).into());
    }
    for (i, place) in places.into_iter().enumerate() {
        let value = values.get(place - 1).ok_or_else(|| wrong_number(last))?;
        prepared.raw_bind_parameter(i + 1, Bound(value))?;
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
            let with_prefix = || prepared.parameter_name(i) == Some(candidate);
            if candidate == name || with_prefix() {
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
        return Err(
            format!("parameter {name} was given, but the statement has none of that name").into()
        );
    }
    Ok(())
}

/// The name of parameter `i` without its prefix; none for `?` and `?NNN`.
fn name_of<'a>(prepared: &'a CachedStatement<'_>, i: usize) -> Option<&'a str> {
    prepared.parameter_name(i)?.strip_prefix([':', '@', '$'])
}

/// The place, from 1, that parameter `i` names, as `$2` does.
fn place_of(prepared: &CachedStatement<'_>, i: usize) -> Option<usize> {
    let name = name_of(prepared, i)?;
    let digits = name.bytes().all(|b| b.is_ascii_digit()) && !name.starts_with('0');
    name.parse().ok().filter(|_| digits)
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

thread_local! {
    static LAST_INSERTED: Cell<Option<i64>> = const { Cell::new(None) };
    static MAXIMUM_SEEN: Cell<bool> = const { Cell::new(false) };
}

/// What the update hook saw since the watch began.
struct RowidWatch;

impl RowidWatch {
    fn begin() -> Self {
        LAST_INSERTED.set(None);
        MAXIMUM_SEEN.set(false);
        RowidWatch
    }

    fn last_inserted(&self) -> Option<i64> {
        LAST_INSERTED.get()
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
    _: *const c_char,
    rowid: ffi::sqlite3_int64,
) {
    if operation == ffi::SQLITE_INSERT {
        LAST_INSERTED.set(Some(rowid));
    }
    if rowid == i64::MAX && operation != ffi::SQLITE_DELETE {
        MAXIMUM_SEEN.set(true);
    }
}

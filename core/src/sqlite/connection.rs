//! The two ways to open the database file: one writer, many readers.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::{budget, execute};
use crate::sqlite::determinism::authorizer::{self, Role};
use crate::sqlite::determinism::{clock_vfs, functions, modules, planner, strings};
use crate::sqlite::error;

/// Statements that each connection keeps compiled.
const STATEMENT_CACHE: usize = 256;

/// The most bytes that a value, or a whole row, may have.
pub(crate) const LONGEST_VALUE: i32 = 16 << 20;

/// Limits of SQLite's, equal on all nodes: what one refuses, all refuse. One opcode may work on one
/// value as large as LENGTH, so that also bounds how late a deadline is noticed.
const LIMITS: &[(Limit, i32)] = &[
    (Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
    (Limit::SQLITE_LIMIT_COLUMN, 2000),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 1000),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 500),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 127),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    // SQLite's own LIKE and GLOB, which queries use, go a call deeper for each wildcard.
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 10_000),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 32_766),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1000),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

const SWITCHES: &[(DbConfig, bool)] = &[
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, true),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
    (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    // The planner must not look at bound values, or replicas could take different plans.
    (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
];

/// The limits, for comparison with those of other builds.
pub(in crate::sqlite) fn limits() -> String {
    format!("{LIMITS:?} {SWITCHES:?}")
}

/// Opens the connection that applies commands, and creates the file if it is missing.
///
/// WAL with `synchronous=NORMAL` and no checkpoints of SQLite's own (design: a power cut may rewind
/// the file to an earlier transaction, never tear it; the log replays the rest).
///
/// # Errors
/// `Corruption` where the file is not a database, `Unavailable` where it cannot be opened.
pub(crate) fn open_writer(path: &Path) -> crate::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = open(path, flags)?;
    // Before anything reads the schema: tables that were loaded with their samples stay marked so, and
    // the planner asks for that mark even where it disregards the samples.
    planner::install(&conn);
    conn.busy_timeout(Duration::from_secs(5)).map_err(error::internal)?;
    let mode = write_ahead_mode(&conn).map_err(error::internal)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "SQLITE_NO_WAL",
            format!(
                "SQLite cannot keep a write-ahead log at {} (journal mode {mode}): put the data \
                 directory on a local file system",
                path.display()
            ),
        )
        .with_retryable(false));
    }
    conn.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0",
    )
    .map_err(error::internal)?;
    functions::install_seeded_random(&conn)?;
    strings::install_patterns(&conn)?;
    execute::install_update_hook(&conn);
    budget::install(&mut conn)?;
    authorizer::install(&conn, Role::Writer)?;
    #[cfg(debug_assertions)]
    crate::sqlite::apply::fault::install(&conn)?;
    Ok(conn)
}

/// Opens a connection that only compiles what the writer will run.
///
/// # Errors
/// As [`open_writer`].
pub(crate) fn open_compiler(path: &Path) -> crate::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open(path, flags)?;
    planner::install(&conn);
    conn.busy_timeout(Duration::from_millis(250)).map_err(error::internal)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0")
        .map_err(error::internal)?;
    functions::install_seeded_random(&conn)?;
    strings::install_patterns(&conn)?;
    authorizer::install(&conn, Role::Writer)?;
    Ok(conn)
}

/// Asks for write-ahead logging and says which mode the connection has now.
fn write_ahead_mode(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mode = rows.next()?.map_or_else(|| Ok(String::new()), |row| row.get(0))?;
    // The row comes before the commit that changes the file: only the end of the statement says
    // whether that succeeded.
    while rows.next()?.is_some() {}
    Ok(mode)
}

/// Opens a connection that answers queries. The file must exist, in WAL mode.
///
/// # Errors
/// As [`open_writer`].
pub(crate) fn open_reader(path: &Path) -> crate::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open(path, flags)?;
    // Readers of a WAL wait for nobody, but for the moment in which it is recovered or reset.
    conn.busy_timeout(Duration::from_millis(250)).map_err(error::internal)?;
    conn.execute_batch(
        "PRAGMA query_only = ON; PRAGMA mmap_size = 268435456; PRAGMA wal_autocheckpoint = 0",
    )
    .map_err(error::internal)?;
    authorizer::install(&conn, Role::Reader)?;
    Ok(conn)
}

fn open(path: &Path, flags: OpenFlags) -> crate::Result<Connection> {
    let vfs = clock_vfs::name()?;
    let at = |error: rusqlite::Error| error::internal(error).context(path.display());
    let conn = Connection::open_with_flags_and_vfs(path, flags, vfs).map_err(at)?;
    for (switch, on) in SWITCHES {
        conn.set_db_config(*switch, *on).map_err(at)?;
    }
    for (limit, value) in LIMITS {
        conn.set_limit(*limit, *value).map_err(at)?;
    }
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    functions::install(&conn).map_err(|e| e.context(path.display()))?;
    modules::install(&conn).map_err(|e| e.context(path.display()))?;
    // The file is opened lazily: touch it now, so that a file that is no database is told here.
    conn.query_row("PRAGMA schema_version", [], |_| Ok(())).map_err(at)?;
    Ok(conn)
}

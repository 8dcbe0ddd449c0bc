//! How SQLite's result codes become [`Error`]s, and which of them say that this node is in trouble.

use rusqlite::ffi;

use crate::disk;
use crate::error::{Error, ErrorKind};
use crate::sqlite::storage::open_files;

/// Why a statement did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The statement's own fault, the same on every node: it becomes the command's result.
    Statement(Error),
    /// This node's own trouble (disk, memory, a damaged file): it must never become a result, or
    /// replicas would differ. The node has to stop.
    Node(Error),
}

impl Failure {
    /// The error, for those to whom the difference does not matter: reads.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Statement(error) | Failure::Node(error) => error,
        }
    }
}

/// Makes a [`Failure`] of what rusqlite says.
pub(super) fn failure(error: rusqlite::Error) -> Failure {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(code, message) => {
            let message = message.unwrap_or_else(|| code.to_string());
            from_code(code.extended_code, message)
        }
        E::SqlInputError { error, msg, offset, .. } => {
            let message = if offset >= 0 { format!("{msg} (at byte {offset})") } else { msg };
            from_code(error.extended_code, message)
        }
        E::MultipleStatement => Failure::Statement(multiple_statements()),
        // The rest is the binding's, not SQLite's: a mistake of ours, so stop rather than diverge.
        other => Failure::Node(
            Error::new(
                ErrorKind::Unavailable,
                "SQLITE_MISUSE",
                format!("unexpected answer from SQLite: {other}"),
            )
            .with_retryable(false),
        ),
    }
}

/// The error of a text with more than one statement.
pub(super) fn multiple_statements() -> Error {
    Error::new(
        ErrorKind::Sql,
        "SQL_MULTIPLE_STATEMENTS",
        "the text holds more than one SQL statement: send them one at a time, or together with \
         execute_batch()",
    )
}

/// Makes an [`Error`] of what rusqlite says, where there is no statement of a user's behind it.
pub(super) fn internal(error: rusqlite::Error) -> Error {
    failure(error).into_error()
}

fn from_code(code: i32, message: String) -> Failure {
    let opens = matches!(code & 0xff, ffi::SQLITE_CANTOPEN | ffi::SQLITE_IOERR);
    if opens && open_files::too_many() {
        return Failure::Node(disk::too_many_files(message).with_sqlite_code(code));
    }
    let kind = kind_of(code);
    let message = if code & 0xff == ffi::SQLITE_FULL {
        format!("{message}: free space on the disk of the data directory, then open the node again")
    } else {
        message
    };
    let error = Error::new(kind, code_name(code), message).with_sqlite_code(code);
    if is_local(code) {
        Failure::Node(error.with_retryable(false))
    } else {
        Failure::Statement(error)
    }
}

fn kind_of(code: i32) -> ErrorKind {
    match code & 0xff {
        ffi::SQLITE_CONSTRAINT => ErrorKind::Constraint,
        _ if !is_local(code) => ErrorKind::Sql,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => ErrorKind::Corruption,
        _ => ErrorKind::Unavailable,
    }
}

/// Whether another node with the same content might answer something else.
///
/// Codes that a statement can provoke on every node alike must not be here: such an entry of the
/// log would stop the whole cluster, and again after each restart.
fn is_local(code: i32) -> bool {
    match code {
        // Virtual tables report inconsistent content so (FTS5's integrity-check, for one); the
        // content is the same everywhere.
        ffi::SQLITE_CORRUPT_VTAB | ffi::SQLITE_CORRUPT_SEQUENCE => return false,
        _ => {}
    }
    matches!(
        code & 0xff,
        ffi::SQLITE_INTERNAL
            | ffi::SQLITE_PERM
            | ffi::SQLITE_BUSY
            | ffi::SQLITE_NOMEM
            | ffi::SQLITE_READONLY
            | ffi::SQLITE_INTERRUPT
            | ffi::SQLITE_IOERR
            | ffi::SQLITE_CORRUPT
            | ffi::SQLITE_FULL
            | ffi::SQLITE_CANTOPEN
            | ffi::SQLITE_PROTOCOL
            | ffi::SQLITE_MISUSE
            | ffi::SQLITE_NOLFS
            | ffi::SQLITE_NOTADB
    )
}

macro_rules! code_names {
    ($($name:ident),* $(,)?) => {
        /// The name of an extended result code (<https://www.sqlite.org/rescode.html>); of its
        /// primary code where a later SQLite made up a new extended one.
        pub(super) fn code_name(code: i32) -> &'static str {
            match code {
                $(ffi::$name => stringify!($name),)*
                _ if code > 0xff => code_name(code & 0xff),
                _ => "SQLITE_UNKNOWN",
            }
        }
    };
}

code_names! {
    SQLITE_OK, SQLITE_ERROR, SQLITE_INTERNAL, SQLITE_PERM, SQLITE_ABORT, SQLITE_BUSY,
    SQLITE_LOCKED, SQLITE_NOMEM, SQLITE_READONLY, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_CORRUPT,
    SQLITE_NOTFOUND, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_EMPTY, SQLITE_SCHEMA,
    SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_MISUSE, SQLITE_NOLFS, SQLITE_AUTH,
    SQLITE_FORMAT, SQLITE_RANGE, SQLITE_NOTADB, SQLITE_NOTICE, SQLITE_WARNING, SQLITE_ROW,
    SQLITE_DONE,
    SQLITE_ERROR_MISSING_COLLSEQ, SQLITE_ERROR_RETRY, SQLITE_ERROR_SNAPSHOT,
    SQLITE_ERROR_RESERVESIZE, SQLITE_ERROR_KEY, SQLITE_ERROR_UNABLE,
    SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_FSTAT, SQLITE_IOERR_UNLOCK,
    SQLITE_IOERR_RDLOCK, SQLITE_IOERR_DELETE, SQLITE_IOERR_BLOCKED, SQLITE_IOERR_NOMEM,
    SQLITE_IOERR_ACCESS, SQLITE_IOERR_CHECKRESERVEDLOCK, SQLITE_IOERR_LOCK, SQLITE_IOERR_CLOSE,
    SQLITE_IOERR_DIR_CLOSE, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHMLOCK,
    SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SEEK, SQLITE_IOERR_DELETE_NOENT, SQLITE_IOERR_MMAP,
    SQLITE_IOERR_GETTEMPPATH, SQLITE_IOERR_CONVPATH, SQLITE_IOERR_VNODE, SQLITE_IOERR_AUTH,
    SQLITE_IOERR_BEGIN_ATOMIC, SQLITE_IOERR_COMMIT_ATOMIC, SQLITE_IOERR_ROLLBACK_ATOMIC,
    SQLITE_IOERR_DATA, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_IN_PAGE, SQLITE_IOERR_BADKEY,
    SQLITE_IOERR_CODEC,
    SQLITE_LOCKED_SHAREDCACHE, SQLITE_LOCKED_VTAB,
    SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT, SQLITE_BUSY_TIMEOUT,
    SQLITE_CANTOPEN_NOTEMPDIR, SQLITE_CANTOPEN_ISDIR, SQLITE_CANTOPEN_FULLPATH,
    SQLITE_CANTOPEN_CONVPATH, SQLITE_CANTOPEN_DIRTYWAL, SQLITE_CANTOPEN_SYMLINK,
    SQLITE_CORRUPT_VTAB, SQLITE_CORRUPT_SEQUENCE, SQLITE_CORRUPT_INDEX,
    SQLITE_READONLY_RECOVERY, SQLITE_READONLY_CANTLOCK, SQLITE_READONLY_ROLLBACK,
    SQLITE_READONLY_DBMOVED, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_DIRECTORY,
    SQLITE_ABORT_ROLLBACK,
    SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_COMMITHOOK, SQLITE_CONSTRAINT_FOREIGNKEY,
    SQLITE_CONSTRAINT_FUNCTION, SQLITE_CONSTRAINT_NOTNULL, SQLITE_CONSTRAINT_PRIMARYKEY,
    SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_VTAB,
    SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_PINNED, SQLITE_CONSTRAINT_DATATYPE,
    SQLITE_NOTICE_RECOVER_WAL, SQLITE_NOTICE_RECOVER_ROLLBACK, SQLITE_NOTICE_RBU,
    SQLITE_WARNING_AUTOINDEX, SQLITE_AUTH_USER, SQLITE_OK_LOAD_PERMANENTLY, SQLITE_OK_SYMLINK,
}

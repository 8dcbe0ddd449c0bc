//! Why the operating system refuses a file, and what to do about it.

use std::fmt::Display;
use std::io::{Error as IoError, ErrorKind as IoKind};

use crate::error::{Error, ErrorKind};

/// The causes that have an advice of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No room, or the user's share of it is used up.
    Full,
    /// The file system takes no writes from anybody.
    ReadOnly,
    /// The process, or the whole system, has as many files open as it may.
    TooManyFiles,
    /// This user may not.
    Permission,
    /// A file lies where a directory should be.
    NoDirectory,
    /// Anything else, a broken disk for example.
    Other,
}

impl Cause {
    pub(crate) fn of(e: &IoError) -> Cause {
        match e.kind() {
            _ if e.raw_os_error().is_some_and(is_too_many_files) => Cause::TooManyFiles,
            IoKind::StorageFull | IoKind::QuotaExceeded => Cause::Full,
            IoKind::ReadOnlyFilesystem => Cause::ReadOnly,
            IoKind::PermissionDenied => Cause::Permission,
            IoKind::AlreadyExists | IoKind::NotADirectory => Cause::NoDirectory,
            _ => Cause::Other,
        }
    }

    /// What to do, to go behind the operating system's own words.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Cause::Full => "free space on that disk",
            Cause::ReadOnly => "the file system is mounted read-only: mount it writable",
            Cause::TooManyFiles => {
                "the process has as many files and connections open as it may: raise its limit \
                 (ulimit -n), or open fewer"
            }
            Cause::Permission => "make it readable and writable for the user of this process",
            Cause::NoDirectory => "a file lies where a directory should be: move it away",
            Cause::Other => "make sure that the disk is healthy",
        }
    }
}

/// Whether an error number is EMFILE or ENFILE (on Windows ERROR_TOO_MANY_OPEN_FILES).
pub(crate) fn is_too_many_files(number: i32) -> bool {
    if cfg!(windows) { number == 4 } else { matches!(number, 23 | 24) }
}

/// The error of a process that has too many files open; `what` could not be done.
pub(crate) fn too_many_files(what: impl Display) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "TOO_MANY_OPEN_FILES",
        format!("{what}: {}", Cause::TooManyFiles.advice()),
    )
    .with_retryable(false)
}

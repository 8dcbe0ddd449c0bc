//! [`Error`]: one opaque error type whose kind says what the caller should do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result type of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an [`Error`].
///
/// The kinds are few on purpose and the set is the same in every language binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement is wrong, or failed while it ran: fix the statement.
    Sql,
    /// A UNIQUE, NOT NULL, CHECK, FOREIGN KEY or similar constraint refused the write.
    Constraint,
    /// Somebody else wrote meanwhile: run the transaction again.
    Conflict,
    /// There is no leader or no quorum now, or this node has stopped: retry later.
    Unavailable,
    /// The deadline passed. The code says whether the write may still be applied.
    Timeout,
    /// A limit was reached: back off, or send less at once.
    Busy,
    /// An option, a parameter or the way of calling is wrong.
    Config,
    /// Data on disk is damaged: restore this node from the others.
    Corruption,
    /// The node was closed.
    Closed,
    /// The statement cannot be replicated, or the peer may not take part.
    Forbidden,
}

impl ErrorKind {
    /// The stable name of the kind, as the language bindings show it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Sql => "Sql",
            ErrorKind::Constraint => "Constraint",
            ErrorKind::Conflict => "Conflict",
            ErrorKind::Unavailable => "Unavailable",
            ErrorKind::Timeout => "Timeout",
            ErrorKind::Busy => "Busy",
            ErrorKind::Config => "Config",
            ErrorKind::Corruption => "Corruption",
            ErrorKind::Closed => "Closed",
            ErrorKind::Forbidden => "Forbidden",
        }
    }

    /// The kind with this [`ErrorKind::as_str`] name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Sql" => ErrorKind::Sql,
            "Constraint" => ErrorKind::Constraint,
            "Conflict" => ErrorKind::Conflict,
            "Unavailable" => ErrorKind::Unavailable,
            "Timeout" => ErrorKind::Timeout,
            "Busy" => ErrorKind::Busy,
            "Config" => ErrorKind::Config,
            "Corruption" => ErrorKind::Corruption,
            "Closed" => ErrorKind::Closed,
            "Forbidden" => ErrorKind::Forbidden,
            _ => return None,
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error: its [`kind`](Error::kind) says what to do, its [`code`](Error::code) is stable and
/// listed in `docs/errors.md`, its message is for people and may change.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    retryable: bool,
    leader: Option<String>,
    sqlite_code: Option<i32>,
    index: Option<u64>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a stable `code` (upper case, words joined by `_`) and a message that
    /// says what happened and how to mend it.
    ///
    /// `Unavailable`, `Conflict` and `Busy` start out retryable, all other kinds do not.
    pub fn new(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let retryable =
            matches!(kind, ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Busy);
        Error(Box::new(Inner {
            kind,
            code: code.into(),
            message: message.into(),
            retryable,
            leader: None,
            sqlite_code: None,
            index: None,
            source: None,
        }))
    }

    /// Shorthand for a [`ErrorKind::Config`] error.
    pub fn config(code: &'static str, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, code, message)
    }

    /// The error of every call on a closed node.
    pub fn closed() -> Self {
        Error::new(
            ErrorKind::Closed,
            "CLOSED",
            "the node is closed; open the directory again to go on",
        )
    }

    /// Sets whether the same call may succeed later.
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Names the node that leads, where that is known.
    pub fn with_leader(mut self, leader: Option<String>) -> Self {
        self.0.leader = leader;
        self
    }

    /// Attaches SQLite's extended result code.
    pub fn with_sqlite_code(mut self, code: i32) -> Self {
        self.0.sqlite_code = Some(code);
        self
    }

    /// Says at which index of the log the write was refused.
    pub fn with_index(mut self, index: u64) -> Self {
        self.0.index = Some(index);
        self
    }

    /// Attaches the error that caused this one.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Puts `context` in front of the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code, such as `SQLITE_CONSTRAINT_UNIQUE` or `NO_LEADER`.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What happened and how to mend it, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later without any change.
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    /// The id of the node that leads, where that is known.
    pub fn leader(&self) -> Option<&str> {
        self.0.leader.as_deref()
    }

    /// The number that the operating system gave, where it caused this error.
    pub(crate) fn os_error(&self) -> Option<i32> {
        self.source()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }

    /// SQLite's extended result code (<https://www.sqlite.org/rescode.html>), where SQLite failed.
    pub fn sqlite_code(&self) -> Option<i32> {
        self.0.sqlite_code
    }

    /// The log index at which the write was refused, where it came that far: what was in its way is
    /// in every database that has applied this index.
    pub fn index(&self) -> Option<u64> {
        self.0.index
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Error");
        s.field("kind", &self.0.kind).field("code", &self.0.code).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            s.field("source", source);
        }
        s.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

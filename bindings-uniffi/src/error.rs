//! [`NativeError`]: the core's error, with its kind as a variant.

use std::fmt;

use quorumlite::{Error, ErrorKind};

/// What every kind of error carries.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ErrorInfo {
    /// The stable code, listed in `docs/errors.md`.
    pub code: String,
    /// What happened and how to mend it, for people.
    pub message: String,
    /// Whether the same call may succeed later without any change.
    pub retryable: bool,
    /// The id of the node that leads, where that is known.
    pub leader: Option<String>,
    /// SQLite's extended result code, where SQLite failed.
    pub sqlite_code: Option<i32>,
}

macro_rules! native_error {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// An error; the variant says what the caller should do.
        #[derive(Debug, Clone, PartialEq, Eq, uniffi::Error)]
        pub enum NativeError {
            $($(#[$doc])* $kind {
                /// What is known about it.
                info: ErrorInfo,
            },)*
            /// A bug, or threads that cannot be started: not one of the core's kinds.
            Internal {
                /// What is known about it.
                info: ErrorInfo,
            },
        }

        impl NativeError {
            /// What is known about it.
            pub fn info(&self) -> &ErrorInfo {
                match self {
                    $(NativeError::$kind { info })|* | NativeError::Internal { info } => info,
                }
            }
        }

        impl From<Error> for NativeError {
            fn from(e: Error) -> Self {
                let info = ErrorInfo {
                    code: e.code().to_owned(),
                    message: e.message().to_owned(),
                    retryable: e.retryable(),
                    leader: e.leader().map(str::to_owned),
                    sqlite_code: e.sqlite_code(),
                };
                match e.kind() {
                    $(ErrorKind::$kind => NativeError::$kind { info },)*
                    _ => NativeError::Internal { info },
                }
            }
        }
    };
}

native_error! {
    /// The statement is wrong, or failed while it ran.
    Sql,
    /// A constraint refused the write.
    Constraint,
    /// Somebody else wrote meanwhile: run the transaction again.
    Conflict,
    /// There is no leader or no quorum now, or this node has stopped.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// A limit was reached.
    Busy,
    /// An option, a parameter or the way of calling is wrong.
    Config,
    /// Data on disk is damaged.
    Corruption,
    /// The node was closed.
    Closed,
    /// The statement cannot be replicated, or the peer may not take part.
    Forbidden,
}

impl NativeError {
    /// A panic ended the call.
    pub(crate) fn panic() -> Self {
        NativeError::internal(
            "INTERNAL_PANIC",
            "an internal error (a panic) ended this call; whether a write was applied is unknown. \
             Please report it with the lines on standard error"
                .to_owned(),
        )
    }

    /// The runtime's threads cannot be started.
    pub(crate) fn threads(e: &std::io::Error) -> Self {
        NativeError::internal(
            "INTERNAL_THREADS",
            format!("the runtime's threads cannot be started: {e}; raise the process limit"),
        )
    }

    fn internal(code: &str, message: String) -> Self {
        NativeError::Internal {
            info: ErrorInfo {
                code: code.to_owned(),
                message,
                retryable: false,
                leader: None,
                sqlite_code: None,
            },
        }
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.info().message)
    }
}

impl std::error::Error for NativeError {}

//! From the core's errors to the exceptions of `quorumlite._errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Why an operation gave no result.
pub(crate) enum Failure {
    /// The core said no.
    Core(quorumlite::Error),
    /// The core panicked: a bug, which must not take the interpreter down.
    Panic,
    /// The call was made in a child of the process that opened the node.
    Forked,
    /// The runtime's threads cannot be started.
    Runtime(std::io::Error),
}

impl Failure {
    /// The error of every call on a closed node.
    pub(crate) fn closed() -> Self {
        Failure::Core(quorumlite::Error::closed())
    }

    /// The Python exception.
    pub(crate) fn into_py(self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Core(e) => make(
                py,
                e.kind().as_str(),
                e.code(),
                e.message(),
                e.retryable(),
                e.leader(),
                e.sqlite_code(),
            ),
            Failure::Panic => make(
                py,
                "Internal",
                "INTERNAL_PANIC",
                "an internal error (a panic) ended this call; whether a write was applied is \
                 unknown. Please report it with the lines on standard error",
                false,
                None,
                None,
            ),
            Failure::Forked => make(
                py,
                "Interface",
                "FORKED",
                "this node was opened before os.fork(), and its threads do not exist in the \
                 child; open a node (in a directory of its own) after the fork, or start the \
                 process with multiprocessing's \"spawn\" method",
                false,
                None,
                None,
            ),
            Failure::Runtime(e) => make(
                py,
                "Internal",
                "INTERNAL_THREADS",
                &format!("the runtime's threads cannot be started: {e}; raise the process limit"),
                false,
                None,
                None,
            ),
        }
    }
}

impl From<quorumlite::Error> for Failure {
    fn from(e: quorumlite::Error) -> Self {
        Failure::Core(e)
    }
}

/// The Python exception of one of the core's errors.
pub(crate) fn to_py(py: Python<'_>, error: quorumlite::Error) -> PyErr {
    Failure::Core(error).into_py(py)
}

fn make(
    py: Python<'_>,
    kind: &str,
    code: &str,
    message: &str,
    retryable: bool,
    leader: Option<&str>,
    sqlite_code: Option<i32>,
) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = MAKE
        .import(py, "quorumlite._errors", "_make")
        .and_then(|f| f.call1((kind, code, message, retryable, leader, sqlite_code)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(e) => e,
    }
}

//! [`Operation`]: one call on the core, running on the runtime, to be waited for by a thread or
//! delivered to an event loop. Whoever stops waiting leaves it running to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use quorumlite::{ContentHash, ExecuteResult, Member};

use crate::delivery::Target;
use crate::errors::Failure;
use crate::node::{Handle, NativeNode};
use crate::process::Process;
use crate::rows::{Result as PyExecuteResult, Rows as PyRows};

/// How long a waiting thread lets a signal (Ctrl-C) wait.
const SIGNAL_SLICE: Duration = Duration::from_millis(100);

/// What an operation gave, before it becomes Python objects.
pub(crate) enum Success {
    Done,
    Opened(Handle),
    Executed(ExecuteResult),
    Batch(Vec<ExecuteResult>),
    Rows(quorumlite::Rows),
    Members(Vec<Member>),
    Text(String),
    Hash(ContentHash),
}

/// How an operation ended.
pub(crate) type Outcome = Result<Success, Failure>;

impl Success {
    /// The Python object.
    pub(crate) fn into_py(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Success::Done => py.None(),
            Success::Opened(handle) => Py::new(py, NativeNode::new(handle))?.into_any(),
            Success::Executed(r) => Py::new(py, PyExecuteResult::new(r))?.into_any(),
            Success::Batch(results) => {
                let list = PyList::empty(py);
                for r in results {
                    list.append(Py::new(py, PyExecuteResult::new(r))?)?;
                }
                list.into_any().unbind()
            }
            Success::Rows(rows) => Py::new(py, PyRows::new(rows))?.into_any(),
            Success::Members(members) => crate::node::members_to_py(py, &members)?,
            Success::Text(text) => text.into_pyobject(py)?.into_any().unbind(),
            Success::Hash(h) => (h.hash, h.index).into_pyobject(py)?.into_any().unbind(),
        })
    }
}

enum State {
    Running,
    Deliver(Target),
    Ended(Outcome),
    Taken,
}

/// Where an operation leaves its outcome.
struct Slot {
    process: &'static Process,
    state: Mutex<State>,
    ended: Condvar,
}

impl Slot {
    fn complete(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Running => {
                *state = State::Ended(outcome);
                self.ended.notify_all();
            }
            State::Deliver(target) => {
                drop(state);
                self.process.delivery.send(target, outcome);
            }
            State::Ended(first) => *state = State::Ended(first),
            State::Taken => {}
        }
    }
}

/// Completes the slot even where the operation panics.
struct Completer(Option<Arc<Slot>>);

impl Completer {
    fn complete(mut self, outcome: Outcome) {
        if let Some(slot) = self.0.take() {
            slot.complete(outcome);
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.complete(Err(Failure::Panic));
        }
    }
}

/// A call on the core that runs in the background.
#[pyclass(frozen, module = "quorumlite._quorumlite")]
pub(crate) struct Operation {
    slot: Arc<Slot>,
}

impl Operation {
    /// Starts `work` on the runtime of `process`.
    pub(crate) fn start<F>(process: &'static Process, work: F) -> Result<Self, Failure>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if process.stopping() {
            return Err(Failure::closed());
        }
        let slot =
            Arc::new(Slot { process, state: Mutex::new(State::Running), ended: Condvar::new() });
        let completer = Completer(Some(slot.clone()));
        process.runtime()?.spawn(async move {
            let outcome = work.await;
            completer.complete(outcome);
        });
        Ok(Operation { slot })
    }

    /// An operation that has ended already.
    pub(crate) fn ended(process: &'static Process, outcome: Outcome) -> Self {
        let state = Mutex::new(State::Ended(outcome));
        Operation { slot: Arc::new(Slot { process, state, ended: Condvar::new() }) }
    }

    fn taken() -> PyErr {
        PyRuntimeError::new_err("the result of this operation was already taken")
    }
}

#[pymethods]
impl Operation {
    /// Waits, without the GIL, and returns the result. Signals are handled meanwhile; an exception
    /// from a signal handler ends the waiting, not the operation.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let process = self.slot.process;
        if process.forked() {
            return Err(Failure::Forked.into_py(py));
        }
        let waiting = process.wait_guard();
        loop {
            let outcome = py.detach(|| {
                let mut state = self.slot.state.lock();
                if matches!(*state, State::Running) {
                    let _ = self.slot.ended.wait_for(&mut state, SIGNAL_SLICE);
                }
                match std::mem::replace(&mut *state, State::Taken) {
                    State::Running => {
                        *state = State::Running;
                        None
                    }
                    State::Ended(outcome) => Some(Ok(outcome)),
                    other => {
                        *state = other;
                        Some(Err(()))
                    }
                }
            });
            match outcome {
                Some(Ok(outcome)) => {
                    drop(waiting);
                    return match outcome {
                        Ok(success) => success.into_py(py),
                        Err(failure) => Err(failure.into_py(py)),
                    };
                }
                Some(Err(())) => return Err(Self::taken()),
                None if process.stopped() => return Err(Failure::closed().into_py(py)),
                None => py.check_signals()?,
            }
        }
    }

    /// Has the result set on `future`, a future of `event_loop`, by `call_soon_threadsafe`.
    fn deliver(&self, py: Python<'_>, event_loop: Py<PyAny>, future: Py<PyAny>) -> PyResult<()> {
        let process = self.slot.process;
        if process.forked() {
            return Err(Failure::Forked.into_py(py));
        }
        process.delivery.start().map_err(|f| f.into_py(py))?;
        let target = Target { event_loop, future };
        let mut state = self.slot.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Running => *state = State::Deliver(target),
            State::Ended(outcome) => {
                drop(state);
                process.delivery.send(target, outcome);
            }
            other => {
                *state = other;
                return Err(Self::taken());
            }
        }
        Ok(())
    }
}

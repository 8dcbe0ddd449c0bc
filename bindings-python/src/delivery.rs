//! [`Delivery`]: brings results of operations back to asyncio's event loops.
//!
//! One thread of its own asks for the GIL, so that the runtime's workers, which also carry
//! heartbeats, never wait for Python code.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use crate::errors::Failure;
use crate::operation::{Outcome, Success};

/// Where a result goes: a future, and the loop that it belongs to.
pub(crate) struct Target {
    /// An asyncio event loop.
    pub(crate) event_loop: Py<PyAny>,
    /// A future of that loop.
    pub(crate) future: Py<PyAny>,
}

struct Parcel {
    target: Target,
    outcome: Outcome,
}

struct Running {
    parcels: Sender<Parcel>,
    // Disconnected when the thread has ended.
    ended: Receiver<()>,
}

enum State {
    Idle,
    Running(Running),
    Stopped,
}

/// The thread that brings results back, started on first use.
pub(crate) struct Delivery(Mutex<State>);

impl Delivery {
    /// No thread yet.
    pub(crate) fn new() -> Self {
        Delivery(Mutex::new(State::Idle))
    }

    /// Starts the thread. Called before an operation is given a target, so that trouble shows
    /// there and not where nobody listens.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let mut state = self.0.lock();
        match *state {
            State::Running(_) => return Ok(()),
            State::Stopped => return Err(Failure::closed()),
            State::Idle => {}
        }
        let (parcels, incoming) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name("quorumlite-loop".into())
            .spawn(move || {
                run(&incoming);
                drop(end);
            })
            .map_err(Failure::Runtime)?;
        *state = State::Running(Running { parcels, ended });
        Ok(())
    }

    /// Hands a result over. After [`Delivery::stop`] it is dropped: its loop no longer runs.
    pub(crate) fn send(&self, target: Target, outcome: Outcome) {
        if let State::Running(running) = &*self.0.lock() {
            let _ = running.parcels.send(Parcel { target, outcome });
        }
    }

    /// Ends the thread, and waits until it has or until `deadline`.
    pub(crate) fn stop(&self, deadline: Instant) {
        let state = std::mem::replace(&mut *self.0.lock(), State::Stopped);
        if let State::Running(Running { parcels, ended }) = state {
            drop(parcels);
            let bound = deadline.saturating_duration_since(Instant::now());
            let _ = ended.recv_timeout(bound);
        }
    }
}

fn run(incoming: &Receiver<Parcel>) {
    while let Ok(first) = incoming.recv() {
        // Everything that is ready goes with one turn of the GIL.
        let batch: Vec<Parcel> = std::iter::once(first).chain(incoming.try_iter()).collect();
        if Python::try_attach(|py| deliver(py, batch)).is_none() {
            return;
        }
    }
}

/// Wakes each loop once, with all results that are its.
fn deliver(py: Python<'_>, batch: Vec<Parcel>) {
    type Results = Vec<(Py<PyAny>, Outcome)>;
    let mut by_loop: Vec<(Py<PyAny>, Results)> = Vec::new();
    for Parcel { target, outcome } in batch {
        let at = match by_loop.iter().position(|(l, _)| l.is(&target.event_loop)) {
            Some(at) => at,
            None => {
                by_loop.push((target.event_loop, Vec::new()));
                by_loop.len() - 1
            }
        };
        by_loop[at].1.push((target.future, outcome));
    }
    for (event_loop, results) in by_loop {
        if let Err(e) = wake(py, event_loop.bind(py), results) {
            // A loop that was closed meanwhile has nobody who waits.
            if !e.is_instance_of::<PyRuntimeError>(py) {
                e.write_unraisable(py, Some(event_loop.bind(py)));
            }
        }
    }
}

fn wake(
    py: Python<'_>,
    event_loop: &Bound<'_, PyAny>,
    results: Vec<(Py<PyAny>, Outcome)>,
) -> PyResult<()> {
    static RESOLVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let resolve = RESOLVE.import(py, "quorumlite.aio", "_resolve")?;
    let items = PyList::empty(py);
    for (future, outcome) in results {
        match outcome.map_err(|f| f.into_py(py)).and_then(|s: Success| s.into_py(py)) {
            Ok(value) => items.append((future, value, py.None()))?,
            Err(e) => items.append((future, py.None(), e.into_value(py)))?,
        }
    }
    event_loop.call_method1("call_soon_threadsafe", (resolve, items))?;
    Ok(())
}

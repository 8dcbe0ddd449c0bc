//! [`Process`]: what the binding owns once per process: the runtime, the open nodes, the way back
//! to event loops; and how all of it ends at exit or is left alone after a fork.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use quorumlite::Node;
use tokio::runtime::{Builder, Runtime};

use crate::delivery::Delivery;
use crate::errors::Failure;

/// How long the interpreter's exit may wait for open nodes to close.
const EXIT_BOUND: Duration = Duration::from_secs(5);

/// The state of one process. Never dropped: a runtime that is torn down while the interpreter
/// finalizes would wait for threads that wait for the interpreter.
pub(crate) struct Process {
    pid: u32,
    runtime: OnceLock<Runtime>,
    starting: Mutex<()>,
    open: Mutex<HashMap<u64, Node>>,
    next_key: AtomicU64,
    stopping: AtomicBool,
    stopped: AtomicBool,
    waiting: Mutex<usize>,
    none_waiting: Condvar,
    /// The way back to asyncio's event loops.
    pub(crate) delivery: Delivery,
    // A child's threads, locks and nodes are copies that nobody serves: it gets a state of its own.
    child: OnceLock<Box<Process>>,
}

static FIRST: OnceLock<Process> = OnceLock::new();

impl Process {
    fn new() -> Self {
        Process {
            pid: std::process::id(),
            runtime: OnceLock::new(),
            starting: Mutex::new(()),
            open: Mutex::new(HashMap::new()),
            next_key: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            waiting: Mutex::new(0),
            none_waiting: Condvar::new(),
            delivery: Delivery::new(),
            child: OnceLock::new(),
        }
    }

    /// The state of the calling process.
    pub(crate) fn current() -> &'static Process {
        let mut process = FIRST.get_or_init(Process::new);
        while process.forked() {
            process = process.child.get_or_init(|| Box::new(Process::new()));
        }
        process
    }

    /// Whether the caller runs in a child of this process. Nothing else of a forked state may be
    /// touched: its locks may be held by threads that no longer exist.
    pub(crate) fn forked(&self) -> bool {
        self.pid != std::process::id()
    }

    /// The runtime, started on first use.
    pub(crate) fn runtime(&self) -> Result<&Runtime, Failure> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let _guard = self.starting.lock();
        if self.runtime.get().is_none() {
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            let runtime = Builder::new_multi_thread()
                .worker_threads(cores.clamp(2, 4))
                .thread_name("quorumlite")
                .enable_all()
                .build()
                .map_err(Failure::Runtime)?;
            // Cannot be set already: `starting` is held.
            let _ = self.runtime.set(runtime);
        }
        self.runtime.get().ok_or(Failure::Panic)
    }

    /// Whether the interpreter is on its way out: no call may start any more.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether waiting any longer would hold up the interpreter's exit.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Notes an open node, so that exit closes it. The key is for [`Process::forget`].
    pub(crate) fn remember(&self, node: Node) -> u64 {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(key, node);
        key
    }

    /// Takes a node that has closed off the list.
    pub(crate) fn forget(&self, key: u64) {
        // Dropped outside the lock: the last handle may run the core's own clean-up.
        let _node = self.open.lock().remove(&key);
    }

    /// Counts the calling thread among those that wait without the GIL, as long as the guard
    /// lives. Exit waits for them to be back in Python: CPython ends threads that ask for the GIL
    /// during finalization, and must not do so in the middle of a Rust frame.
    pub(crate) fn wait_guard(&'static self) -> WaitGuard {
        *self.waiting.lock() += 1;
        WaitGuard(self)
    }

    fn shutdown(&self) {
        let deadline = Instant::now() + EXIT_BOUND;
        if let Some(runtime) = self.runtime.get() {
            let nodes: Vec<(u64, Node)> =
                self.open.lock().iter().map(|(key, node)| (*key, node.clone())).collect();
            let (running, all_done) = mpsc::channel::<()>();
            for (_, node) in nodes {
                let running = running.clone();
                runtime.spawn(async move {
                    let _ = node.close().await;
                    drop(running);
                });
            }
            drop(running);
            let bound = deadline.saturating_duration_since(Instant::now());
            // Nothing is ever sent: it ends when the last node has dropped its sender.
            let _ = all_done.recv_timeout(bound);
        }
        self.stopped.store(true, Ordering::Release);
        {
            let mut waiting = self.waiting.lock();
            while *waiting > 0 {
                if self.none_waiting.wait_until(&mut waiting, deadline).timed_out() {
                    break;
                }
            }
        }
        self.delivery.stop(deadline);
    }
}

/// See [`Process::wait_guard`].
pub(crate) struct WaitGuard(&'static Process);

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        *waiting -= 1;
        if *waiting == 0 {
            self.0.none_waiting.notify_all();
        }
    }
}

/// Closes every open node of this process, within 5 seconds. Registered with `atexit`.
#[pyfunction]
#[pyo3(name = "_shutdown")]
pub(crate) fn shutdown(py: Python<'_>) {
    let process = Process::current();
    process.stopping.store(true, Ordering::Release);
    py.detach(|| process.shutdown());
}

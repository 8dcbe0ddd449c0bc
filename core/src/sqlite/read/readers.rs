//! [`Readers`]: the pool of read-only connections, and the gate that holds new reads back.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::execute;
use crate::sqlite::connection::open_reader;
use crate::sqlite::error::{self, Failure};
use crate::statement::{Rows, Statement};

/// Virtual machine instructions between two looks at the clock: some microseconds.
const PROGRESS_INSTRUCTIONS: i32 = 1000;

/// How long an interrupted read may take to notice.
const INTERRUPT_WAIT: Duration = Duration::from_secs(5);

thread_local! {
    /// When the read that this thread is running must have ended.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Answers queries on the calling thread, each on a connection of its own from a pool. Clones share
/// the pool.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// The log index that the latest commit of the writer has reached, published after it.
    applied: Arc<AtomicU64>,
    /// Set while a gate asks the running reads to end.
    interrupt: Arc<AtomicBool>,
    pool: Mutex<Pool>,
    /// `running` fell to 0, the last gate went, or the pool was closed.
    changed: Condvar,
    max_idle: usize,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    running: usize,
    gates: usize,
    closed: bool,
}

impl Readers {
    /// A pool for the database at `path`; connections are opened when they are needed. `applied` is
    /// the applied log index that the writer publishes after each commit.
    pub(crate) fn new(path: &Path, applied: Arc<AtomicU64>) -> Readers {
        Readers(Arc::new(Shared {
            path: path.to_path_buf(),
            applied,
            interrupt: Arc::new(AtomicBool::new(false)),
            pool: Mutex::new(Pool::default()),
            changed: Condvar::new(),
            max_idle: available_parallelism().map_or(8, |cores| (2 * cores.get()).max(8)),
        }))
    }

    /// Runs one statement that reads. The log index that comes with the rows is one that the read
    /// has seen for certain: it may have seen more.
    ///
    /// # Errors
    /// `Timeout` once `deadline` has passed, `Forbidden` for statements that write, `Busy` where a
    /// checkpoint had to end the read twice, `Closed`, and what SQLite says.
    pub(crate) fn query(
        &self,
        statement: &Statement,
        deadline: Instant,
    ) -> crate::Result<(Rows, u64)> {
        let mut interrupted = false;
        loop {
            let (turn, connection) = self.lease(deadline)?;
            // Loaded before the read begins: its snapshot is at least as new.
            let applied = self.0.applied.load(Ordering::Acquire);
            let error = match execute::read(&connection, statement) {
                Ok(rows) => {
                    turn.give_back(connection);
                    return Ok((rows, applied));
                }
                Err(Failure::Statement(error)) => {
                    turn.give_back(connection);
                    return Err(error);
                }
                Err(Failure::Node(error)) => error,
            };
            // The connection may be in a state that others must not see, so it is closed, and
            // before its turn ends: under a gate the file may be replaced.
            drop(connection);
            drop(turn);
            if error.code() != "SQLITE_INTERRUPT" {
                let busy = error.code().starts_with("SQLITE_BUSY");
                return Err(error.with_retryable(busy));
            }
            if Instant::now() >= deadline {
                return Err(timeout());
            }
            if interrupted {
                return Err(self::interrupted());
            }
            interrupted = true;
        }
    }

    /// Calls `work` with a connection of the pool, which counts as a running read. It may run
    /// several statements in one transaction and must end that itself.
    ///
    /// # Errors
    /// As [`Readers::query`], and those of `work`.
    pub(crate) fn with_connection<T>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&Connection) -> crate::Result<T>,
    ) -> crate::Result<T> {
        let (turn, connection) = self.lease(deadline)?;
        let result = work(&connection);
        if result.is_ok() && connection.is_autocommit() {
            turn.give_back(connection);
        }
        result.map_err(|error| match error.code() {
            "SQLITE_INTERRUPT" if Instant::now() >= deadline => timeout(),
            _ => error,
        })
    }

    /// Holds new reads back and returns when no read is running. They wait, up to their deadlines,
    /// while the guard lives.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> ReaderGate {
        let mut pool = self.0.pool.lock();
        pool.gates += 1;
        self.0.changed.wait_while(&mut pool, |pool| pool.running > 0);
        drop(pool);
        ReaderGate(self.0.clone())
    }

    /// As [`Readers::gate`], for at most `wait`: after that the running reads are interrupted (they
    /// begin again when the gate is gone), or, without `interrupt`, this gives up. `None`: some read
    /// still runs, and reads go on as if nothing had been.
    pub(crate) fn gate_within(&self, wait: Duration, interrupt: bool) -> Option<ReaderGate> {
        let mut pool = self.0.pool.lock();
        pool.gates += 1;
        // From here on dropping the guard undoes what was done, on every way out.
        let gate = ReaderGate(self.0.clone());
        self.0.changed.wait_while_for(&mut pool, |pool| pool.running > 0, wait);
        if pool.running > 0 && interrupt {
            self.0.interrupt.store(true, Ordering::Relaxed);
            self.0.changed.wait_while_for(&mut pool, |pool| pool.running > 0, INTERRUPT_WAIT);
        }
        let drained = pool.running == 0;
        drop(pool);
        drained.then_some(gate)
    }

    /// Closes the connections that nobody uses: all of them, under a gate. To be called before the
    /// file is replaced.
    pub(crate) fn close_idle(&self) {
        // Closing takes time; do it after the lock is released.
        let _idle = std::mem::take(&mut self.0.pool.lock().idle);
    }

    /// Refuses all later calls with [`Error::closed`]. Reads that are running may end.
    pub(crate) fn close(&self) {
        let mut pool = self.0.pool.lock();
        pool.closed = true;
        let _idle = std::mem::take(&mut pool.idle);
        drop(pool);
        self.0.changed.notify_all();
    }

    /// Waits for its turn and gives a connection with it. The turn must outlive the connection.
    fn lease(&self, deadline: Instant) -> crate::Result<(Turn<'_>, Connection)> {
        let shared = &*self.0;
        let mut pool = shared.pool.lock();
        while pool.gates > 0 && !pool.closed {
            if shared.changed.wait_until(&mut pool, deadline).timed_out() && pool.gates > 0 {
                return Err(timeout());
            }
        }
        if pool.closed {
            return Err(Error::closed());
        }
        pool.running += 1;
        let idle = pool.idle.pop();
        drop(pool);
        let turn = Turn(shared);
        DEADLINE.set(Some(deadline));
        let connection = match idle {
            Some(connection) => connection,
            None => shared.connect()?,
        };
        Ok((turn, connection))
    }

    /// How many reads are running.
    #[cfg(test)]
    pub(in crate::sqlite) fn running(&self) -> usize {
        self.0.pool.lock().running
    }

    /// How many connections wait for work.
    #[cfg(test)]
    pub(in crate::sqlite) fn idle(&self) -> usize {
        self.0.pool.lock().idle.len()
    }
}

impl Shared {
    fn connect(&self) -> crate::Result<Connection> {
        let mut conn = open_reader(&self.path)?;
        let interrupt = self.interrupt.clone();
        let must_end = move || {
            interrupt.load(Ordering::Relaxed)
                || DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline)
        };
        conn.progress_handler(PROGRESS_INSTRUCTIONS, Some(must_end)).map_err(error::internal)?;
        Ok(conn)
    }
}

pub(in crate::sqlite) fn interrupted() -> Error {
    Error::new(
        ErrorKind::Busy,
        "BUSY_READ_INTERRUPTED",
        "the read took so long that SQLite's write-ahead log grew too large meanwhile, and was ended \
         to let a checkpoint complete, more than once: ask for less at once, or try again when less \
         is written",
    )
}

fn timeout() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "TIMEOUT",
        "the read did not end before its deadline: ask for less at once, or allow it more time",
    )
}

/// The place of a running read in the count, until it is dropped.
struct Turn<'a>(&'a Shared);

impl Turn<'_> {
    /// Puts the connection back into the pool, or closes it where there is no room, and ends the
    /// turn.
    fn give_back(self, connection: Connection) {
        let mut pool = self.0.pool.lock();
        if !pool.closed && pool.idle.len() < self.0.max_idle {
            pool.idle.push(connection);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        DEADLINE.set(None);
        let mut pool = self.0.pool.lock();
        pool.running -= 1;
        if pool.running == 0 && pool.gates > 0 {
            self.0.interrupt.store(false, Ordering::Relaxed);
            drop(pool);
            self.0.changed.notify_all();
        }
    }
}

/// While it lives no read runs; see [`Readers::gate`].
#[must_use = "reads go on when the gate is dropped"]
pub(crate) struct ReaderGate(Arc<Shared>);

impl Drop for ReaderGate {
    fn drop(&mut self) {
        let mut pool = self.0.pool.lock();
        pool.gates -= 1;
        if pool.gates == 0 {
            self.0.interrupt.store(false, Ordering::Relaxed);
            drop(pool);
            self.0.changed.notify_all();
        }
    }
}

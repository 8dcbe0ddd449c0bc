//! [`Readers`]: the pool of read-only connections, and the gate that holds new reads back.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::{Connection, InterruptHandle};

use crate::cancel::{Cancel, Listening};
use crate::error::{Error, ErrorKind};
use crate::sqlite::apply::execute;
use crate::sqlite::connection::open_reader;
use crate::sqlite::error::{self, Failure};
use crate::sqlite::read::queue::{Place, Queue};
use crate::sqlite::read::running::{PROGRESS_INSTRUCTIONS, Running};
use crate::statement::{Rows, Statement};

/// How many reads, and how many streams, run at once: several for each core, so that quick ones pass
/// those that take long.
const PLACES_PER_CORE: usize = 4;
const MIN_PLACES: usize = 16;
/// How long a read that must end may take to notice.
const END_WAIT: Duration = Duration::from_secs(5);
/// How long fewer connections are kept after one could not be opened, and by how many: the log and the
/// connections to other nodes need descriptors, too.
const SHORTAGE: Duration = Duration::from_secs(60);
const SPARE: usize = 4;
/// How often a read that waits looks whether it must end.
const WAIT_SLICE: Duration = Duration::from_millis(50);

/// Answers queries on the calling thread, each on a connection of its own from a pool. Clones share
/// the pool.
#[derive(Clone)]
pub(crate) struct Readers(pub(super) Arc<Shared>);

pub(super) struct Shared {
    path: PathBuf,
    /// The log index that the latest commit of the writer has reached, published after it.
    pub(super) applied: Arc<AtomicU64>,
    /// Set while a gate asks the running reads to end.
    pub(super) interrupt: Arc<AtomicBool>,
    /// Ends everything.
    closing: Cancel,
    pool: Mutex<Pool>,
    /// `running` fell to 0, the last gate went, or the pool was closed.
    changed: Condvar,
    /// A connection is free, or was closed.
    returned: Condvar,
    max_idle: usize,
    pub(super) reads: Queue,
    pub(super) streams: Queue,
    /// One content hash at a time: a second one of the same content would only slow it down.
    hashes: Queue,
    /// How many reads there may be, and how many streams, for the messages.
    pub(super) places: usize,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Reader>,
    /// Reads that run, or are about to: each has a turn.
    running: usize,
    /// How many of those have a connection.
    leased: usize,
    /// Those of streams, which may wait for their consumers while a gate wants them to end.
    streams: Vec<(u64, Arc<dyn Fn() + Send + Sync>)>,
    next_stream: u64,
    gates: usize,
    closed: bool,
    shortage: Option<Shortage>,
}

/// One more connection could not be opened.
#[derive(Clone, Copy)]
struct Shortage {
    /// How many there may be for a while.
    most: usize,
    since: Instant,
}

/// A connection, and what interrupts it.
pub(super) struct Reader {
    pub(super) conn: Connection,
    handle: Arc<InterruptHandle>,
}

/// Interrupts the statement of one lease, and no later one.
struct Interrupt {
    handle: Arc<InterruptHandle>,
    armed: Mutex<bool>,
}

impl Interrupt {
    fn fire(&self) {
        // Held meanwhile: once it is disarmed nothing arrives any more.
        let armed = self.armed.lock();
        if *armed {
            self.handle.interrupt();
        }
    }

    fn disarm(&self) {
        *self.armed.lock() = false;
    }
}

impl Readers {
    /// A pool for the database at `path`; connections are opened when they are needed. `applied` is
    /// the applied log index that the writer publishes after each commit.
    pub(crate) fn new(path: &Path, applied: Arc<AtomicU64>) -> Readers {
        let cores = available_parallelism().map_or(4, usize::from);
        let places = (PLACES_PER_CORE * cores).max(MIN_PLACES);
        Readers::with_places(path, applied, places)
    }

    /// As [`Readers::new`], with another number of reads, and of streams, at once.
    pub(in crate::sqlite) fn with_places(
        path: &Path,
        applied: Arc<AtomicU64>,
        places: usize,
    ) -> Readers {
        Readers(Arc::new(Shared {
            path: path.to_path_buf(),
            applied,
            interrupt: Arc::new(AtomicBool::new(false)),
            closing: Cancel::new(),
            pool: Mutex::new(Pool::default()),
            changed: Condvar::new(),
            returned: Condvar::new(),
            max_idle: places,
            reads: Queue::new(places),
            streams: Queue::new(places),
            hashes: Queue::new(1),
            places,
        }))
    }

    /// A place among the reads, if none waits for one and no gate holds reads back.
    pub(crate) fn try_place(&self) -> Option<Place> {
        if self.0.pool.lock().gates > 0 {
            return None;
        }
        self.0.reads.try_place()
    }

    /// Waits for a place among the reads.
    ///
    /// # Errors
    /// `Busy` (`BUSY_READ_QUEUE`) once `deadline` has passed.
    pub(crate) async fn place(&self, deadline: Instant) -> crate::Result<Place> {
        self.0.reads.place(deadline).await.ok_or_else(|| {
            Error::new(
                ErrorKind::Busy,
                "BUSY_READ_QUEUE",
                format!(
                    "the read waited for its turn until its deadline: {} reads run at once on this \
                     node, and those before it take long. Send fewer at once, cancel those that \
                     nobody needs, or allow more time",
                    self.0.places
                ),
            )
        })
    }

    /// Waits for the place of the one content hash; an hour is for ever.
    pub(crate) async fn hash_place(&self) -> Option<Place> {
        self.0.hashes.place(Instant::now() + Duration::from_secs(3600)).await
    }

    /// Runs one statement that reads. The log index that comes with the rows is one that the read
    /// has seen for certain: it may have seen more.
    ///
    /// # Errors
    /// `Timeout` once `deadline` has passed, what `cancel` says once it ended, `Forbidden` for
    /// statements that write, `Busy` where a checkpoint had to end the read twice, `Closed`, and what
    /// SQLite says.
    pub(crate) fn read(
        &self,
        statement: &Statement,
        deadline: Instant,
        cancel: &Cancel,
        place: Place,
    ) -> crate::Result<(Rows, u64)> {
        let mut interrupted = false;
        loop {
            let lease = self.lease(deadline, cancel)?;
            // Loaded before the read begins: its snapshot is at least as new.
            let applied = self.0.applied.load(Ordering::Acquire);
            match execute::read(&lease.reader.conn, statement) {
                Ok(rows) => {
                    lease.give_back();
                    drop(place);
                    return Ok((rows, applied));
                }
                Err(failure) => match lease.failed(failure) {
                    Some(error) => return Err(error),
                    None if interrupted => return Err(self::interrupted()),
                    None => interrupted = true,
                },
            }
        }
    }

    /// As [`Readers::place`], on a thread that waits.
    #[cfg(test)]
    pub(crate) fn wait_for_place(&self) -> Place {
        self.0.reads.wait().expect("nobody closes the queue")
    }

    /// As [`Readers::read`], for tests that need no more.
    #[cfg(test)]
    pub(crate) fn query(
        &self,
        statement: &Statement,
        deadline: Instant,
    ) -> crate::Result<(Rows, u64)> {
        self.read(statement, deadline, &Cancel::new(), self.wait_for_place())
    }

    /// Calls `work` with a connection of the pool, which counts as a running read but needs no
    /// place: the caller sees to it that there are few. It may run several statements in one
    /// transaction and must end that itself.
    ///
    /// # Errors
    /// As [`Readers::read`], and those of `work`.
    pub(crate) fn with_connection<T>(
        &self,
        deadline: Instant,
        cancel: &Cancel,
        work: impl FnOnce(&Connection) -> crate::Result<T>,
    ) -> crate::Result<T> {
        let lease = self.lease(deadline, cancel)?;
        let result = work(&lease.reader.conn);
        let why = lease.why();
        if result.is_ok() && lease.reader.conn.is_autocommit() {
            lease.give_back();
        }
        result.map_err(|error| match error.code() {
            "SQLITE_INTERRUPT" => why.unwrap_or(error),
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
        if !interrupt && !pool.streams.is_empty() {
            // A stream ends when its consumer likes: nobody need wait to see that it does not.
            return None;
        }
        pool.gates += 1;
        // From here on dropping the guard undoes what was done, on every way out.
        let gate = ReaderGate(self.0.clone());
        self.0.changed.wait_while_for(&mut pool, |pool| pool.running > 0, wait);
        if pool.running > 0 && interrupt {
            self.0.interrupt.store(true, Ordering::Relaxed);
            let streams: Vec<_> = pool.streams.iter().map(|(_, wake)| wake.clone()).collect();
            MutexGuard::unlocked(&mut pool, || streams.iter().for_each(|wake| wake()));
            self.0.changed.wait_while_for(&mut pool, |pool| pool.running > 0, END_WAIT);
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

    /// Refuses all later calls with [`Error::closed`], ends the reads that are running with the
    /// same, and waits a while until they have.
    pub(crate) fn close(&self) {
        let mut pool = self.0.pool.lock();
        pool.closed = true;
        let idle = std::mem::take(&mut pool.idle);
        drop(pool);
        drop(idle);
        self.0.closing.close();
        self.0.changed.notify_all();
        let mut pool = self.0.pool.lock();
        self.0.changed.wait_while_for(&mut pool, |pool| pool.running > 0, END_WAIT);
        if pool.running > 0 {
            tracing::warn!(reads = pool.running, "closing does not wait for reads any longer");
        }
    }

    /// Waits until no gate holds reads back and gives a connection.
    pub(super) fn lease(&self, deadline: Instant, cancel: &Cancel) -> crate::Result<Lease<'_>> {
        let shared = &*self.0;
        let cancel = Cancel::child([cancel, &shared.closing]);
        let mut pool = shared.pool.lock();
        while pool.gates > 0 && !pool.closed {
            shared.wait(&shared.changed, &mut pool, deadline, &cancel)?;
        }
        if pool.closed {
            return Err(Error::closed());
        }
        if let Some(error) = cancel.why() {
            return Err(error);
        }
        pool.running += 1;
        let turn = Turn { shared, has_connection: false };
        let running = Running::begin(deadline, &cancel);
        let (reader, turn) = turn.connection(pool, deadline, &cancel)?;
        let interrupt =
            Arc::new(Interrupt { handle: reader.handle.clone(), armed: Mutex::new(true) });
        let listening = cancel.listen({
            let interrupt = interrupt.clone();
            Arc::new(move || interrupt.fire())
        });
        Ok(Lease {
            reader,
            interrupt,
            listening,
            _running: running,
            turn,
            deadline: Cell::new(deadline),
            cancel,
        })
    }

    /// How many reads are running.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.0.pool.lock().running
    }

    /// How many connections wait for work.
    #[cfg(test)]
    pub(in crate::sqlite) fn idle(&self) -> usize {
        self.0.pool.lock().idle.len()
    }
}

impl Shared {
    fn connect(&self) -> crate::Result<Reader> {
        let mut conn = open_reader(&self.path)?;
        let interrupt = self.interrupt.clone();
        let must_end = move || interrupt.load(Ordering::Relaxed) || Running::must_end();
        conn.progress_handler(PROGRESS_INSTRUCTIONS, Some(must_end)).map_err(error::internal)?;
        let handle = Arc::new(conn.get_interrupt_handle());
        Ok(Reader { conn, handle })
    }

    /// Waits for a moment, or until `on` is notified.
    fn wait(
        &self,
        on: &Condvar,
        pool: &mut MutexGuard<'_, Pool>,
        deadline: Instant,
        cancel: &Cancel,
    ) -> crate::Result<()> {
        on.wait_until(pool, deadline.min(Instant::now() + WAIT_SLICE));
        if cancel.asks() {
            MutexGuard::unlocked(pool, || cancel.ask());
        }
        match cancel.why() {
            Some(error) => Err(error),
            None if Instant::now() >= deadline => Err(timeout()),
            None => Ok(()),
        }
    }

    /// Registers a stream, which `wake` makes look whether it must end.
    pub(super) fn add_stream(&self, wake: Arc<dyn Fn() + Send + Sync>) -> u64 {
        let mut pool = self.pool.lock();
        let id = pool.next_stream;
        pool.next_stream += 1;
        pool.streams.push((id, wake));
        id
    }

    pub(super) fn remove_stream(&self, id: u64) {
        self.pool.lock().streams.retain(|(other, _)| *other != id);
    }
}

impl Pool {
    /// How many connections there may be.
    fn most(&self) -> usize {
        self.shortage.filter(|s| s.since.elapsed() < SHORTAGE).map_or(usize::MAX, |s| s.most)
    }
}

/// Whether another connection could be opened if there were fewer: descriptors or memory lack.
fn is_shortage(error: &Error) -> bool {
    ["TOO_MANY_OPEN_FILES", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_IOERR"]
        .iter()
        .any(|code| error.code().starts_with(code))
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

pub(super) fn timeout() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "TIMEOUT",
        "the read did not end before its deadline: ask for less at once, or allow it more time",
    )
}

/// A connection, while one read has it.
pub(super) struct Lease<'a> {
    pub(super) reader: Reader,
    interrupt: Arc<Interrupt>,
    listening: Listening,
    _running: Running,
    // After the connection, which is closed before its turn ends: under a gate the file may be
    // replaced.
    turn: Turn<'a>,
    deadline: Cell<Instant>,
    cancel: Cancel,
}

impl Lease<'_> {
    /// Puts the connection back into the pool.
    pub(super) fn give_back(self) {
        let Lease { reader, interrupt, listening, turn, .. } = self;
        // Nobody may interrupt the next read by what was to end this one.
        drop(listening);
        interrupt.disarm();
        turn.give_back(reader);
    }

    /// Ends a read that failed. None: a gate interrupted it, and it may begin again.
    pub(super) fn failed(self, failure: Failure) -> Option<Error> {
        let error = match failure {
            Failure::Statement(error) => {
                self.give_back();
                return Some(error);
            }
            // The connection may be in a state that others must not see, so it is closed.
            Failure::Node(error) => error,
        };
        if error.code() == "SQLITE_INTERRUPT" {
            return self.why();
        }
        let busy = error.code().starts_with("SQLITE_BUSY");
        Some(error.with_retryable(busy))
    }

    /// Why the read was interrupted, where it was not a gate.
    pub(super) fn why(&self) -> Option<Error> {
        self.cancel.why().or_else(|| (Instant::now() >= self.deadline.get()).then(timeout))
    }

    /// Sets another deadline.
    pub(super) fn until(&self, deadline: Instant) {
        self.deadline.set(deadline);
        Running::until(deadline);
    }
}

/// The place of a running read in the count, until it is dropped.
struct Turn<'a> {
    shared: &'a Shared,
    has_connection: bool,
}

impl<'a> Turn<'a> {
    /// Takes a connection or opens one; where that lacks what others have, waits for theirs.
    fn connection(
        mut self,
        mut pool: MutexGuard<'a, Pool>,
        deadline: Instant,
        cancel: &Cancel,
    ) -> crate::Result<(Reader, Turn<'a>)> {
        let mut lacking: Option<Error> = None;
        loop {
            let idle = pool.idle.pop();
            if idle.is_some() || pool.leased < pool.most() {
                pool.leased += 1;
                self.has_connection = true;
                drop(pool);
                let error = match idle.map_or_else(|| self.shared.connect(), Ok) {
                    Ok(reader) => return Ok((reader, self)),
                    Err(error) => error,
                };
                pool = self.shared.pool.lock();
                pool.leased -= 1;
                self.has_connection = false;
                if pool.leased == 0 && pool.idle.is_empty() || !is_shortage(&error) {
                    drop(pool);
                    return Err(error);
                }
                let most = pool.leased.saturating_sub(SPARE).max(1).min(pool.most());
                pool.shortage = Some(Shortage { most, since: Instant::now() });
                lacking = Some(error);
                if !pool.idle.is_empty() {
                    continue;
                }
            }
            let waited = self.shared.wait(&self.shared.returned, &mut pool, deadline, cancel);
            if let Err(ended) = waited {
                drop(pool);
                return Err(match lacking {
                    Some(error) if ended.code() == "TIMEOUT" => {
                        error.context("no other read has ended")
                    }
                    _ => ended,
                });
            }
        }
    }

    /// Puts the connection back into the pool, or closes it where there is no room, and ends the
    /// turn.
    fn give_back(self, reader: Reader) {
        let mut pool = self.shared.pool.lock();
        let kept = pool.idle.len() + pool.leased <= pool.most();
        if !pool.closed && kept && pool.idle.len() < self.shared.max_idle {
            pool.idle.push(reader);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pool = self.shared.pool.lock();
        pool.running -= 1;
        if self.has_connection {
            pool.leased -= 1;
            self.shared.returned.notify_one();
        }
        if pool.running == 0 && (pool.gates > 0 || pool.closed) {
            if pool.gates > 0 {
                self.shared.interrupt.store(false, Ordering::Relaxed);
            }
            drop(pool);
            self.shared.changed.notify_all();
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

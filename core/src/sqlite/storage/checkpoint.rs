//! Checkpoints: moving SQLite's write-ahead log into the main file, off the apply path, when we
//! want it and never when SQLite wants it.

use std::ffi::c_int;
use std::path::Path;
use std::ptr;
use std::sync::Weak;
use std::time::Duration;

use rusqlite::{Connection, ffi};

use crate::error::{Error, Result};
use crate::sqlite::apply::meta::Applied;
use crate::sqlite::connection;
use crate::sqlite::database::{Database, Shared};
use crate::sqlite::error::{self, code_name};
use crate::sqlite::internal::{self, node_error};
use crate::sqlite::read::readers::ReaderGate;
use crate::sqlite::storage::image::ImageFile;

/// How many checkpoints precede the one that empties the write-ahead log, at most...
const PASSES: u32 = 4;
/// ...as long as one moves this many frames: the last one, for which everybody waits, has as few.
const FEW_FRAMES: u32 = 64;

/// What a checkpoint achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CheckpointOutcome {
    /// Frames (pages) in the write-ahead log.
    pub wal_frames: u32,
    /// How many of them are in the main file, too.
    pub checkpointed_frames: u32,
    /// Whether all that was committed when the checkpoint began is in the main file, durably. Long
    /// reads and page images hold checkpoints up.
    pub complete: bool,
}

/// Owns the connection that makes checkpoints.
pub(in crate::sqlite) struct Checkpointer {
    conn: Option<Connection>,
    /// The page image that is being read; the main file must not change meanwhile.
    pub image: Weak<ImageFile>,
}

/// What a checkpoint may do (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>).
#[derive(Clone, Copy)]
pub(in crate::sqlite) enum Mode {
    /// Only looks.
    Noop,
    /// Waits for nobody, moves what it can.
    Passive,
    /// Moves everything, so that the next transaction writes over the log from its beginning, or
    /// fails.
    Restart,
    /// As `Restart`, and cuts the file.
    Truncate,
}

impl Checkpointer {
    pub(in crate::sqlite) fn open(path: &Path) -> Result<Checkpointer> {
        let conn = connection::open_writer(path)?;
        conn.busy_timeout(Duration::ZERO).map_err(error::internal)?;
        internal::batch(&conn, "PRAGMA checkpoint_fullfsync = ON")?;
        // The first read opens the write-ahead log.
        internal::with(&conn, "SELECT count(*) FROM sqlite_schema", |s| {
            s.query_row([], |r| r.get::<_, i64>(0))
        })?;
        Ok(Checkpointer { conn: Some(conn), image: Weak::new() })
    }

    pub(in crate::sqlite) fn close(&mut self) {
        self.conn = None;
    }

    /// # Errors
    /// `Closed` after [`Checkpointer::close`].
    pub(in crate::sqlite) fn check_open(&self) -> Result<()> {
        self.connection().map(|_| ())
    }

    fn connection(&self) -> Result<&Connection> {
        self.conn.as_ref().ok_or_else(Error::closed)
    }

    /// None where others were in the way (`SQLITE_BUSY`).
    fn run(&self, mode: Mode) -> Result<Option<CheckpointOutcome>> {
        let mode = match mode {
            Mode::Noop => ffi::SQLITE_CHECKPOINT_NOOP,
            Mode::Passive => ffi::SQLITE_CHECKPOINT_PASSIVE,
            Mode::Restart => ffi::SQLITE_CHECKPOINT_RESTART,
            Mode::Truncate => ffi::SQLITE_CHECKPOINT_TRUNCATE,
        };
        let (mut frames, mut done): (c_int, c_int) = (-1, -1);
        // SAFETY: the handle is that of an open connection, which the caller's `&self`, behind the
        // checkpointer's mutex, has to itself; the name is a C string.
        let rc = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(
                self.connection()?.handle(),
                c"main".as_ptr(),
                mode,
                &mut frames,
                &mut done,
            )
        };
        match rc & 0xff {
            ffi::SQLITE_OK => Ok(Some(CheckpointOutcome {
                wal_frames: u32::try_from(frames).unwrap_or(0),
                checkpointed_frames: u32::try_from(done).unwrap_or(0),
                complete: frames >= 0 && frames == done,
            })),
            ffi::SQLITE_BUSY => Ok(None),
            _ => Err(sqlite_io_error("a checkpoint failed", rc)),
        }
    }

    fn passive(&self, shared: &Shared) -> Result<CheckpointOutcome> {
        // Read before the checkpoint looks at the log, so a complete one covers it.
        let position = shared.applied_position();
        let outcome = self.run(Mode::Passive).map_err(|e| fail(shared, e))?.unwrap_or_default();
        if outcome.complete {
            shared.publish_durable(position);
        }
        Ok(outcome)
    }

    /// A complete checkpoint that leaves the write-ahead log empty. No read and no write may run:
    /// the caller holds the gate and the write lock.
    pub(in crate::sqlite) fn truncate(&self, shared: &Shared, gate: &ReaderGate) -> Result<bool> {
        self.complete(shared, Mode::Truncate, gate)
    }

    fn complete(&self, shared: &Shared, mode: Mode, _gate: &ReaderGate) -> Result<bool> {
        let Some(outcome) = self.run(mode).map_err(|e| fail(shared, e))? else {
            return Ok(false);
        };
        if outcome.complete {
            shared.publish_durable(shared.applied_position());
        }
        Ok(outcome.complete)
    }

    /// Stops reads and writes for a moment, moves all of the write-ahead log into the main file and
    /// then, still in that moment, calls `f`. None where reads or writes did not make way.
    ///
    /// New reads wait for up to `wait` for the old ones to end (which are interrupted then, if
    /// `interrupt` says so), and as long again for the writer.
    pub(in crate::sqlite) fn emptied<T>(
        &self,
        shared: &Shared,
        mode: Mode,
        wait: Duration,
        interrupt: bool,
        f: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        // Most of the work, while nobody has to wait; then what was written meanwhile, which is less
        // each time.
        let mut before = 0;
        for _ in 0..PASSES {
            let done = self.passive(shared)?.checkpointed_frames;
            if done.saturating_sub(before) < FEW_FRAMES {
                break;
            }
            before = done;
        }
        // SQLite syncs the main file only where nothing was written meanwhile.
        sync(self.connection()?, ffi::SQLITE_FCNTL_FILE_POINTER).map_err(|e| fail(shared, e))?;
        let Some(gate) = shared.readers.gate_within(wait, interrupt) else { return Ok(None) };
        let Some(_write) = shared.write_lock.try_lock_for(wait) else { return Ok(None) };
        if self.complete(shared, mode, &gate)? { f().map(Some) } else { Ok(None) }
    }
}

impl Database {
    /// Moves what it can from the write-ahead log into the main file. Neither reads nor writes wait
    /// for it. Does nothing while an image is read.
    ///
    /// # Errors
    /// `Closed`, or the disk failed and this node must stop.
    pub(crate) fn checkpoint(&self) -> Result<CheckpointOutcome> {
        self.shared.check()?;
        let checkpointer = self.shared.checkpointer.lock();
        checkpointer.check_open()?;
        if checkpointer.image.strong_count() > 0 {
            return Ok(CheckpointOutcome::default());
        }
        checkpointer.passive(&self.shared)
    }

    /// Makes everything that was applied survive a power cut, and says what that is. Neither reads
    /// nor writes wait for it.
    ///
    /// Syncs SQLite's write-ahead log, as a commit with `synchronous=FULL` would do.
    ///
    /// # Errors
    /// `Closed`, or the disk failed and this node must stop.
    pub(crate) fn barrier(&self) -> Result<Applied> {
        self.shared.check()?;
        let checkpointer = self.shared.checkpointer.lock();
        // Read before the sync, which so covers it: what is published was handed to the file, and no
        // checkpoint takes it from there meanwhile.
        let applied = self.applied();
        let conn = checkpointer.connection()?;
        sync(conn, ffi::SQLITE_FCNTL_JOURNAL_POINTER).map_err(|e| fail(&self.shared, e))?;
        self.shared.publish_durable(applied.position);
        Ok(applied)
    }

    /// Moves everything into the main file, so that the next transaction writes over the write-ahead
    /// log from its beginning: it otherwise only grows under steady writes. New reads wait for up to
    /// `wait` (say 50 ms) for the old ones to end; if these do not, it gives up. Says whether it
    /// succeeded.
    ///
    /// # Errors
    /// `Closed`, or the disk failed and this node must stop.
    pub(crate) fn checkpoint_restart(&self, wait: Duration) -> Result<bool> {
        self.emptied(Mode::Restart, wait, false)
    }

    /// As [`Database::checkpoint_restart`], and leaves the write-ahead log's file empty. That takes
    /// longer: file systems wait for what they were writing of it.
    ///
    /// # Errors
    /// As [`Database::checkpoint_restart`].
    pub(crate) fn checkpoint_truncate(&self, wait: Duration) -> Result<bool> {
        self.emptied(Mode::Truncate, wait, false)
    }

    /// As [`Database::checkpoint_truncate`], but reads that have not ended after `wait` are
    /// interrupted. They begin again by themselves, once; the second time they fail with
    /// `BUSY_READ_INTERRUPTED`. That is what caps the life of a read transaction.
    ///
    /// # Errors
    /// As [`Database::checkpoint_restart`].
    pub(crate) fn checkpoint_interrupting(&self, wait: Duration) -> Result<bool> {
        self.emptied(Mode::Truncate, wait, true)
    }

    fn emptied(&self, mode: Mode, wait: Duration, interrupt: bool) -> Result<bool> {
        self.shared.check()?;
        let checkpointer = self.shared.checkpointer.lock();
        checkpointer.check_open()?;
        if checkpointer.image.strong_count() > 0 {
            return Ok(false);
        }
        Ok(checkpointer.emptied(&self.shared, mode, wait, interrupt, || Ok(()))?.is_some())
    }

    /// How far the write-ahead log is filled, in frames (pages), moved or not. None while somebody
    /// else uses the checkpointer.
    ///
    /// # Errors
    /// `Closed`, or the disk failed: a checkpoint would say so too.
    pub(crate) fn wal_frames(&self) -> Result<Option<u32>> {
        let Some(checkpointer) = self.shared.checkpointer.try_lock() else { return Ok(None) };
        Ok(checkpointer.run(Mode::Noop)?.map(|found| found.wal_frames))
    }
}

/// Syncs a file of `conn`: the one that `pointer`, SQLITE_FCNTL_JOURNAL_POINTER (the write-ahead
/// log) or SQLITE_FCNTL_FILE_POINTER (the main file), names.
fn sync(conn: &Connection, pointer: c_int) -> Result<()> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is that of an open connection, which this thread has to itself. Both
    // operations store a `sqlite3_file*` through their argument; the file belongs to the connection
    // and stays open at least until the connection's next use.
    let rc = unsafe {
        let rc = ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            pointer,
            (&raw mut file).cast(),
        );
        if rc == ffi::SQLITE_OK && !file.is_null() && !(*file).pMethods.is_null() {
            match (*(*file).pMethods).xSync {
                Some(sync) => sync(file, ffi::SQLITE_SYNC_FULL),
                None => ffi::SQLITE_MISUSE,
            }
        } else {
            ffi::SQLITE_MISUSE
        }
    };
    if rc == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(sqlite_io_error("syncing the files of SQLite", rc))
    }
}

fn fail(shared: &Shared, error: Error) -> Error {
    // After a failed sync nobody knows what is on the disk: never go on as if nothing was.
    if error.kind() == crate::error::ErrorKind::Closed { error } else { shared.fail(error) }
}

pub(in crate::sqlite) fn sqlite_io_error(what: &str, rc: c_int) -> Error {
    node_error(code_name(rc), format!("{what}: {}", code_name(rc))).with_sqlite_code(rc)
}

//! The Raft log: segment files with one writer thread that groups commits, and recovery of what a
//! crash left. Knows nothing of Raft beyond term and index, and nothing of what a record carries.
//!
//! ```text
//! Log ── append, vote, truncate, purge ──> shared (index, cache, queue) ──> writer ──> segment ──> storage
//!  └──── read ──> cache, or segment ──> storage                       recovery ──> segment ──> storage
//! ```
//!
//! Invariants, each with a test of its name:
//! - A segment file appears by a rename after its header and the state it repeats were synced, and
//!   after all of the segment before it was synced. So a bad byte there is always damage.
//! - A frame says up to where its segment had been synced when it was written. A bad frame that a
//!   later frame calls synced is damage; any other bad frame is the torn tail of a crash, and is cut
//!   and overwritten with zeros before anything is appended.
//! - After a write or a sync has failed nothing more is written.

mod cache;
mod format;
mod index;
mod read_only;
mod recovery;
mod segment;
mod shared;
mod state;
mod storage;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{self, Cause};
use crate::error::{Error, ErrorKind};
use shared::{Shared, Work};
use storage::{Directory, Storage};
use writer::Writer;

/// The longest vote or committed position that is kept, in bytes.
const MAX_STATE_BYTES: usize = 64 << 10;
/// The longest payload of a record, in bytes: its frame's length must fit 32 bits.
const MAX_PAYLOAD_BYTES: usize = u32::MAX as usize - (64 << 10);

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogPosition {
    /// The term in which a leader wrote the record.
    pub term: u64,
    /// The record's log index.
    pub index: u64,
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The term in which a leader wrote the record.
    pub term: u64,
    /// The record's log index.
    pub index: u64,
    /// What the record carries; opaque to the log.
    pub payload: Bytes,
}

/// Sizes that a log works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions {
    /// Length of a full-grown segment file in bytes, from 1 KiB to 1 GiB. The first ones are smaller.
    pub segment_bytes: u64,
    /// Memory for recent records in bytes. Records that are not written yet are kept beyond it.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 16 << 20, cache_bytes: 32 << 20 }
    }
}

/// The ends of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The last position that was purged.
    pub purged: Option<LogPosition>,
    /// The last record; `purged` where no record is left.
    pub last: Option<LogPosition>,
}

/// What a call does once its effect is durable. It is called exactly once, in the order of the calls,
/// on the writer's thread; with an error where the effect may be lost, and at once, on the caller's
/// thread, where the call itself returns an error. It must not block.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A handle to an open log; clones share it. The last one to go closes the log.
///
/// Changes take effect in memory at once and return without waiting for the disk; only
/// [`Log::open`], [`Log::read`] of old records and [`Log::close`] may wait for it.
#[derive(Clone)]
pub(crate) struct Log(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    writer: ThreadId,
}

impl Log {
    /// Opens the log in `dir`, creating the directory where it is missing, cuts what a crash left
    /// half-written, and starts the writer. Blocks.
    ///
    /// # Errors
    /// `CORRUPTION_LOG` where a record that had been synced is damaged or missing; `LOG_VERSION`
    /// where a newer version wrote it; `STORAGE_FAILED` where the disk fails.
    pub(crate) fn open(dir: &Path, options: LogOptions) -> crate::Result<Log> {
        let storage = Directory::open(dir).map_err(|error| storage_failed(dir, &error))?;
        Log::open_on(Arc::new(storage), options)
    }

    /// Whether there is a log in `dir`, begun or in use.
    ///
    /// # Errors
    /// As [`Log::open`], where the disk fails.
    pub(crate) fn exists(dir: &Path) -> crate::Result<bool> {
        let failed = |error| storage_failed(dir, &error);
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if name.to_str().is_some_and(|name| segment::sequence_of(name).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_on(storage: Arc<dyn Storage>, options: LogOptions) -> crate::Result<Log> {
        let segment_bytes = options.segment_bytes.clamp(1 << 10, 1 << 30);
        let options = LogOptions { segment_bytes, ..options };
        let mut recovered = recovery::recover(&*storage, options)?;
        let shared = Arc::new(Shared::new(&mut recovered, options, storage.path("")));
        let writer = Writer::new(shared.clone(), storage.clone(), options, recovered);
        let thread = thread::Builder::new()
            .name("quorumlite-log".into())
            .spawn(move || writer.run())
            .map_err(|error| storage_failed(&storage.path(""), &error))?;
        let writer = thread.thread().id();
        Ok(Log(Arc::new(Handle { shared, thread: Mutex::new(Some(thread)), writer })))
    }

    /// The ends of the log.
    pub(crate) fn state(&self) -> LogState {
        self.0.shared.core.lock().state()
    }

    /// The vote that was saved last.
    pub(crate) fn vote(&self) -> Option<Bytes> {
        self.0.shared.core.lock().vote.clone()
    }

    /// The committed position that was saved last. After a crash it may be an older one.
    pub(crate) fn committed(&self) -> Option<Bytes> {
        self.0.shared.core.lock().committed.clone()
    }

    /// Appends records, which must follow the last one without a gap; in an empty log that was never
    /// purged they may start anywhere. They can be read when this returns.
    ///
    /// # Errors
    /// `InvalidInput` where they do not follow or one is 4 GiB long, and nothing has changed;
    /// otherwise the log is closed or has failed.
    pub(crate) fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        self.0.shared.submit(done, |core| core.append(records))
    }

    /// Saves the vote, in order with the appends.
    ///
    /// # Errors
    /// `InvalidInput` where it is longer than 64 KiB; otherwise the log is closed or has failed.
    pub(crate) fn save_vote(&self, vote: Bytes, done: Done) -> io::Result<()> {
        self.0.shared.submit(done, |core| {
            check_state_len(&vote)?;
            core.vote = Some(vote.clone());
            Ok(Work::Vote(vote))
        })
    }

    /// Saves the committed position: handed to the operating system with the next write or within
    /// some milliseconds, and durable with the next sync. It never causes a sync.
    ///
    /// # Errors
    /// `InvalidInput` where it is longer than 64 KiB; otherwise the log is closed or has failed.
    pub(crate) fn save_committed(&self, committed: Bytes) -> io::Result<()> {
        check_state_len(&committed)?;
        self.0.shared.save_committed(committed)
    }

    /// Drops the records after `index`, all where it is None. They cannot be read any more when this
    /// returns.
    ///
    /// # Errors
    /// `InvalidInput` where `index` lies before the purged position; otherwise the log is closed or
    /// has failed.
    pub(crate) fn truncate_after(&self, index: Option<u64>, done: Done) -> io::Result<()> {
        self.0.shared.submit(done, |core| core.truncate_after(index))
    }

    /// Drops the records up to and including `upto`, and the segment files that only held such. Where
    /// `upto` lies beyond the last record, the log continues after it. Does nothing where that much
    /// was purged before.
    ///
    /// # Errors
    /// The log is closed or has failed.
    pub(crate) fn purge(&self, upto: LogPosition, done: Done) -> io::Result<()> {
        self.0.shared.submit(done, |core| Ok(core.purge(upto)))
    }

    /// The records of `range` that exist, in order, until their payloads take more than `max_bytes`
    /// together; the first one is always there if it exists. May block: old records come from disk.
    ///
    /// # Errors
    /// `InvalidData` where a record on disk is damaged; otherwise the disk fails or the log is closed.
    pub(crate) fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Record>> {
        self.0.shared.read(range, max_bytes)
    }

    /// Bytes that the live records take on disk, without the zeros at the end of a segment.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.0.shared.core.lock().index.bytes()
    }

    /// The smallest index such that the records from it on take at most `bytes` on disk. One more
    /// than the last index where not even the last record fits; None where there is no record.
    pub(crate) fn index_to_keep(&self, bytes: u64) -> Option<u64> {
        self.0.shared.core.lock().index.index_to_keep(bytes)
    }

    /// Why the log takes no more writes: set once a write or a sync has failed.
    pub(crate) fn error(&self) -> Option<Error> {
        self.0.shared.core.lock().error.clone()
    }

    /// Gives the log up as failed although no write has failed yet: its directory is gone, say.
    pub(crate) fn give_up(&self, reason: &io::Error) {
        for operation in self.0.shared.fail(reason) {
            (operation.done)(Err(shared::copy(reason)));
        }
    }

    /// Writes and syncs what is queued and ends the writer; later calls fail. Calling it again does
    /// nothing. Blocks, except when called from a [`Done`].
    ///
    /// # Errors
    /// The error of the log, where it has failed.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

impl Handle {
    fn close(&self) -> io::Result<()> {
        self.shared.begin_close();
        // The last handle may live in a callback: the writer cannot wait for itself, and ends anyway.
        if thread::current().id() != self.writer {
            let mut thread = self.thread.lock();
            if let Some(thread) = thread.take() {
                // The writer turns its own panics into the error that is reported below.
                let _ = thread.join();
            }
        }
        let mut core = self.shared.core.lock();
        // Handles may outlive the log; the files are not theirs any more.
        core.segments.clear();
        core.check_error()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // An error here was already given to the callbacks of what it concerns.
        let _ = self.close();
    }
}

fn check_state_len(bytes: &Bytes) -> io::Result<()> {
    if bytes.len() > MAX_STATE_BYTES {
        let message = format!(
            "a vote or committed position of {} bytes is too long: at most {MAX_STATE_BYTES} fit",
            bytes.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// The error of a disk that does not do what it should.
fn storage_failed(path: &Path, error: &io::Error) -> Error {
    let cause = Cause::of(error);
    if cause == Cause::TooManyFiles {
        return disk::too_many_files(format!("the log in {}: {error}", path.display()));
    }
    Error::new(
        ErrorKind::Unavailable,
        "STORAGE_FAILED",
        format!(
            "the log in {} cannot be read or written: {error}. Nothing more is written to it; {}, \
             then open the node again",
            path.display(),
            cause.advice()
        ),
    )
    .with_retryable(false)
}

/// The error of a log that lost or changed what it had stored.
fn damage(file: &str, offset: u64, what: &str) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "CORRUPTION_LOG",
        format!(
            "the log file {file} is damaged at byte {offset}: {what}. Restore this node: stop it, \
             remove its directory, and let it join the cluster again"
        ),
    )
}

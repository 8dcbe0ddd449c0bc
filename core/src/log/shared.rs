//! What callers and the writer share: the log as callers see it, and the queue to the writer.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::cache::Cache;
use super::format::record_frame_len;
use super::index::Index;
use super::recovery::Recovered;
use super::segment::{RecordPlace, Segment};
use super::{Done, LogOptions, LogPosition, LogState, MAX_PAYLOAD_BYTES, Record, storage_failed};
use crate::error::Error;

/// How long a committed position may wait for company before it is written alone.
const COMMITTED_DELAY: Duration = Duration::from_millis(10);
/// Old records that lie near each other are read in pieces of at most this many bytes.
const READ_PIECE_BYTES: u64 = 1 << 20;

/// The two sides' common ground.
pub(super) struct Shared {
    pub core: Mutex<Core>,
    wake: Condvar,
    options: LogOptions,
    dir: PathBuf,
}

/// One change for the writer.
pub(super) enum Work {
    /// Records, and the ticket of the first; the others follow.
    Append(Vec<Record>, u64),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(LogPosition),
    /// Nothing to write: only the callback, in its turn.
    Nothing,
}

/// A change and what to call when it is durable.
pub(super) struct Operation {
    pub work: Work,
    pub done: Done,
}

/// What the writer takes at a time.
pub(super) struct Batch {
    pub operations: Vec<Operation>,
    /// A committed position that was not written yet.
    pub committed: Option<Bytes>,
    /// No more batches follow.
    pub last: bool,
}

/// The log as callers see it: every change is in here at once, whether written or not.
pub(super) struct Core {
    pub index: Index,
    pub cache: Cache,
    pub purged: Option<LogPosition>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub segments: BTreeMap<u64, Arc<Segment>>,
    pub error: Option<Error>,
    queue: Vec<Operation>,
    committed_since: Option<Instant>,
    /// The writer waits without an end, so whatever comes must wake it.
    pub asleep: bool,
    closing: bool,
    next_ticket: u64,
}

impl Core {
    pub(super) fn state(&self) -> LogState {
        LogState { purged: self.purged, last: self.index.last().or(self.purged) }
    }

    /// The error of a log that has failed.
    pub(super) fn check_error(&self) -> io::Result<()> {
        match &self.error {
            Some(error) => Err(io::Error::other(error.clone())),
            None => Ok(()),
        }
    }

    fn check(&self) -> io::Result<()> {
        self.check_error()?;
        if self.closing { Err(io::Error::other(Error::closed())) } else { Ok(()) }
    }

    pub(super) fn append(&mut self, records: Vec<Record>) -> io::Result<Work> {
        let mut last = self.state().last.map(|last| last.index);
        for record in &records {
            if last.is_some_and(|last| last.checked_add(1) != Some(record.index)) {
                return Err(invalid(format!(
                    "record {} cannot follow record {}: append records without a gap",
                    record.index,
                    last.unwrap_or_default()
                )));
            }
            if record.index == u64::MAX || record.payload.len() > MAX_PAYLOAD_BYTES {
                return Err(invalid(format!(
                    "record {} of {} bytes is too large for the log",
                    record.index,
                    record.payload.len()
                )));
            }
            last = Some(record.index);
        }
        let first_ticket = self.next_ticket;
        for record in &records {
            let payload_len = record.payload.len() as u32;
            self.index.push(record.term, record.index, self.next_ticket, payload_len);
            self.cache.push(record.clone());
            self.next_ticket += 1;
        }
        Ok(if records.is_empty() { Work::Nothing } else { Work::Append(records, first_ticket) })
    }

    pub(super) fn truncate_after(&mut self, index: Option<u64>) -> io::Result<Work> {
        if let (Some(index), Some(purged)) = (index, self.purged)
            && index < purged.index
        {
            return Err(invalid(format!(
                "the log cannot be truncated after {index}: it is purged up to {}",
                purged.index
            )));
        }
        if self.index.last().map(|last| last.index) <= index {
            return Ok(Work::Nothing);
        }
        self.index.truncate_after(index);
        self.cache.truncate_after(index);
        Ok(Work::Truncate(index))
    }

    pub(super) fn purge(&mut self, upto: LogPosition) -> Work {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Work::Nothing;
        }
        self.index.purge(upto.index);
        self.cache.purge(upto.index);
        self.purged = Some(upto);
        Work::Purge(upto)
    }
}

impl Shared {
    /// Takes over the index, which the writer has no use for.
    pub(super) fn new(recovered: &mut Recovered, options: LogOptions, dir: PathBuf) -> Shared {
        let index = std::mem::take(&mut recovered.index);
        let state = &recovered.state;
        let core = Core {
            index,
            cache: Cache::default(),
            purged: state.purged,
            vote: state.vote.clone(),
            committed: state.committed.clone(),
            segments: recovered.segments.clone(),
            error: None,
            queue: Vec::new(),
            committed_since: None,
            asleep: false,
            closing: false,
            next_ticket: 0,
        };
        Shared { core: Mutex::new(core), wake: Condvar::new(), options, dir }
    }

    /// Makes a change visible and queues it for the writer, both or neither.
    pub(super) fn submit(
        &self,
        done: Done,
        change: impl FnOnce(&mut Core) -> io::Result<Work>,
    ) -> io::Result<()> {
        let mut core = self.core.lock();
        match core.check().and_then(|()| change(&mut core)) {
            Ok(work) => {
                self.evict(&mut core);
                core.queue.push(Operation { work, done });
                drop(core);
                self.wake.notify_one();
                Ok(())
            }
            Err(error) => {
                drop(core);
                done(Err(copy(&error)));
                Err(error)
            }
        }
    }

    pub(super) fn save_committed(&self, committed: Bytes) -> io::Result<()> {
        let mut core = self.core.lock();
        core.check()?;
        core.committed = Some(committed);
        if core.committed_since.is_none() {
            core.committed_since = Some(Instant::now());
            // A writer that will look by itself is left alone: waking a thread for every write costs
            // as much as a fast disk's sync.
            if core.asleep {
                drop(core);
                self.wake.notify_one();
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        // Old records lie before the cached ones. They are collected under the lock, then read
        // without it: a segment that is purged meanwhile stays readable through its open file.
        let mut pieces: Vec<(Arc<Segment>, Vec<RecordPlace>)> = Vec::new();
        {
            let core = self.core.lock();
            if core.closing {
                return Err(io::Error::other(Error::closed()));
            }
            let (Some(first), Some(last)) = (core.index.first(), core.index.last()) else {
                return Ok(records);
            };
            let mut bytes = 0_usize;
            for index in range.start.max(first)..range.end.min(last.index + 1) {
                let Some(entry) = core.index.get(index) else { break };
                let none_yet = records.is_empty() && pieces.is_empty();
                bytes = bytes.saturating_add(entry.payload_len as usize);
                if bytes > max_bytes && !none_yet {
                    break;
                }
                if let Some(record) = core.cache.get(index) {
                    records.push(record.clone());
                    continue;
                }
                let place = entry.written().and_then(|(sequence, offset)| {
                    let place = RecordPlace {
                        index,
                        term: entry.term,
                        offset,
                        payload_len: entry.payload_len,
                    };
                    Some((core.segments.get(&sequence)?, place))
                });
                let Some((segment, place)) = place else {
                    return Err(io::Error::other(format!("record {index} is in no segment")));
                };
                let end = place.offset + record_frame_len(place.payload_len as usize);
                match pieces.last_mut() {
                    Some((same, places))
                        if Arc::ptr_eq(same, segment)
                            && end - places[0].offset <= READ_PIECE_BYTES =>
                    {
                        places.push(place);
                    }
                    _ => pieces.push((segment.clone(), vec![place])),
                }
            }
        }
        if pieces.is_empty() {
            return Ok(records);
        }
        let mut all = Vec::with_capacity(pieces.iter().map(|(_, places)| places.len()).sum());
        for (segment, places) in pieces {
            all.append(&mut segment.read_records(&places)?);
        }
        all.append(&mut records);
        Ok(all)
    }

    /// Waits until there is something to write, or the log is to be closed.
    pub(super) fn next_batch(&self) -> Batch {
        let mut core = self.core.lock();
        // What was just written is soon committed: that may come without a wake-up.
        let mut expected = Some(Instant::now() + COMMITTED_DELAY);
        loop {
            let written_alone = core.committed_since.map(|since| since + COMMITTED_DELAY);
            let now = Instant::now();
            if !core.queue.is_empty() || core.closing || written_alone.is_some_and(|due| due <= now)
            {
                break;
            }
            expected = expected.filter(|until| *until > now);
            match written_alone.or(expected) {
                Some(due) => {
                    self.wake.wait_until(&mut core, due);
                }
                None => {
                    core.asleep = true;
                    self.wake.wait(&mut core);
                    core.asleep = false;
                }
            }
        }
        let committed = core.committed_since.take().and_then(|_| core.committed.clone());
        Batch { operations: std::mem::take(&mut core.queue), committed, last: core.closing }
    }

    /// Notes where records lie now: index, ticket, segment, offset.
    pub(super) fn place(&self, placed: &mut Vec<(u64, u64, u64, u32)>) {
        let mut core = self.core.lock();
        for (index, ticket, segment, offset) in placed.drain(..) {
            core.index.place(index, ticket, segment, offset);
        }
        self.evict(&mut core);
    }

    /// Refuses all further changes, and gives back those that still waited.
    pub(super) fn fail(&self, error: &io::Error) -> Vec<Operation> {
        let mut core = self.core.lock();
        core.error.get_or_insert_with(|| storage_failed(&self.dir, error));
        std::mem::take(&mut core.queue)
    }

    pub(super) fn begin_close(&self) {
        self.core.lock().closing = true;
        self.wake.notify_one();
    }

    fn evict(&self, core: &mut Core) {
        let Core { cache, index, .. } = core;
        cache.evict(self.options.cache_bytes, |at| {
            index.get(at).is_none_or(|entry| entry.written().is_some())
        });
    }
}

/// The same error again: `io::Error` cannot be cloned.
pub(super) fn copy(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => io::Error::new(error.kind(), inner.clone()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

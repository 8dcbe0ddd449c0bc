//! The writer thread: drains the queue, writes once, syncs once, then calls back in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::format::{FRAME_HEAD_LEN, Kind, encode_frame, frame_len};
use super::recovery::Recovered;
use super::segment::{Segment, file_name};
use super::shared::{Batch, Shared, Work, copy};
use super::state::{HardState, pair, purge_body, truncate_body};
use super::storage::Storage;
use super::{Done, LogOptions, LogPosition, Record};

/// Capacity of the first segment in bytes; each further one is twice as large, up to the option.
pub(super) const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// More than this is handed to the operating system before the rest of the batch is encoded.
const BUFFER_BYTES: usize = 4 << 20;

/// Owns the end of the log.
pub(super) struct Writer {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    options: LogOptions,
    /// The segment that is appended to.
    active: Arc<Segment>,
    /// Where the next frame goes, counting what is still in the buffer.
    end: u64,
    /// Up to here the active segment is synced.
    synced: u64,
    /// The frames that end at `end` and are not written yet.
    buffer: Vec<u8>,
    /// The last frame says that the log was closed.
    closed_cleanly: bool,
    /// What the frames so far say; a new segment begins with it.
    state: HardState,
    /// For each segment the index of the last record written to it: no live one in it has a higher
    /// index. (After a truncation it may be too high; the file is then removed a little later.)
    last_indexes: BTreeMap<u64, Option<u64>>,
    /// Records written since callers were last told: index, ticket, segment, offset.
    placed: Vec<(u64, u64, u64, u32)>,
    /// Callbacks that were not called yet, in order, and whether files are to be removed before.
    waiting: VecDeque<(Done, bool)>,
    /// How many of them are complete but for the sync.
    complete: usize,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        options: LogOptions,
        recovered: Recovered,
    ) -> Writer {
        Writer {
            shared,
            storage,
            options,
            active: recovered.active,
            end: recovered.end,
            synced: recovered.end,
            buffer: Vec::new(),
            closed_cleanly: recovered.closed_cleanly,
            state: recovered.state,
            last_indexes: recovered.last_indexes,
            placed: Vec::new(),
            waiting: VecDeque::new(),
            complete: 0,
        }
    }

    /// Works until the log is closed or fails.
    pub(super) fn run(mut self) {
        loop {
            let batch = self.shared.next_batch();
            let last = batch.last;
            let result = catch_unwind(AssertUnwindSafe(|| self.process(batch)))
                .unwrap_or_else(|_| Err(io::Error::other("the log's writer panicked")));
            if let Err(error) = result {
                return self.fail(&error);
            }
            if last {
                return;
            }
        }
    }

    fn process(&mut self, batch: Batch) -> io::Result<()> {
        let mut works = Vec::with_capacity(batch.operations.len());
        for operation in batch.operations {
            let removes_files = matches!(operation.work, Work::Purge(_));
            self.waiting.push_back((operation.done, removes_files));
            works.push(operation.work);
        }
        let committed_only = works.is_empty() && !batch.last;
        for work in works {
            self.encode(work)?;
            self.complete += 1;
        }
        if let Some(committed) = batch.committed {
            self.put(Kind::Committed, &[&committed])?;
            self.state.committed = Some(committed);
        }
        if committed_only {
            return self.write_buffer();
        }
        self.flush()?;
        if batch.last && !self.closed_cleanly && self.end + FRAME_HEAD_LEN <= self.capacity() {
            self.put_here(Kind::Close, &[]);
            self.closed_cleanly = true;
            self.flush()?;
        }
        Ok(())
    }

    fn encode(&mut self, work: Work) -> io::Result<()> {
        match work {
            Work::Append(records, first_ticket) => {
                for (record, ticket) in records.iter().zip(first_ticket..) {
                    self.put_record(record, ticket)?;
                }
            }
            Work::Vote(vote) => {
                self.put(Kind::Vote, &[&vote])?;
                self.state.vote = Some(vote);
            }
            Work::Truncate(keep) => {
                self.put(Kind::Truncate, &[&truncate_body(keep)])?;
            }
            Work::Purge(upto) => self.put_purge(upto)?,
            Work::Nothing => {}
        }
        Ok(())
    }

    fn put_record(&mut self, record: &Record, ticket: u64) -> io::Result<()> {
        let offset =
            self.put(Kind::Record, &[&pair(record.term, record.index), &record.payload])?;
        let sequence = self.active.header.sequence;
        self.last_indexes.insert(sequence, Some(record.index));
        self.placed.push((record.index, ticket, sequence, offset));
        Ok(())
    }

    fn put_purge(&mut self, upto: LogPosition) -> io::Result<()> {
        // The frame tells recovery which files may be missing, so it is synced before any goes.
        let first_live = self.last_indexes.iter().find(|(_, last)| **last > Some(upto.index));
        let first_needed =
            first_live.map_or(self.active.header.sequence, |(sequence, _)| *sequence);
        self.put(Kind::Purge, &[&purge_body(upto, first_needed)])?;
        self.state.purged = Some(upto);
        self.state.first_needed = first_needed;
        Ok(())
    }

    /// Encodes a frame, in a new segment where this one is full, and says where it lies.
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> io::Result<u32> {
        let len = frame_len(parts.iter().map(|part| part.len() as u64).sum());
        // Room for the close frame is kept.
        if self.end + len + FRAME_HEAD_LEN > self.capacity() {
            self.start_segment(len)?;
        }
        let offset = u32::try_from(self.end)
            .map_err(|_| io::Error::other("a segment has grown beyond 4 GiB"))?;
        self.put_here(kind, parts);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(offset)
    }

    fn put_here(&mut self, kind: Kind, parts: &[&[u8]]) {
        let before = self.buffer.len();
        let binding = self.active.binding();
        encode_frame(&mut self.buffer, binding, self.end, self.synced, kind, parts);
        self.end += (self.buffer.len() - before) as u64;
        self.closed_cleanly = false;
    }

    fn capacity(&self) -> u64 {
        self.active.header.capacity
    }

    /// Syncs this segment and goes on in a new one that has room for a frame of `frame_len` bytes.
    fn start_segment(&mut self, frame_len: u64) -> io::Result<()> {
        self.flush()?;
        let sequence = self.active.header.sequence + 1;
        let capacity = (self.capacity() * 2).max(FIRST_SEGMENT_BYTES);
        let segment = Arc::new(Segment::create(
            &*self.storage,
            sequence,
            self.end,
            capacity.min(self.options.segment_bytes),
            frame_len,
            &self.state,
        )?);
        self.shared.core.lock().segments.insert(sequence, segment.clone());
        self.last_indexes.insert(sequence, None);
        self.end = segment.header.state_end;
        self.synced = self.end;
        self.active = segment;
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.active.file.write_at(&self.buffer, self.end - self.buffer.len() as u64)?;
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES);
        }
        Ok(())
    }

    /// Makes all that was encoded durable, then says so.
    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        if self.synced < self.end {
            self.active.file.sync()?;
            self.synced = self.end;
        }
        if !self.placed.is_empty() {
            self.shared.place(&mut self.placed);
        }
        while self.complete > 0
            && let Some((_, removes_files)) = self.waiting.front()
        {
            if *removes_files {
                self.remove_segments()?;
            }
            self.complete -= 1;
            if let Some((done, _)) = self.waiting.pop_front() {
                call(done, Ok(()));
            }
        }
        Ok(())
    }

    /// Removes the files that hold no live record.
    fn remove_segments(&mut self) -> io::Result<()> {
        let needed = self.last_indexes.split_off(&self.state.first_needed);
        let unneeded = std::mem::replace(&mut self.last_indexes, needed);
        if unneeded.is_empty() {
            return Ok(());
        }
        {
            let mut core = self.shared.core.lock();
            core.segments = core.segments.split_off(&self.state.first_needed);
        }
        for sequence in unneeded.into_keys() {
            self.storage.remove(&file_name(sequence))?;
        }
        self.storage.sync()
    }

    /// Ends the log's life: what failed may or may not be on disk, so nothing may follow it.
    fn fail(self, error: &io::Error) {
        let queued = self.shared.fail(error);
        let reported = match self.shared.core.lock().check_error() {
            Err(reported) => reported,
            Ok(()) => copy(error),
        };
        tracing::error!("{reported}");
        for (done, _) in self.waiting {
            call(done, Err(copy(&reported)));
        }
        for operation in queued {
            call(operation.done, Err(copy(&reported)));
        }
    }
}

/// Calls back. A panic in there is the caller's own: the log goes on.
fn call(done: Done, result: io::Result<()>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a callback of the log panicked");
    }
}

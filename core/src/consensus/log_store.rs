//! [`LogStore`]: Raft's log storage on the segment log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use prost::Message;

use super::codec;
use super::types::{self, Entry, LogId, TypeConfig, Vote};
use crate::log::{Log, LogPosition, Record};
use crate::proto;

/// The most bytes of entries in one replication message, unless a single entry is larger.
const MAX_REPLICATION_BYTES: usize = 2 * 1024 * 1024;

/// The log, the vote and the committed index of one node.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
}

impl LogStore {
    pub(crate) fn new(log: Log) -> Self {
        LogStore { log }
    }

    fn read(&self, range: std::ops::Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        self.log.read(range, max_bytes)?.into_iter().map(record_to_entry).collect()
    }
}

fn invalid(e: crate::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

fn record_to_entry(record: Record) -> io::Result<Entry> {
    let payload = codec::payload_from_bytes(record.payload).map_err(invalid)?;
    Ok(Entry { log_id: types::log_id(record.term, record.index), payload })
}

fn entry_to_record(entry: Entry) -> Record {
    Record {
        term: types::term_of(&entry.log_id),
        index: entry.log_id.index,
        payload: codec::payload_to_bytes(&entry.payload),
    }
}

fn position(id: &LogId) -> LogPosition {
    LogPosition { term: types::term_of(id), index: id.index }
}

fn log_id(position: LogPosition) -> LogId {
    types::log_id(position.term, position.index)
}

/// Runs a log operation that reports through a callback, and waits for its report.
async fn durable(start: impl FnOnce(crate::log::Done) -> io::Result<()>) -> Result<(), io::Error> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    start(Box::new(move |result| {
        let _ = tx.send(result);
    }))?;
    rx.await.map_err(|_| io::Error::other("the log was closed"))?
}

fn to_range(range: impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&i) => i.saturating_add(1),
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(to_range(range), usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, MAX_REPLICATION_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log
            .vote()
            .map(|bytes| {
                let vote = codec::decode::<proto::Vote>(bytes, "the stored vote")?;
                codec::vote_from_proto(Some(vote))
            })
            .transpose()
            .map_err(invalid)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = codec::vote_to_proto(vote).encode_to_vec().into();
        durable(|done| self.log.save_vote(bytes, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let bytes = codec::log_id_to_proto(&committed).encode_to_vec().into();
        self.log.save_committed(bytes)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let committed = self
            .log
            .committed()
            .map(|bytes| codec::decode::<proto::LogId>(bytes, "the stored committed index"))
            .transpose()
            .map_err(invalid)?
            .map(|id| codec::log_id_from_proto(&id));
        // The committed index is written without a sync of its own, and entries that were never
        // acknowledged may be cut by recovery: it can never be beyond the log.
        let last = self.log.state().last.map(log_id);
        Ok(committed.min(last))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = <TypeConfig as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(entry_to_record).collect();
        self.log.append(records, Box::new(move |result| callback.io_completed(result)))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map(|id| id.index);
        durable(|done| self.log.truncate_after(index, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        durable(|done| self.log.purge(position(&log_id), done)).await
    }
}

//! [`HeldBack`]: the committed entries that are not applied because one of them, or the first, is
//! halted. They are read from the log when they may be applied after all: nothing of them is kept in
//! memory, and the log is purged only behind what is applied.

use super::codec;
use super::state_machine::ToApply;
use super::types::{self, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::proto;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// See the module's documentation.
pub(super) struct HeldBack {
    log: Log,
    /// The last entry that is held back, 0 where none is.
    upto: u64,
}

impl HeldBack {
    pub(super) fn new(log: Log) -> HeldBack {
        HeldBack { log, upto: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.upto == 0
    }

    /// Holds `entries` back. Those who wait for commands learn that they get no answer; everything
    /// else is complete as far as they are concerned.
    pub(super) fn add(&mut self, entries: Vec<ToApply>) {
        for (entry, responder) in entries {
            self.upto = entry.log_id.index;
            let has_commands =
                matches!(&entry.payload, Payload::Normal(data) if codec::is_commands(data));
            if let Some(responder) = responder
                && !has_commands
            {
                responder.send(Vec::new());
            }
        }
    }

    /// The next entries from `from` on, which is the one after what is applied. Empty where nothing
    /// is held back any more.
    ///
    /// # Errors
    /// `Corruption` or `Unavailable` where the log cannot be read.
    pub(super) fn next(&mut self, from: u64, count: usize) -> Result<Vec<types::Entry>> {
        if from > self.upto {
            self.upto = 0;
            return Ok(Vec::new());
        }
        let end = self.upto.min(from.saturating_add(count as u64 - 1)) + 1;
        let entries = entries(&self.log, from, end)?;
        match entries.first() {
            Some(first) if first.log_id.index == from => Ok(entries),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                "APPLY_OUT_OF_ORDER",
                format!("entry {from} was held back and is not in the log any more"),
            )
            .with_retryable(false)),
        }
    }
}

/// The index that a committed entry voids, if it is one that does and names one before it.
pub(super) fn voided_by(entry: &types::Entry) -> Option<u64> {
    let Payload::Normal(data) = &entry.payload else { return None };
    // One that cannot be decoded is told when it is applied.
    let index = codec::voided_by(data).ok().flatten()?;
    (index < entry.log_id.index).then_some(index)
}

/// The entries that the committed part of `log` after index `applied` voids.
///
/// # Errors
/// `Corruption` or `Unavailable` where the log cannot be read.
pub(super) fn look_ahead(log: &Log, applied: u64) -> Result<Vec<u64>> {
    let Some(committed) = log.committed() else { return Ok(Vec::new()) };
    let committed: proto::LogId = codec::decode(committed, "the stored committed index")?;
    let mut voided = Vec::new();
    let mut from = applied + 1;
    while from <= committed.index {
        let entries = entries(log, from, committed.index + 1)?;
        // What is committed need not be in this node's log yet.
        let Some(last) = entries.last() else { break };
        from = last.log_id.index + 1;
        voided.extend(entries.iter().filter_map(voided_by));
    }
    Ok(voided)
}

fn entries(log: &Log, from: u64, end: u64) -> Result<Vec<types::Entry>> {
    let records = log.read(from..end, READ_BYTES).map_err(|e| super::repair::read_error(&e))?;
    let entry = |record: crate::log::Record| {
        let payload = codec::payload_from_bytes(record.payload)?;
        Ok(types::Entry { log_id: types::log_id(record.term, record.index), payload })
    };
    records.into_iter().map(entry).collect()
}

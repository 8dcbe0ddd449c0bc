//! The newest records in memory: all that are not written yet, and as many others as fit.

use std::collections::VecDeque;

use super::Record;

/// Fixed cost of a cached record in bytes, so that empty payloads count too.
const OVERHEAD: usize = size_of::<Record>();

/// A contiguous run of records that ends with the last one of the log.
#[derive(Default)]
pub(super) struct Cache {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Cache {
    /// Adds the record that follows the last one.
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += cost(&record);
        self.records.push_back(record);
    }

    pub(super) fn get(&self, index: u64) -> Option<&Record> {
        let slot = index.checked_sub(self.records.front()?.index)?;
        self.records.get(usize::try_from(slot).ok()?)
    }

    /// Drops the records after `index`, all where it is None.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        while self.records.back().is_some_and(|last| Some(last.index) > index) {
            self.bytes -= self.records.pop_back().as_ref().map_or(0, cost);
        }
    }

    /// Drops the records up to and including `index`.
    pub(super) fn purge(&mut self, index: u64) {
        while self.records.front().is_some_and(|first| first.index <= index) {
            self.bytes -= self.records.pop_front().as_ref().map_or(0, cost);
        }
    }

    /// Drops old records until the others take at most `limit` bytes, but none that `written` does
    /// not know to be on disk.
    pub(super) fn evict(&mut self, limit: usize, written: impl Fn(u64) -> bool) {
        while self.bytes > limit && self.records.front().is_some_and(|first| written(first.index)) {
            self.bytes -= self.records.pop_front().as_ref().map_or(0, cost);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(record: &Record) -> usize {
    record.payload.len() + OVERHEAD
}

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
        while let Some(record) = self.records.pop_back_if(|last| Some(last.index) > index) {
            self.bytes -= cost(&record);
        }
    }

    /// Drops the records up to and including `index`.
    pub(super) fn purge(&mut self, index: u64) {
        while let Some(record) = self.records.pop_front_if(|first| first.index <= index) {
            self.bytes -= cost(&record);
        }
    }

    /// Drops old records until the others take at most `limit` bytes, but none that `written` does
    /// not know to be on disk.
    pub(super) fn evict(&mut self, limit: usize, written: impl Fn(u64) -> bool) {
        while self.bytes > limit {
            let Some(record) = self.records.pop_front_if(|first| written(first.index)) else {
                break;
            };
            self.bytes -= cost(&record);
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

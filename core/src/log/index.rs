//! Where each live record lies: 24 bytes of memory a record.

use std::collections::VecDeque;

use super::LogPosition;
use super::format::record_frame_len;

/// The live records, contiguous in their index.
#[derive(Default)]
pub(super) struct Index {
    /// Index of the first entry; meaningless while there is none.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub term: u64,
    /// The segment's sequence once written, the record's ticket before.
    place: u64,
    /// Offset of the frame in the segment; 0 (where the header lies) before it is written.
    offset: u32,
    pub payload_len: u32,
}

impl Entry {
    /// Segment and offset of the record, once it is written.
    pub(super) fn written(&self) -> Option<(u64, u64)> {
        (self.offset != 0).then_some((self.place, u64::from(self.offset)))
    }

    fn frame_len(&self) -> u64 {
        record_frame_len(self.payload_len as usize)
    }
}

impl Index {
    /// Adds a record that is not written yet. `index` follows the last one (the caller checks), or
    /// is any where there is none. The ticket is unique to this record, since after a truncation
    /// another one may take its index before the writer reports the place of the first.
    pub(super) fn push(&mut self, term: u64, index: u64, ticket: u64, payload_len: u32) {
        if self.entries.is_empty() {
            self.first = index;
        }
        let entry = Entry { term, place: ticket, offset: 0, payload_len };
        self.bytes += entry.frame_len();
        self.entries.push_back(entry);
    }

    /// Notes where the record with this ticket was written, if it is still alive.
    pub(super) fn place(&mut self, index: u64, ticket: u64, segment: u64, offset: u32) {
        let entry = self
            .slot(index)
            .and_then(|slot| self.entries.get_mut(slot))
            .filter(|entry| entry.offset == 0 && entry.place == ticket);
        if let Some(entry) = entry {
            entry.place = segment;
            entry.offset = offset;
        }
    }

    pub(super) fn get(&self, index: u64) -> Option<Entry> {
        self.entries.get(self.slot(index)?).copied()
    }

    pub(super) fn first(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<LogPosition> {
        let entry = self.entries.back()?;
        Some(LogPosition { term: entry.term, index: self.first + (self.entries.len() as u64 - 1) })
    }

    /// Bytes on disk of the live records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Drops the records after `index`, all where it is None.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        let keep = index
            .and_then(|index| index.checked_sub(self.first))
            .map_or(0, |slot| slot.saturating_add(1).min(self.entries.len() as u64));
        for entry in self.entries.drain(keep as usize..) {
            self.bytes -= entry.frame_len();
        }
    }

    /// Drops the records up to and including `index`.
    pub(super) fn purge(&mut self, index: u64) {
        let Some(first) = self.first().filter(|first| *first <= index) else { return };
        let dropped = (index - first).saturating_add(1).min(self.entries.len() as u64);
        for entry in self.entries.drain(..dropped as usize) {
            self.bytes -= entry.frame_len();
        }
        self.first = first + dropped;
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// The smallest index such that the records from it on take at most `bytes` on disk.
    pub(super) fn index_to_keep(&self, bytes: u64) -> Option<u64> {
        let mut index = self.last()?.index.saturating_add(1);
        let mut left = bytes;
        for entry in self.entries.iter().rev() {
            let Some(rest) = left.checked_sub(entry.frame_len()) else { break };
            left = rest;
            index -= 1;
        }
        Some(index)
    }

    fn slot(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }
}

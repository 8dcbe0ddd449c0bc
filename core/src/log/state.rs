//! What the log knows beside its records, as every segment repeats it at its start.

use bytes::Bytes;

use super::LogPosition;
use super::format::u64_at;

/// The state as of the last frame written; each new segment begins with it, so that older segments
/// can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HardState {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    pub purged: Option<LogPosition>,
    /// The sequence of the oldest segment that may hold a live record. Older files are leftovers.
    pub first_needed: u64,
}

impl HardState {
    /// The state of a log that was never written.
    pub(super) fn new() -> HardState {
        HardState { vote: None, committed: None, purged: None, first_needed: 1 }
    }
}

/// Body of a truncate frame.
pub(super) fn truncate_body(keep: Option<u64>) -> [u8; 16] {
    pair(u64::from(keep.is_some()), keep.unwrap_or(0))
}

/// Reads [`truncate_body`]: outside None where it is malformed, inside None where nothing is kept.
pub(super) fn decode_truncate(body: &[u8]) -> Option<Option<u64>> {
    if body.len() != 16 {
        return None;
    }
    match u64_at(body, 0) {
        0 => Some(None),
        1 => Some(Some(u64_at(body, 8))),
        _ => None,
    }
}

/// Body of a purge frame.
pub(super) fn purge_body(upto: LogPosition, first_needed: u64) -> [u8; 24] {
    let mut out = [0; 24];
    out[..16].copy_from_slice(&pair(upto.term, upto.index));
    out[16..].copy_from_slice(&first_needed.to_le_bytes());
    out
}

/// Reads [`purge_body`]; None where it is malformed.
pub(super) fn decode_purge(body: &[u8]) -> Option<(LogPosition, u64)> {
    (body.len() == 24)
        .then(|| (LogPosition { term: u64_at(body, 0), index: u64_at(body, 8) }, u64_at(body, 16)))
}

/// The head of a record's body.
pub(super) fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&first.to_le_bytes());
    out[8..].copy_from_slice(&second.to_le_bytes());
    out
}

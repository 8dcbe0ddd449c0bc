//! Reads the segments after a start: cuts what was never acknowledged, refuses what is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, HEADER_LEN, Header, HeaderError, Kind};
use super::index::Index;
use super::segment::{self, RecordPlace, Segment, draft_name, file_name, sequence_of};
use super::state::{HardState, decode_purge, decode_truncate};
use super::storage::Storage;
use super::writer::FIRST_SEGMENT_BYTES;
use super::{LogOptions, LogPosition, damage, storage_failed};
use crate::error::Error;

/// A log as it was found, everything in it durable.
pub(super) struct Recovered {
    pub index: Index,
    pub state: HardState,
    pub segments: BTreeMap<u64, Arc<Segment>>,
    /// The newest segment.
    pub active: Arc<Segment>,
    /// Where its frames end.
    pub end: u64,
    /// Its last frame says that the log was closed.
    pub closed_cleanly: bool,
    /// For each segment the index of the last record written to it.
    pub last_indexes: BTreeMap<u64, Option<u64>>,
}

/// What one frame says.
enum Found {
    Record(RecordPlace),
    Vote(Bytes),
    Committed(Bytes),
    Truncate(Option<u64>),
    Purge(LogPosition, u64),
    Close,
}

/// What one segment says.
struct Scan {
    segment: Arc<Segment>,
    found: Vec<(u64, Found)>,
    /// The oldest segment that is needed, as far as this one knows.
    first_needed: u64,
    end: u64,
}

/// Recovers the log in `storage`, or begins a new one where there is none.
pub(super) fn recover(storage: &dyn Storage, options: LogOptions) -> Result<Recovered, Error> {
    let failed = |error: io::Error| storage_failed(&storage.path(""), &error);
    let names = storage.list().map_err(failed)?;
    let sequences: BTreeSet<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    // A segment that a crash kept from getting its name.
    for name in &names {
        if let Some(stem) = name.strip_suffix(".new")
            && stem.parse().is_ok_and(|sequence| draft_name(sequence) == *name)
        {
            storage.remove(name).map_err(failed)?;
        }
    }
    let Some(newest) = sequences.last().copied() else {
        return begin(storage, options).map_err(failed);
    };

    // From the newest to the oldest: the newer ones say where the older ones end, and which of them
    // are needed at all.
    let mut scans: Vec<Scan> = Vec::new();
    let mut first_needed = 1;
    for sequence in (1..=newest).rev() {
        if sequence < first_needed {
            break;
        }
        if !sequences.contains(&sequence) {
            let path = storage.path(&file_name(sequence)).display().to_string();
            return Err(damage(&path, 0, "the file is missing"));
        }
        let end = scans.last().map(|newer| newer.segment.header.previous_end);
        let scan = scan(storage, sequence, end)?;
        first_needed = first_needed.max(scan.first_needed);
        scans.push(scan);
    }
    scans.retain(|scan| scan.segment.header.sequence >= first_needed);
    for sequence in sequences.range(..first_needed) {
        storage.remove(&file_name(*sequence)).map_err(failed)?;
    }
    // The names, new and gone, may never have been synced by the process that made them so.
    storage.sync().map_err(failed)?;
    scans.reverse();
    replay(scans)
}

/// A log that begins with an empty segment.
fn begin(storage: &dyn Storage, options: LogOptions) -> io::Result<Recovered> {
    let state = HardState::new();
    let capacity = FIRST_SEGMENT_BYTES.min(options.segment_bytes);
    let active = Arc::new(Segment::create(storage, 1, 0, capacity, 0, &state)?);
    Ok(Recovered {
        index: Index::default(),
        state,
        segments: BTreeMap::from([(1, active.clone())]),
        end: active.header.state_end,
        active,
        closed_cleanly: false,
        last_indexes: BTreeMap::from([(1, None)]),
    })
}

/// Reads one segment; the newest one, which has no known `end`, is cut and made durable.
fn scan(storage: &dyn Storage, sequence: u64, end: Option<u64>) -> Result<Scan, Error> {
    let failed = |error: io::Error| storage_failed(&storage.path(""), &error);
    let name = file_name(sequence);
    let path = storage.path(&name).display().to_string();
    let file = storage.open(&name).map_err(failed)?;
    let file_len = file.len().map_err(failed)?;
    if file_len < HEADER_LEN {
        return Err(damage(&path, file_len, "the file is too short"));
    }
    let mut head = [0; HEADER_LEN as usize];
    file.read_at(&mut head, 0).map_err(failed)?;
    let header = Header::decode(&head).map_err(|error| match error {
        HeaderError::Damaged => damage(&path, 0, "its header is not valid"),
        HeaderError::Version(version) => Error::config(
            "LOG_VERSION",
            format!(
                "the log file {path} has format {version}, this version reads {}: open it with the \
                 version of Quorumlite that wrote it, or a newer one",
                format::VERSION
            ),
        ),
    })?;
    if header.sequence != sequence {
        return Err(damage(&path, 0, "it is another segment under this name"));
    }
    let len = end.unwrap_or(header.capacity);
    if file_len < header.capacity || len > header.capacity || header.state_end > len {
        return Err(damage(&path, file_len.min(len), "the file is too short"));
    }
    let segment = Arc::new(Segment { header, file, path });
    let mut bytes = vec![0; usize::try_from(len).map_err(|error| failed(io::Error::other(error)))?];
    segment.file.read_at(&mut bytes, 0).map_err(failed)?;

    let mut scan = Scan { segment, found: Vec::new(), first_needed: header.first_needed, end: 0 };
    let synced = scan.read_frames(&bytes, end.is_some())?;
    if end.is_none() {
        scan.make_durable(&bytes, synced).map_err(failed)?;
    }
    Ok(scan)
}

impl Scan {
    /// Reads the frames of the segment's `bytes` and sets `end`. Returns up to where they say that
    /// the segment was synced.
    fn read_frames(&mut self, bytes: &[u8], all_synced: bool) -> Result<u64, Error> {
        let header = self.segment.header;
        let binding = self.segment.binding();
        let len = bytes.len() as u64;
        let mut offset = HEADER_LEN;
        let mut synced = header.state_end;
        while offset < len {
            let Some((head, body)) =
                format::decode_frame(binding, offset, &bytes[offset as usize..])
            else {
                break;
            };
            let found = decode(head.kind, offset, body)
                .ok_or_else(|| damage(&self.segment.path, offset, "a frame makes no sense"))?;
            if let Found::Purge(_, first_needed) = found {
                self.first_needed = self.first_needed.max(first_needed);
            }
            self.found.push((offset, found));
            synced = synced.max(head.synced);
            offset += head.frame_len();
        }
        self.end = offset;
        if all_synced && offset != len || offset < synced {
            return Err(damage(&self.segment.path, offset, "a frame that was synced is not valid"));
        }
        if !all_synced
            && let Some(proof) = format::proof_of_sync(binding, bytes, offset + 8, offset)
        {
            let what = format!("the frame at byte {proof} was written after this one was synced");
            return Err(damage(&self.segment.path, offset, &what));
        }
        Ok(synced)
    }

    /// Makes the newest segment what was read from it: nothing after its last frame, and all of it
    /// durable.
    ///
    /// What was just read may be in the page cache alone, if the process was killed before its sync.
    /// After a failed sync the pages may even count as clean, so the frames that no later one calls
    /// synced are written again.
    ///
    /// They may have been acknowledged: this relies on a disk that, losing its power, spoils no sector
    /// that is written with the bytes that it has. So does every append, which writes the sector again
    /// that the frame before it ended in.
    fn make_durable(&self, bytes: &[u8], synced: u64) -> io::Result<()> {
        let garbage = format::used_len(bytes).saturating_sub(self.end as usize);
        if garbage > 0 {
            tracing::warn!(
                "cut {garbage} bytes at byte {} of {}: a crash left them half-written",
                self.end,
                self.segment.path
            );
            self.segment.file.write_at(&vec![0; garbage], self.end)?;
        }
        if synced < self.end {
            self.segment.file.write_at(&bytes[synced as usize..self.end as usize], synced)?;
        }
        self.segment.file.sync()
    }
}

/// Understands a frame whose checksums are right.
fn decode(kind: Kind, offset: u64, body: &[u8]) -> Option<Found> {
    Some(match kind {
        Kind::Record => {
            let (term, index) = segment::record_head(body)?;
            let payload_len = u32::try_from(body.len() as u64 - format::RECORD_HEAD_LEN).ok()?;
            Found::Record(RecordPlace { index, term, offset, payload_len })
        }
        Kind::Vote => Found::Vote(Bytes::copy_from_slice(body)),
        Kind::Committed => Found::Committed(Bytes::copy_from_slice(body)),
        Kind::Truncate => Found::Truncate(decode_truncate(body)?),
        Kind::Purge => {
            let (upto, first_needed) = decode_purge(body)?;
            Found::Purge(upto, first_needed)
        }
        Kind::Close => Found::Close,
    })
}

/// Does again what the frames say, the oldest segment first.
fn replay(scans: Vec<Scan>) -> Result<Recovered, Error> {
    let mut index = Index::default();
    let mut state = HardState::new();
    let mut last_indexes = BTreeMap::new();
    let mut segments = BTreeMap::new();
    let mut newest = None;
    for scan in scans {
        let sequence = scan.segment.header.sequence;
        last_indexes.insert(sequence, None);
        let mut closed_cleanly = false;
        for (offset, found) in scan.found {
            let damaged = |what: &str| damage(&scan.segment.path, offset, what);
            closed_cleanly = matches!(found, Found::Close);
            match found {
                Found::Record(record) => {
                    // While records are missing at the front, their files are gone and a purge
                    // that covers them is still to come.
                    let last = index.last().map(|last| last.index);
                    if last.is_some_and(|last| last.checked_add(1) != Some(record.index)) {
                        return Err(damaged("a record does not follow the one before it"));
                    }
                    let place = u32::try_from(offset).map_err(|_| damaged("it is too long"))?;
                    index.push(record.term, record.index, 0, record.payload_len);
                    index.place(record.index, 0, sequence, place);
                    last_indexes.insert(sequence, Some(record.index));
                }
                Found::Vote(vote) => state.vote = Some(vote),
                Found::Committed(committed) => state.committed = Some(committed),
                Found::Truncate(keep) => {
                    index.truncate_after(keep);
                }
                Found::Purge(upto, first_needed) => {
                    index.purge(upto.index);
                    state.purged = Some(upto);
                    state.first_needed = state.first_needed.max(first_needed);
                }
                Found::Close => {}
            }
        }
        segments.insert(sequence, scan.segment.clone());
        newest = Some((scan.segment, scan.end, closed_cleanly));
    }
    let Some((active, end, closed_cleanly)) = newest else {
        return Err(damage("", 0, "no segment is left"));
    };
    let expected = state.purged.map(|purged| purged.index.saturating_add(1));
    if index.first().is_some() && expected.is_some_and(|expected| index.first() != Some(expected)) {
        return Err(damage(&active.path, 0, "records before its first one are missing"));
    }
    Ok(Recovered { index, state, segments, active, end, closed_cleanly, last_indexes })
}

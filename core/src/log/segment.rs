//! One segment file: made whole or not at all, then filled by appending.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Record;
use super::format::{
    self, Binding, FRAME_HEAD_LEN, HEADER_LEN, Header, Kind, RECORD_HEAD_LEN, encode_frame,
};
use super::state::{HardState, purge_body};
use super::storage::{SegmentFile, Storage};

/// The name of the file of segment `sequence`.
pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}.log")
}

/// The name under which segment `sequence` is prepared.
pub(super) fn draft_name(sequence: u64) -> String {
    format!("{sequence:020}.new")
}

/// The sequence in the name of a segment file; None for every other file.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let sequence = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(sequence) == name).then_some(sequence)
}

/// A segment that is open for reading and writing at offsets.
pub(super) struct Segment {
    pub header: Header,
    pub file: Arc<dyn SegmentFile>,
    /// Path of the file, for messages.
    pub path: String,
}

/// A place in a segment's file that holds one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordPlace {
    pub index: u64,
    pub term: u64,
    /// Offset of the frame.
    pub offset: u64,
    pub payload_len: u32,
}

impl Segment {
    /// Makes a segment of at least `capacity` bytes that begins with `state` and has room for a
    /// frame of `frame_len` bytes after it, and makes it durable: after a crash the file is there
    /// with its header and state, or not at all.
    pub(super) fn create(
        storage: &dyn Storage,
        sequence: u64,
        previous_end: u64,
        capacity: u64,
        frame_len: u64,
        state: &HardState,
    ) -> io::Result<Segment> {
        let salt = random_salt()?;
        let binding = Binding { sequence, salt };
        let mut bytes = vec![0; HEADER_LEN as usize];
        let mut put = |kind, body: &[u8]| {
            let offset = bytes.len() as u64;
            encode_frame(&mut bytes, binding, offset, HEADER_LEN, kind, &[body]);
        };
        if let Some(vote) = &state.vote {
            put(Kind::Vote, vote);
        }
        if let Some(committed) = &state.committed {
            put(Kind::Committed, committed);
        }
        if let Some(purged) = state.purged {
            put(Kind::Purge, &purge_body(purged, state.first_needed));
        }
        let state_end = bytes.len() as u64;
        let header = Header {
            sequence,
            salt,
            capacity: capacity.max(state_end + frame_len + FRAME_HEAD_LEN).next_multiple_of(8),
            previous_end,
            first_needed: state.first_needed,
            state_end,
        };
        bytes[..HEADER_LEN as usize].copy_from_slice(&header.encode());

        let (draft, name) = (draft_name(sequence), file_name(sequence));
        let file = storage.create(&draft, header.capacity)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        storage.rename(&draft, &name)?;
        storage.sync()?;
        Ok(Segment { header, file, path: storage.path(&name).display().to_string() })
    }

    pub(super) fn binding(&self) -> Binding {
        Binding { sequence: self.header.sequence, salt: self.header.salt }
    }

    /// Reads the records at `places`, which lie in ascending order, with one read of the file.
    pub(super) fn read_records(&self, places: &[RecordPlace]) -> io::Result<Vec<Record>> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(Vec::new());
        };
        let end = last.offset + format::record_frame_len(last.payload_len as usize);
        let mut bytes = vec![0; (end - first.offset) as usize];
        self.file.read_at(&mut bytes, first.offset)?;
        let bytes = Bytes::from(bytes);
        let mut records = Vec::with_capacity(places.len());
        for place in places {
            let at = (place.offset - first.offset) as usize;
            let frame = format::decode_frame(self.binding(), place.offset, &bytes[at..]);
            let payload = frame.and_then(|(head, body)| {
                let (term, index) = record_head(body)?;
                let same = head.kind == Kind::Record && (term, index) == (place.term, place.index);
                same.then(|| bytes.slice_ref(&body[RECORD_HEAD_LEN as usize..]))
            });
            let Some(payload) = payload else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    super::damage(&self.path, place.offset, "a record cannot be read back"),
                ));
            };
            records.push(Record { term: place.term, index: place.index, payload });
        }
        Ok(records)
    }
}

/// Term and index in the body of a record frame.
pub(super) fn record_head(body: &[u8]) -> Option<(u64, u64)> {
    (body.len() as u64 >= RECORD_HEAD_LEN)
        .then(|| (format::u64_at(body, 0), format::u64_at(body, 8)))
}

fn random_salt() -> io::Result<u64> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(salt))
}

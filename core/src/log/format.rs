//! The bytes of a segment: one header, then frames, then zeros up to the segment's capacity.
//!
//! All numbers are little endian. A frame starts at a multiple of 8 and its body is padded with
//! zeros to one. The checksum of a frame's head covers the segment's salt and sequence and the
//! frame's own offset, so bytes of an earlier use of the block, of another segment or of another
//! place (a payload may well quote this very file) never pass for a frame.

/// Length of a segment header in bytes.
pub(super) const HEADER_LEN: u64 = 64;
/// Length of a frame's head in bytes; the body follows.
pub(super) const FRAME_HEAD_LEN: u64 = 24;
/// Bytes in front of a record's payload inside the body: term and index.
pub(super) const RECORD_HEAD_LEN: u64 = 16;
/// The version of this format; a reader refuses every other one.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"QLITELOG";

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Term, index, payload.
    Record,
    /// The vote, opaque.
    Vote,
    /// The committed position, opaque.
    Committed,
    /// Whether an index is kept (0 or 1), and the last index kept.
    Truncate,
    /// Term and index purged up to, and the sequence of the first segment still needed.
    Purge,
    /// Empty: the log was closed here, so all before it was synced.
    Close,
}

impl Kind {
    fn from_u32(value: u32) -> Option<Kind> {
        Some(match value {
            1 => Kind::Record,
            2 => Kind::Vote,
            3 => Kind::Committed,
            4 => Kind::Truncate,
            5 => Kind::Purge,
            6 => Kind::Close,
            _ => return None,
        })
    }

    fn to_u32(self) -> u32 {
        match self {
            Kind::Record => 1,
            Kind::Vote => 2,
            Kind::Committed => 3,
            Kind::Truncate => 4,
            Kind::Purge => 5,
            Kind::Close => 6,
        }
    }
}

/// The first [`HEADER_LEN`] bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The segment's number; the file is named after it.
    pub sequence: u64,
    /// Random, so that frames of an earlier use of the block are not valid here.
    pub salt: u64,
    /// Length of the file in bytes.
    pub capacity: u64,
    /// Where the frames of the segment before this one end. All of them were synced before this
    /// segment was made. 0 in the first segment.
    pub previous_end: u64,
    /// The sequence of the oldest segment that was still needed.
    pub first_needed: u64,
    /// Where the frames end that repeat the state (vote, committed, purged); synced with the header.
    pub state_end: u64,
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Damaged,
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN as usize] {
        let mut out = [0; HEADER_LEN as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        let fields = [
            self.sequence,
            self.salt,
            self.capacity,
            self.previous_end,
            self.first_needed,
            self.state_end,
        ];
        for (slot, field) in out[16..].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let bytes = bytes.get(..HEADER_LEN as usize).ok_or(HeaderError::Damaged)?;
        if bytes[..8] != MAGIC || u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return Err(HeaderError::Damaged);
        }
        // The checksum's place is fixed for all versions, so a number read here is not a flipped bit.
        let version = u32_at(bytes, 12);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Header {
            sequence: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
            capacity: u64_at(bytes, 32),
            previous_end: u64_at(bytes, 40),
            first_needed: u64_at(bytes, 48),
            state_end: u64_at(bytes, 56),
        })
    }
}

/// What the checksums of a segment's frames are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub sequence: u64,
    pub salt: u64,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub kind: Kind,
    /// Length of the body without its padding.
    pub body_len: u32,
    pub body_crc: u32,
    /// Up to this offset of the segment everything was synced when the frame was written. A bad
    /// frame below it is damage; one at or above it may be the torn tail of a crash.
    pub synced: u64,
}

impl FrameHead {
    fn crc(binding: Binding, offset: u64, head: &[u8]) -> u32 {
        let mut bound = [0; 24];
        bound[..8].copy_from_slice(&binding.salt.to_le_bytes());
        bound[8..16].copy_from_slice(&binding.sequence.to_le_bytes());
        bound[16..].copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&bound), &head[4..FRAME_HEAD_LEN as usize])
    }

    fn encode(&self, binding: Binding, offset: u64) -> [u8; FRAME_HEAD_LEN as usize] {
        let mut out = [0; FRAME_HEAD_LEN as usize];
        out[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.kind.to_u32().to_le_bytes());
        out[16..24].copy_from_slice(&self.synced.to_le_bytes());
        let crc = FrameHead::crc(binding, offset, &out);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head in the first bytes of `bytes`, which lie at `offset` of the segment.
    pub(super) fn decode(binding: Binding, offset: u64, bytes: &[u8]) -> Option<FrameHead> {
        let head = bytes.get(..FRAME_HEAD_LEN as usize)?;
        // A cheap test first: almost all candidates of a scan are zeros.
        let kind = Kind::from_u32(u32_at(head, 12))?;
        if u32_at(head, 0) != FrameHead::crc(binding, offset, head) {
            return None;
        }
        Some(FrameHead {
            kind,
            body_len: u32_at(head, 8),
            body_crc: u32_at(head, 4),
            synced: u64_at(head, 16),
        })
    }

    /// Length of head, body and padding in bytes.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.body_len))
    }
}

/// Length in bytes of the frame of a body of `body_len` bytes.
pub(super) fn frame_len(body_len: u64) -> u64 {
    FRAME_HEAD_LEN + body_len.next_multiple_of(8)
}

/// Length in bytes of the frame of a record with a payload of `payload_len` bytes.
pub(super) fn record_frame_len(payload_len: usize) -> u64 {
    frame_len(RECORD_HEAD_LEN + payload_len as u64)
}

/// Appends to `out` the frame that lies at `offset` of the segment, its body being the parts in a
/// row. The caller has checked that their length fits 32 bits.
pub(super) fn encode_frame(
    out: &mut Vec<u8>,
    binding: Binding,
    offset: u64,
    synced: u64,
    kind: Kind,
    parts: &[&[u8]],
) {
    let body_len: usize = parts.iter().map(|part| part.len()).sum();
    let body_crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    let head = FrameHead { kind, body_len: body_len as u32, body_crc, synced };
    out.extend_from_slice(&head.encode(binding, offset));
    for part in parts {
        out.extend_from_slice(part);
    }
    out.resize(out.len() + (body_len.next_multiple_of(8) - body_len), 0);
}

/// The frame at the start of `bytes`, which lie at `offset` of the segment: its head and its body.
/// None where any byte of it is wrong or missing.
pub(super) fn decode_frame(
    binding: Binding,
    offset: u64,
    bytes: &[u8],
) -> Option<(FrameHead, &[u8])> {
    let head = FrameHead::decode(binding, offset, bytes)?;
    let frame = bytes.get(..usize::try_from(head.frame_len()).ok()?)?;
    let (body, padding) =
        frame[FRAME_HEAD_LEN as usize..].split_at_checked(head.body_len as usize)?;
    let whole = crc32c::crc32c(body) == head.body_crc && padding.iter().all(|byte| *byte == 0);
    whole.then_some((head, body))
}

/// The offset of the first frame head at or after `from`, whole in itself, that proves that `bad`
/// had been synced. `bytes` are the segment from its start.
pub(super) fn proof_of_sync(binding: Binding, bytes: &[u8], from: u64, bad: u64) -> Option<u64> {
    let end = used_len(bytes) as u64;
    (from.next_multiple_of(8)..end).step_by(8).find(|offset| {
        FrameHead::decode(binding, *offset, &bytes[*offset as usize..])
            .is_some_and(|head| head.synced > bad)
    })
}

/// Length of `bytes` without the zeros at the end.
pub(super) fn used_len(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut len = bytes.len();
    for block in bytes.rchunks(ZEROS.len()) {
        // Most of a segment is zeros: compare them a block at a time.
        if *block != ZEROS[..block.len()] {
            let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            return len - block.len() + used;
        }
        len -= block.len();
    }
    0
}

/// The number at `at`, which the caller knows to be inside `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The number at `at`, which the caller knows to be inside `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

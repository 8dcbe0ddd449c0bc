//! What a crash or a damaged disk leaves: torn tails are cut, damage is refused.

use super::disk::Random;
use super::*;
use crate::ErrorKind;
use crate::log::format::{
    Binding, HEADER_LEN, Kind, decode_frame, encode_frame, frame_len, record_frame_len,
};

const FIRST: &str = "00000000000000000001.log";

/// Ends the log as a kill would, leaving the disk as it is.
fn kill(disk: &Disk, log: Log) {
    disk.die();
    drop(log);
    disk.restart();
}

fn error_of(disk: &Disk) -> crate::Error {
    match Log::open_on(disk.storage(), SMALL) {
        Ok(_) => panic!("the log opened"),
        Err(error) => error,
    }
}

fn assert_damaged(disk: &Disk, what: &str) {
    let error = error_of(disk);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "CORRUPTION_LOG"), "{what}");
    assert!(error.message().contains("byte") && error.message().contains("remove its directory"));
}

/// Two synced records, then one batch of three; and where the batch begins and ends.
fn two_batches() -> (Disk, usize, usize) {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=2));
    append(&log, records(1, 3..=5));
    kill(&disk, log);
    let frame = record_frame_len(record(1, 1).payload.len());
    let start = HEADER_LEN + 2 * frame;
    (disk, start as usize, (start + 3 * frame) as usize)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let (disk, start, end) = two_batches();
    let whole = disk.contents(FIRST);
    let frame = (end - start) / 3;
    let mut random = Random(1);
    for cut in start..=end {
        for garbage in [false, true] {
            let mut torn = whole.clone();
            let reach = if garbage { end + 40 } else { end };
            torn[cut..reach].fill_with(|| if garbage { random.next() as u8 } else { 0 });
            let disk = disk.with_contents(FIRST, &torn);
            let log = open(&disk);
            // A frame whose last bytes are zeros anyway is whole without them.
            let whole_frames = (start..end)
                .step_by(frame)
                .take_while(|at| torn[*at..*at + frame] == whole[*at..*at + frame]);
            let last = 2 + whole_frames.count() as u64;
            assert_eq!(all(&log), records(1, 1..=last), "cut at {cut}, garbage {garbage}");
            append(&log, records(2, last + 1..=last + 1));
            kill(&disk, log);
            let mut expected = records(1, 1..=last);
            expected.extend(records(2, last + 1..=last + 1));
            assert_eq!(all(&open(&disk)), expected, "cut at {cut}, garbage {garbage}");
        }
    }
}

#[test]
fn a_later_frame_of_the_same_batch_is_no_proof_of_damage() {
    let (disk, start, end) = two_batches();
    let frame = (end - start) / 3;
    // The pages of one write reach the disk in any order: the middle of the batch is missing.
    let mut torn = disk.contents(FIRST);
    torn[start + frame..start + 2 * frame].fill(0);
    let disk = disk.with_contents(FIRST, &torn);
    let log = open(&disk);
    assert_eq!(all(&log), records(1, 1..=3));
    // The frame after the gap lies where it was and has the right salt: it must not come back when
    // the gap is filled with a frame of the same length.
    append(&log, records(2, 4..=4));
    kill(&disk, log);
    let log = open(&disk);
    assert_eq!(log.state().last, Some(at(2, 4)));
}

#[test]
fn damage_before_the_last_batch_is_refused_at_every_byte() {
    let (disk, start, _) = two_batches();
    let whole = disk.contents(FIRST);
    for byte in 0..start {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        assert_damaged(&disk.with_contents(FIRST, &damaged), &format!("byte {byte}"));
    }
    // A page that was lost as a whole.
    let mut damaged = whole.clone();
    damaged[HEADER_LEN as usize..start].fill(0);
    assert_damaged(&disk.with_contents(FIRST, &damaged), "zeros");
    assert_damaged(&disk.with_contents(FIRST, &whole[..whole.len() - 1]), "shortened");
    assert_damaged(&disk.with_contents(FIRST, &[]), "emptied");
}

#[test]
fn damage_anywhere_in_a_closed_log_is_refused() {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=5));
    save_vote(&log, "v");
    log.close().unwrap();
    let whole = disk.contents(FIRST);
    let end = HEADER_LEN + 5 * record_frame_len(record(1, 1).payload.len()) + frame_len(1);
    for byte in 0..end as usize {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        assert_damaged(&disk.with_contents(FIRST, &damaged), &format!("byte {byte}"));
    }
}

#[test]
fn damage_in_an_older_segment_is_refused() {
    let disk = Disk::default();
    let log = open(&disk);
    save_vote(&log, "v");
    append(&log, records(1, 1..=60));
    kill(&disk, log);
    let names = disk.names();
    assert!(names.len() > 2);
    for name in &names[..names.len() - 1] {
        let mut damaged = disk.contents(name);
        let last_used = crate::log::format::used_len(&damaged) - 1;
        damaged[last_used] ^= 1;
        assert_damaged(&disk.with_contents(name, &damaged), name);
    }
    let middle = Disk::with_contents(&disk, "none", &[]);
    crate::log::storage::Storage::remove(&middle, &names[1]).unwrap();
    assert_damaged(&middle, "a segment is missing");
    let newest = names.last().unwrap();
    let mut stateless = disk.contents(newest);
    stateless[HEADER_LEN as usize..].fill(0);
    assert_damaged(&disk.with_contents(newest, &stateless), "the state at its start is gone");
    let swapped = disk.with_contents(&names[1], &disk.contents(&names[0]));
    assert_damaged(&swapped, "a segment under another name");
}

#[test]
fn purged_files_do_not_come_back() {
    for seed in 0..8 {
        let disk = Disk::default();
        let log = open(&disk);
        append(&log, records(1, 1..=60));
        purge(&log, at(1, 60));
        disk.die();
        drop(log);
        disk.power_cut(&mut Random(seed));
        assert_eq!(disk.names().len(), 1);
        assert_eq!(open(&disk).state().last, Some(at(1, 60)));
    }
}

#[test]
fn a_newer_format_is_not_taken_for_damage() {
    let disk = Disk::default();
    open(&disk).close().unwrap();
    let mut newer = disk.contents(FIRST);
    newer[12] = 2;
    let crc = crc32c::crc32c(&newer[12..HEADER_LEN as usize]);
    newer[8..12].copy_from_slice(&crc.to_le_bytes());
    let error = error_of(&disk.with_contents(FIRST, &newer));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Config, "LOG_VERSION"));
}

#[test]
fn a_payload_that_quotes_the_log_is_not_taken_for_frames() {
    let (disk, _, end) = two_batches();
    let log = open(&disk);
    let quoted = Bytes::from(disk.contents(FIRST)[..end].to_vec());
    append(&log, vec![Record { term: 1, index: 6, payload: quoted.clone() }]);
    kill(&disk, log);
    // The quoting record is torn: its body holds whole frames with this segment's salt.
    let name = disk.names().into_iter().next_back().unwrap();
    let mut torn = disk.contents(&name);
    let at = torn.windows(quoted.len()).rposition(|window| window == quoted).unwrap();
    torn[at - 30] ^= 1;
    let log = open(&disk.with_contents(&name, &torn));
    assert_eq!(all(&log), records(1, 1..=5));
}

#[test]
fn a_frame_is_valid_in_its_own_place_only() {
    let binding = Binding { sequence: 3, salt: 77 };
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, binding, 640, 64, Kind::Vote, &[b"one", b"two"]);
    let (head, body) = decode_frame(binding, 640, &bytes).unwrap();
    assert_eq!((head.kind, head.synced, body), (Kind::Vote, 64, &b"onetwo"[..]));
    assert!(decode_frame(binding, 648, &bytes).is_none());
    assert!(decode_frame(Binding { salt: 78, ..binding }, 640, &bytes).is_none());
    assert!(decode_frame(Binding { sequence: 4, ..binding }, 640, &bytes).is_none());
    for len in 0..bytes.len() {
        assert!(decode_frame(binding, 640, &bytes[..len]).is_none());
    }
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x80;
        assert!(decode_frame(binding, 640, &damaged).is_none(), "byte {byte}");
    }
}

#[test]
fn a_kill_at_any_operation_leaves_a_log_that_can_be_trusted() {
    for operation in 0..70 {
        for seed in 0..4 {
            let disk = Disk::default();
            let log = open(&disk);
            disk.die_after(operation);
            for index in 1..=30 {
                let (done, outcome) = outcome();
                let appended = log.append(records(1, index..=index), done);
                if outcome.wait().and(appended).is_err() {
                    break;
                }
            }
            disk.die();
            drop(log);
            disk.restart();
            // What the next process acknowledges must not rest on what the first left unsynced.
            let log = open(&disk);
            let next = log.state().last.map_or(1, |last| last.index + 1);
            append(&log, records(2, next..=next));
            let expected = all(&log);
            disk.die();
            drop(log);
            disk.power_cut(&mut Random(seed));
            assert_eq!(all(&open(&disk)), expected, "operation {operation}, seed {seed}");
        }
    }
}

#[test]
fn a_record_damaged_while_open_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { cache_bytes: 0, ..SMALL }).unwrap();
    append(&log, records(1, 1..=3));
    let path = dir.path().join(FIRST);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[HEADER_LEN as usize + 45] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = log.read(1..2, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(log.read(2..4, usize::MAX).unwrap(), records(1, 2..=3));
}

#[test]
fn files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::open(dir.path(), SMALL).unwrap());
    for name in ["notes.txt", "1.log", "x.log", "00000000000000000009.new"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    drop(Log::open(dir.path(), SMALL).unwrap());
    assert!(dir.path().join("notes.txt").exists() && dir.path().join("1.log").exists());
    assert!(!dir.path().join("00000000000000000009.new").exists(), "a draft of our own is removed");
}

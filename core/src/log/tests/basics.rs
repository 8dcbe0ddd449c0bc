//! Appending, reading, truncating and purging while the log is open and after a clean restart.

use std::io::ErrorKind;
use std::path::Path;

use super::*;
use crate::log::LogState;

fn open_dir(dir: &Path) -> Log {
    Log::open(dir, SMALL).unwrap()
}

fn segment_files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_log_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(&dir.path().join("deep/log"));
    assert_eq!(log.state(), LogState { purged: None, last: None });
    assert_eq!((log.vote(), log.committed()), (None, None));
    assert_eq!(all(&log), []);
    assert_eq!((log.size_bytes(), log.index_to_keep(1 << 40)), (0, None));
    assert!(log.error().is_none());
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 1..=40));
    save_vote(&log, "vote 2");
    log.save_committed("committed 30".into()).unwrap();
    append(&log, records(2, 41..=60));
    let before = (all(&log), log.state(), log.size_bytes());
    drop(log);
    assert!(segment_files(dir.path()).len() > 1, "the records fill several segments");

    let log = open_dir(dir.path());
    assert_eq!((all(&log), log.state(), log.size_bytes()), before);
    assert_eq!(log.state().last, Some(at(2, 60)));
    assert_eq!((log.vote(), log.committed()), (bytes("vote 2"), bytes("committed 30")));
    append(&log, records(2, 61..=61));
    assert_eq!(log.read(60..99, usize::MAX).unwrap(), [record(2, 60), record(2, 61)]);
}

#[test]
fn records_are_readable_before_they_are_durable() {
    let disk = Disk::default();
    let log = open(&disk);
    disk.hold_syncs();
    let (done, outcome) = outcome();
    log.append(records(1, 1..=100), done).unwrap();
    disk.wait_for_held_sync();
    assert_eq!(all(&log), records(1, 1..=100));
    assert!(outcome.is_open());
    disk.release_syncs();
    outcome.wait().unwrap();
    assert_eq!(all(&log), records(1, 1..=100));
}

#[test]
fn the_cache_stays_within_its_limit_once_written() {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=200));
    assert!(log.0.shared.core.lock().cache.bytes() <= SMALL.cache_bytes);
    assert_eq!(all(&log), records(1, 1..=200));
}

#[test]
fn read_respects_range_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 5..=50));
    let len = record(1, 10).payload.len();
    assert_eq!(log.read(10..20, 3 * len).unwrap(), records(1, 10..=12));
    assert_eq!(log.read(10..20, 3 * len - 1).unwrap(), records(1, 10..=11));
    assert_eq!(log.read(10..20, 0).unwrap(), records(1, 10..=10));
    let (end, start) = (20, 48);
    assert_eq!(log.read(start..end, 0).unwrap(), []);
    assert_eq!(log.read(0..7, usize::MAX).unwrap(), records(1, 5..=6));
    assert_eq!(log.read(49..u64::MAX, usize::MAX).unwrap(), records(1, 49..=50));
    assert_eq!(log.read(51..60, usize::MAX).unwrap(), []);
}

#[test]
fn appends_with_a_gap_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 7..=8));
    for wrong in [
        records(1, 10..=11),
        records(1, 8..=9),
        vec![record(1, 9), record(1, 11)],
        vec![record(1, 9), record(1, 9)],
    ] {
        let (done, outcome) = outcome();
        let error = log.append(wrong, done).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(outcome.wait().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(all(&log), records(1, 7..=8));
    append(&log, vec![]);
    append(&log, records(2, 9..=9));
    purge(&log, at(2, 9));
    let (done, _outcome) = outcome();
    assert!(
        log.append(records(2, 11..=11), done).is_err(),
        "after a purge the next index is known"
    );
    append(&log, records(2, 10..=10));
}

#[test]
fn a_vote_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    let (done, outcome) = outcome();
    assert!(log.save_vote(vec![1; 70_000].into(), done).is_err());
    assert_eq!(outcome.wait().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(log.save_committed(vec![1; 70_000].into()).is_err());
    assert_eq!((log.vote(), log.committed()), (None, None));
}

#[test]
fn truncation_then_other_terms_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 1..=60));
    truncate(&log, Some(25));
    assert_eq!(log.state().last, Some(at(1, 25)));
    append(&log, records(3, 26..=28));
    let mut expected = records(1, 1..=25);
    expected.extend(records(3, 26..=28));
    assert_eq!(all(&log), expected);
    drop(log);
    let log = open_dir(dir.path());
    assert_eq!(all(&log), expected);

    truncate(&log, Some(99));
    assert_eq!(all(&log), expected);
    truncate(&log, None);
    assert_eq!(log.state(), LogState { purged: None, last: None });
    append(&log, records(4, 90..=91));
    drop(log);
    assert_eq!(all(&open_dir(dir.path())), records(4, 90..=91));
}

#[test]
fn an_index_taken_again_while_the_first_write_is_under_way() {
    let disk = Disk::default();
    let log = open(&disk);
    disk.hold_syncs();
    let (first, first_outcome) = outcome();
    log.append(records(1, 1..=30), first).unwrap();
    disk.wait_for_held_sync();
    let (cut, cut_outcome) = outcome();
    log.truncate_after(Some(10), cut).unwrap();
    let (second, second_outcome) = outcome();
    log.append(records(2, 11..=30), second).unwrap();
    disk.release_syncs();
    for outcome in [first_outcome, cut_outcome, second_outcome] {
        outcome.wait().unwrap();
    }
    let mut expected = records(1, 1..=10);
    expected.extend(records(2, 11..=30));
    assert_eq!(all(&log), expected);
    drop(log);
    assert_eq!(all(&open(&disk)), expected);
}

#[test]
fn purge_removes_segment_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 1..=100));
    let before = segment_files(dir.path()).len();
    let size = log.size_bytes();
    purge(&log, at(1, 80));
    let after = segment_files(dir.path()).len();
    assert!(after < before / 2 && after > 1, "{before} files, then {after}");
    assert!(log.size_bytes() < size / 4);
    assert_eq!(log.state(), LogState { purged: Some(at(1, 80)), last: Some(at(1, 100)) });
    assert_eq!(all(&log), records(1, 81..=100));
    let (done, refused) = outcome();
    assert!(log.truncate_after(Some(79), done).is_err());
    assert!(refused.wait().is_err());
    purge(&log, at(1, 50));
    drop(log);

    let log = open_dir(dir.path());
    assert_eq!(log.state(), LogState { purged: Some(at(1, 80)), last: Some(at(1, 100)) });
    assert_eq!(all(&log), records(1, 81..=100));
    purge(&log, at(1, 100));
    assert_eq!(segment_files(dir.path()).len(), 1);
    assert_eq!(log.state(), LogState { purged: Some(at(1, 100)), last: Some(at(1, 100)) });
    assert_eq!(log.size_bytes(), 0);
}

#[test]
fn purge_beyond_the_last_record_moves_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 1..=30));
    purge(&log, at(4, 500));
    let expected = LogState { purged: Some(at(4, 500)), last: Some(at(4, 500)) };
    assert_eq!(log.state(), expected);
    drop(log);
    let log = open_dir(dir.path());
    assert_eq!(log.state(), expected);
    append(&log, records(4, 501..=502));
    drop(log);
    assert_eq!(all(&open_dir(dir.path())), records(4, 501..=502));
}

#[test]
fn vote_and_committed_survive_the_purge_of_all_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    save_vote(&log, "the vote");
    log.save_committed("the committed position".into()).unwrap();
    for round in 0..10 {
        append(&log, records(1, round * 50 + 1..=round * 50 + 50));
        purge(&log, at(1, round * 50 + 50));
    }
    assert!(!segment_files(dir.path()).contains(&"00000000000000000001.log".into()));
    drop(log);
    let log = open_dir(dir.path());
    assert_eq!(log.vote(), bytes("the vote"));
    assert_eq!(log.committed(), bytes("the committed position"));
}

#[test]
fn a_record_larger_than_a_segment_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    let big = |index, len| Record { term: 1, index, payload: vec![index as u8; len].into() };
    let expected =
        vec![record(1, 1), big(2, 100_000), record(1, 3), big(4, 6 << 20), big(5, 0), record(1, 6)];
    append(&log, expected.clone());
    assert_eq!(all(&log), expected);
    drop(log);
    let log = open_dir(dir.path());
    assert_eq!(all(&log), expected);
    append(&log, records(1, 7..=7));
    assert_eq!(log.read(5..9, usize::MAX).unwrap().len(), 3);
}

#[test]
fn the_index_to_keep_matches_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    append(&log, records(1, 10..=59));
    let size = log.size_bytes();
    assert_eq!(log.index_to_keep(size), Some(10));
    assert_eq!(log.index_to_keep(size - 1), Some(11));
    assert_eq!(log.index_to_keep(size / 2), Some(35));
    assert_eq!(log.index_to_keep(0), Some(60));
    purge(&log, at(1, 34));
    assert_eq!(log.size_bytes(), size / 2);
}

#[test]
fn calls_after_close_fail_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    let (done, outcome1) = outcome();
    log.append(records(1, 1..=3), done).unwrap();
    log.close().unwrap();
    outcome1.wait().unwrap();
    log.close().unwrap();
    let (done, outcome2) = outcome();
    let error = log.append(records(1, 4..=4), done).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(outcome2.wait().is_err());
    assert!(log.read(0..9, 9).unwrap_err().to_string().contains("closed"));
    assert!(log.save_committed(Bytes::new()).is_err());
    assert_eq!(log.clone().state().last, Some(at(1, 3)));
    let other = open_dir(dir.path());
    assert_eq!(all(&other), records(1, 1..=3));
}

#[test]
fn the_last_handle_may_go_in_a_callback() {
    let disk = Disk::default();
    let log = open(&disk);
    disk.hold_syncs();
    let (done, outcome) = outcome();
    let last = log.clone();
    log.append(
        records(1, 1..=1),
        Box::new(move |result| {
            last.close().unwrap();
            drop(last);
            done(result);
        }),
    )
    .unwrap();
    disk.wait_for_held_sync();
    let writer = log.0.shared.clone();
    drop(log);
    disk.release_syncs();
    outcome.wait().unwrap();
    // The writer is the other holder of what is shared; it lets go when its thread ends.
    while std::sync::Arc::strong_count(&writer) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(all(&open(&disk)), records(1, 1..=1));
}

#[test]
fn a_panic_in_a_callback_does_not_stop_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path());
    log.append(records(1, 1..=1), Box::new(|_| panic!("on purpose, in a test"))).unwrap();
    append(&log, records(1, 2..=2));
    assert!(log.error().is_none());
}

#[test]
fn a_place_that_cannot_be_used_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Log::open(&file, SMALL).err().unwrap();
    assert_eq!(error.code(), "STORAGE_FAILED");
    assert!(!error.retryable());
    assert!(error.message().contains(&file.display().to_string()), "{error}");
}

//! When a callback may be called, how many syncs that takes, and what follows a failure.

use std::time::{Duration, Instant};

use super::*;
use crate::ErrorKind;

#[test]
fn many_appends_share_one_sync() {
    let disk = Disk::default();
    let options = LogOptions { segment_bytes: 1 << 20, ..SMALL };
    let log = Log::open_on(disk.storage(), options).unwrap();
    let (syncs, writes) = (disk.file_syncs(), disk.writes());
    disk.hold_syncs();
    let mut outcomes = Vec::new();
    for index in 1..=500 {
        let (done, outcome) = outcome();
        log.append(records(1, index..=index), done).unwrap();
        outcomes.push(outcome);
        if index == 1 {
            disk.wait_for_held_sync();
        }
    }
    assert!(outcomes.iter().all(Outcome::is_open), "nothing is acknowledged before its sync");
    disk.release_syncs();
    for outcome in outcomes {
        outcome.wait().unwrap();
    }
    assert_eq!(disk.file_syncs() - syncs, 2, "one for the first, one for all that came meanwhile");
    assert_eq!(disk.writes() - writes, 2);
}

#[test]
fn a_committed_position_is_written_without_a_sync() {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=1));
    let (syncs, writes) = (disk.file_syncs(), disk.writes());
    log.save_committed("one".into()).unwrap();
    while disk.writes() == writes {
        std::thread::yield_now();
    }
    assert_eq!(disk.file_syncs(), syncs);
    // Killed now, the process leaves it to the operating system.
    disk.die();
    drop(log);
    disk.restart();
    assert_eq!(open(&disk).committed(), bytes("one"));
}

#[test]
fn a_committed_position_wakes_a_writer_that_sleeps() {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=1));
    let patience = Instant::now() + Duration::from_secs(60);
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < patience, "{what}");
            std::thread::yield_now();
        }
    };
    wait("it never sleeps", &|| log.0.shared.core.lock().asleep);
    let writes = disk.writes();
    log.save_committed("one".into()).unwrap();
    wait("it was not woken", &|| disk.writes() > writes);
}

#[test]
fn callbacks_come_in_order() {
    let disk = Disk::default();
    let log = open(&disk);
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 1..=300_u64 {
        let sender = sender.clone();
        let done: Done = Box::new(move |result| sender.send((index, result.is_ok())).unwrap());
        match index % 10 {
            3 => log.save_vote(Bytes::from(vec![index as u8]), done).unwrap(),
            7 => log.purge(at(1, index / 3), done).unwrap(),
            _ => {
                let next = log.state().last.map_or(1, |last| last.index + 1);
                log.append(records(1, next..=next), done).unwrap();
            }
        }
    }
    drop(sender);
    let called: Vec<(u64, bool)> = receiver.iter().collect();
    assert_eq!(called, (1..=300).map(|index| (index, true)).collect::<Vec<_>>());
}

#[test]
fn a_failed_sync_stops_the_log_for_good() {
    let disk = Disk::default();
    let log = open(&disk);
    append(&log, records(1, 1..=3));
    disk.hold_syncs();
    let mut outcomes = Vec::new();
    for index in 4..=6 {
        let (done, outcome) = outcome();
        log.append(records(1, index..=index), done).unwrap();
        outcomes.push(outcome);
        if index == 4 {
            disk.wait_for_held_sync();
            // The write went well, its sync does not.
            disk.die_after(0);
        }
    }
    disk.release_syncs();
    for outcome in outcomes {
        assert!(outcome.wait().unwrap_err().to_string().contains("injected"));
    }
    let error = log.error().unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "STORAGE_FAILED"));
    assert!(!error.retryable());

    // The disk is well again, yet nothing more is written: what was lost would be missing below it.
    disk.restart();
    let (syncs, writes) = (disk.file_syncs(), disk.writes());
    let (done, later) = outcome();
    assert!(log.append(records(1, 7..=7), done).is_err());
    assert!(later.wait().is_err());
    let (done, later) = outcome();
    assert!(log.save_vote("v".into(), done).is_err());
    assert!(later.wait().is_err());
    assert!(log.save_committed("c".into()).is_err());
    assert!(log.close().is_err());
    assert!(log.close().is_err());
    assert_eq!((disk.file_syncs(), disk.writes()), (syncs, writes));
    drop(log);
    let log = open(&disk);
    assert_eq!(all(&log)[..3], records(1, 1..=3));
}

//! Damaged segment files: recovery never panics and never invents a record.

use std::collections::HashSet;

use super::*;
use crate::ErrorKind;
use crate::fuzz::{self, Random};

/// A log with some life behind it, and every record that was ever appended to it.
fn lived(random: &mut Random) -> (Disk, HashSet<(u64, u64, Bytes)>) {
    let disk = Disk::default();
    let mut written = HashSet::new();
    let mut log = open(&disk);
    let mut term = 1;
    for _ in 0..random.below(30) {
        let state = log.state();
        let last = state.last.map_or(0, |last| last.index);
        match random.below(10) {
            0..6 => {
                let records: Vec<Record> = (1..=1 + random.below(4) as u64)
                    .map(|i| {
                        let len = random.below(300);
                        let payload = random.bytes(len).into();
                        Record { term, index: last + i, payload }
                    })
                    .collect();
                written.extend(records.iter().map(|r| (r.term, r.index, r.payload.clone())));
                append(&log, records);
            }
            6 => save_vote(&log, "a vote"),
            7 => {
                let first = state.purged.map_or(0, |purged| purged.index);
                truncate(&log, Some(last.saturating_sub(random.below(4) as u64).max(first)));
                term += 1;
            }
            8 => {
                let first = state.purged.map_or(0, |purged| purged.index);
                let index = (first + random.below(6) as u64).min(last);
                let term = log.read(index..index + 1, 0).unwrap().first().map(|r| r.term);
                if let Some(term) = term {
                    purge(&log, at(term, index));
                }
            }
            _ => {
                log.close().unwrap();
                log = open(&disk);
            }
        }
    }
    if random.below(2) == 0 {
        log.close().unwrap();
    }
    drop(log);
    (disk, written)
}

#[test]
fn a_damaged_log_is_refused_or_holds_only_what_was_written() {
    fuzz::run("log recovery", |random| {
        let (mut disk, written) = lived(random);
        for _ in 0..=random.below(3) {
            let names = disk.names();
            let name = &names[random.below(names.len())];
            // Most of a segment is zeros; damage shall fall on the rest, too.
            let mut bytes = disk.contents(name);
            let used = crate::log::format::used_len(&bytes);
            let whole = bytes.len();
            if random.below(4) > 0 {
                bytes.truncate(used + 16);
                random.mutate(&mut bytes);
                bytes.resize(whole.max(bytes.len()), 0);
            } else {
                random.mutate(&mut bytes);
            }
            disk = disk.with_contents(name, &bytes);
        }
        match Log::open_on(disk.storage(), SMALL) {
            Ok(log) => {
                let records = log.read(0..u64::MAX, usize::MAX).unwrap();
                for record in &records {
                    let key = (record.term, record.index, record.payload.clone());
                    assert!(written.contains(&key), "an invented record: {record:?}");
                }
                // It goes on.
                let next = log.state().last.map_or(1, |last| last.index + 1);
                append(&log, vec![record(9, next)]);
            }
            Err(e) => assert!(
                e.kind() == ErrorKind::Corruption || e.code() == "LOG_VERSION",
                "a damaged log: {e:?}"
            ),
        }
    });
}

//! What the log promises, by concern.

mod basics;
mod disk;
mod durability;
mod fuzz;
mod model;
mod recovery;

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;

use super::{Done, Log, LogOptions, LogPosition, Record};
use disk::Disk;

/// Small enough that a few records fill a segment.
const SMALL: LogOptions = LogOptions { segment_bytes: 1024, cache_bytes: 512 };

fn record(term: u64, index: u64) -> Record {
    Record { term, index, payload: format!("payload {term}/{index}").into_bytes().into() }
}

fn records(term: u64, range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(|index| record(term, index)).collect()
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

/// A callback, and where its result arrives.
struct Outcome(Receiver<io::Result<()>>);

fn outcome() -> (Done, Outcome) {
    let (sender, receiver) = channel();
    let done = move |result| {
        let _ = sender.send(result);
    };
    (Box::new(done), Outcome(receiver))
}

impl Outcome {
    fn wait(self) -> io::Result<()> {
        let result = self.0.recv_timeout(Duration::from_secs(60)).expect("the callback was called");
        assert!(self.0.recv().is_err(), "the callback was called twice");
        result
    }

    fn is_open(&self) -> bool {
        matches!(self.0.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }
}

fn append(log: &Log, records: Vec<Record>) {
    let (done, outcome) = outcome();
    log.append(records, done).unwrap();
    outcome.wait().unwrap();
}

fn save_vote(log: &Log, vote: &'static str) {
    let (done, outcome) = outcome();
    log.save_vote(vote.into(), done).unwrap();
    outcome.wait().unwrap();
}

fn truncate(log: &Log, index: Option<u64>) {
    let (done, outcome) = outcome();
    log.truncate_after(index, done).unwrap();
    outcome.wait().unwrap();
}

fn purge(log: &Log, upto: LogPosition) {
    let (done, outcome) = outcome();
    log.purge(upto, done).unwrap();
    outcome.wait().unwrap();
}

fn all(log: &Log) -> Vec<Record> {
    log.read(0..u64::MAX, usize::MAX).unwrap()
}

fn bytes(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn open(disk: &Disk) -> Log {
    Log::open_on(disk.storage(), SMALL).unwrap()
}

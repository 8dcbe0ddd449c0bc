//! The mark in the file `applying`: what this node applies at the moment, so that a command which
//! ends the process is known after it. Without it, such a command would end the process again at each
//! start, on every replica.
//!
//! The mark is a `pwrite` a transaction and never synced: it must survive the end of the process, not
//! that of the machine. What a power cut makes of it is told by the boot id where the system has one,
//! and else costs one suspicion. How it is judged:
//!
//! * The first death makes everything in the transaction **suspect**. From then on the suspects are
//!   applied one by one, and the mark says whether a statement is running, so that a second death
//!   names one entry.
//! * A death counts [`FULL`] points, or half of that where it may well have come from outside: after
//!   more than half a second of applying, or at a moment when no statement ran. An entry with
//!   [`HALT`] points is not applied any more: that is two deaths of a statement that crashes, and up
//!   to four of one that somebody keeps killing.
//! * An error of this node's own that stops it counts like a death, but for those that have nothing
//!   to do with the command: a full disk, damage.
//! * Where the machine was started anew meanwhile, nothing is counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::private;
use crate::status::Halted;

const FILE: &str = "applying";
const MAGIC: [u8; 8] = *b"QLAPPLY1";

/// What counts, with its checksum.
const CHECKED: usize = 56;
/// What is written for each transaction.
const HEAD: usize = 64;
const SLOW_AT: u64 = 60;
const RUNNING_AT: u64 = 61;
const FAILED_AT: u64 = 62;
const REASON_AT: u64 = 64;
const LENGTH: usize = 512;

/// Points of a death, and of one that may have come from outside.
const FULL: u32 = 2;
const HALF: u32 = 1;
/// With so many points an entry is not applied any more.
const HALT: u32 = 4;

const DIED: &str = "the process ended while it was applied";

/// Entries that were being applied when the process ended, all of them or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Suspect {
    first: u64,
    last: u64,
    deaths: u32,
    points: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Record {
    /// What is being applied; 0 where nothing is.
    first: u64,
    last: u64,
    boot: u64,
    suspect: Suspect,
}

/// What a file says.
#[derive(Debug, Default)]
struct Found {
    record: Record,
    slow: bool,
    running: bool,
    failed: bool,
    reason: String,
}

impl Record {
    fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        let Suspect { first, last, deaths, points } = self.suspect;
        out[..8].copy_from_slice(&MAGIC);
        for (i, word) in [self.first, self.last, self.boot, first, last].into_iter().enumerate() {
            out[8 + 8 * i..16 + 8 * i].copy_from_slice(&word.to_le_bytes());
        }
        out[48..52].copy_from_slice(&deaths.to_le_bytes());
        out[52..56].copy_from_slice(&points.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CHECKED]);
        out[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

fn decode(bytes: &[u8]) -> Option<Found> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..8)? != MAGIC || half(CHECKED)? != crc32c::crc32c(bytes.get(..CHECKED)?) {
        return None;
    }
    let suspect =
        Suspect { first: word(32)?, last: word(40)?, deaths: half(48)?, points: half(52)? };
    let flag = |at: u64| bytes.get(at as usize).is_some_and(|b| *b != 0);
    let reason = bytes.get(REASON_AT as usize..).unwrap_or_default();
    let end = reason.iter().position(|b| *b == 0).unwrap_or(reason.len());
    Some(Found {
        record: Record { first: word(8)?, last: word(16)?, boot: word(24)?, suspect },
        slow: flag(SLOW_AT),
        running: flag(RUNNING_AT),
        failed: flag(FAILED_AT),
        reason: String::from_utf8_lossy(&reason[..end]).into_owned(),
    })
}

impl Found {
    /// The suspect there is now, if the database has come as far as `applied`.
    fn judge(&self, applied: u64, boot: u64) -> Suspect {
        let Record { first, last, suspect, .. } = self.record;
        let known = if suspect.last > applied { suspect } else { Suspect::default() };
        if last <= applied || self.record.boot != boot {
            return known;
        }
        let one_by_one = known.last >= first && known.first <= last;
        let from_outside = self.slow || one_by_one && !self.running && !self.failed;
        let points = if from_outside { HALF } else { FULL };
        if one_by_one {
            let (deaths, points) = (known.deaths + 1, known.points + points);
            Suspect { first, last, deaths, points }
        } else {
            Suspect { first, last, deaths: 1, points }
        }
    }
}

/// What the apply thread and the one who watches its pace share.
#[derive(Debug)]
pub(crate) struct ApplyPace {
    file: Option<File>,
    /// The number of the transaction that is applied, 0 where none is.
    busy: AtomicU64,
}

impl ApplyPace {
    /// To be called twice a second: notes where one transaction takes long. `seen` is what the call
    /// before returned.
    pub(crate) fn watch(&self, seen: u64) -> u64 {
        let busy = self.busy.load(Ordering::Acquire);
        if busy != 0 && busy == seen {
            // At worst this falls on the next transaction, which then counts for less.
            write(self.file.as_ref(), SLOW_AT, &[1]);
        }
        busy
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::sqlite) struct ApplyMark {
    pace: Arc<ApplyPace>,
    record: Record,
    reason: String,
    transactions: u64,
    one_by_one: bool,
}

impl ApplyMark {
    /// Judges what is left in `dir`, a node's directory, of the process before. A file that cannot be
    /// read or written costs no more than what it is for.
    pub(in crate::sqlite) fn open(dir: &Path, applied: u64) -> ApplyMark {
        let path = dir.join(FILE);
        let file = private::create_file().read(true).truncate(false).open(&path);
        let mut bytes = Vec::new();
        let file = file.and_then(|mut file| {
            Read::by_ref(&mut file).take(LENGTH as u64).read_to_end(&mut bytes)?;
            if bytes.len() < LENGTH {
                file.set_len(LENGTH as u64)?;
            }
            Ok(file)
        });
        let file = file.inspect_err(|e| {
            tracing::warn!(error = %e, path = %path.display(), "a crash while applying will not be noticed");
        });
        let boot = boot_id();
        let found = decode(&bytes).unwrap_or_default();
        let suspect = found.judge(applied, boot);
        let reason = match (suspect.deaths > found.record.suspect.deaths, found.failed) {
            (true, false) => DIED.to_owned(),
            _ => found.reason,
        };
        if suspect.deaths > 0 {
            let Suspect { first, last, deaths, .. } = suspect;
            tracing::warn!(first, last, deaths, reason, "applying did not end the last time");
        }
        let mark = ApplyMark {
            pace: Arc::new(ApplyPace { file: file.ok(), busy: AtomicU64::new(0) }),
            record: Record { first: 0, last: 0, boot, suspect },
            reason,
            transactions: 0,
            one_by_one: false,
        };
        mark.write_all(false);
        mark
    }

    pub(in crate::sqlite) fn pace(&self) -> Arc<ApplyPace> {
        self.pace.clone()
    }

    /// What must not be applied any more, if there is such a thing.
    pub(in crate::sqlite) fn halted(&self) -> Option<Halted> {
        let Suspect { first, last, deaths, points } = self.record.suspect;
        (first == last && points >= HALT).then(|| Halted {
            index: first,
            attempts: deaths,
            reason: self.reason.clone(),
        })
    }

    /// Whether this entry is to be applied in a transaction of its own.
    pub(in crate::sqlite) fn is_suspect(&self, index: u64) -> bool {
        index <= self.record.suspect.last
    }

    /// A transaction begins.
    pub(in crate::sqlite) fn begin(&mut self, first: u64, last: u64) {
        self.one_by_one = self.is_suspect(first);
        (self.record.first, self.record.last) = (first, last);
        write(self.pace.file.as_ref(), 0, &self.record.encode());
        self.transactions += 1;
        self.pace.busy.store(self.transactions, Ordering::Release);
    }

    /// A command begins to run, or has ended.
    pub(in crate::sqlite) fn command(&self, runs: bool) {
        if self.one_by_one {
            write(self.pace.file.as_ref(), RUNNING_AT, &[u8::from(runs)]);
        }
    }

    /// The transaction was committed or rolled back.
    pub(in crate::sqlite) fn ended(&mut self, applied: u64) {
        self.pace.busy.store(0, Ordering::Release);
        if self.record.suspect.last <= applied {
            self.record.suspect = Suspect::default();
        }
    }

    /// The node stops for `error`.
    pub(in crate::sqlite) fn failed(&mut self, error: &Error) {
        self.pace.busy.store(0, Ordering::Release);
        if !counts(error) {
            return self.clear();
        }
        self.reason = format!("{}: {}", error.code(), error.message());
        self.write_all(true);
    }

    /// The next try at what is halted is the last one again.
    pub(in crate::sqlite) fn retry(&mut self) {
        self.record.suspect.points = self.record.suspect.points.min(HALT - FULL);
        self.clear();
    }

    /// Nothing is being applied.
    pub(in crate::sqlite) fn clear(&mut self) {
        (self.record.first, self.record.last) = (0, 0);
        self.write_all(false);
    }

    fn write_all(&self, failed: bool) {
        let mut out = [0; LENGTH];
        out[..HEAD].copy_from_slice(&self.record.encode());
        out[FAILED_AT as usize] = u8::from(failed);
        // A zero stays behind the text.
        let room = &mut out[REASON_AT as usize..LENGTH - 1];
        let reason = &self.reason.as_bytes()[..self.reason.len().min(room.len())];
        room[..reason.len()].copy_from_slice(reason);
        write(self.pace.file.as_ref(), 0, &out);
    }
}

/// What the file in `dir`, a node's directory that nobody has open, says is halted.
pub(crate) fn halted_in(dir: &Path, applied: u64) -> Option<Halted> {
    let found = decode(&std::fs::read(dir.join(FILE)).ok()?)?;
    let suspect = found.judge(applied, boot_id());
    (suspect.first == suspect.last && suspect.points >= HALT).then(|| Halted {
        index: suspect.first,
        attempts: suspect.deaths,
        reason: if found.reason.is_empty() { DIED.to_owned() } else { found.reason },
    })
}

/// Whether the command may be to blame.
fn counts(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
        && (error.code().starts_with("SQLITE_") || error.code() == "TRANSACTION_LOST")
        && error.code() != "SQLITE_FULL"
}

impl Halted {
    /// The error of everything that needs what is not applied.
    pub(crate) fn error(&self) -> Error {
        let Halted { index, attempts, reason } = self;
        Error::new(
            ErrorKind::Unavailable,
            "APPLY_HALTED",
            format!(
                "this node has stopped applying before the command at log index {index}, which it \
                 tried {attempts} times and did not get over ({reason}); reads at \"none\" and \
                 \"session\" go on. void_command({index}) takes the command back on all nodes, \
                 retry_apply() tries it once more on this one"
            ),
        )
        .with_retryable(false)
    }
}

/// Tells one run of the machine from another; 0 where the system does not say.
fn boot_id() -> u64 {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // FNV-1a: only has to differ.
    let hash = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    if id.is_empty() { 0 } else { id.iter().fold(0xcbf2_9ce4_8422_2325, hash) }
}

fn write(file: Option<&File>, at: u64, bytes: &[u8]) {
    let Some(file) = file else { return };
    if let Err(e) = write_at(file, bytes, at) {
        tracing::debug!(error = %e, "the mark of what is being applied was not written");
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process leaves that dies in `f`, and what the next one finds.
    fn die(dir: &Path, applied: u64, f: impl FnOnce(&mut ApplyMark)) -> ApplyMark {
        f(&mut ApplyMark::open(dir, applied));
        ApplyMark::open(dir, applied)
    }

    fn in_a_statement(mark: &mut ApplyMark) {
        mark.begin(8, 8);
        mark.command(true);
    }

    #[test]
    fn two_deaths_in_the_same_statement_halt() {
        let dir = tempfile::tempdir().unwrap();
        let mark = die(dir.path(), 5, |mark| mark.begin(6, 9));
        assert_eq!(mark.halted(), None);
        assert!(mark.is_suspect(9) && !mark.is_suspect(10));
        let mark = die(dir.path(), 7, in_a_statement);
        let halted = mark.halted().unwrap();
        assert_eq!((halted.index, halted.attempts), (8, 2));
        assert_eq!(halted.reason, DIED);
        assert_eq!(halted_in(dir.path(), 7), Some(halted));
        assert_eq!(ApplyMark::open(dir.path(), 8).halted(), None, "it was applied after all");
    }

    #[test]
    fn what_was_committed_is_no_death() {
        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 5, |mark| mark.begin(6, 9));
        let mark = ApplyMark::open(dir.path(), 9);
        assert_eq!(mark.record.suspect, Suspect::default());
    }

    #[test]
    fn a_death_in_another_entry_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 5, |mark| mark.begin(6, 6));
        let mark = die(dir.path(), 6, in_a_statement);
        assert_eq!(mark.halted(), None);
        assert_eq!(mark.record.suspect, Suspect { first: 8, last: 8, deaths: 1, points: FULL });
    }

    #[test]
    fn a_death_that_may_come_from_outside_counts_half() {
        let dir = tempfile::tempdir().unwrap();
        let killed_late = |mark: &mut ApplyMark| {
            in_a_statement(mark);
            let seen = mark.pace().watch(0);
            mark.pace().watch(seen);
        };
        for deaths in 1..=3 {
            let mark = die(dir.path(), 7, killed_late);
            assert_eq!(mark.halted(), None, "after {deaths}");
        }
        assert_eq!(die(dir.path(), 7, killed_late).halted().unwrap().attempts, 4);

        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 7, in_a_statement);
        let committing = |mark: &mut ApplyMark| {
            in_a_statement(mark);
            mark.command(false);
        };
        assert_eq!(die(dir.path(), 7, committing).halted(), None);
        assert!(die(dir.path(), 7, in_a_statement).halted().is_some());
    }

    #[test]
    fn a_statement_that_is_not_slow_is_not_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = ApplyMark::open(dir.path(), 0);
        let mut seen = 0;
        for index in 1..10 {
            mark.begin(index, index);
            seen = mark.pace().watch(seen);
            mark.ended(index);
        }
        assert!(!decode(&std::fs::read(dir.path().join(FILE)).unwrap()).unwrap().slow);
    }

    #[test]
    fn an_error_counts_like_a_death_but_a_full_disk_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let error = |code| Error::new(ErrorKind::Unavailable, code, "x");
        let fail = |code| {
            die(dir.path(), 7, move |mark| {
                in_a_statement(mark);
                mark.failed(&error(code));
            })
        };
        for _ in 0..3 {
            assert_eq!(fail("SQLITE_FULL").halted(), None);
        }
        assert_eq!(fail("SQLITE_NOMEM").halted(), None);
        let halted = fail("SQLITE_NOMEM").halted().unwrap();
        assert_eq!((halted.index, halted.attempts), (8, 2));
        assert_eq!(halted.reason, "SQLITE_NOMEM: x");
    }

    #[test]
    fn a_retry_is_one_more_chance() {
        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 7, in_a_statement);
        let mut mark = die(dir.path(), 7, in_a_statement);
        assert!(mark.halted().is_some());
        mark.retry();
        assert_eq!(mark.halted(), None);
        assert_eq!(ApplyMark::open(dir.path(), 7).halted(), None);
        assert_eq!(die(dir.path(), 7, in_a_statement).halted().unwrap().attempts, 3);
    }

    #[test]
    fn another_run_of_the_machine_is_no_death() {
        let dir = tempfile::tempdir().unwrap();
        let mark = die(dir.path(), 7, |mark| {
            mark.record.boot ^= 1;
            in_a_statement(mark);
        });
        assert_eq!(mark.record.suspect, Suspect::default());
    }

    #[test]
    fn damage_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 7, in_a_statement);
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), LENGTH);
        for at in 0..CHECKED + 4 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(decode(&bytes).is_none(), "byte {at}");
        }
        for length in [0, 1, 8, HEAD - 10] {
            assert!(decode(&whole[..length]).is_none());
        }
    }
}

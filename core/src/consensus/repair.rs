//! What the offline check and the recovery of a lost quorum need to know of Raft: reading a log as a
//! whole, its agreement with the database, and a membership that nobody voted for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use prost::Message;

use super::codec;
use super::raft::{self, MemberEntry};
use super::types::{MemberInfo, Membership, NodeId, Payload, Vote};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Done, Log, LogPosition, Record};
use crate::proto;
use crate::sqlite::Applied;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// What a log says as a whole.
#[derive(Debug, Default)]
pub(crate) struct LogSummary {
    /// The index of the first record; none where there is none.
    pub first_index: Option<u64>,
    /// The last record, or the last one purged.
    pub last: Option<LogPosition>,
    /// Up to where it is purged.
    pub purged: Option<LogPosition>,
    /// The term of the last vote.
    pub term: u64,
    /// The members that the log and the database name last.
    pub members: Vec<MemberEntry>,
    /// What is wrong with it.
    pub problems: Vec<Error>,
}

/// Reads all of `log` and compares it with how far the database has come, where that is known.
pub(crate) fn summarize(log: &Log, applied: Option<&Applied>) -> LogSummary {
    let state = log.state();
    let mut summary =
        LogSummary { last: state.last, purged: state.purged, ..LogSummary::default() };
    match stored_vote(log) {
        Ok(vote) => summary.term = vote.map_or(0, |vote| vote.leader_id.term),
        Err(e) => summary.problems.push(unreadable("its vote", e)),
    }
    if let Some(last) = state.last
        && last.term > summary.term
    {
        summary.problems.push(disagree(format!(
            "the log ends in term {}, after the last vote, of term {}",
            last.term, summary.term
        )));
    }
    let stored = applied
        .and_then(|applied| applied.membership.clone())
        .map(|(position, bytes)| (position.map_or(0, |position| position.index), bytes));
    let mut membership = None;
    if let Some((index, bytes)) = stored {
        match codec::stored_membership(Some((None, bytes))) {
            Ok(stored) => membership = Some((index, stored.membership().clone())),
            Err(e) => summary.problems.push(unreadable("the membership in the database", e)),
        }
    }
    if let Err(e) = read_all(log, &mut summary, &mut membership) {
        summary.problems.push(e);
    }
    summary.members = membership.map(|(_, m)| raft::members(&m)).unwrap_or_default();
    if let Some(applied) = applied
        && let Err(e) = check_agreement(log, applied)
    {
        summary.problems.push(e);
    }
    summary
}

fn read_all(
    log: &Log,
    summary: &mut LogSummary,
    membership: &mut Option<(u64, Membership)>,
) -> Result<()> {
    let mut next = 0;
    loop {
        let records = log.read(next..u64::MAX, READ_BYTES).map_err(|e| read_error(&e))?;
        let Some(last) = records.last() else { return Ok(()) };
        next = last.index + 1;
        for record in records {
            summary.first_index.get_or_insert(record.index);
            match codec::payload_from_bytes(record.payload) {
                Ok(Payload::Membership(found)) => {
                    if let Some((index, stored)) = membership
                        && *index == record.index
                        && *stored != found
                    {
                        summary.problems.push(disagree(format!(
                            "the database and the log name different members at index {index}"
                        )));
                    }
                    if membership.as_ref().is_none_or(|(index, _)| *index <= record.index) {
                        *membership = Some((record.index, found));
                    }
                }
                Ok(Payload::Normal(data)) => {
                    let checked = match codec::voided_by(&data) {
                        Ok(None) => match codec::clock_in(&data) {
                            Ok(None) => codec::batch_from_entry(data).map(drop),
                            other => other.map(drop),
                        },
                        other => other.map(drop),
                    };
                    if let Err(e) = checked {
                        summary.problems.push(unreadable(&format!("record {}", record.index), e));
                    }
                }
                Ok(Payload::Blank) => {}
                Err(e) => {
                    summary.problems.push(unreadable(&format!("record {}", record.index), e));
                }
            }
        }
    }
}

/// Whether the log goes on where the database ends: no entry between them is missing, and both name
/// the same entry there. A log that ends before the database does is as it should be: an entry may
/// be committed, and applied, before this node's own log has it on disk.
///
/// # Errors
/// `Corruption` where they do not fit, or the log cannot be read.
pub(crate) fn check_agreement(log: &Log, applied: &Applied) -> Result<()> {
    let Some(purged) = log.state().purged else { return check_term(log, applied) };
    let end = applied.position;
    if end.is_none_or(|end| end.index < purged.index) {
        return Err(disagree(format!(
            "the database ends at index {}, and the log begins after index {}: what lies between \
             them is lost",
            applied.index(),
            purged.index
        )));
    }
    if let Some(end) = end
        && end.index == purged.index
        && end.term != purged.term
    {
        return Err(other_entry(end.index, end.term, purged.term));
    }
    check_term(log, applied)
}

fn check_term(log: &Log, applied: &Applied) -> Result<()> {
    let Some(end) = applied.position else { return Ok(()) };
    let records = log.read(end.index..end.index + 1, 0).map_err(|e| read_error(&e))?;
    match records.first() {
        Some(record) if record.term != end.term => {
            Err(other_entry(end.index, end.term, record.term))
        }
        _ => Ok(()),
    }
}

fn other_entry(index: u64, applied: u64, logged: u64) -> Error {
    disagree(format!(
        "the database has applied entry {index} of term {applied}, the log has one of term {logged}"
    ))
}

fn disagree(what: String) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "CORRUPTION_AGREEMENT",
        format!(
            "the log and the database of this node do not belong together: {what}. Was one of them \
             copied or restored alone? Restore this node: remove its directory and let it join the \
             cluster again"
        ),
    )
}

fn unreadable(what: &str, e: Error) -> Error {
    Error::new(
        ErrorKind::Corruption,
        "CORRUPTION_LOG",
        format!(
            "{what} cannot be understood ({e}), though its checksum is right; was it written by a \
             newer version?"
        ),
    )
}

pub(super) fn read_error(e: &std::io::Error) -> Error {
    let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
    inner.unwrap_or_else(|| {
        Error::new(ErrorKind::Unavailable, "STORAGE_FAILED", format!("the log cannot be read: {e}"))
            .with_retryable(false)
    })
}

fn stored_vote(log: &Log) -> Result<Option<Vote>> {
    let decode = |bytes| codec::vote_from_proto(Some(codec::decode(bytes, "the stored vote")?));
    log.vote().map(decode).transpose()
}

/// Writes into `log` that `node_id` is the only member from here on, in a term of its own that
/// follows all others. Durable when it returns; every record of the log stays. The next start, as
/// the only voter, commits them all.
///
/// # Errors
/// `Corruption` where log and database do not belong together, `Unavailable` where the disk fails.
pub(crate) fn become_only_member(
    log: &Log,
    applied: &Applied,
    node_id: &str,
    address: &str,
) -> Result<LogPosition> {
    check_agreement(log, applied)?;
    if let Some(end) = applied.position
        && log.state().last.is_none_or(|last| last.index < end.index)
    {
        // As at every start: what the database holds needs no log.
        let upto = LogPosition { term: end.term, index: end.index };
        durable(|done| log.purge(upto, done))?;
    }
    let last = log.state().last;
    let voted = stored_vote(log)?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.map_or(0, |last| last.term)) + 1;
    let me = NodeId::from(node_id);
    let vote = proto::Vote { term, node_id: node_id.to_owned(), committed: false };
    let info = MemberInfo { address: address.to_owned() };
    let membership =
        Membership::new(vec![BTreeSet::from([me.clone()])], BTreeMap::from([(me, info)]))
            .map_err(|e| codec::malformed("a membership").with_source(e))?;
    let at = LogPosition { term, index: last.map_or(0, |last| last.index + 1) };
    let payload = codec::payload_to_bytes(&Payload::Membership(membership));
    let record = Record { term: at.term, index: at.index, payload };
    durable(|done| log.save_vote(vote.encode_to_vec().into(), done))?;
    durable(|done| log.append(vec![record], done))?;
    Ok(at)
}

/// Waits until a change of the log is on disk.
fn durable(start: impl FnOnce(Done) -> std::io::Result<()>) -> Result<()> {
    let (tx, rx) = mpsc::channel();
    let done: Done = Box::new(move |result| {
        let _ = tx.send(result);
    });
    start(done).map_err(|e| read_error(&e))?;
    match rx.recv() {
        Ok(result) => result.map_err(|e| read_error(&e)),
        Err(_) => Err(Error::closed()),
    }
}

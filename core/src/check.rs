//! [`check`]: looks at a data directory that no node has open, and says whether it can be trusted.

use std::path::Path;

use crate::cluster::{DataDirectory, StoredIdentity};
use crate::consensus::repair::{self, LogSummary};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::sqlite::{self, Applied};
use crate::status::Member;

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Data is damaged or missing: follow the advice.
    Error,
    /// Worth knowing, and no damage.
    Note,
}

impl Severity {
    /// `error` or `note`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Note => "note",
        }
    }
}

/// One thing that [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable code, such as `CORRUPTION_LOG`.
    pub code: String,
    /// What was found, and what to do.
    pub message: String,
}

/// What [`check`] says of a data directory.
///
/// Of several copies of one cluster, the one with the highest `last_log_term`, and among these the
/// highest `last_log_index`, knows most: [`recover_lost_quorum`](crate::recover_lost_quorum) should
/// be given that one.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Whether nothing is damaged: no finding is an error.
    pub ok: bool,
    /// The node's id; empty where the directory does not say.
    pub node_id: String,
    /// The cluster's id, 32 hexadecimal digits; empty before the node has joined one.
    pub cluster_id: String,
    /// The term of the last vote.
    pub term: u64,
    /// The term of the last entry in the log.
    pub last_log_term: u64,
    /// The index of the last entry in the log (0 where it is empty).
    pub last_log_index: u64,
    /// The last index that was purged from the log.
    pub purged_index: u64,
    /// The index up to which entries are applied to the database.
    pub applied_index: u64,
    /// The members that log and database name last; not asked whether they are there.
    pub members: Vec<Member>,
    /// What was found; empty where there is nothing to say.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    fn add(&mut self, severity: Severity, code: &str, message: &str) {
        self.findings.push(Finding {
            severity,
            code: code.to_owned(),
            message: message.to_owned(),
        });
    }

    fn error(&mut self, e: &Error) {
        self.add(Severity::Error, e.code(), e.message());
    }
}

/// Checks the data directory at `path`, which no node may have open: the checksums of the log,
/// every page of the database, whether the two belong together, and the directory's identity. Reads
/// all of it, once; changes nothing but what SQLite itself mends after a crash. Blocks.
///
/// # Errors
/// `Config` where the directory is in use (`CONFIG_IN_USE`) or holds no node (`CONFIG_DIRECTORY`).
/// What is wrong with the data is no error but a [`Finding`].
pub fn check(path: impl AsRef<Path>) -> Result<CheckReport> {
    let path = path.as_ref();
    let directory = DataDirectory::open_existing(path)?;
    let mut report = CheckReport::default();
    let identity = match directory.identity() {
        Ok(identity) => identity,
        Err(e) => {
            report.error(&e);
            None
        }
    };
    let database = sqlite::check_database(path);
    for problem in &database.problems {
        report.error(problem);
    }
    let applied = database.applied.clone().unwrap_or_default();
    report.applied_index = applied.index();
    let used = identity.as_ref().is_some_and(|identity| identity.cluster_id.is_some());
    match Log::open_read_only(&path.join("log")) {
        Ok(_) if used && !Log::exists(&path.join("log"))? => report.error(&directory.lost_log()),
        Ok(log) => {
            let applied = (database.problems.is_empty()).then_some(&applied);
            let summary = repair::summarize(&log, applied);
            // It is not written to, so closing it cannot fail.
            let _ = log.close();
            add_log(&mut report, summary);
        }
        Err(e) => report.error(&e),
    }
    if let Some(halted) = sqlite::halted_in(path, applied.index()) {
        report.add(Severity::Note, "APPLY_HALTED", halted.error().message());
    }
    add_identity(&mut report, &directory, identity, &applied);
    report.ok = report.findings.iter().all(|finding| finding.severity != Severity::Error);
    Ok(report)
}

fn add_log(report: &mut CheckReport, log: LogSummary) {
    report.term = log.term;
    report.last_log_term = log.last.map_or(0, |last| last.term);
    report.last_log_index = log.last.map_or(0, |last| last.index);
    report.purged_index = log.purged.map_or(0, |purged| purged.index);
    report.members = log
        .members
        .into_iter()
        .map(|m| Member {
            node_id: m.node_id,
            address: m.address,
            role: m.role,
            reachable: None,
            applied_index: None,
        })
        .collect();
    for problem in &log.problems {
        report.error(problem);
    }
}

fn add_identity(
    report: &mut CheckReport,
    directory: &DataDirectory,
    identity: Option<StoredIdentity>,
    applied: &Applied,
) {
    let Some(identity) = identity else {
        if report.findings.iter().any(|f| f.code == "CORRUPTION_IDENTITY") {
            return;
        }
        if report.term == 0 && applied.position.is_none() {
            let text = "the directory was never used: no node has finished its first start in it";
            report.add(Severity::Note, "NEVER_USED", text);
        } else {
            report.error(&directory.lost_identity());
        }
        return;
    };
    report.cluster_id = identity.cluster_id.as_ref().map(crate::cluster::hex).unwrap_or_default();
    if identity.recovering {
        let text = "recover_lost_quorum was interrupted: call it again";
        report.add(Severity::Error, "CONFIG_RECOVERY", text);
    }
    let member = report.members.iter().any(|m| m.node_id == identity.node_id);
    if !member && !report.members.is_empty() {
        let text = "this node is no member of its cluster any more: it was removed";
        report.add(Severity::Note, "REMOVED_MEMBER", text);
    }
    report.node_id = identity.node_id;
}

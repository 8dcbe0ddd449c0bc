//! What a node says of itself and its cluster.

use crate::config::Role;

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Member {
    /// Its id.
    pub node_id: String,
    /// Its address; empty for a standalone node.
    pub address: String,
    /// Whether it votes.
    pub role: Role,
    /// Whether it answers now; absent where it was not asked.
    pub reachable: Option<bool>,
    /// The index that it has applied, where known.
    pub applied_index: Option<u64>,
}

impl From<quorumlite::Member> for Member {
    fn from(m: quorumlite::Member) -> Self {
        Member {
            node_id: m.node_id,
            address: m.address,
            role: m.role.into(),
            reachable: m.reachable,
            applied_index: m.applied_index,
        }
    }
}

/// What a node knows about itself and its cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Status {
    /// This node's id.
    pub node_id: String,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// Whether this node votes.
    pub role: Role,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: String,
    /// The node that leads, as far as this node knows.
    pub leader_id: Option<String>,
    /// The current Raft term.
    pub term: u64,
    /// The index of the last entry in this node's log.
    pub last_log_index: u64,
    /// The index up to which this node knows entries to be committed.
    pub commit_index: u64,
    /// The index up to which entries are applied to this node's database.
    pub applied_index: u64,
    /// The index up to which the database survives a power cut without the log.
    pub durable_index: u64,
    /// The last index that was purged from the log.
    pub purged_index: u64,
    /// Bytes of log on disk.
    pub log_bytes: u64,
    /// The address at which other nodes reach this one; absent for a standalone node.
    pub address: Option<String>,
    /// Why the last peer that was turned away was turned away.
    pub last_refusal: Option<String>,
    /// The latest log index at which this replica was found equal to the others; 0 for never.
    pub checked_index: u64,
    /// The first difference between replicas that was found.
    pub divergence: Option<String>,
    /// That the time of the last command is far ahead of this node's clock, where it is.
    pub clock_warning: Option<String>,
    /// What log entries mean to this node; members replicate only where this is equal.
    pub apply_level: u32,
    /// Of all else that decides what a write does: SQLite, functions, limits, the platform.
    pub fingerprint: String,
    /// Where this node has stopped applying, if it has.
    pub halted: Option<Halted>,
    /// The snapshot that this node receives, or the last one; absent where it received none.
    pub snapshot: Option<SnapshotProgress>,
    /// All members; of the others, `members()` knows more.
    pub members: Vec<Member>,
}

impl From<quorumlite::Status> for Status {
    fn from(s: quorumlite::Status) -> Self {
        Status {
            node_id: s.node_id,
            cluster_id: s.cluster_id,
            role: s.role.into(),
            state: s.state.to_owned(),
            leader_id: s.leader_id,
            term: s.term,
            last_log_index: s.last_log_index,
            commit_index: s.commit_index,
            applied_index: s.applied_index,
            durable_index: s.durable_index,
            purged_index: s.purged_index,
            log_bytes: s.log_bytes,
            address: s.address,
            last_refusal: s.last_refusal,
            checked_index: s.checked_index,
            divergence: s.divergence,
            clock_warning: s.clock_warning,
            apply_level: s.apply_level,
            fingerprint: s.fingerprint,
            halted: s.halted.map(Into::into),
            snapshot: s.snapshot.map(Into::into),
            members: s.members.into_iter().map(Into::into).collect(),
        }
    }
}

/// A command that this node does not apply any more, nor anything after it.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Halted {
    /// The index of its entry in the log.
    pub index: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of it.
    pub reason: String,
}

impl From<quorumlite::Halted> for Halted {
    fn from(h: quorumlite::Halted) -> Self {
        Halted { index: h.index, attempts: h.attempts, reason: h.reason }
    }
}

/// How far the reception of a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct SnapshotProgress {
    /// Bytes of the whole database.
    pub total_bytes: u64,
    /// How many of them are there.
    pub present_bytes: u64,
    /// What had to be sent for it.
    pub received_bytes: u64,
}

impl From<quorumlite::SnapshotProgress> for SnapshotProgress {
    fn from(p: quorumlite::SnapshotProgress) -> Self {
        SnapshotProgress {
            total_bytes: p.total_bytes,
            present_bytes: p.present_bytes,
            received_bytes: p.received_bytes,
        }
    }
}

/// A hash of the logical content, and the applied index that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ContentHash {
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
    /// The applied index.
    pub index: u64,
}

impl From<quorumlite::ContentHash> for ContentHash {
    fn from(h: quorumlite::ContentHash) -> Self {
        ContentHash { hash: h.hash, index: h.index }
    }
}

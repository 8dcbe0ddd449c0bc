//! [`Status`], [`Member`] and [`ContentHash`]: what a node says of itself and its cluster.

use crate::config::Role;

/// What a node knows about itself and its cluster at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// This node's id.
    pub node_id: String,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// Whether this node votes.
    pub role: Role,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: &'static str,
    /// The node that leads, as far as this node knows.
    pub leader_id: Option<String>,
    /// The current Raft term.
    pub term: u64,
    /// The index of the last entry in this node's log (0 where it is empty).
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
    /// The address at which other nodes reach this one; none for a standalone node.
    pub address: Option<String>,
    /// The latest log index at which this replica was compared with the others and found equal; 0
    /// where it never was. See [`Config::check_interval`](crate::Config::check_interval).
    pub checked_index: u64,
    /// The first difference between replicas that was found, with the log index and the hashes.
    /// Restore the node that differs from the majority: remove its directory and join again.
    pub divergence: Option<String>,
    /// Why the last peer that was turned away at this node's port was turned away: another secret,
    /// another cluster, no TLS.
    pub last_refusal: Option<String>,
    /// That the time of the last command is more than ten minutes ahead of this node's clock, where it
    /// is. See [`Node::reset_clock`](crate::Node::reset_clock).
    pub clock_warning: Option<String>,
    /// What entries of the log mean to this node. Members replicate only where this and `fingerprint`
    /// are equal.
    pub apply_level: u32,
    /// 16 hexadecimal digits: of SQLite's version and options, the functions and limits, the platform.
    pub fingerprint: String,
    /// Where this node has stopped applying, if it has. See [`Node::void_command`] and
    /// [`Node::retry_apply`](crate::Node::retry_apply).
    ///
    /// [`Node::void_command`]: crate::Node::void_command
    pub halted: Option<Halted>,
    /// How far the snapshot is that this node receives, or how far the last one came; none where it
    /// received none since it was opened.
    pub snapshot: Option<SnapshotProgress>,
    /// All members; `reachable` and `applied_index` are known only of this node itself, ask
    /// [`Node::members`](crate::Node::members) for the others.
    pub members: Vec<Member>,
}

/// A command that this node does not apply any more, nor anything after it, since its process ended
/// each time it was applied, or the node had to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Halted {
    /// The index of its entry in the log.
    pub index: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of it.
    pub reason: String,
}

/// How far the reception of a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// Bytes of the whole database.
    pub total_bytes: u64,
    /// How many of them are there.
    pub present_bytes: u64,
    /// What had to be sent for it over the network: fewer where this node had an old copy, or a part
    /// from a transfer that broke, and since pages are compressed.
    pub received_bytes: u64,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub node_id: String,
    /// Its address; empty for a standalone node.
    pub address: String,
    /// Whether it votes.
    pub role: Role,
    /// Whether it answers now; `None` where it was not asked.
    pub reachable: Option<bool>,
    /// The index that it has applied, where known.
    pub applied_index: Option<u64>,
}

/// A hash of the logical content (schema and rows) of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHash {
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
    /// The applied index that the hash belongs to.
    pub index: u64,
}

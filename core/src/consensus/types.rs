//! The types with which openraft is instantiated.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::sqlite::CommandResult;

/// A node's name as Raft sees it; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(Arc<str>);

impl NodeId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(s: &str) -> Self {
        NodeId(s.into())
    }
}

impl From<String> for NodeId {
    fn from(s: String) -> Self {
        NodeId(s.into())
    }
}

// openraft's storage test suite names its nodes by numbers.
#[cfg(test)]
impl From<u64> for NodeId {
    fn from(n: u64) -> Self {
        NodeId(n.to_string().into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the membership says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MemberInfo {
    /// `host:port`; empty for a standalone node.
    pub address: String,
}

/// The body of a normal log entry: an encoded [`crate::proto::CommandBatch`]. It is encoded once by
/// the proposer and travels as bytes to the log, to the peers and to the state machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EntryData(pub Bytes);

impl fmt::Debug for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryData({} bytes)", self.0.len())
    }
}

impl fmt::Display for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The results of one log entry, one per command; empty for blank and membership entries.
pub(crate) type EntryResults = Vec<CommandResult>;

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = EntryData,
        R = EntryResults,
        NodeId = NodeId,
        Node = MemberInfo,
        Term = u64,
        // One leader per term. On disk: never change it.
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>;
pub(crate) type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<NodeId, MemberInfo>;
pub(crate) type StoredMembership =
    openraft::StoredMembership<CommittedLeaderId, NodeId, MemberInfo>;
pub(crate) type Payload = openraft::EntryPayload<EntryData, NodeId, MemberInfo>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, NodeId, MemberInfo>;
pub(crate) type Snapshot = openraft::Snapshot<
    CommittedLeaderId,
    NodeId,
    MemberInfo,
    crate::consensus::snapshot::SnapshotData,
>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::consensus::state_machine::StateMachine>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

/// The term of a log id.
pub(crate) fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

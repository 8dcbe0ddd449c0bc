//! The messages that travel between nodes and lie in the log (protobuf, by prost's derive).
//!
//! Field numbers are for ever: nodes of neighbouring versions must understand each other, and a
//! log written by one version is read by the next. Fields may be added, never renumbered or reused.

use bytes::Bytes;

/// One SQL value.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(oneof = "value::Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<value::Kind>,
}

pub(crate) mod value {
    /// Absent means NULL.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Kind {
        #[prost(sint64, tag = "1")]
        Integer(i64),
        #[prost(double, tag = "2")]
        Real(f64),
        #[prost(string, tag = "3")]
        Text(String),
        #[prost(bytes = "vec", tag = "4")]
        Blob(Vec<u8>),
    }
}

/// One statement with its parameters.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Statement {
    #[prost(string, tag = "1")]
    pub sql: String,
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<Value>,
    /// As many names as values where the parameters are named, else empty.
    #[prost(string, repeated, tag = "3")]
    pub names: Vec<String>,
    #[prost(bool, tag = "4")]
    pub named: bool,
}

/// One command: what one call of a client does, all or nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Command {
    /// 16 bytes: who asks.
    #[prost(bytes = "vec", tag = "1")]
    pub client: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The client has the answers to every sequence below this one.
    #[prost(uint64, tag = "3")]
    pub acked_below: u64,
    #[prost(fixed64, tag = "4")]
    pub seed: u64,
    #[prost(message, repeated, tag = "5")]
    pub statements: Vec<Statement>,
}

/// The commands of one log entry.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CommandBatch {
    /// The leader's clock, microseconds since 1970.
    #[prost(sint64, tag = "1")]
    pub timestamp_us: i64,
    #[prost(message, repeated, tag = "2")]
    pub commands: Vec<Command>,
    /// Every replica hashes its content as it is after this entry.
    #[prost(bool, tag = "3")]
    pub check_replicas: bool,
}

/// The body of an entry that takes back the commands of an earlier one, which nobody has applied.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct VoidEntry {
    /// The log index of the earlier one.
    #[prost(uint64, tag = "1")]
    pub index: u64,
}

/// The body of an entry that sets the time of commands back.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ClockEntry {
    /// The leader's clock, microseconds since 1970.
    #[prost(sint64, tag = "1")]
    pub timestamp_us: i64,
}

/// Rows of a result, values in row order.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rows {
    #[prost(string, repeated, tag = "1")]
    pub columns: Vec<String>,
    #[prost(uint64, tag = "2")]
    pub row_count: u64,
    #[prost(message, repeated, tag = "3")]
    pub values: Vec<Value>,
}

/// The result of one statement.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecuteResult {
    #[prost(uint64, tag = "1")]
    pub rows_affected: u64,
    #[prost(sint64, tag = "2")]
    pub last_insert_rowid: i64,
    #[prost(uint64, tag = "3")]
    pub index: u64,
    #[prost(message, optional, tag = "4")]
    pub rows: Option<Rows>,
}

/// A write on its way to the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecuteRequest {
    #[prost(message, optional, tag = "1")]
    pub command: Option<Command>,
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
}

/// The results of a write, one per statement.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecuteResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<ExecuteResult>,
}

/// A read on its way to the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct QueryRequest {
    #[prost(message, optional, tag = "1")]
    pub statement: Option<Statement>,
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
    /// Names the read in a [`CancelRequest`]; 0 where none will come.
    #[prost(fixed64, tag = "3")]
    pub read: u64,
}

/// Nobody waits for a read any more.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CancelRequest {
    #[prost(fixed64, tag = "1")]
    pub read: u64,
}

/// The rows of a read and the applied index that they belong to.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct QueryResponse {
    #[prost(message, optional, tag = "1")]
    pub rows: Option<Rows>,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// A question for the leader that has a deadline and nothing else.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BarrierRequest {
    #[prost(uint64, tag = "1")]
    pub timeout_ms: u64,
}

/// The log index that a read must have applied.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BarrierResponse {
    #[prost(uint64, tag = "1")]
    pub index: u64,
}

/// A node asks to become a member, or to have its address or role changed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinRequest {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(bool, tag = "3")]
    pub learner: bool,
    #[prost(uint64, tag = "4")]
    pub timeout_ms: u64,
    /// The node is empty and takes no part in Raft yet: only remove what may be left of an earlier
    /// member of that name. A second request without this flag follows.
    #[prost(bool, tag = "5")]
    pub prepare: bool,
    /// The same in all requests of one open node, different in every other.
    #[prost(bytes = "vec", tag = "6")]
    pub instance: Vec<u8>,
}

/// A change of the membership or of the leadership that names one member.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberRequest {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
}

/// Take back the commands of a log entry that no node could apply.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct VoidRequest {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Whatever the members say that they have applied.
    #[prost(bool, tag = "2")]
    pub force: bool,
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
}

/// The log index at which a membership request took effect.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberResponse {
    #[prost(uint64, tag = "1")]
    pub index: u64,
}

/// What a node answers when asked how it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PingResponse {
    #[prost(uint64, tag = "1")]
    pub applied_index: u64,
    /// See [`JoinRequest::instance`].
    #[prost(bytes = "vec", tag = "2")]
    pub instance: Vec<u8>,
    /// The index before which the node has stopped applying; 0 where it has not.
    #[prost(uint64, tag = "3")]
    pub halted_index: u64,
    /// Its wall clock, microseconds since 1970; 0 where it does not say.
    #[prost(sint64, tag = "4")]
    pub clock_us: i64,
}

/// What is the hash of your content at this applied index?
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HashRequest {
    #[prost(uint64, tag = "1")]
    pub index: u64,
}

/// The hash; empty where it is not known (yet).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HashResponse {
    #[prost(string, tag = "1")]
    pub hash: String,
}

/// A Raft vote.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(string, tag = "2")]
    pub node_id: String,
    #[prost(bool, tag = "3")]
    pub committed: bool,
}

/// A Raft log id.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct LogId {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// A set of voters.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VoterSet {
    #[prost(string, repeated, tag = "1")]
    pub node_ids: Vec<String>,
}

/// A member's address.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberNode {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(string, tag = "2")]
    pub address: String,
}

/// A Raft membership: one voter set, or two while it changes; nodes in no set are learners.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Membership {
    #[prost(message, repeated, tag = "1")]
    pub configs: Vec<VoterSet>,
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<MemberNode>,
}

/// One log entry; `body` as it lies in the log.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// The sender has applied this entry, and its commands were voided by a committed one after it.
    #[prost(bool, tag = "4")]
    pub voided: bool,
}

/// Raft's AppendEntries.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendRequest {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub prev_log_id: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub leader_commit: Option<LogId>,
    #[prost(message, repeated, tag = "4")]
    pub entries: Vec<Entry>,
    /// How long before this message a quorum had followed the leader, in milliseconds; older nodes
    /// do not tell.
    #[prost(uint64, optional, tag = "5")]
    pub quorum_age_ms: Option<u64>,
}

/// The answer to AppendEntries.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendResponse {
    /// 0 success, 1 partial success up to `log_id`, 2 conflict, 3 higher vote.
    #[prost(uint32, tag = "1")]
    pub outcome: u32,
    #[prost(message, optional, tag = "2")]
    pub log_id: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub vote: Option<Vote>,
}

/// Raft's RequestVote, and the Pre-Vote (Raft thesis 9.6).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VoteRequest {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub last_log_id: Option<LogId>,
    #[prost(bool, tag = "3")]
    pub leadership_transfer: bool,
    #[prost(bool, tag = "4")]
    pub pre_vote: bool,
}

/// The answer to RequestVote.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VoteResponse {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<Vote>,
    #[prost(bool, tag = "2")]
    pub granted: bool,
    #[prost(message, optional, tag = "3")]
    pub last_log_id: Option<LogId>,
}

/// The leader asks a voter to start an election at once (Raft thesis 3.10).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TransferRequest {
    #[prost(message, optional, tag = "1")]
    pub from_leader: Option<Vote>,
    #[prost(string, tag = "2")]
    pub to: String,
    #[prost(message, optional, tag = "3")]
    pub last_log_id: Option<LogId>,
}

/// The first message of a snapshot transfer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotBegin {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<Vote>,
    #[prost(message, optional, tag = "2")]
    pub last_log_id: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub membership_log_id: Option<LogId>,
    #[prost(message, optional, tag = "4")]
    pub membership: Option<Membership>,
    /// Bytes of the whole image.
    #[prost(uint64, tag = "5")]
    pub length: u64,
    /// Chosen by the sender; names the transfer in what follows.
    #[prost(fixed64, tag = "6")]
    pub transfer: u64,
    /// Bytes of a page.
    #[prost(uint32, tag = "7")]
    pub page_size: u32,
}

/// The answer to [`SnapshotBegin`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotBeginResponse {
    /// The receiver has something to compare with: it wants [`SnapshotPages`] first.
    #[prost(bool, tag = "1")]
    pub compare: bool,
}

/// Hashes of pages that lie one after the other: which of them does the receiver lack?
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotPages {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// The first 16 bytes of each page's SHA-256.
    #[prost(bytes = "bytes", tag = "3")]
    pub hashes: Bytes,
}

/// The answer to [`SnapshotPages`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotPagesResponse {
    /// A bit for each page that is lacking, the lowest bit of a byte first.
    #[prost(bytes = "bytes", tag = "1")]
    pub pages: Bytes,
}

/// Pieces of the image, LZ4-compressed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotChunk {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    /// Offset and length of each piece, which lie one after the other in `data`.
    #[prost(uint64, repeated, tag = "2")]
    pub runs: Vec<u64>,
    /// LZ4 block with its uncompressed size in front.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    /// CRC32C of the uncompressed bytes.
    #[prost(fixed32, tag = "4")]
    pub crc: u32,
}

/// The image is complete: verify and install it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotEnd {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
}

/// The receiver's vote after a snapshot was installed or refused.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub vote: Option<Vote>,
}

/// What is asked of a peer. The numbers are part of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Method {
    Append = 1,
    Vote = 2,
    Transfer = 3,
    SnapshotBegin = 4,
    SnapshotChunk = 5,
    SnapshotEnd = 6,
    SnapshotPages = 7,
    Execute = 16,
    Query = 17,
    ReadIndex = 18,
    LogBarrier = 19,
    CancelQuery = 20,
    Join = 32,
    RemoveMember = 33,
    TransferLeadership = 34,
    Ping = 35,
    JoinVia = 36,
    ReplicaHash = 37,
    VoidCommand = 38,
    ResetClock = 39,
}

impl Method {
    /// The method with this number, if this version knows it.
    pub(crate) fn from_number(n: u32) -> Option<Self> {
        use Method::*;
        [
            Append,
            Vote,
            Transfer,
            SnapshotBegin,
            SnapshotChunk,
            SnapshotEnd,
            SnapshotPages,
            Execute,
            Query,
            ReadIndex,
            LogBarrier,
            CancelQuery,
            Join,
            RemoveMember,
            TransferLeadership,
            Ping,
            JoinVia,
            ReplicaHash,
            VoidCommand,
            ResetClock,
        ]
        .into_iter()
        .find(|m| *m as u32 == n)
    }
}

internal import QuorumliteFFI

/// One member of the cluster.
public struct Member: Sendable, Hashable {
    public let nodeId: String
    /// Its address; empty for a standalone node.
    public let address: String
    public let role: Role
    /// Whether it answers now; nil where it was not asked.
    public let reachable: Bool?
    /// The index that it has applied, where known.
    public let appliedIndex: UInt64?
}

/// What a node knows about itself and its cluster at one moment.
public struct Status: Sendable, Hashable {
    public let nodeId: String
    /// The cluster's id, 32 hexadecimal digits.
    public let clusterId: String
    public let role: Role
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    public let state: String
    /// The node that leads, as far as this node knows.
    public let leaderId: String?
    /// The current Raft term.
    public let term: UInt64
    /// The index of the last entry in this node's log.
    public let lastLogIndex: UInt64
    /// The index up to which this node knows entries to be committed.
    public let commitIndex: UInt64
    /// The index up to which entries are applied to this node's database.
    public let appliedIndex: UInt64
    /// The index up to which the database survives a power cut without the log.
    public let durableIndex: UInt64
    /// The last index that was purged from the log.
    public let purgedIndex: UInt64
    /// Bytes of log on disk.
    public let logBytes: UInt64
    /// The address at which other nodes reach this one; nil for a standalone node.
    public let address: String?
    /// Why the last peer that was turned away was turned away.
    public let lastRefusal: String?
    /// The latest log index at which this replica was found equal to the others; 0 for never.
    public let checkedIndex: UInt64
    /// The first difference between replicas that was found; see `Config.checkInterval`.
    public let divergence: String?
    /// That the time of the last command is far ahead of this node's clock, where it is.
    public let clockWarning: String?
    /// What log entries mean to this node; members replicate only where this is equal.
    public let applyLevel: UInt32
    /// Of all else that decides what a write does: SQLite, functions, limits, the platform.
    public let fingerprint: String
    /// Where this node has stopped applying, if it has; see `Node.voidCommand`.
    public let halted: Halted?
    /// The snapshot that this node receives, or the last one; nil since it was opened.
    public let snapshot: SnapshotProgress?
    /// `reachable` and `appliedIndex` are known only of this node; ask `members()` for the others.
    public let members: [Member]
}

/// A command that this node does not apply any more, nor anything after it.
public struct Halted: Sendable, Hashable {
    /// The index of its entry in the log.
    public let index: UInt64
    /// How often it was tried.
    public let attempts: UInt32
    /// What came of it.
    public let reason: String
}

/// How far the reception of a snapshot is.
public struct SnapshotProgress: Sendable, Hashable {
    /// Bytes of the whole database.
    public let totalBytes: UInt64
    /// How many of them are there.
    public let presentBytes: UInt64
    /// What had to be sent for it: less where this node had an old copy, and it is compressed.
    public let receivedBytes: UInt64
}

/// A hash of the logical content, and the applied index that it belongs to.
public struct ContentHash: Sendable, Hashable {
    /// SHA-256, 64 hexadecimal digits.
    public let hash: String
    public let index: UInt64
}

extension Member {
    init(_ m: QuorumliteFFI.Member) {
        self.init(
            nodeId: m.nodeId, address: m.address, role: Role(m.role), reachable: m.reachable,
            appliedIndex: m.appliedIndex)
    }
}

extension Status {
    init(_ s: QuorumliteFFI.Status) {
        self.init(
            nodeId: s.nodeId, clusterId: s.clusterId, role: Role(s.role), state: s.state,
            leaderId: s.leaderId, term: s.term, lastLogIndex: s.lastLogIndex,
            commitIndex: s.commitIndex, appliedIndex: s.appliedIndex,
            durableIndex: s.durableIndex, purgedIndex: s.purgedIndex, logBytes: s.logBytes,
            address: s.address, lastRefusal: s.lastRefusal, checkedIndex: s.checkedIndex,
            divergence: s.divergence, clockWarning: s.clockWarning,
            applyLevel: s.applyLevel, fingerprint: s.fingerprint,
            halted: s.halted.map { Halted($0) },
            snapshot: s.snapshot.map { SnapshotProgress($0) },
            members: s.members.map { Member($0) })
    }
}

extension Halted {
    init(_ h: QuorumliteFFI.Halted) {
        self.init(index: h.index, attempts: h.attempts, reason: h.reason)
    }
}

extension SnapshotProgress {
    init(_ p: QuorumliteFFI.SnapshotProgress) {
        self.init(
            totalBytes: p.totalBytes, presentBytes: p.presentBytes, receivedBytes: p.receivedBytes)
    }
}

extension ContentHash {
    init(_ h: QuorumliteFFI.ContentHash) { self.init(hash: h.hash, index: h.index) }
}

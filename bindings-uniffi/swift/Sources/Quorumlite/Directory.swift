internal import QuorumliteFFI

/// One thing that `check` found.
public struct Finding: Sendable, Hashable {
    /// `error`: data is damaged or missing; `note`: worth knowing, and no damage.
    public let severity: String
    /// A stable code, such as `CORRUPTION_LOG`.
    public let code: String
    /// What was found, and what to do.
    public let message: String
}

/// What `check` says of a data directory. Of several copies of one cluster, the one with the highest
/// `lastLogTerm`, and among these the highest `lastLogIndex`, knows most.
public struct CheckReport: Sendable, Hashable {
    /// Whether nothing is damaged: no finding is an error.
    public let ok: Bool
    /// The node's id; empty where the directory does not say.
    public let nodeId: String
    /// The cluster's id; empty before the node has joined one.
    public let clusterId: String
    /// The term of the last vote.
    public let term: UInt64
    /// The term of the last entry in the log.
    public let lastLogTerm: UInt64
    /// The index of the last entry in the log (0 where it is empty).
    public let lastLogIndex: UInt64
    /// The last index that was purged from the log.
    public let purgedIndex: UInt64
    /// The index up to which entries are applied to the database.
    public let appliedIndex: UInt64
    /// The members that log and database name last; not asked whether they are there.
    public let members: [Member]
    /// What was found; empty where there is nothing to say.
    public let findings: [Finding]
}

/// What `recoverLostQuorum` has done.
public struct Recovery: Sendable, Hashable {
    /// The node's id, as before.
    public let nodeId: String
    /// The id of the new cluster.
    public let clusterId: String
    /// The index of the last entry of the old cluster that the new one has.
    public let lastLogIndex: UInt64
    /// The members of the old cluster that are none of the new one.
    public let removed: [String]
}

/// Checks a data directory that no node has open, and changes nothing.
///
/// - Throws: `QuorumliteError` where the directory is in use, or is none; `CancellationError`.
public func check(_ directory: String) async throws -> CheckReport {
    CheckReport(try await detachable { try await checkDirectory(dir: directory) })
}

/// Makes the data directory the start of a new cluster, of which its node is the only member, with
/// all the data that it has. For a cluster that lost its majority for good, and for nothing else:
/// **what only the lost nodes had is lost**. No node may have the directory open; take the copy that
/// knows most (see `CheckReport`), and keep a copy of the directory. Afterwards open the node and let
/// empty directories join it. Members of the old cluster are refused. After a crash in the middle,
/// call this again.
///
/// - Throws: `QuorumliteError`; `CancellationError`, which does not mean that nothing was done.
public func recoverLostQuorum(_ directory: String) async throws -> Recovery {
    let r = try await detachable { try await QuorumliteFFI.recoverLostQuorum(dir: directory) }
    return Recovery(
        nodeId: r.nodeId, clusterId: r.clusterId, lastLogIndex: r.lastLogIndex, removed: r.removed)
}

extension CheckReport {
    init(_ r: QuorumliteFFI.CheckReport) {
        self.init(
            ok: r.ok, nodeId: r.nodeId, clusterId: r.clusterId, term: r.term,
            lastLogTerm: r.lastLogTerm, lastLogIndex: r.lastLogIndex,
            purgedIndex: r.purgedIndex, appliedIndex: r.appliedIndex,
            members: r.members.map { Member($0) },
            findings: r.findings.map {
                Finding(severity: $0.severity, code: $0.code, message: $0.message)
            })
    }
}

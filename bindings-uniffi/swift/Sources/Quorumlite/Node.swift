import Foundation
internal import QuorumliteFFI

/// Opens a node: `let node = try await Quorumlite.open(Config(directory: "data/n1"))`. Without
/// `listen` it is standalone: a replicated log of one, and no network at all. Opening a directory
/// that is open in this process already gives another handle on the same node.
///
/// **Never open the database file inside the directory with another SQLite in the same process**
/// (the system's SQLite3, GRDB, Core Data): that drops the locks which protect the file, and can
/// corrupt it.
///
/// - Throws: `QuorumliteError`; `CancellationError` where the task is cancelled: what was begun is
///   then closed again in the background.
public func open(_ config: Config) async throws -> Node {
    _ = closeAtExit
    let cancellation = Cancellation()
    let opened = try await detachable(
        onCancel: { cancellation.cancel() },
        // It had opened already.
        abandoned: { try? await $0?.shutdown() },
        { try await openNodeUnless(config: config.native, cancellation: cancellation) }
    )
    guard let opened else { throw CancellationError() }
    return Node(opened)
}

/// Opens a node, hands it to `body`, and shuts it down however that ends.
public func withNode<T: Sendable>(
    _ config: Config,
    isolation: isolated (any Actor)? = #isolation,
    _ body: (Node) async throws -> T
) async throws -> T {
    let node = try await open(config)
    do {
        let result = try await body(node)
        try await node.shutdown()
        return result
    } catch {
        try? await node.shutdown()
        throw error
    }
}

/// At exit, nodes that are still open are closed, for at most five seconds.
private let closeAtExit: Void = {
    atexit { _ = closeAll(seconds: 5) }
}()

/// A member of a cluster, or a standalone database, inside this process; made by `open`. It may be
/// used from any number of tasks at once.
///
/// A call whose task is cancelled throws `CancellationError` at once. It is abandoned, not undone:
/// **cancelled does not mean not written**. The same goes for timeouts. Timeouts are in seconds, and
/// by default the node's.
///
/// A node that is let go of without `shutdown` closes in the background.
public final class Node: Sendable {
    private let native: NativeNode

    init(_ native: NativeNode) {
        self.native = native
    }

    /// Runs one write on the cluster, from whichever node, and waits until it is committed. It is
    /// retried through a change of leader within the timeout, and never applied twice.
    ///
    /// - Throws: `QuorumliteError`, `CancellationError`; so do all others.
    @discardableResult
    public func execute(
        _ sql: String, _ params: Params = [], timeout: TimeInterval? = nil
    ) async throws -> ExecuteResult {
        let statement = Statement(sql, params)
        return ExecuteResult(
            try await detachable { [native] in
                try await native.execute(statement: statement.native, timeout: timeout)
            })
    }

    /// Runs several statements as one write, all or nothing, with a result for each.
    @discardableResult
    public func executeBatch(
        _ statements: [Statement], timeout: TimeInterval? = nil
    ) async throws -> [ExecuteResult] {
        let results = try await detachable { [native] in
            try await native.executeBatch(statements: statements.map(\.native), timeout: timeout)
        }
        return results.map { ExecuteResult($0) }
    }

    /// Reads, at the node's level of consistency.
    ///
    /// - Parameter maxStaleness: No answer (`unavailable`) if the data of this node is older than
    ///   so many seconds.
    public func query(
        _ sql: String,
        _ params: Params = [],
        maxStaleness: TimeInterval? = nil,
        timeout: TimeInterval? = nil
    ) async throws -> Rows {
        try await read(
            Statement(sql, params),
            ReadOptions(consistency: nil, maxStaleness: maxStaleness, timeout: timeout))
    }

    /// Reads, at a level of consistency.
    // Of its own: were the level optional, `.none` would be Optional's.
    public func query(
        _ sql: String,
        _ params: Params = [],
        consistency: Consistency,
        maxStaleness: TimeInterval? = nil,
        timeout: TimeInterval? = nil
    ) async throws -> Rows {
        let level = consistency.native
        return try await read(
            Statement(sql, params),
            ReadOptions(consistency: level, maxStaleness: maxStaleness, timeout: timeout))
    }

    private func read(_ statement: Statement, _ options: ReadOptions) async throws -> Rows {
        Rows(
            try await detachable { [native] in
                try await native.query(statement: statement.native, options: options)
            })
    }

    /// What this node knows about itself and its cluster; never waits.
    public func status() throws -> Status {
        do {
            return Status(try native.status())
        } catch {
            throw QuorumliteError(any: error)
        }
    }

    /// The members of the cluster, each asked whether it answers.
    public func members() async throws -> [Member] {
        let members = try await detachable { [native] in try await native.members() }
        return members.map { Member($0) }
    }

    /// Waits until some node leads, and returns its id.
    @discardableResult
    public func waitForLeader(timeout: TimeInterval? = nil) async throws -> String {
        try await detachable { [native] in try await native.waitForLeader(timeout: timeout) }
    }

    /// Hands leadership to another voter, and returns when it leads.
    public func transferLeadership(to nodeId: String, timeout: TimeInterval? = nil) async throws {
        try await detachable { [native] in
            try await native.transferLeadership(nodeId: nodeId, timeout: timeout)
        }
    }

    /// Removes a member from the cluster. Removing what is no member is harmless.
    public func removeMember(_ nodeId: String, timeout: TimeInterval? = nil) async throws {
        try await detachable { [native] in
            try await native.removeMember(nodeId: nodeId, timeout: timeout)
        }
    }

    /// Takes back, on all nodes, the commands at the log index of `Status.halted`, which no node could
    /// apply. `force` leaves out what the other members say that they have applied. Returns when this
    /// node has gone on beyond it.
    public func voidCommand(
        _ index: UInt64, force: Bool = false, timeout: TimeInterval? = nil
    ) async throws {
        try await detachable { [native] in
            try await native.voidCommand(index: index, force: force, timeout: timeout)
        }
    }

    /// Tries the command before which this node has halted once more, on this node alone.
    public func retryApply(timeout: TimeInterval? = nil) async throws {
        try await detachable { [native] in try await native.retryApply(timeout: timeout) }
    }

    /// Lets `CURRENT_TIMESTAMP` go back to the leader's clock, which it was ahead of.
    public func resetClock(timeout: TimeInterval? = nil) async throws {
        try await detachable { [native] in try await native.resetClock(timeout: timeout) }
    }

    /// Hashes the logical content of the local database: equal on nodes at the same index.
    public func contentHash() async throws -> ContentHash {
        ContentHash(try await detachable { [native] in try await native.contentHash() })
    }

    /// Stops the node and releases its directory. Again is harmless. Another handle on the same
    /// directory, from another `open`, goes on working.
    public func shutdown() async throws {
        // Also in a task that is cancelled: whoever cleans up wants it closed.
        try await Task { [native] in
            do {
                try await native.shutdown()
            } catch {
                throw QuorumliteError(any: error)
            }
        }.value
    }
}

import Foundation
internal import QuorumliteFFI

/// What a node says no to. The case says what to do about it; all of them carry the same details.
public enum QuorumliteError: Error, Sendable, Hashable {
    /// The statement is wrong, or failed while it ran: fix the statement.
    case sql(Details)
    /// A constraint refused the write: nothing was written.
    case constraint(Details)
    /// Somebody else wrote meanwhile: run the transaction again.
    case conflict(Details)
    /// There is no leader or no quorum now, or this node has stopped: retry later.
    case unavailable(Details)
    /// The deadline passed. The code says whether the write may still be applied.
    case timeout(Details)
    /// A limit was reached: back off, or send less at once.
    case busy(Details)
    /// An option, a parameter or the way of calling is wrong.
    case config(Details)
    /// Data on disk is damaged: restore this node from the others.
    case corruption(Details)
    /// The node was closed.
    case closed(Details)
    /// The statement cannot be replicated, or the peer may not take part.
    case forbidden(Details)
    /// A bug in Quorumlite.
    case `internal`(Details)

    /// What is known about an error.
    public struct Details: Sendable, Hashable {
        /// What happened; stable, such as `SQLITE_CONSTRAINT_UNIQUE`. See docs/errors.md.
        public let code: String
        /// What happened and how to mend it, for people; may change.
        public let message: String
        /// Whether the same call may succeed later without any change.
        public let retryable: Bool
        /// The id of the node that leads, where that is known.
        public let leader: String?
        /// SQLite's extended result code, where SQLite failed.
        public let sqliteCode: Int32?
    }
}

extension QuorumliteError {
    /// What is known about it.
    public var details: Details { parts.1 }
    /// The name of the kind, the same in every language: `Sql`, `Constraint`, ...
    public var kind: String { parts.0 }
    /// What happened; stable. See docs/errors.md.
    public var code: String { details.code }
    /// What happened and how to mend it, for people; may change.
    public var message: String { details.message }
    /// Whether the same call may succeed later without any change.
    public var retryable: Bool { details.retryable }
    /// The id of the node that leads, where that is known.
    public var leader: String? { details.leader }
    /// SQLite's extended result code, where SQLite failed.
    public var sqliteCode: Int32? { details.sqliteCode }

    private var parts: (String, Details) {
        switch self {
        case .sql(let d): ("Sql", d)
        case .constraint(let d): ("Constraint", d)
        case .conflict(let d): ("Conflict", d)
        case .unavailable(let d): ("Unavailable", d)
        case .timeout(let d): ("Timeout", d)
        case .busy(let d): ("Busy", d)
        case .config(let d): ("Config", d)
        case .corruption(let d): ("Corruption", d)
        case .closed(let d): ("Closed", d)
        case .forbidden(let d): ("Forbidden", d)
        case .internal(let d): ("Internal", d)
        }
    }
}

extension QuorumliteError: LocalizedError, CustomStringConvertible {
    public var errorDescription: String? { message }
    public var description: String { "\(kind) \(code): \(message)" }
}

extension QuorumliteError {
    init(_ error: NativeError) {
        self =
            switch error {
            case .Sql(let info): .sql(Details(info))
            case .Constraint(let info): .constraint(Details(info))
            case .Conflict(let info): .conflict(Details(info))
            case .Unavailable(let info): .unavailable(Details(info))
            case .Timeout(let info): .timeout(Details(info))
            case .Busy(let info): .busy(Details(info))
            case .Config(let info): .config(Details(info))
            case .Corruption(let info): .corruption(Details(info))
            case .Closed(let info): .closed(Details(info))
            case .Forbidden(let info): .forbidden(Details(info))
            case .Internal(let info): .internal(Details(info))
            }
    }

    /// Every error of the generated half, which has errors of its own for bugs.
    init(any error: any Error) {
        if let native = error as? NativeError {
            self.init(native)
        } else {
            self = .internal(
                Details(
                    code: "INTERNAL_BINDING",
                    message: "a bug in the Swift package: \(error)",
                    retryable: false, leader: nil, sqliteCode: nil))
        }
    }
}

extension QuorumliteError.Details {
    init(_ info: ErrorInfo) {
        self.init(
            code: info.code, message: info.message, retryable: info.retryable,
            leader: info.leader, sqliteCode: info.sqliteCode)
    }
}

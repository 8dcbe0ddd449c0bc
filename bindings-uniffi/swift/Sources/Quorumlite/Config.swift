import Foundation
internal import QuorumliteFFI

/// What a node does in its cluster.
public enum Role: String, Sendable, Hashable, CaseIterable {
    /// Votes, counts towards the quorum, may lead.
    case voter
    /// Keeps a copy and serves reads, forwards writes, never votes. The right one for a phone.
    case learner
}

/// How fresh the answer of a read must be.
public enum Consistency: String, Sendable, Hashable, CaseIterable {
    /// The local state, however old; bound it with `maxStaleness`.
    case none
    /// The local state, but never older than what this node object has written or read.
    case session
    /// The state of the node that believes that it leads.
    case weak
    /// Everything acknowledged before the read began.
    case linearizable
    /// The same; the read goes through the log.
    case strong
}

/// The options of `open`. Every default is safe. Times are in seconds.
public struct Config: Sendable, Hashable {
    /// The data directory, created if it does not exist. Two processes never share one.
    public var directory: String
    /// The name of this node in its cluster, 1 to 64 of `a-z A-Z 0-9 . _ -`. By default it is made
    /// once and kept in the directory.
    public var nodeId: String?
    /// The address, `"host:port"`, to listen at for other nodes. Without it: no network at all.
    public var listen: String?
    /// The address at which other nodes reach this one; by default `listen`.
    public var advertise: String?
    /// Addresses of members of the cluster to join. Joining again is harmless; an empty directory
    /// with a `join` list never starts a cluster of its own.
    public var join: [String]
    /// A secret that all nodes share; it encrypts and authenticates their connections.
    public var secret: String?
    /// PEM file of the authority that signed every node's certificate; instead of `secret`.
    public var ca: String?
    /// PEM file of this node's certificate chain.
    public var cert: String?
    /// PEM file of this node's private key.
    public var key: String?
    /// Allow plain TCP beyond loopback. Anyone who reaches the port can read and write.
    public var insecure: Bool
    /// Whether the node votes.
    public var role: Role
    /// How long `open` waits until the node has joined and can serve, and the default deadline of
    /// every call; 10 by default.
    public var timeout: TimeInterval?
    /// The level of reads that do not name one.
    public var consistency: Consistency
    /// Bytes of log after which its applied and durable part is purged; 32 MiB by default.
    public var maxLogBytes: UInt64?
    /// How often this node, while it leads, has all replicas hash their content and compare (at
    /// least 1); by default never. `Status.divergence` says what was found.
    public var checkInterval: TimeInterval?

    public init(
        directory: String,
        nodeId: String? = nil,
        listen: String? = nil,
        advertise: String? = nil,
        join: [String] = [],
        secret: String? = nil,
        ca: String? = nil,
        cert: String? = nil,
        key: String? = nil,
        insecure: Bool = false,
        role: Role = .voter,
        timeout: TimeInterval? = nil,
        consistency: Consistency = .session,
        maxLogBytes: UInt64? = nil,
        checkInterval: TimeInterval? = nil
    ) {
        self.directory = directory
        self.nodeId = nodeId
        self.listen = listen
        self.advertise = advertise
        self.join = join
        self.secret = secret
        self.ca = ca
        self.cert = cert
        self.key = key
        self.insecure = insecure
        self.role = role
        self.timeout = timeout
        self.consistency = consistency
        self.maxLogBytes = maxLogBytes
        self.checkInterval = checkInterval
    }
}

// The secret itself must never reach a log.
extension Config: CustomReflectable, CustomStringConvertible, CustomDebugStringConvertible {
    public var customMirror: Mirror {
        Mirror(
            self,
            children: [
                "directory": directory, "nodeId": nodeId as Any, "listen": listen as Any,
                "join": join, "role": role, "secret": secret == nil ? "nil" : "(hidden)",
            ],
            displayStyle: .struct)
    }

    public var description: String {
        "Config(directory: \(directory), nodeId: \(nodeId ?? "nil"), listen: \(listen ?? "nil"))"
    }

    public var debugDescription: String { description }
}

extension Config {
    var native: QuorumliteFFI.Config {
        .init(
            dir: directory, nodeId: nodeId, listen: listen, advertise: advertise, join: join,
            secret: secret, ca: ca, cert: cert, key: key, insecure: insecure, role: role.native,
            timeout: timeout, consistency: consistency.native, maxLogBytes: maxLogBytes,
            checkInterval: checkInterval)
    }
}

extension Role {
    var native: QuorumliteFFI.Role {
        switch self {
        case .voter: .voter
        case .learner: .learner
        }
    }

    init(_ role: QuorumliteFFI.Role) {
        self =
            switch role {
            case .voter: .voter
            case .learner: .learner
            }
    }
}

extension Consistency {
    var native: QuorumliteFFI.Consistency {
        switch self {
        case .none: .none
        case .session: .session
        case .weak: .weak
        case .linearizable: .linearizable
        case .strong: .strong
        }
    }
}

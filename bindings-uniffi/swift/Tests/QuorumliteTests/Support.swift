import Foundation
import XCTest

@testable import Quorumlite

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A test case whose directories and nodes go with each test.
class NodeTestCase: XCTestCase {
    private var directories: [URL] = []
    private var nodes: [Node] = []

    override func tearDown() async throws {
        for node in nodes {
            try await node.shutdown()
        }
        for directory in directories {
            try? FileManager.default.removeItem(at: directory)
        }
        (nodes, directories) = ([], [])
    }

    /// A fresh directory.
    func directory() throws -> String {
        let url = FileManager.default.temporaryDirectory
            .appendingPathComponent("quorumlite-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        directories.append(url)
        return url.path
    }

    /// Opens a node that is shut down with the test.
    func open(_ config: Config) async throws -> Node {
        let node = try await Quorumlite.open(config)
        nodes.append(node)
        return node
    }

    func standalone() async throws -> Node {
        try await open(Config(directory: directory() + "/n", timeout: 30))
    }

    /// Nodes of one cluster in this process, n1 being the first.
    func cluster(voters: Int = 3, learners: Int = 0) async throws -> [Node] {
        let dir = try directory()
        let addresses = try freeAddresses(voters + learners)
        var members: [Node] = []
        for (i, listen) in addresses.enumerated() {
            members.append(
                try await open(
                    Config(
                        directory: "\(dir)/n\(i + 1)", nodeId: "n\(i + 1)", listen: listen,
                        join: i == 0 ? [] : [addresses[0]], secret: "of the tests",
                        role: i < voters ? .voter : .learner, timeout: 30)))
        }
        return members
    }
}

/// Addresses on loopback that nobody uses. Their ports are below those that systems give to outgoing
/// connections, one of which might take one before the node does.
func freeAddresses(_ count: Int) throws -> [String] {
    var ports: Set<UInt16> = []
    while ports.count < count {
        let port = UInt16.random(in: 12_000..<32_000)
        if try isFree(port) { ports.insert(port) }
    }
    return ports.map { "127.0.0.1:\($0)" }
}

private func isFree(_ port: UInt16) throws -> Bool {
    #if canImport(Glibc)
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
        let descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    if descriptor < 0 { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    defer { _ = close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}

/// The error that `call` throws; fails if it throws none.
func failure<T>(
    of call: () async throws -> T, file: StaticString = #filePath, line: UInt = #line
) async throws -> any Error {
    do {
        _ = try await call()
    } catch {
        return error
    }
    XCTFail("it did not throw", file: file, line: line)
    throw CancellationError()
}

/// Fails unless `call` throws a `QuorumliteError` of that kind and code.
func assertFails<T>(
    _ kind: String, _ code: String? = nil, file: StaticString = #filePath, line: UInt = #line,
    _ call: () async throws -> T
) async throws {
    let error = try await failure(of: call, file: file, line: line)
    guard let error = error as? QuorumliteError else {
        XCTFail("\(error) is no QuorumliteError", file: file, line: line)
        return
    }
    XCTAssertEqual(error.kind, kind, error.message, file: file, line: line)
    if let code { XCTAssertEqual(error.code, code, error.message, file: file, line: line) }
}

/// Waits until `condition` holds.
func eventually(
    _ what: String, within seconds: TimeInterval = 30, file: StaticString = #filePath,
    line: UInt = #line, _ condition: () async throws -> Bool
) async throws {
    let deadline = Date(timeIntervalSinceNow: seconds)
    while !(try await condition()) {
        guard Date() < deadline else {
            XCTFail("not within \(seconds) s: \(what)", file: file, line: line)
            return
        }
        try await Task.sleep(nanoseconds: 5_000_000)
    }
}

/// SplitMix64, so that a seed gives the same run again.
struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// A number from the environment.
func setting(_ name: String, default value: Int) -> Int {
    ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? value
}

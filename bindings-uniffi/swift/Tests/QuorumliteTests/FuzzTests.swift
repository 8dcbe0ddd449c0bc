import Foundation
import XCTest

@testable import Quorumlite

/// Random values for every parameter of every call: whatever happens is a `QuorumliteError`, and the
/// process and the node live on.
final class FuzzTests: NodeTestCase {
    private var random = Random(state: 0)

    func testRandomArguments() async throws {
        let seed = setting("QUORUMLITE_FUZZ_SEED", default: Int(Date().timeIntervalSince1970))
        let rounds = setting("QUORUMLITE_FUZZ_ROUNDS", default: 3000)
        print("QUORUMLITE_FUZZ_SEED=\(seed)")
        random = Random(state: UInt64(bitPattern: Int64(seed)))
        let dir = try directory()
        let node = try await open(Config(directory: dir + "/node", timeout: 2))
        try await node.execute("CREATE TABLE t(a)")
        var (succeeded, failed) = (0, 0)
        for round in 0..<rounds {
            do {
                try await call(node, dir)
                succeeded += 1
            } catch let error as QuorumliteError {
                failed += 1
                XCTAssertNotEqual(error.kind, "Internal", "round \(round): \(error)")
                XCTAssertNotNil(
                    error.code.range(of: "^[A-Z][A-Z0-9_]*$", options: .regularExpression))
            }
        }
        XCTAssertGreaterThan(succeeded, rounds / 50)
        XCTAssertGreaterThan(failed, rounds / 50)
        let rows = try await node.query("SELECT 1")
        XCTAssertEqual(rows.values, [[1]])
    }

    private func call(_ node: Node, _ dir: String) async throws {
        switch Int.random(in: 0..<10, using: &random) {
        case 0, 1: try await node.execute(sql(), params(), timeout: seconds())
        case 2:
            let statements = (0..<below(4)).map { _ in Statement(sql(), params()) }
            try await node.executeBatch(statements, timeout: seconds())
        case 3, 4, 5:
            let (stale, level) = (or(nil, seconds()), pick(Consistency.allCases))
            _ = try await node.query(
                sql(), params(), consistency: level, maxStaleness: stale, timeout: seconds())
        case 6:
            try await node.waitForLeader(timeout: seconds())
            _ = try await node.members()
        case 7: try await node.transferLeadership(to: text(), timeout: seconds())
        case 8: try await node.removeMember(text(), timeout: seconds())
        default:
            var config = Config(directory: dir + or("/other", "/\0"), timeout: 0.2)
            // Never beyond loopback, never a port of somebody else's.
            for _ in 0..<below(3) {
                switch below(11) {
                case 0: config.nodeId = text()
                case 1: config.listen = or("127.0.0.1:0", text())
                case 2: config.advertise = text()
                case 3: config.join = (0..<below(3)).map { _ in or("127.0.0.1:1", "\0") }
                case 4: config.secret = text()
                case 5: (config.ca, config.cert, config.key) = (dir + text(), dir, dir)
                case 6: config.insecure = true
                case 7: config.role = .learner
                case 8: config.maxLogBytes = pick([0, 1, 1 << 20, .max])
                case 9: config.checkInterval = seconds()
                default: config.timeout = pick([-1, 0, 0.1, .nan, .infinity, 1e300])
                }
            }
            try await Quorumlite.open(config).shutdown()
        }
    }

    private func below(_ n: Int) -> Int { Int.random(in: 0..<n, using: &random) }

    private func pick<T>(_ list: [T]) -> T { list[below(list.count)] }

    private func or<T>(_ sound: T, _ any: @autoclosure () -> T) -> T {
        below(10) < 6 ? sound : any()
    }

    private func sql() -> String {
        or(
            pick(["SELECT ?", "SELECT :a", "INSERT INTO t VALUES (?)", "SELECT 1", "DELETE FROM t"]
            ),
            text())
    }

    private func text() -> String {
        switch below(4) {
        case 0:
            return pick(["", "a", "\0", "SELECT 1\0", "n1", ";", "--", "é", "\u{10ffff}", ":a"])
        case 1: return String(repeating: "x", count: below(100_000))
        default:
            let scalars = (0..<below(40)).compactMap { _ in
                Unicode.Scalar(UInt32.random(in: 0...0x10ffff, using: &random))
            }
            return String(String.UnicodeScalarView(scalars))
        }
    }

    private func value() -> Value {
        switch below(6) {
        case 0: return nil
        case 1: return .integer(Int64.random(in: .min ... .max, using: &random))
        case 2: return .real(Double(bitPattern: random.next()))
        case 3: return .text(text())
        case 4: return .blob(Data((0..<below(1000)).map { _ in UInt8(below(256)) }))
        default:
            return pick([0, 1, -1, .integer(.min), .real(.nan), .real(-0.0), "", .blob(Data())])
        }
    }

    private func params() -> Params {
        switch below(4) {
        case 0: return .positional((0..<below(4)).map { _ in value() })
        case 1: return .named(["a": value()])
        case 2: return .named([text(): value()])
        default: return .positional([value()])
        }
    }

    private func seconds() -> TimeInterval? {
        or(
            Double.random(in: 0..<1, using: &random),
            pick([nil, 0, -1, .nan, .infinity, -.infinity, 1e300, .leastNonzeroMagnitude, 1e9]))
    }
}

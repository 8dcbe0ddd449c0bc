import Foundation
import XCTest

@testable import Quorumlite

/// Every case of conformance/cases, standalone and through each node of a cluster of three.
final class ConformanceTests: NodeTestCase {
    func testStandalone() async throws {
        var done = 0
        for c in try cases() {
            // Each case has a fresh node to itself.
            let config = Config(directory: try directory() + "/n", timeout: 30)
            try await withNode(config) { node in
                for step in try c.steps("s_") {
                    if let difference = try await run(step, on: node) {
                        XCTFail("\(c.file): \(c.name): \(step.text): \(difference)")
                        break
                    }
                }
            }
            done += 1
        }
        print("conformance, standalone: \(done) cases")
    }

    func testThroughEachNodeOfACluster() async throws {
        let nodes = try await cluster()
        var done = 0
        for (i, c) in try cases().enumerated() {
            for (k, node) in nodes.enumerated() {
                let prefix = "c\(i)n\(k)_"
                if let difference = try await differs(c, prefix, via: node, of: nodes) {
                    XCTFail("\(c.file): \(c.name) through n\(k + 1): \(difference)")
                }
                var hashes = Set<String>()
                for member in nodes {
                    _ = try await member.query("SELECT 1", consistency: .linearizable)
                    hashes.insert(try await member.contentHash().hash)
                }
                XCTAssertEqual(hashes.count, 1, "\(c.file): \(c.name): the nodes differ")
                try await cleanUp(node, prefix)
                done += 1
            }
        }
        print("conformance, cluster: \(done) runs")
    }

    private func cases() throws -> [Case] {
        let all = try Case.load()
        for c in all {
            if let reason = c.skip { print("skipped: \(c.name): \(reason)") }
        }
        return all.filter { $0.skip == nil }
    }

    private func differs(
        _ c: Case, _ prefix: String, via node: Node, of nodes: [Node]
    ) async throws -> String? {
        for step in try c.steps(prefix) {
            if let difference = try await run(step, on: node, consistency: .linearizable) {
                return "\(step.text): \(difference)"
            }
            if step.verb != "query" { continue }
            for other in nodes where other !== node {
                if let difference = try await run(step, on: other, consistency: .linearizable) {
                    return "read elsewhere: \(step.text): \(difference)"
                }
            }
        }
        return nil
    }

    /// Runs one step; says what differs, or nil.
    private func run(
        _ step: Step, on node: Node, consistency: Consistency = .session
    ) async throws -> String? {
        let results: [(rows: Rows, affected: Int?, rowid: Int64?)]
        do {
            let call = step.calls.first ?? ""
            switch step.verb {
            case "query":
                let rows = try await node.query(call.sql, call.params, consistency: consistency)
                results = [(rows, nil, nil)]
            case "execute":
                let r = try await node.execute(call.sql, call.params)
                results = [(r.rows, r.rowsAffected, r.lastInsertRowid)]
            default:
                results = try await node.executeBatch(step.calls).map {
                    ($0.rows, $0.rowsAffected, $0.lastInsertRowid)
                }
            }
        } catch let error as QuorumliteError {
            if let expected = step.error, expected == (error.kind, error.code) { return nil }
            return "failed with \(error), expected \(step.error.map { "\($0)" } ?? "success")"
        }
        if let error = step.error { return "succeeded instead of failing with \(error)" }
        if results.count != step.outcomes.count {
            return "\(results.count) results for \(step.outcomes.count) statements"
        }
        return zip(step.outcomes, results)
            .compactMap { $0.difference($1.rows, $1.affected, $1.rowid) }
            .first
    }

    /// Drops what a case left.
    private func cleanUp(_ node: Node, _ prefix: String) async throws {
        let leftOver = """
            SELECT type, name FROM sqlite_schema
            WHERE type IN ('table', 'view') AND substr(name, 1, length(:p)) = :p
            ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC
            """
        while let left = try await node.query(leftOver, ["p": prefix]).first {
            let (type, name): (String, String) = (try left.get("type"), try left.get("name"))
            let quoted = name.replacingOccurrences(of: "\"", with: "\"\"")
            try await node.execute("DROP \(type) \"\(quoted)\"")
        }
    }
}

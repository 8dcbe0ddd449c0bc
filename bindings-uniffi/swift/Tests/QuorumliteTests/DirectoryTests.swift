import XCTest

@testable import Quorumlite

final class DirectoryTests: NodeTestCase {
    func testTheCopyThatKnowsMostBecomesANewCluster() async throws {
        let dir = try directory()
        let addresses = try freeAddresses(3)
        var nodes: [Node] = []
        for (i, listen) in addresses.enumerated() {
            nodes.append(
                try await open(
                    Config(
                        directory: "\(dir)/n\(i + 1)", nodeId: "n\(i + 1)", listen: listen,
                        join: i == 0 ? [] : [addresses[0]], secret: "of the tests", timeout: 30)))
        }
        try await nodes[0].execute("CREATE TABLE t(a)")
        try await nodes[0].execute("INSERT INTO t VALUES (7)")
        XCTAssertNil(try nodes[0].status().snapshot)
        try await assertFails("Config") { try await check("\(dir)/n1") }
        for node in nodes { try await node.shutdown() }

        let report = try await check("\(dir)/n1")
        XCTAssertTrue(report.ok, "\(report)")
        XCTAssertEqual(report.nodeId, "n1")
        XCTAssertEqual(report.members.map(\.nodeId).sorted(), ["n1", "n2", "n3"])
        XCTAssertGreaterThan(report.lastLogIndex, 0)
        let recovery = try await recoverLostQuorum("\(dir)/n1")
        XCTAssertEqual(recovery.removed.sorted(), ["n2", "n3"])
        XCTAssertNotEqual(recovery.clusterId, report.clusterId)
        let node = try await open(
            Config(
                directory: "\(dir)/n1", listen: try freeAddresses(1)[0], secret: "of the tests",
                timeout: 30))
        let rows = try await node.query("SELECT a FROM t", consistency: .linearizable)
        XCTAssertEqual(rows.values, [[7]])
        XCTAssertEqual(try node.status().clusterId, recovery.clusterId)
        let members = try await node.members()
        XCTAssertEqual(members.map(\.nodeId), ["n1"])
    }

    func testNoDataDirectory() async throws {
        let dir = try directory()
        try await assertFails("Config") { try await check(dir + "/nothing") }
        try await assertFails("Config") { try await recoverLostQuorum(dir) }
    }
}

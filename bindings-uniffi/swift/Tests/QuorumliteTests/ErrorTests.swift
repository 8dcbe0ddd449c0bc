import Foundation
import XCTest

@testable import Quorumlite

final class ErrorTests: NodeTestCase {
    func testAnErrorSaysWhatToDo() async throws {
        let node = try await standalone()
        do {
            _ = try await node.query("SELEKT 1")
            XCTFail("it did not throw")
        } catch QuorumliteError.sql(let details) {
            XCTAssertEqual(details.code, "SQLITE_ERROR")
            XCTAssertTrue(details.message.contains("SELEKT"))
            XCTAssertEqual(details.sqliteCode, 1)
            XCTAssertNil(details.leader)
            XCTAssertFalse(details.retryable)
            let error = QuorumliteError.sql(details)
            XCTAssertEqual(error.localizedDescription, details.message)
            XCTAssertEqual("\(error)", "Sql SQLITE_ERROR: \(details.message)")
        }
    }

    func testEachKindThatAHealthyNodeCanGive() async throws {
        let node = try await standalone()
        try await node.execute("CREATE TABLE t(a UNIQUE NOT NULL)")
        try await node.execute("INSERT INTO t VALUES (1)")
        func fails(_ sql: String, _ kind: String, _ code: String) async throws {
            try await assertFails(kind, code) { try await node.execute(sql) }
        }
        try await fails("INSERT INTO t VALUES (1)", "Constraint", "SQLITE_CONSTRAINT_UNIQUE")
        try await fails("INSERT INTO t VALUES (NULL)", "Constraint", "SQLITE_CONSTRAINT_NOTNULL")
        try await fails("", "Sql", "SQL_EMPTY")
        try await fails("SELECT 1\0", "Sql", "SQL_NUL")
        try await assertFails("Forbidden") { try await node.execute("ATTACH 'x' AS y") }
        try await assertFails("Config", "CONFIG_TIMEOUT") {
            try await node.query("SELECT 1", maxStaleness: .nan)
        }
        try await assertFails("Config", "CONFIG_TIMEOUT") {
            try await node.execute("SELECT 1", timeout: -1)
        }
        try await assertFails("Timeout") {
            try await node.query(endless, timeout: 0.2)
        }
    }

    func testWithoutAMajority() async throws {
        let nodes = try await cluster()
        try await nodes[0].execute("CREATE TABLE t(a)")
        _ = try await nodes[1].query("SELECT * FROM t", consistency: .linearizable)
        try await nodes[0].shutdown()
        try await nodes[2].shutdown()
        let error = try await failure(of: {
            try await nodes[1].execute("INSERT INTO t VALUES (1)", timeout: 1)
        })
        switch error {
        case QuorumliteError.unavailable, QuorumliteError.timeout: break
        default: XCTFail("\(error)")
        }
        // Local reads go on.
        let rows = try await nodes[1].query("SELECT * FROM t", consistency: .none)
        XCTAssertTrue(rows.isEmpty)
        try await assertFails("Unavailable", "STALE") {
            try await nodes[1].query("SELECT 1", consistency: .none, maxStaleness: 0)
        }
    }
}

/// A query that only a deadline ends.
let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"

import Foundation
import XCTest

@testable import Quorumlite

final class CancelTests: NodeTestCase {
    /// Fails unless `task` ends with a `CancellationError`, long before what it called would.
    private func assertCancelled<T>(
        _ task: Task<T, any Error>, file: StaticString = #filePath, line: UInt = #line
    ) async {
        let began = Date()
        task.cancel()
        let outcome = await task.result
        XCTAssertLessThan(Date().timeIntervalSince(began), 10, file: file, line: line)
        guard case .failure(let error) = outcome, error is CancellationError else {
            XCTFail("\(outcome)", file: file, line: line)
            return
        }
    }

    func testACancelledReadReturnsAtOnce() async throws {
        let node = try await standalone()
        let reads = (0..<4).map { _ in
            Task { try await node.query(endless, timeout: 20) }
        }
        // A later call has been answered, so those before it are under way.
        _ = try await node.query("SELECT 1")
        for read in reads {
            await assertCancelled(read)
        }
        let rows = try await node.query("SELECT 1")
        XCTAssertEqual(rows.values, [[1]])
    }

    func testCancelledDoesNotMeanNotWrittenButNeverHalf() async throws {
        let node = try await standalone()
        try await node.execute("CREATE TABLE t(id INTEGER, part INTEGER)")
        var cancelled = 0
        for id in 0..<200 {
            let write = Task {
                try await node.executeBatch([
                    Statement("INSERT INTO t VALUES (?, 1)", [id]),
                    Statement("INSERT INTO t VALUES (?, 2)", [id]),
                ])
            }
            if id % 3 > 0 { await Task.yield() }
            write.cancel()
            switch await write.result {
            case .success: break
            case .failure(is CancellationError): cancelled += 1
            case .failure(let error): throw error
            }
        }
        XCTAssertGreaterThan(cancelled, 0)
        // What was sent is applied in order, so this is behind all of it.
        try await node.execute("CREATE TABLE u(a)")
        let halves = try await node.query("SELECT id FROM t GROUP BY id HAVING count(*) != 2")
        XCTAssertTrue(halves.isEmpty)
    }

    func testCancelledBeforeTheCallNothingIsSent() async throws {
        let node = try await standalone()
        try await node.execute("CREATE TABLE t(a)")
        let before = try node.status().lastLogIndex
        let write = Task {
            while !Task.isCancelled { await Task.yield() }
            try await node.execute("INSERT INTO t VALUES (1)")
        }
        await assertCancelled(write)
        let rows = try await node.query("SELECT * FROM t", consistency: .linearizable)
        XCTAssertTrue(rows.isEmpty)
        XCTAssertEqual(try node.status().lastLogIndex, before)
    }

    func testACancelledOpenReleasesTheDirectory() async throws {
        let dir = try directory() + "/n"
        let addresses = try freeAddresses(2)
        let config = Config(
            directory: dir, listen: addresses[0], join: [addresses[1]], secret: "s", timeout: 600)
        for _ in 0..<3 {
            let opening = Task { try await Quorumlite.open(config) }
            try await eventually("it has begun") {
                FileManager.default.fileExists(atPath: dir + "/quorumlite.lock")
            }
            await assertCancelled(opening)
        }
        // Waits for the slot of the directory, which the cancelled ones have given back.
        let (began, other) = (Date(), Config(directory: dir, timeout: 30))
        do {
            try await open(other).shutdown()
        } catch let error as QuorumliteError {
            // Whether a directory that never joined opens on its own is the core's to say.
            XCTAssertEqual(error.kind, "Config", error.message)
        }
        XCTAssertLessThan(Date().timeIntervalSince(began), 60)
    }

    func testShutdownInACancelledTask() async throws {
        let node = try await standalone()
        let ending = Task {
            while !Task.isCancelled { await Task.yield() }
            try await node.shutdown()
        }
        ending.cancel()
        try await ending.value
        try await assertFails("Closed") { try node.status() }
    }
}

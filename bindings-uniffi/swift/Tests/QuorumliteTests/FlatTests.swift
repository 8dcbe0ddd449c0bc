#if os(Linux)
    import Foundation
    import XCTest

    @testable import Quorumlite

    /// Memory and file descriptors stay flat. Longer: QUORUMLITE_FLAT_OPENS=10000
    /// QUORUMLITE_FLAT_CALLS=100000.
    final class FlatTests: NodeTestCase {
        // What is kept in memory of a log of the usual 64 MiB would grow for some 200,000 writes.
        private static let smallLog: UInt64 = 2 << 20

        private struct Figures: Codable {
            let rssKiB: Int
            /// Without the pages of mapped files, such as the database's.
            let ownKiB: Int
            let threads: Int
            let descriptors: Int
        }

        private func measure() throws -> Figures {
            let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
            func figure(_ name: String) -> Int {
                let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") }
                return Int(line?.filter(\.isNumber) ?? "") ?? -1
            }
            let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
            return Figures(
                rssKiB: figure("VmRSS"), ownKiB: figure("RssAnon"), threads: figure("Threads"),
                descriptors: descriptors.count)
        }

        /// Runs `step` so often; measures after each third. Caches and pools fill in the first. A leak
        /// of one descriptor, or of a few KiB, in each step would be far beyond.
        private func flat(
            _ name: String, count: Int, allowKiB: Int, step: (Int) async throws -> Void
        ) async throws {
            let began = Date()
            var figures: [Figures] = []
            for third in 0..<3 {
                for i in count * third / 3..<count * (third + 1) / 3 {
                    try await step(i)
                }
                figures.append(try measure())
            }
            let (seconds, start, end) = (Date().timeIntervalSince(began), figures[0], figures[2])
            print("\(name): \(count) in \(String(format: "%.1f", seconds)) s")
            for each in figures { print("  \(each)") }
            XCTAssertLessThan(end.rssKiB - start.rssKiB, allowKiB, name)
            XCTAssertLessThan(end.descriptors - start.descriptors, 20, name)
            XCTAssertLessThan(end.threads - start.threads, 40, name)
        }

        func testOpensAndCloses() async throws {
            let dir = try directory()
            let count = setting("QUORUMLITE_FLAT_OPENS", default: 300)
            try await flat("opens", count: count, allowKiB: 20_000) { i in
                let node = try await Quorumlite.open(
                    Config(directory: "\(dir)/n\(i % 4)", maxLogBytes: Self.smallLog))
                if i % 3 == 0 { _ = try await node.query("SELECT 1") }
                try await node.shutdown()
            }
        }

        func testCalls() async throws {
            let config = Config(
                directory: try directory() + "/n", timeout: 30, maxLogBytes: Self.smallLog)
            let node = try await open(config)
            try await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
            let count = setting("QUORUMLITE_FLAT_CALLS", default: 20_000)
            let blob = Data(repeating: 7, count: 2000)
            // Twenty calls a step, at the same time.
            try await flat("calls", count: count / 20, allowKiB: 30_000) { i in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for j in 0..<20 {
                        group.addTask {
                            switch j % 5 {
                            case 0:
                                try await node.execute(
                                    "INSERT OR REPLACE INTO t VALUES (?, ?, ?)", [j, "text", blob])
                            case 1:
                                _ = try await node.query("SELECT * FROM t WHERE id < ?", [20])
                            case 2:
                                _ = try? await node.query("SELEKT")
                            case 3:
                                try await node.executeBatch([
                                    Statement("UPDATE t SET a = ? WHERE id = 0", [i]), "SELECT 1",
                                ])
                            default:
                                let call = Task { try await node.query("SELECT count(*) FROM t") }
                                call.cancel()
                                _ = await call.result
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }
#endif

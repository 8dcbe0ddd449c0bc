import Foundation
import XCTest

@testable import Quorumlite

final class ValueTests: NodeTestCase {
    private static let extremes: [Value] = [
        nil, 0, 1, -1, .integer(.min), .integer(.max), .integer(1 << 53 + 1),
        0.0, .real(-0.0), 1.0, 0.1, .real(.leastNonzeroMagnitude), .real(.greatestFiniteMagnitude),
        .real(-.greatestFiniteMagnitude), .real(.infinity), .real(-.infinity),
        "", "a", "\0", "a\0b", "é", "e\u{301}", "👩‍👩‍👧‍👦", "\u{feff}", "\u{10ffff}", "\u{fffd}", "\r\n",
        .text(String(repeating: "ß", count: 500_000)),
        .blob(Data()), .blob(Data([0])), .blob(Data([0xff, 0, 0xc3, 0x28])),
        .blob(Data(repeating: 7, count: 1_000_000)),
    ]

    func testEveryValueComesBackAsItWas() async throws {
        let node = try await standalone()
        try await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        for (id, value) in Self.extremes.enumerated() {
            let read = try await node.query("SELECT ?, typeof(?1)", [value])
            assertSame(read[0][0], value)
            XCTAssertEqual(read[0][1].string, value.typeName)
            try await node.execute(
                "INSERT INTO t VALUES (:id, :v)", ["id": id, "v": value])
        }
        let stored = try await node.query("SELECT v FROM t ORDER BY id")
        XCTAssertEqual(stored.count, Self.extremes.count)
        for (row, value) in zip(stored, Self.extremes) {
            assertSame(row[0], value)
        }
        let nan = try await node.query("SELECT ?", [Double.nan])
        XCTAssertEqual(nan.values, [[nil]])
    }

    private func assertSame(_ read: Value, _ written: Value) {
        XCTAssertEqual(read, written)
        if case .real(let a) = read, case .real(let b) = written {
            XCTAssertEqual(a.bitPattern, b.bitPattern)
        }
    }

    func testTypesOfSwift() async throws {
        let node = try await standalone()
        let nothing: String? = nil
        let something: Int? = 5
        let params: Params = [
            Int8.min, UInt32.max, Int64.max, true, 1.5, Float(0.5), "text", "sub".prefix(2),
            Data([1]), [UInt8](arrayLiteral: 2, 3), nothing, something, nil,
        ]
        let columns = (1...13).map { "?\($0) AS c\($0)" }.joined(separator: ", ")
        let row = try await node.query("SELECT \(columns)", params)[0]
        XCTAssertEqual(try row.get("c1"), Int8.min)
        XCTAssertEqual(try row.get("c2"), UInt32.max)
        XCTAssertEqual(try row.get("c3"), Int64.max)
        XCTAssertEqual(try row.get("c4"), true)
        XCTAssertEqual(try row.get("c5"), 1.5)
        XCTAssertEqual(try row.get(5, as: Double.self), 0.5)
        XCTAssertEqual(try row.get("c7", as: String?.self), "text")
        XCTAssertEqual(try row.get(7), "su")
        XCTAssertEqual(try row.get("c9", as: Data.self), Data([1]))
        XCTAssertEqual(try row.get("c10", as: [UInt8].self), [2, 3])
        XCTAssertNil(try row.get("c11", as: String?.self))
        XCTAssertEqual(try row.get("c12", as: Int?.self), 5)
        XCTAssertEqual(try row.get("c13", as: Value.self), .null)
        XCTAssertEqual(row["c13"], Value.null)
        XCTAssertNil(row["c14"])
        XCTAssertEqual(row["c1"]?.int, -128)

        XCTAssertThrowsError(try row.get("c14", as: Int.self)) {
            XCTAssertTrue("\($0)".hasPrefix("there is no column c14; the columns are c1, "))
        }
        XCTAssertThrowsError(try row.get(-1, as: Int.self))
        XCTAssertThrowsError(try row.get(13, as: Int.self))
        XCTAssertThrowsError(try row.get("c3", as: Int32.self))
        XCTAssertThrowsError(try row.get("c11", as: String.self)) {
            XCTAssertEqual(
                $0 as? ColumnError, .notOfType("c11", type: "String", found: "null"))
        }
        XCTAssertThrowsError(try row.get("c12", as: Double.self))
        XCTAssertThrowsError(try row.get("c12", as: Bool.self))
    }

    func testParamsFromVariables() async throws {
        let node = try await standalone()
        let list: [Value] = [1, "a", nil]
        let names: [String: Int] = ["a": 1, "b": 2]
        let one = try await node.query("SELECT ?, ?, ?", Params(list))
        XCTAssertEqual(one.values, [list])
        let two = try await node.query("SELECT :a, @b", Params(names))
        XCTAssertEqual(two.values, [[1, 2]])
        let last = try await node.query("SELECT $a", ["a": 1, "a": 2])
        XCTAssertEqual(last.values, [[2]])
        try await assertFails("Sql") { try await node.query("SELECT ?", [1, 2]) }
        try await assertFails("Sql") { try await node.query("SELECT :a", ["b": 1]) }
    }

    func testLiteralsAndEquality() {
        let literals: [Value] = [nil, 1, 1.0, true, "a", "\(1 + 1)"]
        XCTAssertEqual(
            literals, [.null, .integer(1), .real(1), .integer(1), .text("a"), .text("2")])
        XCTAssertNotEqual(Value.integer(1), .real(1))
        // The same to the eye, and to String; not the same to SQLite.
        XCTAssertEqual("é", "e\u{301}")
        XCTAssertNotEqual(Value.text("é"), .text("e\u{301}"))
        XCTAssertEqual(Set<Value>(["é", "e\u{301}", "é", 1, 1.0]).count, 4)
        XCTAssertEqual("\([nil, 1, 0.5, "a"] as [Value])", "[NULL, 1, 0.5, a]")
        XCTAssertEqual(Value.blob(Data([0, 255])).description, "x'00ff'")
        XCTAssertEqual(Value.integer(5).int, 5)
        XCTAssertNil(Value.integer(5).double)
        XCTAssertTrue(Value.null.isNull)
    }

    func testRowsAreACollection() async throws {
        let node = try await standalone()
        let results = try await node.executeBatch([
            "CREATE TABLE t(id INTEGER PRIMARY KEY, \"é\" TEXT, \"e\u{301}\" TEXT)",
            Statement("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd') RETURNING id", []),
        ])
        XCTAssertEqual(results.map(\.rowsAffected), [0, 2])
        XCTAssertEqual(results[1].lastInsertRowid, 2)
        XCTAssertEqual(results[1].rows.values, [[1], [2]])
        let rows = try await node.query("SELECT *, id + 10 AS id FROM t ORDER BY 1")
        XCTAssertEqual(rows.columns.count, 4)
        XCTAssertEqual(rows.map { $0["id"] }, [1, 2])
        XCTAssertEqual(rows.last?["é"], "c")
        XCTAssertEqual(rows.last?["e\u{301}"], "d")
        XCTAssertEqual(rows.reversed().map { $0[3] }, [12, 11])
        XCTAssertEqual(try rows.map { try $0.get("id", as: Int.self) }.reduce(0, +), 3)
        let none = try await node.executeBatch([])
        XCTAssertTrue(none.isEmpty)
    }
}

import Foundation

@testable import Quorumlite

/// The format of the conformance cases, as conformance/README.md describes it.
struct Case {
    let name: String
    let file: String
    let skip: String?
    /// The steps, those of `setup` first, for one prefix.
    let steps: (_ prefix: String) throws -> [Step]

    /// All cases, in the order of the files' names, from what Tests/cases.py has written.
    static func load() throws -> [Case] {
        guard let path = ProcessInfo.processInfo.environment["QUORUMLITE_CASES"] else {
            throw FormatError("QUORUMLITE_CASES names no file: use make swift-test")
        }
        let json = try JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: path)))
        guard let files = json as? [String: Any], !files.isEmpty else {
            throw FormatError("no cases")
        }
        var names = Set<String>()
        return try files.sorted { $0.key < $1.key }.flatMap { file, document in
            let document = try Table(document, ["case"], file)
            return try document.list("case").map { raw in
                let keys = ["name", "why", "skip", "since", "uses", "setup", "steps"]
                let table = try Table(raw, keys, file)
                let name: String = try table.get("name")
                guard name.range(of: "^[a-z0-9_]+$", options: .regularExpression) != nil,
                    names.insert(name).inserted
                else { throw FormatError("\(file): \(name): the name is malformed or used twice") }
                let runners = ["sqlite3", "python", "rust", "node", "kotlin", "swift"]
                let skip = try table.find("skip").map { try Table($0, runners, "skip") }
                let loaded = Case(name: name, file: file, skip: try skip?.find("swift")) { prefix in
                    let setup = try (table.find("setup") ?? [] as [String]).map { ["execute": $0] }
                    return try (setup as [Any] + table.list("steps")).map {
                        try Step($0, prefix)
                    }
                }
                do {
                    _ = try loaded.steps("p_")
                } catch let error as FormatError {
                    throw FormatError("\(file): \(name): \(error.message)")
                }
                return loaded
            }
        }
    }
}

struct FormatError: Error, CustomStringConvertible {
    let message: String
    init(_ message: String) { self.message = message }
    var description: String { message }
}

/// A table of which every key is known.
private struct Table {
    let values: [String: Any]

    init(_ raw: Any, _ allowed: [String], _ place: String) throws {
        guard let values = raw as? [String: Any] else {
            throw FormatError("\(place): not a table")
        }
        let unknown = Set(values.keys).subtracting(allowed)
        guard unknown.isEmpty else { throw FormatError("\(place): unknown keys \(unknown)") }
        self.values = values
    }

    func find<T>(_ key: String) throws -> T? {
        guard let raw = values[key] else { return nil }
        guard let value = raw as? T else { throw FormatError("\(key) has another type") }
        return value
    }

    func get<T>(_ key: String) throws -> T {
        guard let value: T = try find(key) else { throw FormatError("\(key) is missing") }
        return value
    }

    func list(_ key: String) throws -> [Any] { try get(key) }
}

/// One call of a verb, with what must come of it.
struct Step {
    let verb: String
    let calls: [Statement]
    let outcomes: [Outcome]
    let error: (kind: String, code: String)?

    var text: String { "\(verb): \(calls.map(\.sql).joined(separator: "; "))" }

    init(_ raw: Any, _ prefix: String) throws {
        let verbs = ["execute", "execute_batch", "query"]
        let given = (raw as? [String: Any]).map { t in verbs.filter { t[$0] != nil } } ?? []
        guard given.count == 1 else { throw FormatError("a step has one verb, not \(given)") }
        verb = given[0]
        let results = ["columns", "rows"]
        let counts = ["rows_affected", "last_insert_rowid"]
        let table: Table
        if verb == "execute_batch" {
            table = try Table(raw, [verb, "results", "error"], "step")
            calls = try table.list(verb).map {
                let call = try Table($0, ["sql", "params"], "statement")
                return try Step.call(call.get("sql"), call.find("params"), prefix)
            }
            let expected: [Any] = try table.find("results") ?? calls.map { _ in [String: Any]() }
            outcomes = try expected.map {
                try Outcome(Table($0, results + counts, "result"), prefix)
            }
            guard outcomes.count == calls.count else {
                throw FormatError("as many results as statements")
            }
        } else {
            let more = verb == "execute" ? counts : []
            table = try Table(raw, [verb, "params", "error"] + results + more, "step")
            calls = [try Step.call(table.get(verb), table.find("params"), prefix)]
            outcomes = [try Outcome(table, prefix)]
        }
        error = try table.find("error").map { (raw: Any) in
            let error = try Table(raw, ["kind", "code"], "error")
            return (kind: try error.get("kind"), code: try error.get("code"))
        }
        if let error {
            let kinds = ["Sql", "Constraint", "Forbidden", "Busy", "Config"]
            guard kinds.contains(error.kind),
                error.code.range(of: "^[A-Z][A-Z0-9_]*$", options: .regularExpression) != nil
            else { throw FormatError("not an error") }
            guard outcomes.allSatisfy(\.isEmpty) else {
                throw FormatError("a step expects an error or a result, not both")
            }
        }
    }

    private static func call(_ sql: String, _ params: Any?, _ prefix: String) throws -> Statement {
        let sql = sql.replacingOccurrences(of: "{p}", with: prefix)
        switch params {
        case nil: return Statement(sql)
        case let list as [Any]:
            return Statement(sql, .positional(try list.map { try Value(encoded: $0, prefix) }))
        case let names as [String: Any]:
            return Statement(sql, .named(try names.mapValues { try Value(encoded: $0, prefix) }))
        default: throw FormatError("params is neither a list nor a table")
        }
    }
}

/// What one statement must give; what is nil is not compared.
struct Outcome {
    var columns: [String]?
    var rows: [[Value]]?
    var rowsAffected: Int?
    var lastInsertRowid: Int64?

    var isEmpty: Bool {
        columns == nil && rows == nil && rowsAffected == nil && lastInsertRowid == nil
    }

    fileprivate init(_ table: Table, _ prefix: String) throws {
        let names: [String]? = try table.find("columns")
        columns = names?.map { $0.replacingOccurrences(of: "{p}", with: prefix) }
        let lists: [[Any]]? = try table.find("rows")
        rows = try lists?.map { try $0.map { try Value(encoded: $0, prefix) } }
        rowsAffected = try table.find("rows_affected")
        lastInsertRowid = try table.find("last_insert_rowid").map { (v: Int) in Int64(v) }
    }

    /// What differs, or nil.
    func difference(_ rows: Rows, _ affected: Int?, _ rowid: Int64?) -> String? {
        // By code points, as values are.
        if let columns, columns.map(Value.text) != rows.columns.map(Value.text) {
            return "columns \(rows.columns) instead of \(columns)"
        }
        if let expected = self.rows {
            if expected.count != rows.count {
                return "\(rows.count) rows instead of \(expected.count): \(rows.values)"
            }
            for (i, (want, got)) in zip(expected, rows.values).enumerated() {
                if want.count != got.count || !zip(want, got).allSatisfy({ $0.isSame(as: $1) }) {
                    return "row \(i) is \(got) instead of \(want)"
                }
            }
        }
        if let rowsAffected, rowsAffected != affected {
            return "rows_affected \(affected ?? -1) instead of \(rowsAffected)"
        }
        if let lastInsertRowid, lastInsertRowid != rowid {
            return "last_insert_rowid \(rowid ?? -1) instead of \(lastInsertRowid)"
        }
        return nil
    }
}

extension Value {
    /// Equal also in the bits of a REAL.
    fileprivate func isSame(as other: Value) -> Bool {
        if case .real(let a) = self, case .real(let b) = other {
            return a.bitPattern == b.bitPattern
        }
        return self == other
    }

    /// Decodes one value of a case.
    fileprivate init(encoded raw: Any, _ prefix: String) throws {
        var (text, times) = (raw as? String, 1)
        if text == nil {
            let table = try Table(raw, ["repeat", "times"], "value")
            text = try table.get("repeat")
            times = try table.get("times")
            guard text?.hasPrefix("t:") == true || text?.hasPrefix("x:") == true else {
                throw FormatError("only t: and x: can be repeated")
            }
        }
        let whole = (text ?? "").replacingOccurrences(of: "{p}", with: prefix)
        let scalars = whole.unicodeScalars
        guard let colon = scalars.firstIndex(of: ":") else {
            guard whole == "null" else { throw FormatError("not a value: \(whole)") }
            self = .null
            return
        }
        // By scalars: a combining character after the colon belongs to the content.
        let content = String(scalars[scalars.index(after: colon)...])
        func matches(_ pattern: String) -> Bool {
            content.range(of: pattern, options: .regularExpression) != nil
        }
        switch String(scalars[..<colon]) {
        case "i" where matches("^-?[0-9]+$"):
            guard let v = Int64(content) else { throw FormatError("not in 64 bits: \(whole)") }
            self = .integer(v)
        case "r" where ["inf", "-inf", "nan"].contains(content) || matches("^-?[0-9]"):
            guard let v = Double(content) else { throw FormatError("not a number: \(whole)") }
            self = .real(v)
        case "t": self = .text(String(repeating: content, count: times))
        case "x" where matches("^([0-9a-f]{2})*$"):
            let digits = Array(content.utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).map { i in
                UInt8(String(decoding: digits[i...i + 1], as: UTF8.self), radix: 16) ?? 0
            }
            self = .blob(
                (0..<times).reduce(into: Data()) { data, _ in data.append(contentsOf: bytes) })
        default: throw FormatError("not a value: \(whole)")
        }
    }
}

import Foundation
internal import QuorumliteFFI

/// The rows that a query or a RETURNING clause gave: a collection of `Row`.
public struct Rows: Sendable, Hashable {
    /// The names of the columns, in order; a name may occur twice.
    public let columns: [String]
    /// The bare values, row by row.
    public let values: [[Value]]
}

extension Rows: RandomAccessCollection {
    public var startIndex: Int { 0 }
    public var endIndex: Int { values.count }

    /// As in an array, the index must be one of a row.
    public subscript(position: Int) -> Row { Row(columns: columns, values: values[position]) }
}

/// One row: `row[0]` by position, `row["name"]` by name, and `try row.get("name")` as a type of
/// Swift.
public struct Row: Sendable, Hashable {
    /// The names of the columns, in order.
    public let columns: [String]
    /// The values, in the order of the columns.
    public let values: [Value]

    /// As in an array, the index must be one of a column.
    public subscript(column: Int) -> Value { values[column] }

    /// The value of the first column of that name; nil if there is none. A NULL is `Value.null`.
    public subscript(column: String) -> Value? { position(of: column).map { values[$0] } }

    /// The value of the first column of that name, as a type of Swift: `let id: Int = try
    /// row.get("id")`, or `try row.get("name", as: String?.self)` where it may be NULL.
    ///
    /// - Throws: `ColumnError`.
    public func get<T: ValueReadable>(_ column: String, as type: T.Type = T.self) throws -> T {
        guard let position = position(of: column) else {
            throw ColumnError.noSuchColumn(column, columns: columns)
        }
        return try read(position)
    }

    /// The value of a column, counted from 0, as a type of Swift.
    ///
    /// - Throws: `ColumnError`.
    public func get<T: ValueReadable>(_ column: Int, as type: T.Type = T.self) throws -> T {
        guard values.indices.contains(column) else {
            throw ColumnError.noSuchColumn(String(column), columns: columns)
        }
        return try read(column)
    }

    // Not with ==, to which different names that look alike are equal.
    private func position(of column: String) -> Int? {
        columns.firstIndex { $0.utf8.elementsEqual(column.utf8) }
    }

    private func read<T: ValueReadable>(_ position: Int) throws -> T {
        let value = values[position]
        guard let read = T(quorumliteValue: value) else {
            throw ColumnError.notOfType(
                columns[position], type: String(describing: T.self), found: value.typeName)
        }
        return read
    }
}

/// What `Row.get` throws.
public enum ColumnError: Error, Sendable, Hashable {
    case noSuchColumn(String, columns: [String])
    /// The value has another type (`found` as SQLite names it), or does not fit.
    case notOfType(String, type: String, found: String)
}

extension ColumnError: LocalizedError, CustomStringConvertible {
    public var errorDescription: String? { description }

    public var description: String {
        switch self {
        case .noSuchColumn(let name, let columns):
            "there is no column \(name); the columns are \(columns.joined(separator: ", "))"
        case .notOfType(let name, let type, let found):
            "column \(name): this \(found) cannot be read as \(type)"
        }
    }
}

/// What one write did.
public struct ExecuteResult: Sendable, Hashable {
    /// Rows that the statement itself inserted, updated or deleted.
    public let rowsAffected: Int
    /// The rowid of the last row that this statement inserted; 0 where it inserted none.
    public let lastInsertRowid: Int64
    /// The log index at which the write was applied.
    public let index: UInt64
    /// The rows of a RETURNING clause.
    public let rows: Rows
}

extension Rows {
    init(_ rows: QuorumliteFFI.Rows) {
        self.init(columns: rows.columns, values: rows.rows.map { $0.map { Value($0) } })
    }
}

extension ExecuteResult {
    init(_ result: QuorumliteFFI.ExecuteResult) {
        self.init(
            rowsAffected: Int(clamping: result.rowsAffected),
            lastInsertRowid: result.lastInsertRowid,
            index: result.index,
            rows: Rows(result.rows)
        )
    }
}

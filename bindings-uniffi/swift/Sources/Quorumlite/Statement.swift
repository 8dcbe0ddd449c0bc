internal import QuorumliteFFI

/// The parameters of one statement: `["ann", 100, nil]` for `?`, `["name": "ann"]` for `:name`,
/// `@name` or `$name`; from a variable, `Params(list)` and `Params(dictionary)`.
public enum Params: Sendable, Hashable {
    /// In order; as many as the statement has.
    case positional([Value])
    /// By name, without its prefix; every name of the statement, and no other.
    case named([String: Value])

    public init(_ values: [any ValueConvertible]) {
        self = .positional(values.map(\.quorumliteValue))
    }

    public init(_ values: [String: any ValueConvertible]) {
        self = .named(values.mapValues(\.quorumliteValue))
    }
}

extension Params: ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
    public init(arrayLiteral values: (any ValueConvertible)?...) {
        self = .positional(values.map { $0?.quorumliteValue ?? .null })
    }

    /// Of a name that is given twice the last counts.
    public init(dictionaryLiteral values: (String, (any ValueConvertible)?)...) {
        let values = values.map { ($0, $1?.quorumliteValue ?? .null) }
        self = .named(Dictionary(values) { _, last in last })
    }
}

extension Params {
    var native: QuorumliteFFI.Params {
        switch self {
        case .positional(let values): .positional(values: values.map(\.native))
        case .named(let values): .named(values: values.mapValues(\.native))
        }
    }
}

/// One SQL statement with its parameters: `Statement("DELETE FROM t WHERE id = ?", [1])`, or just
/// `"DELETE FROM t"`.
public struct Statement: Sendable, Hashable {
    /// Exactly one SQL statement; a trailing semicolon and comments are fine.
    public var sql: String
    public var params: Params

    public init(_ sql: String, _ params: Params = []) {
        self.sql = sql
        self.params = params
    }
}

extension Statement: ExpressibleByStringLiteral {
    public init(stringLiteral sql: String) { self.init(sql) }
}

extension Statement {
    var native: QuorumliteFFI.Statement { .init(sql: sql, params: params.native) }
}

import Foundation
internal import QuorumliteFFI

/// A value as SQLite stores it. Nothing else is guessed: dates, decimals and the like are whatever
/// the application makes of these.
///
/// Two values are equal if their types and contents are: TEXT by its code points, where Swift's
/// strings are equal already if they look alike.
public enum Value: Sendable {
    case null
    /// A 64-bit signed integer.
    case integer(Int64)
    /// A 64-bit float. SQLite stores NaN as NULL.
    case real(Double)
    case text(String)
    case blob(Data)
}

extension Value {
    /// Whether it is NULL.
    public var isNull: Bool { if case .null = self { true } else { false } }

    /// The integer, if it is one and fits in an `Int`.
    public var int: Int? { int64.flatMap { Int(exactly: $0) } }

    /// The integer, if it is one.
    public var int64: Int64? { if case .integer(let v) = self { v } else { nil } }

    /// The float, if it is a REAL. An INTEGER is none.
    public var double: Double? { if case .real(let v) = self { v } else { nil } }

    /// The text, if it is TEXT.
    public var string: String? { if case .text(let v) = self { v } else { nil } }

    /// The bytes, if it is a BLOB.
    public var data: Data? { if case .blob(let v) = self { v } else { nil } }

    /// The name that SQLite's `typeof()` gives to the type.
    public var typeName: String {
        switch self {
        case .null: "null"
        case .integer: "integer"
        case .real: "real"
        case .text: "text"
        case .blob: "blob"
        }
    }
}

extension Value: Hashable {
    public static func == (a: Value, b: Value) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.integer(let a), .integer(let b)): a == b
        case (.real(let a), .real(let b)): a == b
        case (.text(let a), .text(let b)): a.utf8.elementsEqual(b.utf8)
        case (.blob(let a), .blob(let b)): a == b
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0)
        case .integer(let v): hasher.combine(v)
        case .real(let v): hasher.combine(v)
        // Equal code points are equal strings, so their hashes are equal too.
        case .text(let v): hasher.combine(v)
        case .blob(let v): hasher.combine(v)
        }
    }
}

extension Value: CustomStringConvertible {
    public var description: String {
        switch self {
        case .null: "NULL"
        case .integer(let v): String(v)
        case .real(let v): String(v)
        case .text(let v): v
        case .blob(let v): "x'\(v.map { String(format: "%02x", $0) }.joined())'"
        }
    }
}

extension Value: ExpressibleByNilLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByStringLiteral, ExpressibleByStringInterpolation
{
    public init(nilLiteral: ()) { self = .null }
    public init(integerLiteral v: Int64) { self = .integer(v) }
    public init(floatLiteral v: Double) { self = .real(v) }
    public init(booleanLiteral v: Bool) { self = .integer(v ? 1 : 0) }
    public init(stringLiteral v: String) { self = .text(v) }
}

extension Value {
    init(_ v: QuorumliteFFI.Value) {
        self =
            switch v {
            case .null: .null
            case .integer(let value): .integer(value)
            case .real(let value): .real(value)
            case .text(let value): .text(value)
            case .blob(let value): .blob(value)
            }
    }

    var native: QuorumliteFFI.Value {
        switch self {
        case .null: .null
        case .integer(let v): .integer(value: v)
        case .real(let v): .real(value: v)
        case .text(let v): .text(value: v)
        case .blob(let v): .blob(value: v)
        }
    }
}

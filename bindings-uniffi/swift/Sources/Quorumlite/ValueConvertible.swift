import Foundation

/// A type of Swift that can be bound to a parameter.
///
/// `UInt` and `UInt64` are left out on purpose: SQLite's integers are signed. Say `Int64(exactly:)`,
/// or store text.
public protocol ValueConvertible: Sendable {
    /// The value that is stored.
    var quorumliteValue: Value { get }
}

/// A type of Swift that the value of a column can be read as; see `Row.get`.
public protocol ValueReadable {
    /// Nil where the stored value is of another type or does not fit.
    init?(quorumliteValue value: Value)
}

extension Value: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { self }
    public init(quorumliteValue value: Value) { self = value }
}

/// Integers that always fit in 64 bits with a sign.
public protocol SignedStorable: FixedWidthInteger, ValueConvertible, ValueReadable {}

extension SignedStorable {
    public var quorumliteValue: Value { .integer(Int64(self)) }

    public init?(quorumliteValue value: Value) {
        guard case .integer(let v) = value else { return nil }
        self.init(exactly: v)
    }
}

extension Int: SignedStorable {}
extension Int8: SignedStorable {}
extension Int16: SignedStorable {}
extension Int32: SignedStorable {}
extension Int64: SignedStorable {}
extension UInt8: SignedStorable {}
extension UInt16: SignedStorable {}
extension UInt32: SignedStorable {}

/// Stored as the integers 1 and 0.
extension Bool: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { .integer(self ? 1 : 0) }

    public init?(quorumliteValue value: Value) {
        switch value {
        case .integer(0): self = false
        case .integer(1): self = true
        default: return nil
        }
    }
}

extension Double: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { .real(self) }

    public init?(quorumliteValue value: Value) {
        guard case .real(let v) = value else { return nil }
        self = v
    }
}

extension Float: ValueConvertible {
    public var quorumliteValue: Value { .real(Double(self)) }
}

extension String: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { .text(self) }

    public init?(quorumliteValue value: Value) {
        guard case .text(let v) = value else { return nil }
        self = v
    }
}

extension Substring: ValueConvertible {
    public var quorumliteValue: Value { .text(String(self)) }
}

extension Data: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { .blob(self) }

    public init?(quorumliteValue value: Value) {
        guard case .blob(let v) = value else { return nil }
        self = v
    }
}

extension [UInt8]: ValueConvertible, ValueReadable {
    public var quorumliteValue: Value { .blob(Data(self)) }

    public init?(quorumliteValue value: Value) {
        guard case .blob(let v) = value else { return nil }
        self = [UInt8](v)
    }
}

/// Nil is NULL.
extension Optional: ValueConvertible where Wrapped: ValueConvertible {
    public var quorumliteValue: Value { self?.quorumliteValue ?? .null }
}

extension Optional: ValueReadable where Wrapped: ValueReadable {
    public init?(quorumliteValue value: Value) {
        if case .null = value {
            self = .none
            return
        }
        guard let wrapped = Wrapped(quorumliteValue: value) else { return nil }
        self = .some(wrapped)
    }
}

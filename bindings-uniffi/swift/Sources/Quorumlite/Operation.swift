import Foundation

/// Starts a call of the native half and waits for its outcome, or until the current task is
/// cancelled: then it throws `CancellationError` at once, and the call goes on by itself to its end
/// (UniFFI does not carry a cancellation to Rust, and a write must not be cut in half).
///
/// `cancel` is called when the task is cancelled. What a call gives that nobody waits for any longer
/// goes to `abandoned`.
func detachable<T: Sendable>(
    onCancel cancel: @escaping @Sendable () -> Void = {},
    abandoned: @escaping @Sendable (T) async -> Void = { _ in },
    _ call: @escaping @Sendable () async throws -> T
) async throws -> T {
    let waiting = Waiting<T>()
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            guard waiting.begin(continuation) else {
                // Cancelled before the call: nothing is sent.
                continuation.resume(throwing: CancellationError())
                return
            }
            // Not a child of the current task, so it is not cancelled with it.
            Task {
                let outcome: Result<T, any Error>
                do {
                    outcome = .success(try await call())
                } catch {
                    outcome = .failure(QuorumliteError(any: error))
                }
                if !waiting.end(outcome), case .success(let value) = outcome {
                    await abandoned(value)
                }
            }
        }
    } onCancel: {
        cancel()
        _ = waiting.end(.failure(CancellationError()))
    }
}

/// A continuation that is resumed once, by the outcome or by the cancellation, whichever is first.
private final class Waiting<T: Sendable>: @unchecked Sendable {
    private enum State {
        case notBegun
        case waiting(CheckedContinuation<T, any Error>)
        case ended
    }

    // Guards `state`; never held while a continuation is resumed.
    private let lock = NSLock()
    private var state = State.notBegun

    /// False if it has ended already.
    func begin(_ continuation: CheckedContinuation<T, any Error>) -> Bool {
        lock.withLock {
            guard case .notBegun = state else { return false }
            state = .waiting(continuation)
            return true
        }
    }

    /// Whether this was the first end.
    func end(_ outcome: Result<T, any Error>) -> Bool {
        let before = lock.withLock {
            let before = state
            state = .ended
            return before
        }
        switch before {
        case .notBegun: return true
        case .ended: return false
        case .waiting(let continuation):
            continuation.resume(with: outcome)
            return true
        }
    }
}

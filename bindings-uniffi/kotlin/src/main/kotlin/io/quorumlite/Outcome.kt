// From the native half: outcomes of calls, errors, rows.

package io.quorumlite

import com.sun.jna.CallbackThreadInitializer
import com.sun.jna.Native
import io.quorumlite.ffi.ErrorInfo
import io.quorumlite.ffi.InternalException
import io.quorumlite.ffi.NativeException
import io.quorumlite.ffi.NativeNode
import io.quorumlite.ffi.Value
import io.quorumlite.ffi.closeAll
import io.quorumlite.ffi.uniffiRustFutureContinuationCallbackImpl
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

/** How long the end of the process waits for nodes that are still open, in seconds. */
private const val EXIT_BOUND = 5.0

/** Run once, before the first call of the native half. */
internal val prepared: Unit by lazy {
    // A first call on one thread alone (it closes no node, as none is open): JNA's classes deadlock
    // where two threads initialize them at the same time.
    closeAll(0.0)
    // The runtime's threads stay attached to the JVM, as daemons: attaching for each call is slow.
    Native.setCallbackThreadInitializer(
        uniffiRustFutureContinuationCallbackImpl,
        CallbackThreadInitializer(true, false, "quorumlite"),
    )
    Runtime.getRuntime().addShutdownHook(Thread({ closeAll(EXIT_BOUND) }, "quorumlite-exit"))
}

/**
 * Awaits a call of the native half. It resumes on a thread of the default dispatcher, never on one of
 * the runtime's, which carry the heartbeats; and what goes in and out is converted there.
 */
internal suspend fun <T> outcome(call: suspend () -> T): T =
    try {
        withContext(Dispatchers.Default) {
            try {
                call()
            } catch (e: CancellationException) {
                throw e
            } catch (e: Exception) {
                throw mapped(e)
            }
        }
    } catch (e: QuorumliteException) {
        throw withCaller(e)
    }

/**
 * Where coroutines are debugged, kotlinx.coroutines throws a copy that shows the caller, but only if
 * the caller was suspended. A call may end before: then the caller is on the stack of this thread.
 */
private fun withCaller(e: QuorumliteException): QuorumliteException {
    if (e.cause == null) {
        e.stackTrace += Throwable().stackTrace
    }
    return e
}

/** Like [outcome], for calls that do not wait. */
internal inline fun <T> immediate(call: () -> T): T =
    try {
        call()
    } catch (e: Exception) {
        throw mapped(e)
    }

internal fun closed(): QuorumliteException =
    QuorumliteException.Closed(
        "the node is closed; open the directory again to go on",
        "CLOSED",
        false,
        null,
        null,
    )

private fun mapped(e: Throwable): Throwable =
    when (e) {
        is NativeException -> mapped(e)
        is InternalException ->
            QuorumliteException.Internal(
                "an internal error ended this call: ${e.message}",
                "INTERNAL_PANIC",
                false,
                null,
                null,
            )
        // The native half is gone already.
        is IllegalStateException -> closed()
        else -> e
    }

private fun mapped(e: NativeException): QuorumliteException =
    when (e) {
        is NativeException.Sql -> make(e.info, QuorumliteException::Sql)
        is NativeException.Constraint -> make(e.info, QuorumliteException::Constraint)
        is NativeException.Conflict -> make(e.info, QuorumliteException::Conflict)
        is NativeException.Unavailable -> make(e.info, QuorumliteException::Unavailable)
        is NativeException.Timeout -> make(e.info, QuorumliteException::Timeout)
        is NativeException.Busy -> make(e.info, QuorumliteException::Busy)
        is NativeException.Config -> make(e.info, QuorumliteException::Config)
        is NativeException.Corruption -> make(e.info, QuorumliteException::Corruption)
        is NativeException.Closed -> make(e.info, QuorumliteException::Closed)
        is NativeException.Forbidden -> make(e.info, QuorumliteException::Forbidden)
        is NativeException.Internal -> make(e.info, QuorumliteException::Internal)
    }

private fun make(
    i: ErrorInfo,
    kind: (String, String, Boolean, String?, Int?) -> QuorumliteException,
): QuorumliteException = kind(i.message, i.code, i.retryable, i.leader, i.sqliteCode)

internal fun rows(from: io.quorumlite.ffi.Rows): Rows {
    val columns = from.columns
    return Rows(columns, from.rows.map { row -> Row(columns, row.map(::plain)) })
}

private fun plain(v: Value): Any? =
    when (v) {
        is Value.Null -> null
        is Value.Integer -> v.value
        is Value.Real -> v.value
        is Value.Text -> v.value
        is Value.Blob -> v.value
    }

internal fun result(from: io.quorumlite.ffi.ExecuteResult): ExecuteResult =
    ExecuteResult(
        from.rowsAffected.toLong(),
        from.lastInsertRowid,
        from.index.toLong(),
        rows(from.rows),
    )

internal fun member(m: io.quorumlite.ffi.Member): Member =
    Member(m.nodeId, m.address, role(m.role), m.reachable, m.appliedIndex?.toLong())

private fun role(r: io.quorumlite.ffi.Role): Role =
    when (r) {
        io.quorumlite.ffi.Role.VOTER -> Role.VOTER
        io.quorumlite.ffi.Role.LEARNER -> Role.LEARNER
    }

internal fun status(s: io.quorumlite.ffi.Status): Status =
    Status(
        nodeId = s.nodeId,
        clusterId = s.clusterId,
        role = role(s.role),
        state = s.state,
        leaderId = s.leaderId,
        term = s.term.toLong(),
        lastLogIndex = s.lastLogIndex.toLong(),
        commitIndex = s.commitIndex.toLong(),
        appliedIndex = s.appliedIndex.toLong(),
        durableIndex = s.durableIndex.toLong(),
        purgedIndex = s.purgedIndex.toLong(),
        logBytes = s.logBytes.toLong(),
        address = s.address,
        lastRefusal = s.lastRefusal,
        checkedIndex = s.checkedIndex.toLong(),
        divergence = s.divergence,
        clockWarning = s.clockWarning,
        applyLevel = s.applyLevel.toInt(),
        fingerprint = s.fingerprint,
        halted = s.halted?.let { Halted(it.index.toLong(), it.attempts.toInt(), it.reason) },
        snapshot =
            s.snapshot?.let {
                SnapshotProgress(
                    it.totalBytes.toLong(),
                    it.presentBytes.toLong(),
                    it.receivedBytes.toLong(),
                )
            },
        members = s.members.map(::member),
    )

/** Opens; where nobody waits any longer, what has been opened is closed again. */
internal suspend fun openNative(config: io.quorumlite.ffi.Config): NativeNode {
    var opened: NativeNode? = null
    try {
        return outcome { io.quorumlite.ffi.openNode(config).also { opened = it } }
    } catch (e: CancellationException) {
        // Without waiting: the destructor closes in the background.
        opened?.destroy()
        throw e
    }
}

package io.quorumlite

import io.quorumlite.ffi.NativeNode
import io.quorumlite.ffi.ReadOptions
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.time.Duration

/**
 * A member of a cluster, or a standalone database, inside this process; made by [Quorumlite.open].
 * Safe for use by any number of coroutines and threads.
 *
 * A call whose coroutine is cancelled returns at once. It is abandoned, not undone: **cancelled does
 * not mean not written**. The same goes for timeouts.
 *
 * Parameters are given as arguments, as a `List` or, for named ones, as a `Map`; [Statement] says what
 * they may be. A `timeout` that is left out is the node's.
 */
public class Node internal constructor(private val native: NativeNode) : AutoCloseable {
    private val closing = AtomicBoolean()

    private fun open(): NativeNode {
        if (closing.get()) throw closed()
        return native
    }

    /**
     * Runs one write on the cluster, from whichever node, and returns when it is committed. It is
     * retried through a change of leader within the timeout, and never applied twice.
     */
    public suspend fun execute(
        sql: String,
        vararg params: Any?,
        timeout: Duration? = null,
    ): ExecuteResult = execute(Statement(sql, params.asList()), timeout)

    /** Runs one write, with positional parameters. */
    public suspend fun execute(
        sql: String,
        params: List<Any?>,
        timeout: Duration? = null,
    ): ExecuteResult = execute(Statement(sql, params), timeout)

    /** Runs one write, with named parameters. */
    public suspend fun execute(
        sql: String,
        params: Map<String, Any?>,
        timeout: Duration? = null,
    ): ExecuteResult = execute(Statement(sql, params), timeout)

    private suspend fun execute(s: Statement, timeout: Duration?): ExecuteResult {
        val (statement, seconds) = statement(s) to seconds(timeout, "timeout")
        val native = open()
        return outcome { result(native.execute(statement, seconds)) }
    }

    /** Runs several statements as one write, all or nothing, with a result for each. */
    public suspend fun executeBatch(
        statements: List<Statement>,
        timeout: Duration? = null,
    ): List<ExecuteResult> {
        val (checked, seconds) = statements(statements) to seconds(timeout, "timeout")
        val native = open()
        return outcome { native.executeBatch(checked, seconds).map(::result) }
    }

    /**
     * Reads.
     *
     * @param consistency how fresh the answer must be; by default the node's level.
     * @param maxStaleness no answer ([QuorumliteException.Unavailable]) if the data of this node
     *   is older; for [Consistency.NONE] and [Consistency.SESSION].
     */
    public suspend fun query(
        sql: String,
        vararg params: Any?,
        consistency: Consistency? = null,
        maxStaleness: Duration? = null,
        timeout: Duration? = null,
    ): Rows = query(Statement(sql, params.asList()), consistency, maxStaleness, timeout)

    /** Reads, with positional parameters. */
    public suspend fun query(
        sql: String,
        params: List<Any?>,
        consistency: Consistency? = null,
        maxStaleness: Duration? = null,
        timeout: Duration? = null,
    ): Rows = query(Statement(sql, params), consistency, maxStaleness, timeout)

    /** Reads, with named parameters. */
    public suspend fun query(
        sql: String,
        params: Map<String, Any?>,
        consistency: Consistency? = null,
        maxStaleness: Duration? = null,
        timeout: Duration? = null,
    ): Rows = query(Statement(sql, params), consistency, maxStaleness, timeout)

    private suspend fun query(
        s: Statement,
        consistency: Consistency?,
        maxStaleness: Duration?,
        timeout: Duration?,
    ): Rows {
        val statement = statement(s)
        val options =
            ReadOptions(
                consistency?.let(::level),
                seconds(maxStaleness, "maxStaleness"),
                seconds(timeout, "timeout"),
            )
        val native = open()
        return outcome { rows(native.query(statement, options)) }
    }

    /** Tells what this node knows about itself and its cluster; never waits. */
    public fun status(): Status {
        val native = open()
        return immediate { status(native.status()) }
    }

    /** Lists the members of the cluster, each asked whether it answers. */
    public suspend fun members(): List<Member> {
        val native = open()
        return outcome { native.members().map(::member) }
    }

    /** Waits until some node leads, and returns its id. */
    public suspend fun waitForLeader(timeout: Duration? = null): String {
        val seconds = seconds(timeout, "timeout")
        val native = open()
        return outcome { native.waitForLeader(seconds) }
    }

    /** Hands leadership to another voter, and returns when it leads. */
    public suspend fun transferLeadership(nodeId: String, timeout: Duration? = null) {
        val (id, seconds) = text(nodeId, "nodeId") to seconds(timeout, "timeout")
        val native = open()
        outcome { native.transferLeadership(id, seconds) }
    }

    /** Removes a member from the cluster. Removing what is no member is harmless. */
    public suspend fun removeMember(nodeId: String, timeout: Duration? = null) {
        val (id, seconds) = text(nodeId, "nodeId") to seconds(timeout, "timeout")
        val native = open()
        outcome { native.removeMember(id, seconds) }
    }

    /**
     * Takes back, on all nodes, the commands at the log index [index] of [Status.halted], which no node
     * could apply. [force] leaves out what the other members say that they have applied. Returns when
     * this node has gone on beyond it.
     */
    public suspend fun voidCommand(index: Long, force: Boolean = false, timeout: Duration? = null) {
        val seconds = seconds(timeout, "timeout")
        val native = open()
        outcome { native.voidCommand(index.toULong(), force, seconds) }
    }

    /** Tries the command before which this node has halted once more, on this node alone. */
    public suspend fun retryApply(timeout: Duration? = null) {
        val seconds = seconds(timeout, "timeout")
        val native = open()
        outcome { native.retryApply(seconds) }
    }

    /** Lets `CURRENT_TIMESTAMP` go back to the leader's clock, which it was ahead of. */
    public suspend fun resetClock(timeout: Duration? = null) {
        val seconds = seconds(timeout, "timeout")
        val native = open()
        outcome { native.resetClock(seconds) }
    }

    /** Hashes the logical content of the local database: equal on nodes at the same index. */
    public suspend fun contentHash(): ContentHash {
        val native = open()
        return outcome { native.contentHash().let { ContentHash(it.hash, it.index.toLong()) } }
    }

    /** Whether [shutdown] or [close] was called on this handle. */
    public val isClosed: Boolean get() = closing.get()

    /**
     * Stops the node and releases its directory. Again is harmless, and waits for the same end.
     * Another handle on the same directory, from another `open`, goes on working. Cancelled, it goes
     * on closing.
     */
    public suspend fun shutdown() {
        closing.set(true)
        unlessGone { outcome { native.shutdown() } }
        native.destroy()
    }

    /**
     * Like [shutdown], but blocks the calling thread, for at most ten seconds; after that the node
     * goes on closing in the background. For `use { }`. On a thread that must not block (Android's
     * main thread) call [shutdown].
     */
    override fun close() {
        closing.set(true)
        if (unlessGone { immediate { native.closeWithin(CLOSE_BOUND) } } != false) native.destroy()
    }

    /** The native half goes when the node is closed; `null` where that was before. */
    private inline fun <T> unlessGone(close: () -> T): T? =
        try {
            close()
        } catch (_: QuorumliteException.Closed) {
            null
        }

    private companion object {
        /** Seconds. */
        const val CLOSE_BOUND = 10.0
    }
}

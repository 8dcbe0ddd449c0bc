package io.quorumlite

import kotlinx.coroutines.CopyableThrowable
import kotlinx.coroutines.ExperimentalCoroutinesApi

/**
 * Every error of a node; the class says what the caller should do. Wrong arguments are an
 * [IllegalArgumentException] instead.
 *
 * @property code the stable code, such as `SQLITE_CONSTRAINT_UNIQUE` or `NO_LEADER`: see
 *   docs/errors.md.
 * @property retryable whether the same call may succeed later without any change.
 * @property leader the id of the node that leads, where that is known.
 * @property sqliteCode SQLite's extended result code, where SQLite failed.
 */
@OptIn(ExperimentalCoroutinesApi::class)
public sealed class QuorumliteException(
    message: String,
    public val code: String,
    public val retryable: Boolean,
    public val leader: String?,
    public val sqliteCode: Int?,
) : Exception(message), CopyableThrowable<QuorumliteException> {
    /** The name of the kind, the same in every language: the name of the class. */
    public val kind: String get() = javaClass.simpleName

    override fun toString(): String = "QuorumliteException.$kind ($code): $message"

    /** For coroutines in debug mode, which add the caller's frames to the stack trace. */
    override fun createCopy(): QuorumliteException {
        val make: (String, String, Boolean, String?, Int?) -> QuorumliteException =
            when (this) {
                is Sql -> ::Sql
                is Constraint -> ::Constraint
                is Conflict -> ::Conflict
                is Unavailable -> ::Unavailable
                is Timeout -> ::Timeout
                is Busy -> ::Busy
                is Config -> ::Config
                is Corruption -> ::Corruption
                is Closed -> ::Closed
                is Forbidden -> ::Forbidden
                is Internal -> ::Internal
            }
        val copy = make(message.orEmpty(), code, retryable, leader, sqliteCode)
        copy.initCause(this)
        return copy
    }

    /** The statement is wrong, or failed while it ran: fix the statement. */
    public class Sql internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** A UNIQUE, NOT NULL, CHECK, FOREIGN KEY or similar constraint refused the write. */
    public class Constraint internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** Somebody else wrote meanwhile: run the transaction again. */
    public class Conflict internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** There is no leader or no quorum now, or this node has stopped: retry later. */
    public class Unavailable internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** The deadline passed. The code says whether the write may still be applied. */
    public class Timeout internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** A limit was reached: back off, or send less at once. */
    public class Busy internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** An option, a parameter or the way of calling is wrong. */
    public class Config internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** Data on disk is damaged: restore this node from the others. */
    public class Corruption internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** The node was closed. */
    public class Closed internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** The statement cannot be replicated, or the peer may not take part. */
    public class Forbidden internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)

    /** A bug in Quorumlite; please report it. */
    public class Internal internal constructor(m: String, c: String, r: Boolean, l: String?, s: Int?) :
        QuorumliteException(m, c, r, l, s)
}

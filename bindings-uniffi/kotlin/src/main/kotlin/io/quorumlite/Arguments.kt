// Checks arguments and brings them into the shape of the native half. What is wrong is an
// IllegalArgumentException that names the place; nothing is guessed.

package io.quorumlite

import io.quorumlite.ffi.Params
import io.quorumlite.ffi.Value
import kotlin.time.Duration
import kotlin.time.Duration.Companion.days
import kotlin.time.DurationUnit

/** The longest accepted duration, as in the core. */
private val LONGEST = 1.days

/** Text that UTF-8 can hold. */
internal fun text(v: String, place: String): String {
    var i = 0
    while (i < v.length) {
        val c = v[i]
        if (c.isSurrogate()) {
            require(c.isHighSurrogate() && i + 1 < v.length && v[i + 1].isLowSurrogate()) {
                "$place: the text contains a lone surrogate, which UTF-8 cannot hold"
            }
            i++
        }
        i++
    }
    return v
}

internal fun path(v: String, name: String): String {
    require('\u0000' !in v) { "$name must be a path, which cannot contain a NUL character" }
    return text(v, name)
}

/** Seconds; `null` stays `null`. */
internal fun seconds(v: Duration?, name: String): Double? {
    if (v == null) return null
    require(v >= Duration.ZERO && v <= LONGEST) {
        "$name must be a duration from 0 to a day, not $v; leave it out for the default"
    }
    return v.toDouble(DurationUnit.SECONDS)
}

private fun value(v: Any?, place: String): Value =
    when (v) {
        null -> Value.Null
        is Long -> Value.Integer(v)
        is Int -> Value.Integer(v.toLong())
        is String -> Value.Text(text(v, place))
        is Double -> Value.Real(v)
        is ByteArray -> Value.Blob(v)
        is Boolean -> Value.Integer(if (v) 1 else 0)
        is Float -> Value.Real(v.toDouble())
        is Short -> Value.Integer(v.toLong())
        is Byte -> Value.Integer(v.toLong())
        is UInt -> Value.Integer(v.toLong())
        is UShort -> Value.Integer(v.toLong())
        is UByte -> Value.Integer(v.toLong())
        is ULong -> {
            require(v <= Long.MAX_VALUE.toULong()) {
                "$place: $v does not fit in 64 bits with a sign; pass toString() to store it as text"
            }
            Value.Integer(v.toLong())
        }
        else ->
            throw IllegalArgumentException(
                "$place: a value of this class cannot be stored: ${v.javaClass.name}; convert it to " +
                    "null, a Boolean, integer, Double, String or ByteArray first (for example " +
                    "instant.toString())"
            )
    }

private fun params(s: Statement, place: String): Params =
    if (s.named != null) {
        val values = LinkedHashMap<String, Value>()
        for ((name, v) in s.named) {
            // Erased types can be lied about.
            require(name is String) { "${place}the name of a parameter must be a String, not $name" }
            text(name, "${place}the name of a parameter")
            values[name] = value(v, "${place}parameter '$name'")
        }
        Params.Named(values)
    } else {
        Params.Positional(
            s.positional.orEmpty().mapIndexed { i, v -> value(v, "${place}parameter ${i + 1}") }
        )
    }

internal fun statement(s: Statement): io.quorumlite.ffi.Statement =
    io.quorumlite.ffi.Statement(text(s.sql, "sql"), params(s, ""))

internal fun statements(list: List<*>): List<io.quorumlite.ffi.Statement> =
    list.mapIndexed { i, s ->
        require(s is Statement) { "executeBatch takes a list of Statement; item ${i + 1} is none" }
        val place = "statement ${i + 1}"
        io.quorumlite.ffi.Statement(text(s.sql, "$place: sql"), params(s, "$place, "))
    }

internal fun config(c: Config): io.quorumlite.ffi.Config =
    io.quorumlite.ffi.Config(
        dir = path(c.dir, "dir"),
        nodeId = c.nodeId?.let { text(it, "nodeId") },
        listen = c.listen?.let { text(it, "listen") },
        advertise = c.advertise?.let { text(it, "advertise") },
        join =
            (c.join as List<*>).map {
                require(it is String) { "each address in join must be a String, not $it" }
                text(it, "each address in join")
            },
        secret = c.secret?.let { text(it, "secret") },
        ca = c.ca?.let { path(it, "ca") },
        cert = c.cert?.let { path(it, "cert") },
        key = c.key?.let { path(it, "key") },
        insecure = c.insecure,
        role =
            when (c.role) {
                Role.VOTER -> io.quorumlite.ffi.Role.VOTER
                Role.LEARNER -> io.quorumlite.ffi.Role.LEARNER
            },
        timeout = seconds(c.timeout, "timeout"),
        consistency = level(c.consistency),
        maxLogBytes =
            c.maxLogBytes?.let {
                require(it >= 0) { "maxLogBytes must be a number of bytes, not $it" }
                it.toULong()
            },
        checkInterval = seconds(c.checkInterval, "checkInterval"),
    )

internal fun level(c: Consistency): io.quorumlite.ffi.Consistency =
    when (c) {
        Consistency.NONE -> io.quorumlite.ffi.Consistency.NONE
        Consistency.SESSION -> io.quorumlite.ffi.Consistency.SESSION
        Consistency.WEAK -> io.quorumlite.ffi.Consistency.WEAK
        Consistency.LINEARIZABLE -> io.quorumlite.ffi.Consistency.LINEARIZABLE
        Consistency.STRONG -> io.quorumlite.ffi.Consistency.STRONG
    }

package io.quorumlite

/**
 * A statement of a batch, with its parameters: positional for `?`, or named for `:name`, `@name`,
 * `$name` (given without the prefix).
 *
 * A parameter is `null`, a [Boolean] (stored as 0 or 1), an integer (of up to 64 bits, [ULong] as far
 * as it fits), a [Float] or [Double], a [String] or a [ByteArray]. All else is an
 * [IllegalArgumentException] that names the place, thrown by the call.
 *
 * @property sql exactly one SQL statement.
 */
public class Statement private constructor(
    public val sql: String,
    internal val positional: List<*>?,
    internal val named: Map<*, *>?,
) {
    /** With positional parameters, or none. */
    public constructor(sql: String, vararg params: Any?) : this(sql, params.asList(), null)

    /** With positional parameters. */
    public constructor(sql: String, params: List<Any?>) : this(sql, params, null)

    /** With named parameters. */
    public constructor(sql: String, params: Map<String, Any?>) : this(sql, null, params)

    override fun toString(): String = sql
}

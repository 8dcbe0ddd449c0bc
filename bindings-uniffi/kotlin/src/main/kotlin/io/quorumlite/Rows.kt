package io.quorumlite

/**
 * The rows of an answer: a list of [Row], with the columns beside it.
 *
 * @property columns the names of the columns, in order; a name may occur twice.
 */
public class Rows internal constructor(
    public val columns: List<String>,
    private val rows: List<Row>,
) : AbstractList<Row>() {
    override val size: Int get() = rows.size

    override fun get(index: Int): Row = rows[index]
}

/**
 * One row. A value is `null`, a [Long], a [Double], a [String] or a [ByteArray], by its type in
 * SQLite. Columns are named or counted from 0; of two with one name, the name means the first.
 *
 * The typed getters never convert: [long] of a TEXT is an [IllegalStateException] that says so.
 *
 * @property columns the names of the columns, in order.
 */
public class Row internal constructor(
    public val columns: List<String>,
    private val values: List<Any?>,
) {
    /** The value of a column. Throws [IndexOutOfBoundsException] where there is none. */
    public operator fun get(index: Int): Any? {
        if (index !in values.indices) {
            throw IndexOutOfBoundsException("there is no column $index in a row of ${values.size}")
        }
        return values[index]
    }

    /** The value of a column. Throws [NoSuchElementException] where there is none. */
    public operator fun get(column: String): Any? = values[indexOf(column)]

    private fun indexOf(column: String): Int {
        val index = columns.indexOf(column)
        if (index < 0) {
            throw NoSuchElementException(
                "there is no column '$column' in this row; there are ${columns.joinToString()}"
            )
        }
        return index
    }

    private inline fun <reified T : Any> typed(index: Int, type: String): T? {
        val value = get(index) ?: return null
        return value as? T
            ?: throw IllegalStateException(
                "column $index ('${columns[index]}') is ${typeName(value)} in this row, not $type"
            )
    }

    private fun <T : Any> T?.notNull(index: Int, getter: String): T =
        this
            ?: throw IllegalStateException(
                "column $index ('${columns[index]}') is NULL in this row; ${getter}OrNull allows it"
            )

    /** An INTEGER. */
    public fun long(index: Int): Long = longOrNull(index).notNull(index, "long")

    /** An INTEGER. */
    public fun long(column: String): Long = long(indexOf(column))

    /** An INTEGER or NULL. */
    public fun longOrNull(index: Int): Long? = typed<Long>(index, "an INTEGER")

    /** An INTEGER or NULL. */
    public fun longOrNull(column: String): Long? = longOrNull(indexOf(column))

    /** An INTEGER of 32 bits; a larger one is an [IllegalStateException]. */
    public fun int(index: Int): Int = intOrNull(index).notNull(index, "int")

    /** An INTEGER of 32 bits; a larger one is an [IllegalStateException]. */
    public fun int(column: String): Int = int(indexOf(column))

    /** An INTEGER of 32 bits or NULL. */
    public fun intOrNull(index: Int): Int? {
        val value = longOrNull(index) ?: return null
        check(value in Int.MIN_VALUE..Int.MAX_VALUE) {
            "column $index ('${columns[index]}') is $value in this row, beyond 32 bits; use long"
        }
        return value.toInt()
    }

    /** An INTEGER of 32 bits or NULL. */
    public fun intOrNull(column: String): Int? = intOrNull(indexOf(column))

    /** An INTEGER as SQLite's truth: every number but 0 is true. */
    public fun boolean(index: Int): Boolean = booleanOrNull(index).notNull(index, "boolean")

    /** An INTEGER as SQLite's truth: every number but 0 is true. */
    public fun boolean(column: String): Boolean = boolean(indexOf(column))

    /** An INTEGER as SQLite's truth, or NULL. */
    public fun booleanOrNull(index: Int): Boolean? = longOrNull(index)?.let { it != 0L }

    /** An INTEGER as SQLite's truth, or NULL. */
    public fun booleanOrNull(column: String): Boolean? = booleanOrNull(indexOf(column))

    /** A REAL. */
    public fun double(index: Int): Double = doubleOrNull(index).notNull(index, "double")

    /** A REAL. */
    public fun double(column: String): Double = double(indexOf(column))

    /** A REAL or NULL. */
    public fun doubleOrNull(index: Int): Double? = typed<Double>(index, "a REAL")

    /** A REAL or NULL. */
    public fun doubleOrNull(column: String): Double? = doubleOrNull(indexOf(column))

    /** A TEXT. */
    public fun string(index: Int): String = stringOrNull(index).notNull(index, "string")

    /** A TEXT. */
    public fun string(column: String): String = string(indexOf(column))

    /** A TEXT or NULL. */
    public fun stringOrNull(index: Int): String? = typed<String>(index, "a TEXT")

    /** A TEXT or NULL. */
    public fun stringOrNull(column: String): String? = stringOrNull(indexOf(column))

    /** A BLOB. */
    public fun bytes(index: Int): ByteArray = bytesOrNull(index).notNull(index, "bytes")

    /** A BLOB. */
    public fun bytes(column: String): ByteArray = bytes(indexOf(column))

    /** A BLOB or NULL. */
    public fun bytesOrNull(index: Int): ByteArray? = typed<ByteArray>(index, "a BLOB")

    /** A BLOB or NULL. */
    public fun bytesOrNull(column: String): ByteArray? = bytesOrNull(indexOf(column))

    /** The values in the order of the columns. */
    public fun toList(): List<Any?> = values

    /** The values by column; of two columns with one name, the first. */
    public fun toMap(): Map<String, Any?> {
        val map = LinkedHashMap<String, Any?>()
        columns.forEachIndexed { i, column -> if (column !in map) map[column] = values[i] }
        return map
    }

    /** The first column: `val (id, name) = row`. */
    public operator fun component1(): Any? = get(0)

    /** The second column. */
    public operator fun component2(): Any? = get(1)

    /** The third column. */
    public operator fun component3(): Any? = get(2)

    /** The fourth column. */
    public operator fun component4(): Any? = get(3)

    /** The fifth column. */
    public operator fun component5(): Any? = get(4)

    /** Equal columns with equal values; BLOBs by their bytes. */
    override fun equals(other: Any?): Boolean =
        other is Row &&
            columns == other.columns &&
            values.indices.all { i ->
                val (a, b) = values[i] to other.values[i]
                if (a is ByteArray && b is ByteArray) a.contentEquals(b) else a == b
            }

    override fun hashCode(): Int =
        values.fold(columns.hashCode()) { hash, v ->
            31 * hash + ((v as? ByteArray)?.contentHashCode() ?: v.hashCode())
        }

    override fun toString(): String =
        columns.indices.joinToString(prefix = "{", postfix = "}") { i ->
            val v = values[i]
            "${columns[i]}=" + if (v is ByteArray) "${v.size} bytes" else v
        }
}

private fun typeName(value: Any): String =
    when (value) {
        is Long -> "an INTEGER"
        is Double -> "a REAL"
        is String -> "a TEXT"
        else -> "a BLOB"
    }

/**
 * What one write did.
 *
 * @property rowsAffected rows that the statement itself inserted, updated or deleted.
 * @property lastInsertRowid the rowid of the last row that this command inserted; 0 where none was.
 * @property index the log index at which the write was applied.
 * @property rows the rows of a RETURNING clause.
 */
public data class ExecuteResult(
    val rowsAffected: Long,
    val lastInsertRowid: Long,
    val index: Long,
    val rows: Rows,
)

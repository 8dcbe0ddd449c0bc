package io.quorumlite

import java.math.BigDecimal
import java.math.BigInteger
import java.nio.file.Path
import java.time.Instant
import java.util.Date
import kotlin.time.Duration.Companion.seconds
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

internal class ValuesTest {
    @TempDir lateinit var dir: Path

    @Test
    fun `what each value binds as, and comes back as`() = test {
        val cases =
            listOf(
                Triple(null, null, "null"),
                Triple(true, 1L, "integer"),
                Triple(false, 0L, "integer"),
                Triple(0, 0L, "integer"),
                Triple(Int.MIN_VALUE, Int.MIN_VALUE.toLong(), "integer"),
                Triple(Long.MAX_VALUE, Long.MAX_VALUE, "integer"),
                Triple(Long.MIN_VALUE, Long.MIN_VALUE, "integer"),
                Triple((1L shl 53) + 1, (1L shl 53) + 1, "integer"),
                Triple(Short.MIN_VALUE, -32768L, "integer"),
                Triple(Byte.MIN_VALUE, -128L, "integer"),
                Triple(UByte.MAX_VALUE, 255L, "integer"),
                Triple(UShort.MAX_VALUE, 65535L, "integer"),
                Triple(UInt.MAX_VALUE, 4294967295L, "integer"),
                Triple(Long.MAX_VALUE.toULong(), Long.MAX_VALUE, "integer"),
                Triple(1.0, 1.0, "real"),
                Triple(-0.0, -0.0, "real"),
                Triple(0.1f, 0.1f.toDouble(), "real"),
                Triple(Double.MAX_VALUE, Double.MAX_VALUE, "real"),
                Triple(Double.MIN_VALUE, Double.MIN_VALUE, "real"),
                Triple(Double.POSITIVE_INFINITY, Double.POSITIVE_INFINITY, "real"),
                Triple(Double.NEGATIVE_INFINITY, Double.NEGATIVE_INFINITY, "real"),
                Triple(Double.NaN, null, "null"),
                Triple("", "", "text"),
                Triple("a\u0000b", "a\u0000b", "text"),
                Triple("größe 😀", "größe 😀", "text"),
                Triple(byteArrayOf(), byteArrayOf(), "blob"),
                Triple(byteArrayOf(0, -1), byteArrayOf(0, -1), "blob"),
            )
        standalone(dir) { node ->
            for ((given, back, type) in cases) {
                val row = node.query("SELECT ?1, typeof(?1)", given)[0]
                if (back is ByteArray) {
                    assertArrayEquals(back, row.bytes(0))
                } else {
                    // Boxed doubles are equal by their bits.
                    assertEquals(back, row[0], "$given")
                }
                assertEquals(type, row[1], "$given")
            }
        }
    }

    @Test
    fun `what cannot be stored is an IllegalArgumentException that names the place`() = test {
        val wrong =
            listOf<Any>(
                'c',
                Date(0),
                Instant.EPOCH,
                BigInteger.ONE,
                BigDecimal.ONE,
                listOf(1),
                mapOf("a" to 1),
                arrayOf(1),
                intArrayOf(1),
                StringBuilder("s"),
                Unit,
                1.seconds,
                { 1 },
                Any(),
                Role.VOTER,
            )
        standalone(dir) { node ->
            for (v in wrong) {
                for ((place, call) in
                    listOf<Pair<String, suspend () -> Unit>>(
                        "parameter 2: " to { node.query("SELECT ?, ?", 1, v) },
                        "parameter 2: " to { node.execute("SELECT ?, ?", listOf(1, v)) },
                        "parameter 'a': " to { node.execute("SELECT :a", mapOf("a" to v)) },
                        "statement 2, parameter 1: " to
                            {
                                val second = Statement("SELECT ?", listOf(v))
                                node.executeBatch(listOf(Statement("SELECT 1"), second))
                            },
                    )) {
                    val e = thrown<IllegalArgumentException> { call() }
                    assertTrue(e.message.orEmpty().startsWith(place), "$v: $e")
                }
            }
            for (v in listOf(ULong.MAX_VALUE, "\ud800", "a\udc00", "\ud800\ud800\udc00")) {
                val e = thrown<IllegalArgumentException> { node.query("SELECT ?", v) }
                assertTrue(e.message.orEmpty().startsWith("parameter 1: "), e.toString())
            }
            thrown<IllegalArgumentException> { node.query("SELECT '\ud800'") }
            thrown<IllegalArgumentException> { node.query("SELECT :a", mapOf("\ud800" to 1)) }
            // Types that were lied about.
            @Suppress("UNCHECKED_CAST")
            val names = mapOf(1 to 1) as Map<String, Any?>
            thrown<IllegalArgumentException> { node.query("SELECT 1", names) }
            @Suppress("UNCHECKED_CAST") val batch = listOf("SELECT 1") as List<Statement>
            val e = thrown<IllegalArgumentException> { node.executeBatch(batch) }
            assertEquals("executeBatch takes a list of Statement; item 1 is none", e.message)
        }
    }

    @Test
    fun `parameters as arguments, a list, a map, none`() = test {
        standalone(dir) { node ->
            assertEquals(listOf<Any?>(1L, "x"), node.query("SELECT ?, ?", 1, "x")[0].toList())
            assertEquals(listOf<Any?>(1L, "x"), node.query("SELECT ?, ?", listOf(1, "x"))[0].toList())
            val named = mapOf("b" to "x", "a" to 1)
            assertEquals(listOf<Any?>(1L, "x"), node.query("SELECT :a, @b", named)[0].toList())
            assertEquals(listOf<Any?>(null), node.query("SELECT ?", null)[0].toList())
            assertEquals(1, node.query("SELECT 1", emptyMap()).size)
            val array = arrayOf<Any?>(1, 2)
            assertEquals(listOf<Any?>(1L, 2L), node.query("SELECT ?, ?", *array)[0].toList())
            val e = thrown<QuorumliteException.Sql> { node.query("SELECT ?") }
            assertEquals("SQL_PARAMETERS", e.code)
        }
    }

    @Test
    fun `rows by index, by name, typed`() = test {
        standalone(dir) { node ->
            val rows = node.query("SELECT 1 AS a, 2 AS a, 'x' AS t, 1.5 AS r, x'00ff' AS b, NULL AS n")
            assertEquals(listOf("a", "a", "t", "r", "b", "n"), rows.columns)
            val row = rows.single()
            assertEquals(row, rows[0])
            assertEquals(listOf(1L, 1L, 2L), listOf(row["a"], row[0], row[1]))
            assertEquals(listOf(1L, 1, true), listOf(row.long("a"), row.int(0), row.boolean("a")))
            assertEquals(listOf("x", 1.5), listOf(row.string("t"), row.double("r")))
            assertArrayEquals(byteArrayOf(0, -1), row.bytes("b"))
            assertEquals(
                listOf(null, null, null, null, null, null, null),
                listOf(
                    row["n"],
                    row.longOrNull("n"),
                    row.intOrNull(5),
                    row.booleanOrNull("n"),
                    row.doubleOrNull("n"),
                    row.stringOrNull("n"),
                    row.bytesOrNull("n"),
                ),
            )
            val (one, two, text) = row
            assertEquals(listOf(1L, 2L, "x"), listOf(one, two, text))
            assertEquals(listOf("a", "t", "r", "b", "n"), row.toMap().keys.toList())
            assertEquals(1L, row.toMap()["a"])
            assertEquals("{a=1, a=2, t=x, r=1.5, b=2 bytes, n=null}", row.toString())
            val same = node.query("SELECT 1 AS a, 2 AS a, 'x' AS t, 1.5 AS r, x'00ff' AS b, NULL AS n")
            assertEquals(rows, same)
            assertEquals(rows.hashCode(), same.hashCode())
            assertNotEquals(rows, node.query("SELECT 1 AS a, 2 AS a, 'x' AS t, 1.5 AS r, x'00' AS b, 1 AS n"))

            for ((message, call) in
                listOf<Pair<String, suspend () -> Unit>>(
                    "column 2 ('t') is a TEXT in this row, not an INTEGER" to { row.long("t") },
                    "column 0 ('a') is an INTEGER in this row, not a REAL" to { row.double("a") },
                    "column 0 ('a') is an INTEGER in this row, not a TEXT" to { row.string(0) },
                    "column 3 ('r') is a REAL in this row, not a BLOB" to { row.bytesOrNull("r") },
                    "column 5 ('n') is NULL in this row; longOrNull allows it" to { row.long("n") },
                )) {
                assertEquals(message, thrown<IllegalStateException> { call() }.message)
            }
            val large = node.query("SELECT ? AS v", Int.MAX_VALUE + 1L)[0]
            thrown<IllegalStateException> { large.int("v") }
            thrown<NoSuchElementException> { row["A"] }
            thrown<IndexOutOfBoundsException> { row[6] }
            thrown<IndexOutOfBoundsException> { row.long(-1) }
            val none = node.query("SELECT 1 AS a WHERE 0")
            assertEquals(listOf(0, listOf("a")), listOf(none.size, none.columns))
        }
    }

    @Test
    fun `a hundred thousand rows, and a value of many megabytes`() = test {
        standalone(dir) { node ->
            val rows =
                node.query(
                    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000) " +
                        "SELECT x, 'text ' || x AS t FROM c"
                )
            assertEquals(100_000, rows.size)
            assertEquals(listOf<Any?>(100_000L, "text 100000"), rows.last().toList())
            val bytes = ByteArray(8 shl 20) { 7 }
            val row = node.query("SELECT ?1, length(?1)", bytes)[0]
            assertEquals(bytes.size, row.int(1))
            assertArrayEquals(bytes, row.bytes(0))
        }
    }

    @Test
    fun `a batch is all or nothing`() = test {
        standalone(dir) { node ->
            val results =
                node.executeBatch(
                    listOf(
                        Statement("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)"),
                        Statement("INSERT INTO t(name) VALUES (?)", "ann"),
                        Statement("INSERT INTO t(name) VALUES (:n) RETURNING id", mapOf("n" to "bob")),
                        Statement("SELECT count(*) AS n FROM t"),
                    )
                )
            assertEquals(listOf(0L, 1L, 1L, 0L), results.map { it.rowsAffected })
            assertEquals(listOf<List<Any?>>(listOf(2L)), results[2].rows.lists())
            assertEquals(listOf<List<Any?>>(listOf(2L)), results[3].rows.lists())
            assertEquals(listOf(1L, 2L), results.subList(1, 3).map { it.lastInsertRowid })
            assertEquals(1, results.map { it.index }.toSet().size)
            val twice = Statement("INSERT INTO t VALUES (1, 'x'), (2, 'x')")
            val e = thrown<QuorumliteException.Constraint> { node.executeBatch(listOf(Statement("DELETE FROM t"), twice)) }
            assertEquals(listOf("SQLITE_CONSTRAINT_UNIQUE", 2067), listOf(e.code, e.sqliteCode))
            assertEquals(2L, node.query("SELECT count(*) FROM t")[0].long(0))
            assertEquals(emptyList<ExecuteResult>(), node.executeBatch(emptyList()))
        }
    }
}

package io.quorumlite

import java.nio.file.Path
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

internal class ErrorsTest {
    @TempDir lateinit var dir: Path

    @Test
    fun `each kind is a class, with what is known about it`() = test {
        standalone(dir) { node ->
            val sql = thrown<QuorumliteException.Sql> { node.query("SELEKT") }
            assertEquals(
                listOf("Sql", "SQLITE_ERROR", false, null, 1),
                listOf(sql.kind, sql.code, sql.retryable, sql.leader, sql.sqliteCode),
            )
            assertTrue(sql.message.orEmpty().contains("SELEKT"), sql.message)
            assertEquals("QuorumliteException.Sql (SQLITE_ERROR): ${sql.message}", sql.toString())
            node.execute("CREATE TABLE t(a UNIQUE)")
            node.execute("INSERT INTO t VALUES (1)")
            val constraint = thrown<QuorumliteException.Constraint> { node.execute("INSERT INTO t VALUES (1)") }
            assertEquals(2067, constraint.sqliteCode)
            val forbidden = thrown<QuorumliteException.Forbidden> { node.execute("ATTACH 'x' AS y") }
            assertTrue(!forbidden.retryable)
            val timeout = thrown<QuorumliteException.Timeout> { node.query(ENDLESS, timeout = 50.milliseconds) }
            assertEquals("Timeout", timeout.kind)
            val config = thrown<QuorumliteException.Config> { node.transferLeadership("nobody") }
            assertEquals("Config", config.kind)
        }
    }

    @Test
    fun `the stack trace shows the caller, where coroutines are debugged`() = test {
        standalone(dir) { node ->
            // Often enough that some calls end before their caller is suspended.
            repeat(2_000) {
                val e = thrown<QuorumliteException.Sql> { node.query("SELEKT") }
                assertTrue(
                    e.stackTrace.any { it.className.startsWith("io.quorumlite.ErrorsTest") },
                    e.stackTraceToString(),
                )
            }
        }
    }

    @Test
    fun `without a quorum`() = test {
        cluster(dir) { nodes ->
            val left = nodes.getValue("n3")
            left.execute("CREATE TABLE t(a)")
            nodes.getValue("n1").shutdown()
            nodes.getValue("n2").shutdown()
            val e =
                thrown<QuorumliteException> {
                    left.execute("INSERT INTO t VALUES (1)", timeout = 1.seconds)
                }
            assertTrue(e is QuorumliteException.Unavailable || e is QuorumliteException.Timeout, e.toString())
            assertEquals(0, left.query("SELECT * FROM t", consistency = Consistency.NONE).size)
            val stale =
                thrown<QuorumliteException.Unavailable> {
                    while (true) {
                        left.query(
                            "SELECT * FROM t",
                            consistency = Consistency.NONE,
                            maxStaleness = 1.milliseconds,
                        )
                    }
                }
            assertEquals(listOf("STALE", true), listOf(stale.code, stale.retryable))
        }
    }
}

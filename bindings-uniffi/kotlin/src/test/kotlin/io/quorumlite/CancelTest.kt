package io.quorumlite

import java.nio.file.Path
import kotlin.random.Random
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import kotlin.time.TimeSource
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeoutOrNull
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

internal class CancelTest {
    @TempDir lateinit var dir: Path

    @Test
    fun `a cancelled call returns at once, and the node is whole`() = test {
        standalone(dir) { node ->
            val call = launch(Dispatchers.Default) { node.query(ENDLESS, timeout = 20.seconds) }
            // Under way: it holds a connection of the pool.
            repeat(5) { node.query("SELECT 1") }
            val began = TimeSource.Monotonic.markNow()
            call.cancelAndJoin()
            assertTrue(began.elapsedNow() < 2.seconds, "it took ${began.elapsedNow()}")
            assertEquals(1L, node.query("SELECT 1")[0].long(0))
            assertNull(withTimeoutOrNull(100.milliseconds) { node.query(ENDLESS, timeout = 20.seconds) })
        }
    }

    @Test
    fun `cancelled before it began, nothing is written`() = test {
        standalone(dir) { node ->
            node.execute("CREATE TABLE t(a)")
            val job = launch {
                coroutineContext[kotlinx.coroutines.Job]!!.cancel()
                node.execute("INSERT INTO t VALUES (1)")
            }
            job.join()
            assertTrue(job.isCancelled)
            val rows = node.query("SELECT count(*) FROM t", consistency = Consistency.STRONG)
            assertEquals(0L, rows[0].long(0))
        }
    }

    @Test
    fun `cancelled does not mean not written, and no write is cut in half`() = test {
        standalone(dir) { node ->
            node.execute("CREATE TABLE t(a, b)")
            val random = Random(1)
            val calls =
                List(300) { i ->
                    val pause = random.nextInt(0, 3_000)
                    async(Dispatchers.Default) {
                        val call = async(start = CoroutineStart.UNDISPATCHED) {
                            node.executeBatch(
                                listOf(
                                    Statement("INSERT INTO t VALUES (?, 1)", i),
                                    Statement("INSERT INTO t VALUES (?, 2)", i),
                                )
                            )
                        }
                        // Some while they are under way, however busy the machine is.
                        if (i % 10 != 0) {
                            delay((pause / 1000).milliseconds)
                            repeat(pause % 1000) { yield() }
                        }
                        call.cancel()
                        try {
                            call.await()
                            true
                        } catch (_: CancellationException) {
                            false
                        }
                    }
                }
            val acknowledged = calls.awaitAll()
            // Detached writes may still be on their way: in order of arrival, one after another.
            var before = -1L
            while (true) {
                val now = node.query("SELECT count(*) FROM t", consistency = Consistency.STRONG)[0].long(0)
                if (now == before) break
                before = now
                delay(200.milliseconds)
            }
            val rows = node.query("SELECT a, count(*), sum(b) FROM t GROUP BY a", consistency = Consistency.STRONG)
            assertTrue(rows.all { it.long(1) == 2L && it.long(2) == 3L }, rows.toString())
            val written = rows.map { it.int(0) }.toSet()
            acknowledged.forEachIndexed { i, yes -> if (yes) assertTrue(i in written, "$i was lost") }
            assertTrue(acknowledged.any { !it }, "none was cancelled in time")
        }
    }

    @Test
    fun `opening that is cancelled is given up`() = test {
        val (listen, nobody) = freeAddresses(2)
        val config =
            Config(
                dir.resolve("n").toString(),
                listen = listen,
                join = listOf(nobody),
                secret = "s",
                timeout = 60.seconds,
            )
        val began = TimeSource.Monotonic.markNow()
        assertNull(withTimeoutOrNull(200.milliseconds) { Quorumlite.open(config) })
        assertTrue(began.elapsedNow() < 10.seconds, "it took ${began.elapsedNow()}")
        // The directory and the port are free again, soon.
        val alone = config.copy(join = emptyList())
        while (true) {
            try {
                Quorumlite.open(alone).shutdown()
                break
            } catch (e: QuorumliteException) {
                delay(20.milliseconds)
            }
        }
    }

    @Test
    fun `cancelling while opening never loses a node`() = test {
        repeat(30) { i ->
            val config = Config(dir.resolve("n$i"))
            withTimeoutOrNull((i * 2).milliseconds) { Quorumlite.open(config).shutdown() }
        }
        // None of them is left: what was opened when nobody waited any more has closed itself.
        while (io.quorumlite.ffi.openNodes() != 0UL) {
            System.gc()
            delay(20.milliseconds)
        }
    }

    @Test
    fun `closing that is cancelled goes on`() = test {
        val node = Quorumlite.open(dir.resolve("n").toString())
        launch { node.shutdown() }.cancelAndJoin()
        node.shutdown()
        assertTrue(node.isClosed)
        thrown<QuorumliteException.Closed> { node.query("SELECT 1") }
    }
}

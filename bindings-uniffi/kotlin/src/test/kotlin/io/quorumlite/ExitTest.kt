package io.quorumlite

import java.nio.file.Path
import kotlin.time.Duration.Companion.seconds
import kotlin.time.TimeSource
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** A process whose node was not closed ends, and its writes are there. */
internal class ExitTest {
    @TempDir lateinit var dir: Path

    private fun ends(how: String, status: Int, listen: String = ""): Ended {
        val began = TimeSource.Monotonic.markNow()
        val ended = jvm("io.quorumlite.Exit", how, dir.resolve("n").toString(), listen).run()
        assertEquals(status, ended.status, ended.output)
        assertTrue(began.elapsedNow() < 60.seconds, "the process lived on")
        return ended
    }

    private fun rows(listen: String? = null): Long {
        var count = 0L
        test {
            val node = Quorumlite.open(Config(dir.resolve("n")).copy(listen = listen, secret = listen))
            count = node.query("SELECT count(*) FROM t")[0].long(0)
            node.shutdown()
        }
        return count
    }

    @Test
    fun `at the end of main`() {
        assertEquals("", ends("", 0).output)
        assertEquals(1L, rows())
    }

    @Test
    fun `as a member of a cluster`() {
        val (listen) = freeAddresses(1)
        ends("", 0, listen)
        assertEquals(1L, rows(listen))
    }

    @Test
    fun `with calls in flight`() {
        ends("busy", 7)
        assertTrue(rows() > 1)
    }

    @Test
    fun `by an exception that nobody catches`() {
        val output = ends("exception", 1).output
        assertTrue("QuorumliteException.Sql (SQLITE_ERROR)" in output, output)
        assertEquals(1L, rows())
    }

    @Test
    fun `while a node opens`() {
        assertEquals("", ends("opening", 0, freeAddresses(1)[0]).output)
    }
}

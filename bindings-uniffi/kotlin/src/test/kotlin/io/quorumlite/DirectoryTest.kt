package io.quorumlite

import java.nio.file.Path
import kotlin.time.Duration.Companion.seconds
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

internal class DirectoryTest {
    @TempDir lateinit var dir: Path

    @Test
    fun `the copy that knows most becomes a new cluster`() = test {
        cluster(dir) { nodes ->
            val n1 = nodes.getValue("n1")
            n1.execute("CREATE TABLE t(a)")
            n1.execute("INSERT INTO t VALUES (7)")
            assertNull(n1.status().snapshot)
            thrown<QuorumliteException> { Quorumlite.check(dir.resolve("n1").toString()) }
        }
        val path = dir.resolve("n1").toString()
        val report = Quorumlite.check(path)
        assertTrue(report.ok, report.toString())
        assertEquals("n1", report.nodeId)
        assertEquals(listOf("n1", "n2", "n3"), report.members.map { it.nodeId }.sorted())
        assertTrue(report.lastLogIndex > 0 && report.term > 0, report.toString())
        val recovery = Quorumlite.recoverLostQuorum(path)
        assertEquals(listOf("n2", "n3"), recovery.removed.sorted())
        assertEquals(report.nodeId, recovery.nodeId)
        val (listen) = freeAddresses(1)
        val config = Config(path, listen = listen, secret = "conformance", timeout = 30.seconds)
        Quorumlite.open(config).use { node ->
            assertEquals(7L, node.query("SELECT a FROM t", consistency = Consistency.LINEARIZABLE)[0].long(0))
            assertEquals(recovery.clusterId, node.status().clusterId)
            assertEquals(1, node.members().size)
        }
    }

    @Test
    fun `no data directory`() = test {
        thrown<QuorumliteException> { Quorumlite.check(dir.resolve("nothing").toString()) }
        thrown<QuorumliteException> { Quorumlite.recoverLostQuorum(dir.toString()) }
        thrown<IllegalArgumentException> { Quorumlite.check("a\u0000b") }
    }
}

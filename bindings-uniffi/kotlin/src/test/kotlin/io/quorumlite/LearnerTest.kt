package io.quorumlite

import java.nio.file.Path
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.DisabledOnOs
import org.junit.jupiter.api.condition.OS
import org.junit.jupiter.api.io.TempDir

/** A learner as a process of its own: for each line it reads, it says what it knows. */
internal object Phone {
    @JvmStatic
    fun main(args: Array<String>) = runBlocking {
        val (dir, listen, first) = args
        val config = member(Path.of(dir), "phone", listen, first).copy(role = Role.LEARNER)
        Quorumlite.open(config).use { node ->
            for (line in generateSequence(::readlnOrNull)) {
                val level = Consistency.valueOf(line)
                val rows = node.query("SELECT count(*) FROM t", consistency = level, timeout = 60.seconds)
                println("${rows[0].long(0)} ${node.status().role}")
            }
        }
    }
}

internal class LearnerTest {
    @TempDir lateinit var dir: Path

    @Test
    fun `a learner reads and forwards, and does not vote`() = test {
        val addresses = freeAddresses(2)
        val voter = Quorumlite.open(member(dir, "voter", addresses[0], addresses[0]))
        val asLearner = member(dir, "phone", addresses[1], addresses[0]).copy(role = Role.LEARNER)
        val learner = Quorumlite.open(asLearner)
        assertEquals(listOf(Role.LEARNER, "learner"), learner.status().let { listOf(it.role, it.state) })
        learner.execute("CREATE TABLE t(a)")
        learner.execute("INSERT INTO t VALUES (1)")
        // Its own copy, with what it has written itself.
        assertEquals(1L, learner.query("SELECT count(*) FROM t")[0].long(0))
        thrown<QuorumliteException.Config> { voter.transferLeadership("phone") }
        // Without it the voter goes on; when it comes back it catches up.
        learner.shutdown()
        voter.execute("INSERT INTO t VALUES (2)")
        val again = Quorumlite.open(asLearner)
        val linearizable = again.query("SELECT a FROM t ORDER BY a", consistency = Consistency.LINEARIZABLE)
        assertEquals(listOf(listOf<Any?>(1L), listOf<Any?>(2L)), linearizable.lists())
        assertEquals(Role.LEARNER, voter.members().single { it.nodeId == "phone" }.role)
        again.shutdown()
        voter.shutdown()
    }

    @Test
    @DisabledOnOs(OS.WINDOWS, disabledReason = "has no SIGSTOP")
    fun `a learner that was suspended catches up, and disturbs nobody`() = test {
        cluster(dir) { nodes ->
            val n1 = nodes.getValue("n1")
            n1.execute("CREATE TABLE t(a)")
            val before = n1.status().let { it.leaderId to it.term }
            val (listen) = freeAddresses(1)
            // Where the parent dies, its input ends, and so does it.
            val phone =
                jvm("io.quorumlite.Phone", dir.toString(), listen, n1.status().address!!)
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start()
            suspend fun ask(line: String): String =
                withContext(Dispatchers.IO) {
                    phone.outputWriter().run {
                        write("$line\n")
                        flush()
                    }
                    phone.inputReader().readLine()
                }
            try {
                assertEquals("0 LEARNER", ask("LINEARIZABLE"))
                signal("STOP", phone.pid())
                // Stopped for so long that the others have noticed.
                var i = 0
                while (n1.members().single { it.nodeId == "phone" }.reachable == true) {
                    n1.execute("INSERT INTO t VALUES (?)", i++)
                }
                repeat(200) { n1.execute("INSERT INTO t VALUES (?)", i++) }
                // Longer than any election timeout.
                delay(5.seconds)
                signal("CONT", phone.pid())
                assertEquals("$i LEARNER", ask("LINEARIZABLE"))
                assertEquals("$i LEARNER", ask("NONE"))
                n1.execute("INSERT INTO t VALUES (?)", i)
                assertEquals(before, n1.status().let { it.leaderId to it.term })
                assertEquals(true, n1.members().single { it.nodeId == "phone" }.reachable)
            } finally {
                signal("CONT", phone.pid())
                phone.outputStream.close()
                withContext(Dispatchers.IO) { assertEquals(0, phone.waitFor()) }
            }
        }
    }

    private fun signal(name: String, pid: Long) {
        assertEquals(0, ProcessBuilder("kill", "-$name", "$pid").run().status)
    }
}

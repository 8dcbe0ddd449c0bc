// Shared by the tests: directories, ports, clusters, other processes.

package io.quorumlite

import java.io.IOException
import java.net.InetAddress
import java.net.ServerSocket
import java.nio.file.Path
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger
import kotlin.io.path.createTempFile
import kotlin.io.path.deleteIfExists
import kotlin.io.path.readText
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.fail

/** The folder of the repository. */
internal val REPOSITORY: Path by lazy {
    Path.of(System.getProperty("quorumlite.repository")).normalize()
}

internal const val ENDLESS =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

/** Runs a test that suspends; nothing here takes as long as the bound. */
internal fun test(body: suspend CoroutineScope.() -> Unit) {
    runBlocking { withTimeout(5.minutes) { body() } }
}

/** A standalone node for [body]. */
internal suspend fun standalone(dir: Path, body: suspend (Node) -> Unit) {
    val node = Quorumlite.open(Config(dir.resolve("n")).copy(timeout = 30.seconds))
    try {
        body(node)
    } finally {
        node.shutdown()
    }
}

private val candidate = AtomicInteger((ProcessHandle.current().pid() * 61 % 20_000).toInt())

/**
 * Addresses on loopback that nobody uses. Their ports are below those that systems give to outgoing
 * connections, one of which might take one before the node does.
 */
internal fun freeAddresses(count: Int): List<String> =
    generateSequence { 12_000 + candidate.getAndIncrement() % 20_000 }
        .filter { port ->
            try {
                ServerSocket(port, 1, InetAddress.getLoopbackAddress()).close()
                true
            } catch (e: IOException) {
                false
            }
        }
        .take(count)
        .map { "127.0.0.1:$it" }
        .toList()

/** Three nodes in this process for [body], by id, n1 being the first. */
internal suspend fun cluster(dir: Path, body: suspend (Map<String, Node>) -> Unit) {
    val addresses = freeAddresses(3)
    val nodes = LinkedHashMap<String, Node>()
    try {
        addresses.forEachIndexed { i, listen ->
            val id = "n${i + 1}"
            nodes[id] = Quorumlite.open(member(dir, id, listen, addresses[0]))
        }
        body(nodes)
    } finally {
        nodes.values.forEach { it.shutdown() }
    }
}

/** The configuration of a member; the one whose address is [first] starts the cluster. */
internal fun member(dir: Path, id: String, listen: String, first: String): Config =
    Config(
        dir.resolve(id).toString(),
        nodeId = id,
        listen = listen,
        join = if (listen == first) emptyList() else listOf(first),
        secret = "conformance",
        timeout = 30.seconds,
    )

/** The content of the rows. */
internal fun Rows.lists(): List<List<Any?>> = map(Row::toList)

/** What [body] throws. */
internal suspend inline fun <reified T : Throwable> thrown(body: suspend () -> Unit): T {
    val caught =
        try {
            body()
            null
        } catch (e: Throwable) {
            e
        }
    assertNotNull(caught, "nothing was thrown")
    return caught as? T ?: fail("${T::class.simpleName} was expected, not $caught", caught)
}

/** How a process ended. */
internal data class Ended(val status: Int, val output: String)

/** Starts a JVM with the tests' own class path. */
internal fun jvm(main: String, vararg args: String, options: List<String> = emptyList()): ProcessBuilder {
    val java = Path.of(System.getProperty("java.home"), "bin", "java").toString()
    val path = System.getProperty("java.class.path")
    return ProcessBuilder(listOf(java, "-Xmx256m") + options + listOf("-cp", path, main) + args)
}

/** Runs a process to its end. */
internal fun ProcessBuilder.run(minutes: Long = 2): Ended {
    val output = createTempFile("quorumlite-output")
    try {
        redirectErrorStream(true)
        redirectOutput(output.toFile())
        val process = start()
        if (!process.waitFor(minutes, TimeUnit.MINUTES)) {
            process.destroyForcibly().waitFor()
            fail<Unit>("the process did not end: ${output.readText()}")
        }
        return Ended(process.exitValue(), output.readText())
    } finally {
        output.deleteIfExists()
    }
}

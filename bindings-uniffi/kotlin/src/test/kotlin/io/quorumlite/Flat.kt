// Opens and closes, and calls, many times; memory and file descriptors must stay flat. Prints the
// figures. A program of its own: FlatTest runs it, and `make kotlin-flat` for long.

package io.quorumlite

import java.lang.management.ManagementFactory
import java.nio.file.Files
import java.nio.file.Path
import kotlin.io.path.deleteRecursively
import kotlin.io.path.listDirectoryEntries
import kotlin.io.path.readText
import kotlin.time.TimeSource
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking

private data class Measured(val rssKiB: Long, val heapKiB: Long, val threads: Long, val descriptors: Int)

private fun heapKiB(): Long = ManagementFactory.getMemoryMXBean().heapMemoryUsage.used / 1024

/**
 * Measures when garbage has gone: JNA frees the memory of its structures in a thread of its own, after
 * the collector has found them, and may be a few hundred thousand behind.
 */
private suspend fun measure(): Measured {
    var before: Long
    do {
        before = heapKiB()
        repeat(2) {
            System.gc()
            delay(100)
        }
    } while (heapKiB() < before - 64)
    val status = Path.of("/proc/self/status").readText()
    fun field(name: String) = Regex("$name:\\s+(\\d+)").find(status)!!.groupValues[1].toLong()
    val descriptors = Path.of("/proc/self/fd").listDirectoryEntries().size
    return Measured(field("VmRSS"), heapKiB(), field("Threads"), descriptors)
}

/** Runs [step] so often; measures after a third, when caches and pools are full, and at the end. */
private suspend fun flat(name: String, count: Int, step: suspend (Int) -> Unit) {
    var warm: Measured? = null
    val began = TimeSource.Monotonic.markNow()
    for (i in 0 until count) {
        if (i == count / 3) warm = measure()
        step(i)
    }
    val took = began.elapsedNow()
    val end = measure()
    println("$name: $count in $took; warm $warm; end $end")
    checkNotNull(warm)
    // Idle threads and the pool of readers come and go. A leak of one descriptor, or of a few KiB,
    // in each call would be far beyond.
    val grown = end.rssKiB - warm.rssKiB
    check(grown <= 49_152 && end.heapKiB - warm.heapKiB <= 8_192) { "$name: memory is not flat" }
    check(end.descriptors <= warm.descriptors + 32 && end.threads <= 200) { "$name: not flat" }
}

private suspend fun calls(node: Node, blob: ByteArray, i: Int) = coroutineScope {
    // Twenty at once: writes, reads, errors, batches, and calls that are cancelled.
    List(20) { j ->
            async(Dispatchers.Default) {
                when (j % 5) {
                    0 -> node.execute("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", j, "text", blob)
                    1 -> node.query("SELECT * FROM t WHERE id < ?", 20)
                    2 -> thrown<QuorumliteException> { node.query("SELEKT") }
                    3 -> {
                        val update = Statement("UPDATE t SET a = ? WHERE id = 0", i)
                        node.executeBatch(listOf(update, Statement("SELECT 1")))
                    }
                    else -> launch { node.query("SELECT count(*) FROM t") }.cancelAndJoin()
                }
                Unit
            }
        }
        .awaitAll()
}

@OptIn(kotlin.io.path.ExperimentalPathApi::class)
internal fun main(args: Array<String>) = runBlocking {
    val (opens, calls) = args.map(String::toInt)
    val dir = Files.createTempDirectory("quorumlite-flat-")
    // What is kept in memory of a log of the usual 64 MiB would grow for some 200,000 writes.
    val config = Config(dir.resolve("n")).copy(maxLogBytes = 2L shl 20)
    flat("open and close", opens) { i ->
        val node = Quorumlite.open(config)
        if (i % 2 == 0) node.shutdown() else node.close()
    }
    val node = Quorumlite.open(config)
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
    val blob = ByteArray(100) { 1 }
    flat("calls", calls / 20) { calls(node, blob, it) }
    node.shutdown()
    dir.deleteRecursively()
}

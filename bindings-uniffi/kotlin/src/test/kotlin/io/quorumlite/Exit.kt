// A program that ends with a node still open, in the way that it is told; see ExitTest.

package io.quorumlite

import kotlin.concurrent.thread
import kotlin.system.exitProcess
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.GlobalScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking

internal object Exit {
    @OptIn(DelicateCoroutinesApi::class)
    @JvmStatic
    fun main(args: Array<String>) {
        val (how, dir, listen) = args
        runBlocking {
            val config = Config(dir, listen = listen.ifEmpty { null }, secret = listen.ifEmpty { null })
            if (how == "opening") {
                val joining = config.copy(join = listOf("127.0.0.1:1"), timeout = 60.seconds)
                GlobalScope.launch { Quorumlite.open(joining) }
                delay(100)
                return@runBlocking
            }
            val node = Quorumlite.open(config)
            node.execute("CREATE TABLE IF NOT EXISTS t(a)")
            node.execute("INSERT INTO t VALUES (1)")
            when (how) {
                "exception" -> node.query("SELEKT")
                "busy" -> {
                    repeat(32) { GlobalScope.launch { while (true) node.execute("INSERT INTO t VALUES (2)") } }
                    thread(isDaemon = true) { runBlocking { while (true) node.query("SELECT 1") } }
                    delay(200)
                    exitProcess(7)
                }
            }
        }
    }
}

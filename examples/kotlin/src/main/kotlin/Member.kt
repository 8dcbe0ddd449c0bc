// One member of the mixed cluster (../mixed), in Kotlin; mixed.py starts it and says what to do.
//
//   Member DIR ID LISTEN [JOIN]      then lines on standard input, each answered by one line

import io.quorumlite.Config
import io.quorumlite.Consistency
import io.quorumlite.Node
import io.quorumlite.Quorumlite
import io.quorumlite.QuorumliteException
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.runBlocking

private suspend fun answer(node: Node, id: String, verb: String, argument: String): String =
    when (verb) {
        "create" -> node.execute("CREATE TABLE written(what TEXT, who TEXT)").let { "" }
        "write" -> node.execute("INSERT INTO written VALUES (?, ?)", argument, id).let { "" }
        "read" ->
            node
                .query("SELECT what FROM written", consistency = Consistency.LINEARIZABLE)
                .map { it.string("what") }
                .sorted()
                .joinToString(" ")
        "state" -> node.status().let { "${it.state} ${it.term}" }
        "hash" -> node.contentHash().hash
        else -> throw IllegalArgumentException(verb)
    }

object Member {
    @JvmStatic
    fun main(args: Array<String>) = runBlocking {
        val (dir, id, listen) = args
        val config =
            Config(dir, id, listen, join = args.drop(3), secret = "mixed", timeout = 60.seconds)
        Quorumlite.open(config).use { node ->
            println("ok ready")
            for (line in generateSequence(::readlnOrNull)) {
                val (verb, argument) = "$line ".split(" ")
                try {
                    println("ok ${answer(node, id, verb, argument)}")
                } catch (e: QuorumliteException) {
                    println("error ${e.code}")
                }
            }
        }
    }
}

package io.quorumlite

import java.math.BigInteger
import java.nio.file.Path
import java.util.Date
import kotlin.random.Random
import kotlin.random.nextULong
import kotlin.time.Duration
import kotlin.time.Duration.Companion.days
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

private val SEED = System.getenv("QUORUMLITE_FUZZ_SEED")?.toLong() ?: System.nanoTime()
private val ROUNDS = System.getenv("QUORUMLITE_FUZZ_ROUNDS")?.toInt() ?: 3000

/** Random values for every parameter: a documented exception or a result, never a crash. */
internal class FuzzTest {
    @TempDir lateinit var dir: Path
    private val random = Random(SEED)

    private fun <T> pick(vararg of: T): T = of[random.nextInt(of.size)]

    private fun sound(): Boolean = random.nextInt(10) < 6

    private fun name(): String = pick("a", "b", "", ":a", "?1", "\u0000", "\ud800", "größe", "a".repeat(70_000))

    private fun text(): String =
        when (random.nextInt(5)) {
            0 -> String(CharArray(random.nextInt(40)) { random.nextInt(0x10000).toChar() })
            1 -> "x".repeat(random.nextInt(100_000))
            2 -> pick("n1", "127.0.0.1:0", "[::1]:1", "voter", "a b", "..", "/dev/null")
            else -> name()
        }

    private fun any(depth: Int = 0): Any? =
        when (random.nextInt(if (depth < 3) 24 else 20)) {
            0 -> null
            1 -> random.nextBoolean()
            2 -> pick(0, -1, Int.MIN_VALUE, Int.MAX_VALUE)
            3 -> random.nextLong()
            4 -> pick(Long.MIN_VALUE, Long.MAX_VALUE)
            5 -> random.nextULong()
            6 -> Double.fromBits(random.nextLong())
            7 -> pick(0.0, -0.0, Double.NaN, Double.POSITIVE_INFINITY, Double.MIN_VALUE)
            8 -> Float.fromBits(random.nextInt())
            9 -> random.nextInt().toShort()
            10 -> random.nextInt().toByte()
            11 -> pick<Any>(UInt.MAX_VALUE, UShort.MAX_VALUE, UByte.MAX_VALUE)
            12, 13 -> text()
            14 -> random.nextBytes(random.nextInt(1000))
            15 -> pick<Any>('c', Date(0), BigInteger.TEN.pow(40), StringBuilder("x"), Unit, Any())
            16 -> pick<Any>(intArrayOf(1), arrayOf("x"), 1.seconds, Role.LEARNER, Statement("SELECT 1"))
            17 -> pick<Any>({ 1 }, Thread.currentThread(), Exception("e"), String::class)
            18 -> object { override fun toString(): String = throw ArithmeticException("trap") }
            19 -> random.nextInt()
            20, 21 -> List(random.nextInt(4)) { any(depth + 1) }
            else -> List(random.nextInt(4)) { any(depth + 1) }.associateBy { name() }
        }

    private fun sql(): String =
        if (sound()) pick("SELECT ?", "SELECT :a", "INSERT INTO t VALUES (?)", "SELECT 1", "DELETE FROM t")
        else text()

    private fun statement(): Statement =
        when (random.nextInt(4)) {
            0 -> Statement(sql(), any())
            1 -> Statement(sql(), List(random.nextInt(3)) { any() })
            2 -> Statement(sql(), List(random.nextInt(3)) { any() }.associateBy { name() })
            // Types that are lied about.
            else -> @Suppress("UNCHECKED_CAST") Statement(sql(), mapOf(any() to any()) as Map<String, Any?>)
        }

    private fun duration(): Duration? =
        if (sound()) random.nextInt(1, 1000).milliseconds
        else pick(null, Duration.ZERO, (-1).seconds, Duration.INFINITE, -Duration.INFINITE, 2.days, 1.days)
            // Without a limit, a call that waits for what never comes would wait for the node's.
            ?.takeIf { it != 1.days }

    private fun level(): Consistency? = pick(null, *Consistency.entries.toTypedArray())

    private fun config(): Config =
        Config(
            // Never a directory of somebody else's.
            dir.resolve("other").toString() + pick("", "", "\u0000", "\ud800"),
            nodeId = pick(null, null, text()),
            listen = pick(null, null, text()),
            advertise = pick(null, null, text()),
            join = pick(emptyList(), emptyList(), List(random.nextInt(3)) { text() }),
            secret = pick(null, null, text()),
            ca = pick(null, null, null, text()),
            cert = pick(null, null, null, text()),
            key = pick(null, null, null, text()),
            insecure = random.nextBoolean(),
            role = pick(Role.VOTER, Role.VOTER, Role.LEARNER),
            timeout = pick(200.milliseconds, 200.milliseconds, Duration.ZERO, (-1).seconds, 2.days),
            consistency = level() ?: Consistency.SESSION,
            maxLogBytes = pick(null, null, null, random.nextLong()),
            checkInterval = pick(null, null, null, duration()),
        )

    @Test
    fun `random arguments`() = test {
        val node = Quorumlite.open(Config(dir.resolve("node")).copy(timeout = 2.seconds))
        node.execute("CREATE TABLE t(a)")
        val calls =
            listOf<suspend () -> Unit>(
                { node.execute(sql(), any(), timeout = duration()) },
                { node.execute(sql(), List(random.nextInt(3)) { any() }, duration()) },
                { node.execute(sql(), mapOf(name() to any()), duration()) },
                {
                    @Suppress("UNCHECKED_CAST")
                    val list = List(random.nextInt(4)) { if (sound()) statement() else any() } as List<Statement>
                    node.executeBatch(list, duration())
                },
                { node.query(sql(), any(), consistency = level(), maxStaleness = duration(), timeout = duration()) },
                { node.query(sql(), List(random.nextInt(3)) { any() }, level(), duration(), duration()) },
                { node.query(sql(), mapOf(name() to any()), timeout = duration()) },
                { node.members() },
                { node.waitForLeader(duration()) },
                { node.transferLeadership(text(), duration()) },
                { node.removeMember(text(), duration()) },
                { node.contentHash() },
                { Quorumlite.open(config()).shutdown() },
            )
        var succeeded = 0
        var failed = 0
        repeat(ROUNDS) { round ->
            try {
                calls[random.nextInt(calls.size)]()
                succeeded++
            } catch (e: QuorumliteException) {
                failed++
                assertTrue(Regex("[A-Z][A-Z0-9_]*").matches(e.code), e.code)
                assertFalse(e is QuorumliteException.Internal, "round $round, seed $SEED: $e")
            } catch (_: IllegalArgumentException) {
                failed++
            } catch (e: ArithmeticException) {
                // Thrown by an argument's own code.
                assertEquals("trap", e.message)
                failed++
            } catch (e: Throwable) {
                throw AssertionError("round $round, QUORUMLITE_FUZZ_SEED=$SEED", e)
            }
        }
        assertTrue(succeeded > ROUNDS / 50 && failed > ROUNDS / 50, "$succeeded and $failed")
        assertEquals(1L, node.query("SELECT 1")[0].long(0))
        node.shutdown()
    }
}

// Every case of conformance/cases, standalone and through each node of a cluster of three.

package io.quorumlite

import java.nio.file.Path
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.TestInstance
import org.junit.jupiter.api.io.TempDir

private const val LEFT_OVER =
    "SELECT type, name FROM sqlite_schema" +
        " WHERE type IN ('table', 'view') AND substr(name, 1, length(:p)) = :p" +
        " ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC"

@TestInstance(TestInstance.Lifecycle.PER_CLASS)
internal class ConformanceTest {
    private val cases = conformanceCases()
    private val nodes = LinkedHashMap<String, Node>()

    @TestFactory
    fun standalone(@TempDir dir: Path): List<DynamicTest> =
        cases.map { case ->
            dynamicTest(case.name) {
                assumeTrue(case.skip == null, case.skip)
                test {
                    // Each case has a fresh node to itself.
                    standalone(dir.resolve(case.name)) { node ->
                        for (step in case.steps("s_")) {
                            assertEquals(null, difference(node, step, null), "${case.file}: $step")
                        }
                    }
                }
            }
        }

    @TestFactory
    fun cluster(@TempDir dir: Path): List<DynamicTest> {
        val addresses = freeAddresses(3)
        test {
            addresses.forEachIndexed { i, listen ->
                val id = "n${i + 1}"
                nodes[id] = Quorumlite.open(member(dir, id, listen, addresses[0]))
            }
        }
        return cases.flatMapIndexed { i, case ->
            nodes.keys.map { via ->
                dynamicTest("${case.name} through $via") {
                    assumeTrue(case.skip == null, case.skip)
                    test { throughCluster(case, via, "c$i${via}_") }
                }
            }
        }
    }

    @AfterAll
    fun close() {
        runBlocking { nodes.values.forEach { it.shutdown() } }
    }

    private suspend fun throughCluster(case: Case, via: String, prefix: String) {
        val node = nodes.getValue(via)
        val level = Consistency.LINEARIZABLE
        val hashes = HashSet<String>()
        try {
            for (step in case.steps(prefix)) {
                assertEquals(null, difference(node, step, level), "on $via: ${case.file}: $step")
                if (step.verb != "query") continue
                for ((id, other) in nodes) {
                    if (id != via) {
                        assertEquals(null, difference(other, step, level), "on $id: ${case.file}: $step")
                    }
                }
            }
        } finally {
            for (member in nodes.values) {
                member.query("SELECT 1", consistency = level)
                hashes.add(member.contentHash().hash)
            }
            cleanUp(node, prefix)
        }
        assertEquals(1, hashes.size, "the nodes differ after the case")
    }

    private suspend fun cleanUp(node: Node, prefix: String) {
        while (true) {
            val (type, name) = node.query(LEFT_OVER, mapOf("p" to prefix)).firstOrNull() ?: return
            node.execute("DROP $type \"${(name as String).replace("\"", "\"\"")}\"")
        }
    }
}

/** Runs one step on a node; says what differs, or `null`. */
private suspend fun difference(node: Node, step: Step, level: Consistency?): String? {
    val results =
        try {
            when (step.verb) {
                "execute_batch" -> node.executeBatch(step.calls.map(Call::statement))
                else -> listOf(single(node, step.verb, step.calls.single(), level))
            }
        } catch (e: QuorumliteException) {
            val same = step.error == e.kind to e.code
            return if (same) null else "failed with $e instead of ${step.error ?: "succeeding"}"
        }
    if (step.error != null) return "succeeded instead of failing with ${step.error}"
    if (results.size != step.expected.size) return "${results.size} results"
    return step.expected.zip(results).firstNotNullOfOrNull { (want, got) -> difference(want, got) }
}

private suspend fun single(node: Node, verb: String, call: Call, level: Consistency?): ExecuteResult {
    val (sql, params) = call.sql to call.params
    @Suppress("UNCHECKED_CAST")
    return if (verb == "execute") {
        when (params) {
            null -> node.execute(sql)
            is Map<*, *> -> node.execute(sql, params as Map<String, Any?>)
            else -> node.execute(sql, params as List<Any?>)
        }
    } else {
        val rows =
            when (params) {
                null -> node.query(sql, consistency = level)
                is Map<*, *> -> node.query(sql, params as Map<String, Any?>, consistency = level)
                else -> node.query(sql, params as List<Any?>, consistency = level)
            }
        ExecuteResult(0, 0, 0, rows)
    }
}

private fun difference(want: Expected, got: ExecuteResult): String? {
    val rows = got.rows.lists()
    return when {
        want.columns != null && want.columns != got.rows.columns ->
            "columns ${got.rows.columns} instead of ${want.columns}"
        want.rows != null && want.rows.size != rows.size ->
            "${rows.size} rows instead of ${want.rows.size}: ${show(rows)}"
        want.rowsAffected != null && want.rowsAffected != got.rowsAffected ->
            "rows_affected ${got.rowsAffected} instead of ${want.rowsAffected}"
        want.lastInsertRowid != null && want.lastInsertRowid != got.lastInsertRowid ->
            "last_insert_rowid ${got.lastInsertRowid} instead of ${want.lastInsertRowid}"
        else ->
            want.rows?.zip(rows)?.withIndex()?.firstNotNullOfOrNull { (i, pair) ->
                val (a, b) = pair
                val same = a.size == b.size && a.indices.all { same(a[it], b[it]) }
                if (same) null else "row $i is ${show(b)} instead of ${show(a)}"
            }
    }
}

/** Boxed doubles are equal by their bits, and never equal to a boxed Long. */
private fun same(a: Any?, b: Any?): Boolean =
    if (a is ByteArray && b is ByteArray) a.contentEquals(b) else a == b

private fun show(thing: List<Any?>): String =
    thing
        .joinToString(prefix = "[", postfix = "]") {
            when (it) {
                is ByteArray -> it.joinToString("", "x:") { b -> "%02x".format(b) }
                is List<*> -> show(it)
                null -> "null"
                else -> "${it.javaClass.simpleName}:$it"
            }
        }
        .take(400)

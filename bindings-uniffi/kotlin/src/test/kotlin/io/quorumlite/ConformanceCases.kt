// The format of the conformance cases, as conformance/README.md describes it.

package io.quorumlite

import kotlin.io.path.listDirectoryEntries
import kotlin.io.path.name
import org.tomlj.Toml
import org.tomlj.TomlArray
import org.tomlj.TomlTable

private val RUNNERS = setOf("sqlite3", "python", "rust", "node", "kotlin", "swift")
private val KINDS = setOf("Sql", "Constraint", "Forbidden", "Busy", "Config")
private val VERBS = setOf("execute", "execute_batch", "query")
private val ROWS = setOf("columns", "rows")
private val COUNTS = setOf("rows_affected", "last_insert_rowid")

/** A case; [steps] with the prefix put in. */
internal class Case(val file: String, val name: String, val skip: String?, private val raw: TomlTable) {
    fun steps(prefix: String): List<Step> {
        val setup = raw.getArray("setup").items().map { Step("execute", Statement(it as String, prefix)) }
        return setup + raw.getArray("steps").items().map { step(it as TomlTable, prefix) }
    }
}

/** A statement as the cases have it. */
internal class Call(val sql: String, val params: Any?) {
    fun statement(): Statement =
        when (params) {
            null -> Statement(sql)
            is Map<*, *> -> @Suppress("UNCHECKED_CAST") Statement(sql, params as Map<String, Any?>)
            else -> Statement(sql, params as List<Any?>)
        }
}

/** What must come of one statement; `null` is not compared. */
internal class Expected(
    val columns: List<String>? = null,
    val rows: List<List<Any?>>? = null,
    val rowsAffected: Long? = null,
    val lastInsertRowid: Long? = null,
) {
    val isEmpty: Boolean get() = listOfNotNull(columns, rows, rowsAffected, lastInsertRowid).isEmpty()
}

internal class Step(
    val verb: String,
    val calls: List<Call>,
    val expected: List<Expected>,
    val error: Pair<String, String>?,
) {
    constructor(verb: String, setup: Call) : this(verb, listOf(setup), listOf(Expected()), null)

    override fun toString(): String = "$verb: ${calls.joinToString("; ") { it.sql }}"
}

private fun Statement(sql: String, prefix: String): Call = Call(sql.replace("{p}", prefix), null)

/** All cases, in the order of the files' names. Throws on the first fault. */
internal fun conformanceCases(): List<Case> {
    val folder = REPOSITORY.resolve("conformance/cases")
    val cases = ArrayList<Case>()
    for (file in folder.listDirectoryEntries("*.toml").sortedBy { it.name }) {
        val document = Toml.parse(file)
        require(!document.hasErrors()) { "${file.name}: ${document.errors().first()}" }
        document.only(setOf("case"), file.name)
        for (raw in document.getArray("case").items()) {
            raw as TomlTable
            val name = raw.getString("name").orEmpty()
            val where = "${file.name}: $name"
            raw.only(setOf("name", "why", "skip", "since", "uses", "setup", "steps"), where)
            require(Regex("[a-z0-9_]+").matches(name) && cases.none { it.name == name }) {
                "$where: the name is malformed or used twice"
            }
            val skip = raw.getTable("skip")
            skip?.only(RUNNERS, "$where: skip")
            val case = Case(file.name, name, skip?.getString("kotlin"), raw)
            try {
                case.steps("p_")
            } catch (e: RuntimeException) {
                throw IllegalArgumentException("$where: ${e.message}", e)
            }
            cases.add(case)
        }
    }
    require(cases.isNotEmpty()) { "no cases in $folder" }
    return cases
}

private fun TomlArray?.items(): List<Any> = this?.let { a -> List(a.size()) { a.get(it) } }.orEmpty()

private fun TomlTable.only(allowed: Set<String>, where: String) {
    val unknown = keySet() - allowed
    require(unknown.isEmpty()) { "$where: unknown keys $unknown" }
}

private fun step(raw: TomlTable, prefix: String): Step {
    val verb = VERBS.single { raw.contains(it) }
    val calls: List<Call>
    val expected: List<Expected>
    if (verb == "execute_batch") {
        raw.only(setOf(verb, "results", "error"), "step")
        calls =
            raw.getArray(verb).items().map {
                it as TomlTable
                it.only(setOf("sql", "params"), "statement")
                call(it.getString("sql")!!, it.get("params"), prefix)
            }
        expected =
            raw.getArray("results")?.items()?.map {
                it as TomlTable
                it.only(ROWS + COUNTS, "result")
                expected(it, prefix)
            } ?: calls.map { Expected() }
        require(calls.size == expected.size) { "as many results as statements" }
    } else {
        val results = if (verb == "execute") ROWS + COUNTS else ROWS
        raw.only(results + setOf(verb, "params", "error"), "step")
        calls = listOf(call(raw.getString(verb)!!, raw.get("params"), prefix))
        expected = listOf(expected(raw, prefix))
    }
    val error =
        raw.getTable("error")?.let {
            it.only(setOf("kind", "code"), "error")
            require(expected.all(Expected::isEmpty)) { "an error or a result, not both" }
            it.getString("kind")!! to it.getString("code")!!
        }
    if (error != null) {
        require(error.first in KINDS && Regex("[A-Z][A-Z0-9_]*").matches(error.second)) { "no error" }
    }
    return Step(verb, calls, expected, error)
}

private fun call(sql: String, params: Any?, prefix: String): Call {
    val bound =
        when (params) {
            null -> null
            is TomlTable -> params.keySet().associateWith { value(params.get(listOf(it))!!, prefix) }
            else -> (params as TomlArray).items().map { value(it, prefix) }
        }
    return Call(sql.replace("{p}", prefix), bound)
}

private fun expected(raw: TomlTable, prefix: String): Expected =
    Expected(
        raw.getArray("columns")?.items()?.map { (it as String).replace("{p}", prefix) },
        raw.getArray("rows")?.items()?.map { row -> (row as TomlArray).items().map { value(it, prefix) } },
        raw.getLong("rows_affected"),
        raw.getLong("last_insert_rowid"),
    )

private fun value(from: Any, prefix: String): Any? {
    var times = 1
    var raw = from
    if (raw is TomlTable) {
        raw.only(setOf("repeat", "times"), "value")
        times = raw.getLong("times")!!.toInt()
        raw = raw.getString("repeat")!!
        require(raw.startsWith("t:") || raw.startsWith("x:")) { "only t: and x: can be repeated: $raw" }
    }
    val written = (raw as String).replace("{p}", prefix)
    if (written == "null") return null
    val text = written.drop(2)
    return when (written.take(2)) {
        "i:" -> text.toLong()
        "r:" ->
            when (text) {
                "inf" -> Double.POSITIVE_INFINITY
                "-inf" -> Double.NEGATIVE_INFINITY
                "nan" -> Double.NaN
                else -> {
                    require(Regex("-?[0-9].*").matches(text)) { "not a value: $written" }
                    text.toDouble()
                }
            }
        "t:" -> text.repeat(times)
        "x:" -> {
            require(Regex("([0-9a-f]{2})*").matches(text)) { "not a value: $written" }
            val bytes = text.chunked(2).map { it.toInt(16).toByte() }.toByteArray()
            ByteArray(bytes.size * times) { bytes[it % bytes.size] }
        }
        else -> throw IllegalArgumentException("not a value: $written")
    }
}

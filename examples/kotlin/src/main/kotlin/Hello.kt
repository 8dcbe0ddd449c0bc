// The same small program in every language: a standalone node, a table, a batch, a query.
//
//   (cd bindings-uniffi/kotlin && mvn install -DskipTests) && cd examples/kotlin && mvn -q compile exec:java

import io.quorumlite.Quorumlite
import io.quorumlite.Statement
import kotlin.io.path.ExperimentalPathApi
import kotlin.io.path.createTempDirectory
import kotlin.io.path.deleteRecursively

@OptIn(ExperimentalPathApi::class)
suspend fun main() {
    val dir = createTempDirectory("hello-")
    Quorumlite.open(dir.resolve("n1").toString()).use { node ->
        node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)")
        node.execute("INSERT INTO person(name, balance) VALUES (?, ?)", "ann", 100)
        val bob =
            node.execute(
                "INSERT INTO person(name, balance) VALUES (:name, :balance)",
                mapOf("name" to "bob", "balance" to 50),
            )
        println("bob has id ${bob.lastInsertRowid}")

        // All or nothing: one entry in the replicated log.
        node.executeBatch(
            listOf(
                Statement("UPDATE person SET balance = balance - ? WHERE name = ?", 30, "ann"),
                Statement("UPDATE person SET balance = balance + ? WHERE name = ?", 30, "bob"),
            )
        )

        for ((id, name, balance) in node.query("SELECT * FROM person ORDER BY id")) {
            println("$id $name $balance")
        }
    }
    dir.deleteRecursively()
}

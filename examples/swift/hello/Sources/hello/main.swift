// The same small program in every language: a standalone node, a table, a batch, a query.
//
//   bindings-uniffi/swift/build.sh && swift run --package-path examples/swift/hello

import Foundation
import Quorumlite

let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("hello-\(UUID().uuidString)")
defer { try? FileManager.default.removeItem(at: folder) }

let node = try await Quorumlite.open(Config(directory: folder.path + "/n1"))

try await node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)")
try await node.execute("INSERT INTO person(name, balance) VALUES (?, ?)", ["ann", 100])
let bob = try await node.execute(
    "INSERT INTO person(name, balance) VALUES (:name, :balance)", ["name": "bob", "balance": 50])
print("bob has id \(bob.lastInsertRowid)")

// All or nothing: one entry in the replicated log.
try await node.executeBatch([
    Statement("UPDATE person SET balance = balance - ? WHERE name = ?", [30, "ann"]),
    Statement("UPDATE person SET balance = balance + ? WHERE name = ?", [30, "bob"]),
])

for row in try await node.query("SELECT * FROM person ORDER BY id") {
    let (id, name, balance): (Int, String, Int) =
        (try row.get("id"), try row.get("name"), try row.get("balance"))
    print(id, name, balance)
}
try await node.shutdown()

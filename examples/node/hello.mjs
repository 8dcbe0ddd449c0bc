// The same small program in every language: a standalone node, a table, a batch, a query.
//
//   cd examples/node && npm install && node hello.mjs

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "quorumlite";

const dir = mkdtempSync(join(tmpdir(), "hello-"));
const node = await open(join(dir, "n1"));

await node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)");
await node.execute("INSERT INTO person(name, balance) VALUES (?, ?)", ["ann", 100]);
const bob = await node.execute("INSERT INTO person(name, balance) VALUES (:name, :balance)", {
  name: "bob",
  balance: 50,
});
console.log(`bob has id ${bob.lastInsertRowid}`);

// All or nothing: one entry in the replicated log.
await node.executeBatch([
  ["UPDATE person SET balance = balance - ? WHERE name = ?", [30, "ann"]],
  ["UPDATE person SET balance = balance + ? WHERE name = ?", [30, "bob"]],
]);

for (const { id, name, balance } of await node.query("SELECT * FROM person ORDER BY id")) {
  console.log(`${id} ${name} ${balance}`);
}
await node.close();
rmSync(dir, { recursive: true });

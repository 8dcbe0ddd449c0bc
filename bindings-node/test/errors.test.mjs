import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { QuorumliteError, open } from "quorumlite";
import { cluster, directory, freeAddresses, standalone } from "./support.mjs";

test("an error says what to do", async (t) => {
  const node = await standalone(t);
  const error = await node.query("SELEKT 1").catch((e) => e);
  assert.ok(error instanceof QuorumliteError);
  assert.ok(error instanceof Error);
  assert.equal(error.name, "QuorumliteError");
  assert.equal(String(error), `QuorumliteError: ${error.message}`);
  assert.match(error.message, /SELEKT/);
  assert.deepEqual(
    [error.kind, error.code, error.retryable, error.leader, error.sqliteCode],
    ["Sql", "SQLITE_ERROR", false, null, 1],
  );
  // The stack leads to the caller.
  assert.match(error.stack, /errors\.test\.mjs/);
});

test("each kind that a healthy node can give", async (t) => {
  const node = await standalone(t);
  await node.execute("CREATE TABLE t(a UNIQUE NOT NULL)");
  await node.execute("INSERT INTO t VALUES (1)");
  const fails = (sql, kind, code) => assert.rejects(node.execute(sql), { kind, code });
  await fails("INSERT INTO t VALUES (1)", "Constraint", "SQLITE_CONSTRAINT_UNIQUE");
  await fails("INSERT INTO t VALUES (NULL)", "Constraint", "SQLITE_CONSTRAINT_NOTNULL");
  await fails("", "Sql", "SQL_EMPTY");
  await fails("SELECT 1\0", "Sql", "SQL_NUL");
  await assert.rejects(node.execute("ATTACH 'x' AS y"), { kind: "Forbidden", retryable: false });
  await assert.rejects(node.query("SELECT 1", [], { consistency: "some" }), {
    kind: "Config",
    code: "CONFIG_CONSISTENCY",
  });
  await assert.rejects(
    node.query(
      "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
      [],
      {
        timeout: 0.2,
      },
    ),
    { kind: "Timeout" },
  );
});

test("options of calls: unknown ones, wrong ones", async (t) => {
  const node = await standalone(t);
  const calls = {
    execute: (o) => node.execute("SELECT 1", [], o),
    executeBatch: (o) => node.executeBatch(["SELECT 1"], o),
    query: (o) => node.query("SELECT 1", [], o),
    members: (o) => node.members(o),
    waitForLeader: (o) => node.waitForLeader(o),
    transferLeadership: (o) => node.transferLeadership("a", o),
    removeMember: (o) => node.removeMember("a", o),
    contentHash: (o) => node.contentHash(o),
  };
  for (const [name, call] of Object.entries(calls)) {
    await assert.rejects(call({ timout: 1 }), {
      name: "TypeError",
      message: new RegExp(`^${name} has no option 'timout'`),
    });
    await assert.rejects(call("x"), { name: "TypeError" });
    await assert.rejects(call({ signal: 1 }), { name: "TypeError" });
    if (name === "members" || name === "contentHash") continue;
    await assert.rejects(call({ timeout: "1" }), { name: "TypeError" });
    await assert.rejects(call({ timeout: 1e9 }), { name: "RangeError" });
  }
  await assert.rejects(node.waitForLeader(-1), { name: "RangeError" });
  for (const sql of [undefined, null, 1, {}, Buffer.from("SELECT 1"), new String("SELECT 1")]) {
    await assert.rejects(node.query(sql), { name: "TypeError", message: /^sql must be a string/ });
    await assert.rejects(node.execute(sql), { name: "TypeError" });
  }
  await assert.rejects(node.query("SELECT '\udfff'"), { name: "TypeError", message: /surrogate/ });
});

test("without a majority: Unavailable or Timeout, and retryable is said", async (t) => {
  const nodes = await cluster(t);
  const [n1, n2, n3] = nodes.values();
  await n1.execute("CREATE TABLE t(a)");
  await n2.query("SELECT * FROM t", [], { consistency: "linearizable" });
  await Promise.all([n1.close(), n3.close()]);
  const error = await n2.execute("INSERT INTO t VALUES (1)", [], { timeout: 1 }).catch((e) => e);
  assert.ok(error instanceof QuorumliteError, String(error));
  assert.ok(["Unavailable", "Timeout"].includes(error.kind), error.kind);
  assert.equal(typeof error.retryable, "boolean");
  // Local reads go on.
  assert.deepEqual(await n2.query("SELECT * FROM t", [], { consistency: "none" }), []);
});

test("joining nobody fails within the timeout, and can be tried again", async (t) => {
  const dir = join(directory(t), "n");
  const [listen, nobody] = await freeAddresses(2);
  const error = await open(dir, { listen, join: [nobody], secret: "s", timeout: 0.5 }).catch(
    (e) => e,
  );
  assert.ok(error instanceof QuorumliteError, String(error));
  assert.ok(["Unavailable", "Timeout"].includes(error.kind), error.kind);
});

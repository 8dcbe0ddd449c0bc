import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { AbortError, open } from "quorumlite";
import { cluster, directory, freeAddresses, program, standalone } from "./support.mjs";

const ENDLESS =
  "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";

test("an aborted call rejects at once, and the node is whole", async (t) => {
  const node = await standalone(t);
  const controller = new AbortController();
  const call = node.query(ENDLESS, [], { signal: controller.signal, timeout: 20 });
  const began = Date.now();
  controller.abort("enough");
  await assert.rejects(call, (e) => {
    assert.ok(e instanceof AbortError);
    assert.deepEqual([e.name, e.code, e.cause], ["AbortError", "ABORT_ERR", "enough"]);
    return true;
  });
  assert.ok(Date.now() - began < 2000, "it took its time");
  assert.deepEqual(await node.query("SELECT 1 AS a"), [{ a: 1 }]);
});

test("a signal that is aborted already: nothing is written", async (t) => {
  const node = await standalone(t);
  await node.execute("CREATE TABLE t(a)");
  const signal = AbortSignal.abort();
  const aborted = { name: "AbortError" };
  await assert.rejects(node.execute("INSERT INTO t VALUES (1)", [], { signal }), aborted);
  await assert.rejects(node.executeBatch(["INSERT INTO t VALUES (1)"], { signal }), aborted);
  for (const call of [
    node.members({ signal }),
    node.waitForLeader({ signal }),
    node.transferLeadership("x", { signal }),
    node.removeMember("x", { signal }),
    node.contentHash({ signal }),
  ]) {
    await assert.rejects(call, aborted);
  }
  const rows = await node.query("SELECT count(*) AS n FROM t", [], { consistency: "strong" });
  assert.deepEqual(rows, [{ n: 0 }]);
});

test("aborted does not mean not written: no write is lost, none is cut in half", async (t) => {
  const node = await standalone(t);
  await node.execute("CREATE TABLE t(a, b)");
  let aborted = 0;
  const calls = [];
  for (let i = 0; i < 300; i++) {
    const controller = new AbortController();
    const { signal } = controller;
    const pair = ["INSERT INTO t VALUES (?, 1)", "INSERT INTO t VALUES (?, 2)"];
    calls.push(
      node
        .executeBatch(
          pair.map((sql) => [sql, [i]]),
          { signal },
        )
        .then(
          () => true,
          (e) => {
            assert.equal(e.name, "AbortError");
            aborted++;
            return false;
          },
        ),
    );
    if (i % 2) setImmediate(() => controller.abort());
  }
  const done = await Promise.all(calls);
  assert.ok(aborted > 0, "nothing was aborted");
  // One more write is behind all that were on their way.
  await node.execute("INSERT INTO t VALUES (-1, 0)");
  const rows = await node.query("SELECT a, count(*) AS n FROM t WHERE a >= 0 GROUP BY a");
  assert.ok(rows.every((r) => r.n === 2));
  const written = new Set(rows.map((r) => r.a));
  for (const [i, ok] of done.entries()) assert.ok(!ok || written.has(i), `write ${i} is lost`);
});

test("AbortSignal.timeout, and listeners are not left behind", async (t) => {
  const node = await standalone(t);
  await assert.rejects(
    node.query(ENDLESS, [], { signal: AbortSignal.timeout(50), timeout: 20 }),
    (e) => {
      assert.equal(e.name, "AbortError");
      assert.equal(e.cause.name, "TimeoutError");
      return true;
    },
  );
  const shared = new AbortController();
  const { signal } = shared;
  const warnings = [];
  const warn = (w) => warnings.push(w);
  process.on("warning", warn);
  await Promise.all(Array.from({ length: 50 }, () => node.query("SELECT 1", [], { signal })));
  for (let i = 0; i < 20; i++) await node.query("SELECT 1", [], { signal });
  await assert.rejects(node.query("SELEKT", [], { signal }), { kind: "Sql" });
  assert.equal(getEventListeners(signal, "abort").length, 0);
  const many = Array.from({ length: 50 }, () =>
    node.query(ENDLESS, [], { signal, timeout: 1 }).catch((e) => e.name),
  );
  shared.abort();
  assert.deepEqual(new Set(await Promise.all(many)), new Set(["AbortError"]));
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", warn);
  assert.deepEqual(warnings, []);
});

test("opening is given up, and the directory and port are free again", async (t) => {
  const dir = join(directory(t), "n");
  const [listen, nobody] = await freeAddresses(2);
  const controller = new AbortController();
  const opening = open(dir, {
    listen,
    join: [nobody],
    secret: "s",
    timeout: 60,
    signal: controller.signal,
  });
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(opening, { name: "AbortError" });
  // Opening again waits for the first to be given up.
  const node = await open(dir, { listen, secret: "s", timeout: 30 });
  await node.close();
});

test("waiting for a leader that will not come", async (t) => {
  const nodes = await cluster(t);
  const [n1, n2, n3] = nodes.values();
  await Promise.all([n1.close(), n2.close()]);
  const controller = new AbortController();
  const waiting = n3.execute("CREATE TABLE t(a)", [], { signal: controller.signal, timeout: 60 });
  setTimeout(() => controller.abort(), 50);
  await assert.rejects(waiting, { name: "AbortError" });
});

test("an aborted call does not keep the process alive", async (t) => {
  const began = Date.now();
  const { status, stdout, stderr } = await program(
    `import { open } from "quorumlite";
     const node = await open(process.argv[1], { timeout: 300 });
     const controller = new AbortController();
     const call = node.query(${JSON.stringify(ENDLESS)}, [], { signal: controller.signal });
     setTimeout(() => controller.abort(), 20);
     console.log(await call.catch((e) => e.name));`,
    [join(directory(t), "n")],
  );
  assert.deepEqual([status, stdout, stderr], [0, "AbortError\n", ""]);
  assert.ok(Date.now() - began < 30_000, "it waited for the call");
});

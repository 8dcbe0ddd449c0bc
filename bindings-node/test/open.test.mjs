import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import * as esm from "quorumlite";
import { Node, QuorumliteError, open } from "quorumlite";
import { cluster, directory, freeAddresses, standalone } from "./support.mjs";

test("require and import give the same classes", () => {
  const cjs = createRequire(import.meta.url)("quorumlite");
  for (const name of ["Node", "QuorumliteError", "AbortError", "open", "real"]) {
    assert.equal(typeof cjs[name], "function", name);
    assert.equal(cjs[name], esm[name], name);
  }
});

test("a standalone node keeps its data and its identity", async (t) => {
  const dir = join(directory(t), "n");
  const first = await open(dir);
  const { nodeId } = first.status();
  await first.execute("CREATE TABLE t(a)");
  await first.execute("INSERT INTO t VALUES (?)", [7]);
  await first.close();
  const again = await open(pathToFileURL(dir));
  assert.equal(again.status().nodeId, nodeId);
  assert.equal(again.status().address, null);
  assert.deepEqual([again.status().checkedIndex, again.status().divergence], [0, null]);
  assert.equal(again.status().snapshot, null);
  assert.deepEqual(await again.query("SELECT a FROM t"), [{ a: 7 }]);
  await again.close();
});

test("closing twice, and at the same time, is fine", async (t) => {
  const node = await standalone(t);
  assert.equal(node.closed, false);
  const both = [node.close(), node.close()];
  assert.equal(node.closed, true);
  assert.deepEqual(await Promise.all(both), [undefined, undefined]);
  await node.close();
  const closed = { name: "QuorumliteError", kind: "Closed" };
  for (const call of [
    () => node.execute("SELECT 1"),
    () => node.executeBatch(["SELECT 1"]),
    () => node.query("SELECT 1"),
    () => node.members(),
    () => node.waitForLeader(),
    () => node.transferLeadership("n2"),
    () => node.removeMember("n2"),
    () => node.contentHash(),
    async () => node.status(),
  ]) {
    await assert.rejects(call, closed, String(call));
  }
});

test("asyncDispose closes", async (t) => {
  const node = await standalone(t);
  await node[Symbol.asyncDispose]();
  assert.equal(node.closed, true);
  await assert.rejects(node.query("SELECT 1"), { kind: "Closed" });
});

test("two handles on one directory share the node", async (t) => {
  const dir = join(directory(t), "n");
  const a = await open(dir);
  const b = await open(dir);
  await a.execute("CREATE TABLE t(a)");
  await a.close();
  assert.deepEqual(await b.query("SELECT * FROM t", null, { consistency: "linearizable" }), []);
  await b.close();
});

test("a node that was garbage collected releases its directory", async (t) => {
  const dir = join(directory(t), "n");
  const gc = globalThis.gc ?? (await exposeGc());
  await (async () => {
    const lost = await open(dir, { nodeId: "one" });
    await lost.execute("CREATE TABLE t(a)");
  })();
  // Another id is refused as long as the first node is open.
  const deadline = Date.now() + 30_000;
  for (;;) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
    try {
      const other = await open(dir, { listen: (await freeAddresses(1))[0] });
      await other.close();
      break;
    } catch (e) {
      assert.ok(e instanceof QuorumliteError, String(e));
      assert.ok(Date.now() < deadline, `still open: ${e}`);
    }
  }
});

async function exposeGc() {
  const { setFlagsFromString } = await import("node:v8");
  const { runInNewContext } = await import("node:vm");
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}

test("unknown and wrong options are errors, and nothing is opened", async (t) => {
  const dir = join(directory(t), "n");
  const cases = [
    [{ nodeID: "n1" }, "TypeError", /no option 'nodeID'; it has nodeId, listen/],
    [[], "TypeError", /options of open must be an object, not an object \(Array\)/],
    ["n1", "TypeError", /options of open must be an object, not a string/],
    [{ nodeId: 1 }, "TypeError", /nodeId must be a string, not a number/],
    [{ join: "127.0.0.1:7001" }, "TypeError", /join must be an array of addresses/],
    [{ join: [1] }, "TypeError", /each address in join must be a string/],
    [{ insecure: 1 }, "TypeError", /insecure must be true or false/],
    [{ timeout: "5" }, "TypeError", /timeout must be a number of seconds/],
    [{ timeout: -1 }, "RangeError", /timeout must be a number of seconds from 0/],
    [{ timeout: NaN }, "RangeError", /timeout/],
    [{ maxLogBytes: 1.5 }, "RangeError", /maxLogBytes must be a whole number/],
    [{ maxLogBytes: 1n }, "TypeError", /maxLogBytes must be a number of bytes, not a bigint/],
    [{ checkInterval: NaN }, "RangeError", /checkInterval must be a number of seconds/],
    [{ bigint: "always" }, "TypeError", /bigint must be true or false/],
    [{ ca: 1 }, "TypeError", /ca must be a path/],
    [{ signal: {} }, "TypeError", /signal must be an AbortSignal/],
    [{ secret: "\ud800" }, "TypeError", /secret: the text contains a lone surrogate/],
    [{ checkInterval: 0.5 }, "QuorumliteError", /check_interval/, "CONFIG_LIMIT"],
    [{ nodeId: "a b" }, "QuorumliteError", /node_id/, "CONFIG_NODE_ID"],
    [{ role: "king" }, "QuorumliteError", /role/, "CONFIG_ROLE"],
    [{ consistency: "some" }, "QuorumliteError", /consistency/, "CONFIG_CONSISTENCY"],
    [{ timeout: 0 }, "QuorumliteError", /timeout/, "CONFIG_TIMEOUT"],
    [{ maxLogBytes: 1 }, "QuorumliteError", /max_log_bytes/, "CONFIG_LIMIT"],
    [{ join: ["127.0.0.1:1"] }, "QuorumliteError", /listen/, "CONFIG_NEEDS_LISTEN"],
    [{ listen: "nowhere" }, "QuorumliteError", /listen/, "CONFIG_ADDRESS"],
    [{ listen: "0.0.0.0:0", advertise: "a:1" }, "QuorumliteError", /secret/, "CONFIG_INSECURE"],
    [{ ca: "a" }, "QuorumliteError", /belong together/, "CONFIG_CERTIFICATES"],
    [
      { secret: "s", ca: "a", cert: "b", key: "c" },
      "QuorumliteError",
      /exclude each other/,
      "CONFIG_CERTIFICATES",
    ],
  ];
  for (const [options, name, message, code] of cases) {
    const expected =
      code === undefined ? { name, message } : { name, message, code, kind: "Config" };
    await assert.rejects(open(dir, options), expected, JSON.stringify(options, String));
  }
  for (const wrong of [undefined, null, 1, {}, new URL("https://example.org"), "a\0b"]) {
    await assert.rejects(open(wrong), { name: "TypeError" }, String(wrong));
  }
  assert.equal(existsSync(dir), false);
  assert.throws(() => new Node(), { name: "TypeError", message: /made by open/ });
});

test("three nodes: writes on each, reads on each, leadership, members", async (t) => {
  const nodes = await cluster(t);
  const [n1, n2, n3] = nodes.values();
  await n1.execute("CREATE TABLE t(who TEXT)");
  for (const [id, node] of nodes) await node.execute("INSERT INTO t VALUES (?)", [id]);
  for (const node of nodes.values()) {
    const rows = await node.query("SELECT who FROM t ORDER BY who", null, {
      consistency: "linearizable",
      maxStaleness: 60,
      timeout: 20,
    });
    assert.deepEqual(rows.arrays, [["n1"], ["n2"], ["n3"]]);
  }
  const members = await n2.members();
  assert.deepEqual(
    members.map((m) => [m.nodeId, m.role, m.reachable]),
    [1, 2, 3].map((i) => [`n${i}`, "voter", true]),
  );
  assert.equal(await n3.waitForLeader(5), n1.status().leaderId);
  const next = n1.status().leaderId === "n2" ? "n3" : "n2";
  await n1.transferLeadership(next, { timeout: 20 });
  assert.equal(await nodes.get(next).waitForLeader({ timeout: 5 }), next);
  const hashes = new Set();
  for (const node of nodes.values()) {
    await node.query("SELECT 1", [], { consistency: "linearizable" });
    hashes.add((await node.contentHash()).hash);
  }
  assert.equal(hashes.size, 1);
  await assert.rejects(n1.transferLeadership("nobody"), { kind: "Config" });
  const gone = next === "n2" ? "n3" : "n2";
  await nodes.get(next).removeMember(gone);
  assert.equal((await nodes.get(next).members()).length, 2);
});

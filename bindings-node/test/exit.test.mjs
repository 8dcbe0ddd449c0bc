import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { open } from "quorumlite";
import { directory, freeAddresses, program } from "./support.mjs";

const OPEN = `
  import { open } from "quorumlite";
  const [dir, listen] = process.argv.slice(1);
  const node = await open(dir, listen ? { listen, secret: "s" } : {});
  await node.execute("CREATE TABLE IF NOT EXISTS t(a)");
  await node.execute("INSERT INTO t VALUES (1)");
`;

async function ends(t, rest, expected, listen) {
  const dir = join(directory(t), "n");
  const began = Date.now();
  const result = await program(OPEN + rest, listen ? [dir, listen] : [dir]);
  assert.deepEqual([result.status, result.signal], [expected, null], result.stderr);
  assert.ok(Date.now() - began < 30_000, "the process lived on");
  const node = await open(dir, listen ? { listen, secret: "s" } : {});
  const [{ n }] = await node.query("SELECT count(*) AS n FROM t");
  await node.close();
  return { ...result, rows: n };
}

test("a node that was not closed does not keep the process alive", async (t) => {
  assert.equal((await ends(t, "", 0)).rows, 1);
});

test("nor does a member of a cluster", async (t) => {
  const [listen] = await freeAddresses(1);
  assert.equal((await ends(t, "", 0, listen)).rows, 1);
});

test("a call that is not awaited is waited for", async (t) => {
  const { rows } = await ends(t, 'node.execute("INSERT INTO t VALUES (2)");', 0);
  assert.equal(rows, 2);
});

test("process.exit with calls in flight", async (t) => {
  const busy = `
    const go = async () => { for (;;) await node.execute("INSERT INTO t VALUES (2)"); };
    for (let i = 0; i < 32; i++) go().catch(() => {});
    setTimeout(() => process.exit(7), 150);`;
  assert.ok((await ends(t, busy, 7)).rows > 1);
});

test("an exception that nobody catches", async (t) => {
  const { stderr } = await ends(t, 'node.query("SELEKT");', 1);
  assert.match(stderr, /QuorumliteError/);
  assert.match(stderr, /code: 'SQLITE_ERROR'/);
});

test("exit while a node opens", async (t) => {
  const [listen, nobody] = await freeAddresses(2);
  const { status, signal, stderr } = await program(
    `import { open } from "quorumlite";
     const [dir, listen, nobody] = process.argv.slice(1);
     open(dir, { listen, join: [nobody], secret: "s", timeout: 60 });
     setTimeout(() => process.exit(0), 100);`,
    [join(directory(t), "n"), listen, nobody],
  );
  assert.deepEqual([status, signal, stderr], [0, null, ""]);
});

test("await using, compiled down", async (t) => {
  const { stdout } = await ends(
    t,
    `try { console.log(node.status().state); } finally { await node[Symbol.asyncDispose](); }
     console.log(node.closed);`,
    0,
  );
  assert.equal(stdout, "leader\ntrue\n");
});

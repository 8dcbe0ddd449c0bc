// Every case of conformance/cases, standalone and through each node of a cluster of three.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load, runStep } from "./conformance.mjs";
import { cluster, standalone } from "./support.mjs";

const CASES = load();
const LEFT_OVER =
  "SELECT type, name FROM sqlite_schema" +
  " WHERE type IN ('table', 'view') AND substr(name, 1, length(:p)) = :p" +
  " ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC";

test("standalone", async (t) => {
  for (const c of CASES) {
    // Each case has a fresh node to itself.
    await t.test(c.name, { skip: c.skip }, async (t) => {
      const node = await standalone(t, { bigint: true });
      for (const step of c.steps("s_")) {
        const difference = await runStep(node, step);
        assert.equal(difference, undefined, `${c.file}: ${step.verb}: ${step.text}`);
      }
      await node.close();
    });
  }
});

async function cleanUp(node, prefix) {
  for (;;) {
    const [left] = await node.query(LEFT_OVER, { p: prefix });
    if (!left) return;
    await node.execute(`DROP ${left.type} "${left.name.replaceAll('"', '""')}"`);
  }
}

test("cluster", async (t) => {
  const nodes = await cluster(t, { bigint: true });
  for (const [i, c] of CASES.entries()) {
    for (const [via, node] of nodes) {
      await t.test(`${c.name} through ${via}`, { skip: c.skip }, async () => {
        const prefix = `c${i}${via}_`;
        const hashes = new Set();
        try {
          for (const step of c.steps(prefix)) {
            const where = `${c.file}: ${step.verb}: ${step.text}`;
            let difference = await runStep(node, step, "linearizable");
            assert.equal(difference, undefined, `on ${via}: ${where}`);
            if (step.verb !== "query") continue;
            for (const [id, other] of nodes) {
              if (other === node) continue;
              difference = await runStep(other, step, "linearizable");
              assert.equal(difference, undefined, `on ${id}: ${where}`);
            }
          }
        } finally {
          for (const member of nodes.values()) {
            await member.query("SELECT 1", [], { consistency: "linearizable" });
            hashes.add((await member.contentHash()).hash);
          }
          await cleanUp(node, prefix);
        }
        assert.equal(hashes.size, 1, "the nodes differ after the case");
      });
    }
  }
});

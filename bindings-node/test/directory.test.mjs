// The offline check of a data directory, and the recovery of a lost quorum.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { check, open, recoverLostQuorum } from "quorumlite";
import { directory, freeAddresses } from "./support.mjs";

async function filled(t) {
  const dir = join(directory(t), "n1");
  const node = await open(dir);
  await node.execute("CREATE TABLE t(x)");
  for (let i = 0; i < 20; i++) await node.execute("INSERT INTO t VALUES (?)", [i]);
  return { dir, node };
}

test("a sound directory, one in use, and none at all", async (t) => {
  const { dir, node } = await filled(t);
  await assert.rejects(check(dir), { code: "CONFIG_IN_USE" });
  await assert.rejects(recoverLostQuorum(dir), { code: "CONFIG_IN_USE" });
  await node.close();
  const report = await check(dir);
  assert.equal(report.ok, true);
  assert.deepEqual(report.findings, []);
  assert.ok(report.appliedIndex >= 21);
  assert.deepEqual(
    report.members.map((m) => m.nodeId),
    [report.nodeId],
  );
  await assert.rejects(check(join(dir, "missing")), { code: "CONFIG_DIRECTORY" });
  await assert.rejects(check(7), TypeError);
});

test("damage is a finding with advice", async (t) => {
  const { dir, node } = await filled(t);
  await node.close();
  const log = join(dir, "log");
  const segment = join(log, readdirSync(log)[0]);
  const bytes = readFileSync(segment);
  bytes[500] ^= 1;
  writeFileSync(segment, bytes);
  const report = await check(dir);
  assert.equal(report.ok, false);
  assert.equal(report.findings[0].severity, "error");
  assert.equal(report.findings[0].code, "CORRUPTION_LOG");
  assert.match(report.findings[0].message, /Restore this node/);
  await assert.rejects(recoverLostQuorum(dir), { kind: "Corruption" });
});

test("a lost quorum is recovered", async (t) => {
  const base = directory(t);
  const [a, b] = await freeAddresses(2);
  const options = { secret: "conformance", timeout: 30 };
  const first = await open(join(base, "n1"), { nodeId: "n1", listen: a, ...options });
  const second = await open(join(base, "n2"), { nodeId: "n2", listen: b, join: [a], ...options });
  await second.execute("CREATE TABLE t(x)");
  await second.execute("INSERT INTO t VALUES (1)");
  const { clusterId } = second.status();
  await Promise.all([first.close(), second.close()]);
  const recovery = await recoverLostQuorum(join(base, "n2"));
  assert.equal(recovery.nodeId, "n2");
  assert.deepEqual(recovery.removed, ["n1"]);
  assert.notEqual(recovery.clusterId, clusterId);
  const node = await open(join(base, "n2"), { listen: b, ...options });
  t.after(() => node.close());
  await node.execute("INSERT INTO t VALUES (2)");
  const rows = await node.query("SELECT x FROM t ORDER BY x");
  assert.deepEqual(
    rows.map((r) => r.x),
    [1, 2],
  );
});

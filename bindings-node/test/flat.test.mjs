import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "./support.mjs";

const supported = process.platform === "linux";

test("memory and file descriptors stay flat", { skip: !supported && "reads /proc" }, async () => {
  const args = ["--expose-gc", "test/flat.mjs", "300", "20000"];
  const result = await run(process.execPath, args, { timeout: 300_000 });
  assert.equal(result.status, 0, result.stdout + result.stderr);
});

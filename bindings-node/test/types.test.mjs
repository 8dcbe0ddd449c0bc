import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { PACKAGE, run } from "./support.mjs";

test("tsc --strict takes what is right and refuses what is wrong", async () => {
  const tsc = join(PACKAGE, "node_modules", "typescript", "lib", "tsc.js");
  const project = join(PACKAGE, "test", "tsconfig.json");
  const { status, stdout } = await run(process.execPath, [tsc, "--project", project]);
  assert.equal(status, 0, stdout);
});

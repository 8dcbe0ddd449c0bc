// The package from a project outside the repository: as a packed tarball, which brings its sources
// and builds itself, and as a folder.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { PACKAGE, directory, run } from "./support.mjs";
import { nativePath, platform } from "../scripts/platform.mjs";

const MINUTES = 60_000;
const NPM = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ["npm"];

const PROGRAM = `
  const node = await open(process.argv[2]);
  await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)");
  await node.executeBatch([["INSERT INTO t(name) VALUES (?)", ["ann"]]]);
  console.log(JSON.stringify(await node.query("SELECT * FROM t")));
  const e = await node.execute("INSERT INTO t VALUES (1, 'x')").catch((e) => e);
  console.log(e instanceof QuorumliteError, e.code);
  await node.close();
`;
const PRINTED = '[{"id":1,"name":"ann"}]\ntrue SQLITE_CONSTRAINT_PRIMARYKEY\n';

async function npm(args, cwd) {
  // Without the outer npm's idea of where it is.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(package|lifecycle|config_local)/.test(name),
    ),
  );
  // Shares what the workspace has built of the dependencies.
  env.CARGO_TARGET_DIR ??= join(dirname(PACKAGE), "target");
  const [command, ...rest] = NPM;
  const result = await run(command, [...rest, ...args, "--no-audit", "--no-fund"], {
    cwd,
    env,
    timeout: 20 * MINUTES,
  });
  assert.equal(result.status, 0, `npm ${args.join(" ")}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

function project(t) {
  // The same path each time: what cargo builds of the tarball's sources, in the target folder that
  // is shared, then replaces what it built the last time.
  const id = createHash("sha256").update(PACKAGE).digest("hex").slice(0, 8);
  const dir = join(tmpdir(), `quorumlite-project-${id}`);
  const remove = () => rmSync(dir, { recursive: true, force: true });
  remove();
  t.after(remove);
  mkdirSync(dir);
  writeFileSync(join(dir, "package.json"), '{ "name": "project", "private": true }\n');
  writeFileSync(
    join(dir, "a.mjs"),
    `import { QuorumliteError, open } from "quorumlite";${PROGRAM}`,
  );
  writeFileSync(
    join(dir, "b.cjs"),
    `const { QuorumliteError, open } = require("quorumlite"); (async () => {${PROGRAM}})();`,
  );
  return dir;
}

async function works(dir) {
  for (const file of ["a.mjs", "b.cjs"]) {
    const result = await run(process.execPath, [file, join(dir, `data-${file}`)], { cwd: dir });
    assert.deepEqual([result.stderr, result.stdout, result.status], ["", PRINTED, 0], file);
  }
}

test("the packed tarball", { timeout: 30 * MINUTES }, async (t) => {
  const packed = directory(t);
  await npm(["pack", "--pack-destination", packed], PACKAGE);
  const [tarball] = readdirSync(packed);
  const dir = project(t);
  await npm(["install", join(packed, tarball)], dir);
  const installed = join(dir, "node_modules", "quorumlite");
  assert.ok(readdirSync(installed).includes("native"), "it was not built");
  await works(dir);

  // TypeScript of that project, strict, finds the types by both ways of importing.
  writeFileSync(
    join(dir, "c.mts"),
    'import { open, type Rows } from "quorumlite";\n' +
      'const rows: Rows = await (await open("d")).query("SELECT 1");\nrows.columns.join();\n',
  );
  writeFileSync(
    join(dir, "d.cts"),
    'import { open } from "quorumlite";\nopen("d").then((node) => node.close());\n',
  );
  const modules = join(PACKAGE, "node_modules");
  const types = ["--typeRoots", join(modules, "@types"), "--types", "node"];
  const tsc = [join(modules, "typescript", "lib", "tsc.js"), "--strict", "--noEmit"];
  const settings = [
    "--module",
    "nodenext",
    "--target",
    "es2022",
    "--lib",
    "es2023,esnext.disposable",
  ];
  const args = [...tsc, ...settings, ...types, "c.mts", "d.cts"];
  const checked = await run(process.execPath, args, { cwd: dir });
  assert.equal(checked.status, 0, checked.stdout);

  // With a prebuilt package for this platform, nothing is built and that one is loaded.
  const prebuilt = join(dir, "node_modules", "@quorumlite", platform());
  await npm(["install", "--no-save", "--install-links", prebuiltPackage(t, installed)], dir);
  rmSync(join(installed, "native"), { recursive: true });
  const script = join(installed, "scripts", "install.mjs");
  const again = await run(process.execPath, [script], { cwd: installed });
  assert.deepEqual([again.status, again.stderr], [0, ""]);
  assert.ok(!readdirSync(installed).includes("native"), "it was built all the same");
  assert.ok(readdirSync(prebuilt).includes(`quorumlite.${platform()}.node`));
  rmSync(join(dir, "data-a.mjs"), { recursive: true });
  rmSync(join(dir, "data-b.cjs"), { recursive: true });
  await works(dir);
});

/** The package of npm/ for this platform, with its library. */
function prebuiltPackage(t, installed) {
  const dir = directory(t);
  const layout = join(PACKAGE, "npm", platform());
  for (const name of readdirSync(layout)) copyFileSync(join(layout, name), join(dir, name));
  const library = `quorumlite.${platform()}.node`;
  copyFileSync(join(installed, "native", library), join(dir, library));
  return dir;
}

test("the folder", { timeout: 30 * MINUTES }, async (t) => {
  const dir = project(t);
  await npm(["install", PACKAGE], dir);
  assert.ok(readdirSync(dirname(nativePath())).length > 0);
  await works(dir);
});

test("the manifest for publishing names every platform", async () => {
  const script = join(PACKAGE, "scripts", "release.mjs");
  const { status, stdout, stderr } = await run(process.execPath, [script]);
  assert.equal(status, 0, stderr);
  const manifest = JSON.parse(stdout);
  assert.equal(manifest.optionalDependencies[`@quorumlite/${platform()}`], manifest.version);
  assert.equal(Object.keys(manifest.optionalDependencies).length, 6);
  assert.equal(manifest.private, undefined);
});

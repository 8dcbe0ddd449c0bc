// Builds the native library with cargo and puts it where ts/native.ts looks for it.
//   node scripts/native.mjs [--debug]

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { IS_CHECKOUT, PACKAGE, nativePath } from "./platform.mjs";

/** Builds; throws with advice where that fails. */
export function buildNative({ debug = false } = {}) {
  const workspace = IS_CHECKOUT ? dirname(PACKAGE) : join(PACKAGE, "rust");
  const args = [
    "build",
    "--package",
    "quorumlite-node",
    "--message-format=json-render-diagnostics",
  ];
  if (!debug) args.push("--release");
  if (IS_CHECKOUT) args.push("--locked");
  const cargo = spawnSync("cargo", args, {
    cwd: workspace,
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
    encoding: "utf8",
  });
  if (cargo.error?.code === "ENOENT") {
    throw new Error(
      "cargo was not found. There is no prebuilt library for this platform: install Rust " +
        "(https://rustup.rs) and a C compiler, then install this package again",
    );
  }
  if (cargo.error) throw cargo.error;
  if (cargo.status !== 0) throw new Error(`cargo build failed (status ${cargo.status})`);
  const library = cargo.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .filter((m) => m.reason === "compiler-artifact" && m.target.name === "quorumlite_node")
    .flatMap((m) => m.filenames)
    .find((name) => /\.(so|dylib|dll)$/.test(name));
  if (library === undefined) throw new Error("cargo built no library");
  const to = nativePath();
  mkdirSync(dirname(to), { recursive: true });
  // Not in place: a process may have the old one loaded.
  const partial = `${to}.${process.pid}.partial`;
  copyFileSync(library, partial);
  renameSync(partial, to);
  // An installed package is not built again: hundreds of megabytes of objects are of no use.
  if (!IS_CHECKOUT) rmSync(join(workspace, "target"), { recursive: true, force: true });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  buildNative({ debug: process.argv.includes("--debug") });
}

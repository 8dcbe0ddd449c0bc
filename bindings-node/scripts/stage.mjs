// Puts the Rust sources into rust/ as a workspace of their own, so that the packed tarball can be
// built where no prebuilt library is there. npm runs it before packing, and with --remove after.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PACKAGE } from "./platform.mjs";

const ROOT = dirname(PACKAGE);
const STAGE = join(PACKAGE, "rust");

rmSync(STAGE, { recursive: true, force: true });
if (!process.argv.includes("--remove")) {
  mkdirSync(join(STAGE, "bindings-node"), { recursive: true });
  const manifest = readFileSync(join(ROOT, "Cargo.toml"), "utf8");
  const members = 'members = ["bindings-node", "core"]';
  const staged = manifest.replace(/^members = \[[^\]]*\]$/m, members);
  if (!staged.includes(members)) throw new Error("Cargo.toml has no line with members = [...]");
  writeFileSync(join(STAGE, "Cargo.toml"), staged);
  // Cargo takes what it needs out of it, and keeps the versions.
  cpSync(join(ROOT, "Cargo.lock"), join(STAGE, "Cargo.lock"));
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) cpSync(join(ROOT, name), join(STAGE, name));
  for (const name of ["Cargo.toml", "build.rs", "src"]) {
    cpSync(join(PACKAGE, name), join(STAGE, "bindings-node", name), { recursive: true });
  }
  for (const name of ["Cargo.toml", "src", "proto"]) {
    cpSync(join(ROOT, "core", name), join(STAGE, "core", name), { recursive: true });
  }
}

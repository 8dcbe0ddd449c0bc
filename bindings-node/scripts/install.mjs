// Runs when the package is installed. Nothing is to be done where a prebuilt library is there;
// otherwise it is built from the sources in the package, or in the clone of the repository.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildNative } from "./native.mjs";
import { IS_CHECKOUT, PACKAGE, nativePath, platform } from "./platform.mjs";

const require = createRequire(import.meta.url);

function hasPrebuilt() {
  try {
    require.resolve(`@quorumlite/${platform()}`);
    return true;
  } catch {
    return false;
  }
}

/** The TypeScript compiler is a development dependency, which npm leaves out of a linked folder. */
function compileFront() {
  const compiler = join(PACKAGE, "node_modules", "typescript", "lib", "tsc.js");
  if (!existsSync(compiler)) {
    const env = { ...process.env };
    // The outer npm's: where it installs, and what.
    for (const name of Object.keys(env)) {
      if (
        /^npm_(config_(local_prefix|prefix|global|workspace.*|omit|include)|package|lifecycle)/.test(
          name,
        )
      ) {
        delete env[name];
      }
    }
    delete env.NODE_ENV;
    const npm = process.env.npm_execpath;
    const command = npm ? [process.execPath, npm] : ["npm"];
    const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    execFileSync(command[0], [...command.slice(1), ...args], {
      cwd: PACKAGE,
      env,
      stdio: "inherit",
    });
  }
  const args = [compiler, "--project", join(PACKAGE, "tsconfig.json")];
  execFileSync(process.execPath, args, { stdio: "inherit" });
}

try {
  if (IS_CHECKOUT) {
    compileFront();
    if (!hasPrebuilt()) buildNative();
  } else if (!hasPrebuilt() && !existsSync(nativePath())) {
    buildNative();
  }
} catch (e) {
  console.error(`quorumlite: ${e.message}`);
  process.exitCode = 1;
}

// What the scripts know about platforms and places.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of the package. */
export const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));

/** Whether this is a clone of the repository, not an unpacked package. */
export const IS_CHECKOUT = existsSync(join(PACKAGE, "src", "lib.rs"));

/** The platform as the prebuilt packages spell it, like `platform()` in ts/native.ts. */
export function platform() {
  const parts = [process.platform, process.arch];
  if (process.platform === "linux") {
    parts.push(
      process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "gnu",
    );
  }
  return parts.join("-");
}

/** Where this package keeps the native library that it built. */
export function nativePath() {
  return join(PACKAGE, "native", `quorumlite.${platform()}.node`);
}

// Prepares the packages for publishing. Prints the main package's manifest, with the platform
// packages of npm/ as optionalDependencies; with --write, writes it.
//
// They are not in the repository's manifest: until they are published, every install would ask the
// registry for names that anybody might have taken.

import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PACKAGE } from "./platform.mjs";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const write = process.argv.includes("--write");
const main = read(join(PACKAGE, "package.json"));
const optional = {};
for (const folder of readdirSync(join(PACKAGE, "npm")).sort()) {
  const path = join(PACKAGE, "npm", folder, "package.json");
  if (!existsSync(path)) continue;
  const manifest = read(path);
  const problem =
    manifest.name !== `@quorumlite/${folder}`
      ? `is called ${manifest.name}`
      : manifest.version !== main.version
        ? `has version ${manifest.version}, the main package ${main.version}`
        : write && !existsSync(join(PACKAGE, "npm", folder, manifest.main))
          ? `lacks ${manifest.main}: build it on that platform first`
          : undefined;
  if (problem) throw new Error(`npm/${folder} ${problem}`);
  optional[manifest.name] = manifest.version;
}
delete main.private;
main.optionalDependencies = optional;
const text = `${JSON.stringify(main, null, 2)}\n`;
if (write) writeFileSync(join(PACKAGE, "package.json"), text);
else process.stdout.write(text);

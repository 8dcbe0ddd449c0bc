// Shared by the tests: directories, ports, clusters, other processes.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { open } from "quorumlite";

/** The folder of the package. */
export const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));

/** A directory that goes with the test. */
export function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), "quorumlite-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A standalone node that is closed with the test. */
export async function standalone(t, options = {}) {
  const node = await open(join(directory(t), "n"), { timeout: 30, ...options });
  t.after(() => node.close());
  return node;
}

let candidate = process.pid * 61;

/**
 * Addresses on loopback that nobody uses. Their ports are below those that systems give to outgoing
 * connections, one of which might take one before the node does.
 */
export async function freeAddresses(count) {
  const addresses = [];
  while (addresses.length < count) {
    const port = 12_000 + (candidate++ % 20_000);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) addresses.push(`127.0.0.1:${port}`);
  }
  return addresses;
}

/** Three nodes in this process, n1 being the first; closed with the test. */
export async function cluster(t, options = {}) {
  const dir = directory(t);
  const addresses = await freeAddresses(3);
  const nodes = new Map();
  t.after(() => Promise.all([...nodes.values()].map((n) => n.close())));
  for (const [i, listen] of addresses.entries()) {
    const nodeId = `n${i + 1}`;
    nodes.set(
      nodeId,
      await open(join(dir, nodeId), {
        nodeId,
        listen,
        join: i === 0 ? [] : [addresses[0]],
        secret: "conformance",
        timeout: 30,
        ...options,
      }),
    );
  }
  return nodes;
}

/** Runs a program of Node.js; resolves to its status, signal and output. */
export function program(
  source,
  args = [],
  { cwd = PACKAGE, type = "module", timeout = 60_000 } = {},
) {
  return run(process.execPath, [`--input-type=${type}`, "-e", source, "--", ...args], {
    cwd,
    timeout,
  });
}

/** Runs a command; resolves to its status, signal and output. */
export function run(command, args, { cwd = PACKAGE, timeout = 60_000, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, timeout, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (d) => (stdout += d));
    child.stderr.on("data", (d) => (stderr += d));
    child.on("error", reject);
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
}

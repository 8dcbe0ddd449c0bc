// Opens and closes, and calls, many times; memory and file descriptors must stay flat. Prints the
// figures. node --expose-gc test/flat.mjs [opens] [calls]

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "quorumlite";

const [opens = 10_000, calls = 100_000] = process.argv.slice(2).map(Number);
const dir = mkdtempSync(join(tmpdir(), "quorumlite-flat-"));
// What is kept in memory of a log of the usual 64 MiB would grow for some 200,000 writes.
const options = { maxLogBytes: 2 << 20 };

async function measure() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const status = readFileSync("/proc/self/status", "utf8");
  return {
    rssKiB: Number(/VmRSS:\s+(\d+)/.exec(status)[1]),
    heapKiB: Math.round(process.memoryUsage().heapUsed / 1024),
    threads: Number(/Threads:\s+(\d+)/.exec(status)[1]),
    descriptors: readdirSync("/proc/self/fd").length,
  };
}

/** Runs `step` so often; measures after a third, when caches and pools are full, and at the end. */
async function flat(name, count, step) {
  let warm;
  const began = performance.now();
  for (let i = 0; i < count; i++) {
    if (i === Math.floor(count / 3)) warm = await measure();
    await step(i);
  }
  const seconds = (performance.now() - began) / 1000;
  const end = await measure();
  console.log(JSON.stringify({ name, count, seconds: Number(seconds.toFixed(1)), warm, end }));
  const grown = end.rssKiB - warm.rssKiB;
  // The runtime's idle threads and the pool of readers come and go. A leak of one descriptor, or of
  // a few KiB, in each call would be far beyond.
  if (grown > 32_768 || end.descriptors > warm.descriptors + 32 || end.threads > 200) {
    throw new Error(`${name}: not flat`);
  }
}

await flat("open and close", opens, async () => {
  const node = await open(join(dir, "n"), options);
  await node.close();
});

const node = await open(join(dir, "n"), options);
await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
const { signal } = new AbortController();
const blob = Buffer.alloc(100, 1);
await flat("calls", calls / 20, async (i) => {
  // Twenty at once: writes, reads, errors, batches, with and without a signal.
  await Promise.all(
    Array.from({ length: 20 }, (_, j) => {
      switch (j % 5) {
        case 0:
          return node.execute("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", [j, "text", blob]);
        case 1:
          return node.query("SELECT * FROM t WHERE id < ?", [20], { signal });
        case 2:
          return node.query("SELEKT").catch(() => {});
        case 3:
          return node.executeBatch([["UPDATE t SET a = ? WHERE id = 0", [i]], "SELECT 1"], {
            signal,
          });
        default: {
          const controller = new AbortController();
          const call = node.query("SELECT count(*) FROM t", [], { signal: controller.signal });
          controller.abort();
          return call.catch(() => {});
        }
      }
    }),
  );
});
await node.close();
rmSync(dir, { recursive: true, force: true });

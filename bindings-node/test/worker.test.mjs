import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { open } from "quorumlite";
import { PACKAGE, directory, freeAddresses, program } from "./support.mjs";

const PREAMBLE = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { open, QuorumliteError } = require(${JSON.stringify(PACKAGE)});
`;

function start(source, workerData) {
  return new Worker(`${PREAMBLE}(async () => { ${source} })()`, { eval: true, workerData });
}

test("workers open nodes of their own, and share one", async (t) => {
  const dir = directory(t);
  const shared = await open(join(dir, "shared"));
  await shared.execute("CREATE TABLE t(who)");
  const workers = [1, 2, 3].map((i) =>
    start(
      `const own = await open(workerData.own);
       await own.execute("CREATE TABLE t(a)");
       const shared = await open(workerData.shared);
       for (let i = 0; i < 20; i++) await shared.execute("INSERT INTO t VALUES (?)", [workerData.i]);
       const e = await own.query("SELEKT").catch((e) => e);
       parentPort.postMessage([e instanceof QuorumliteError, e.code]);
       await own.close();
       await shared.close();`,
      { i, own: join(dir, `w${i}`), shared: join(dir, "shared") },
    ),
  );
  await Promise.all(
    workers.map(async (worker) => {
      const exit = once(worker, "exit");
      assert.deepEqual(await once(worker, "message"), [[true, "SQLITE_ERROR"]]);
      assert.deepEqual(await exit, [0]);
    }),
  );
  const counts = await shared.query("SELECT who, count(*) AS n FROM t GROUP BY who ORDER BY who");
  assert.deepEqual(
    counts.arrays,
    [1, 2, 3].map((i) => [i, 20]),
  );
  await shared.close();
});

test("a worker that ends without closing releases its directory", async (t) => {
  const dir = join(directory(t), "n");
  const worker = start(
    `const node = await open(workerData);
     await node.execute("CREATE TABLE t(a)");`,
    dir,
  );
  assert.deepEqual(await once(worker, "exit"), [0]);
  // A member of a cluster is not what the worker had opened: refused if it were still open.
  const [listen] = await freeAddresses(1);
  const node = await open(dir, { listen });
  assert.deepEqual(await node.query("SELECT * FROM t"), []);
  await node.close();
});

test("workers terminated with calls in flight", async (t) => {
  const dir = directory(t);
  for (let round = 0; round < 8; round++) {
    const place = join(dir, `n${round % 2}`);
    const worker = start(
      `const node = await open(workerData);
       await node.execute("CREATE TABLE IF NOT EXISTS t(a)");
       let n = 0;
       const go = async () => {
         for (;;) {
           await node.execute("INSERT INTO t VALUES (1)");
           await node.query("SELECT count(*) FROM t");
           if (n++ === 20) parentPort.postMessage("busy");
         }
       };
       await Promise.all(Array.from({ length: 16 }, go));`,
      place,
    );
    await once(worker, "message");
    await worker.terminate();
    const node = await open(place, { listen: (await freeAddresses(1))[0] });
    assert.ok((await node.query("SELECT count(*) AS n FROM t"))[0].n >= 10);
    await node.close();
  }
});

test("the library outlives the worker that alone had loaded it", async (t) => {
  const { status, signal, stderr, stdout } = await program(
    `import { Worker } from "node:worker_threads";
     import { once } from "node:events";
     for (let i = 0; i < 5; i++) {
       const worker = new Worker(${JSON.stringify(
         `${PREAMBLE}(async () => {
            const node = await open(workerData);
            node.execute("CREATE TABLE IF NOT EXISTS t(a)").catch(() => {});
            parentPort.postMessage("busy");
          })()`,
       )}, { eval: true, execArgv: [], workerData: process.argv[1] });
       await once(worker, "message");
       await worker.terminate();
     }
     // Threads of the runtime go on for a while.
     await new Promise((resolve) => setTimeout(resolve, 300));
     console.log("alive");`,
    [join(directory(t), "n")],
  );
  assert.deepEqual([status, signal, stdout, stderr], [0, null, "alive\n", ""]);
});

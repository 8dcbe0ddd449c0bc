// Random values for every parameter of every call: whatever happens, it is a JavaScript error of
// the documented kinds, and the process and the node live on.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { AbortError, QuorumliteError, open, real } from "quorumlite";
import { directory } from "./support.mjs";

const SEED = Number(process.env.QUORUMLITE_FUZZ_SEED ?? Date.now() % 2 ** 31);
const ROUNDS = Number(process.env.QUORUMLITE_FUZZ_ROUNDS ?? 3000);

// Mulberry32, so that a seed gives the same run again.
let state = SEED;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let x = Math.imul(state ^ (state >>> 15), 1 | state);
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
  return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];

const NAMES = [
  "timeout signal consistency maxStaleness nodeId listen join secret role bigint a b __proto__",
  "constructor toString length 0 then dir maxLogBytes",
]
  .join(" ")
  .split(" ");

const LEAVES = [
  () => undefined,
  () => null,
  () => random() < 0.5,
  () => pick([0, -0, 1, -1, 0.5, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 53, 1e308, 5e-324]),
  () => (random() - 0.5) * 2 ** below(1024),
  () => pick([0n, 1n, -1n, 2n ** 63n, -(2n ** 63n), 2n ** 64n, 2n ** 1000n]),
  () =>
    pick([
      "",
      "a",
      "\0",
      "\ud800",
      "SELECT 1",
      "SELECT ?",
      "SELECT :a",
      "INSERT INTO t VALUES (?)",
    ]),
  () => pick(["none", "session", "weak", "linearizable", "strong", "127.0.0.1:0", "n1", "voter"]),
  () => String.fromCharCode(...Array.from({ length: below(40) }, () => below(0x10000))),
  () => "x".repeat(below(100_000)),
  () => Symbol("s"),
  () => Symbol.iterator,
  () => () => 1,
  () => async () => 1,
  () => class {},
  () => new Date(pick([0, NaN])),
  () => /x/,
  () => new Map([[1, 2]]),
  () => new Set([1]),
  () => new WeakMap(),
  () => Promise.resolve(1),
  () => new Error("e"),
  () => Buffer.from("bytes"),
  () => new Uint8Array(below(1000)),
  () => new Float64Array(below(3)),
  () => new BigInt64Array(1),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => new SharedArrayBuffer(8),
  () => new Number(1),
  () => Object(1n),
  () => Object(Symbol("s")),
  () => real(random()),
  () => Object.create(null),
  () => Object.freeze([1]),
  () => new Proxy([], {}),
  () => new Proxy({}, { ownKeys: () => ["a"], getOwnPropertyDescriptor: () => undefined }),
  () => new Proxy([1], { get: () => { throw new EvalError("trap"); } }), // prettier-ignore
  () => { const r = Proxy.revocable({}, {}); r.revoke(); return r.proxy; }, // prettier-ignore
  () => { const r = Proxy.revocable([], {}); r.revoke(); return r.proxy; }, // prettier-ignore
  () => ({ get a() { throw new EvalError("trap"); } }), // prettier-ignore
  () => ({ toString() { throw new EvalError("trap"); }, valueOf: null }), // prettier-ignore
  () => { const a = []; a.length = below(2000); return a; }, // prettier-ignore
  () => { const a = []; a.push(a); return a; }, // prettier-ignore
  () => { const u = new Uint8Array(4); structuredClone(u.buffer, { transfer: [u.buffer] }); return u; }, // prettier-ignore
  () => AbortSignal.abort(),
  () => new AbortController().signal,
  () => ({ aborted: false, addEventListener() { throw new EvalError("trap"); }, removeEventListener() {} }), // prettier-ignore
  () => globalThis,
  () => new URL("file:///nowhere"),
];

function any(depth = 0) {
  const shape = depth < 3 ? below(12) : 12;
  if (shape < 2) return Array.from({ length: below(5) }, () => any(depth + 1));
  if (shape < 4) {
    return Object.fromEntries(
      Array.from({ length: below(4) }, () => [pick(NAMES), any(depth + 1)]),
    );
  }
  return pick(LEAVES)();
}

/** A sound argument now and then, so that the ones behind it are reached. */
const or = (sound) => (random() < 0.6 ? sound() : any());
const sql = () => or(() => pick(["SELECT ?", "SELECT :a", "INSERT INTO t VALUES (?)", "SELECT 1"]));
const params = () => or(() => pick([[any()], { a: any() }, [], undefined]));
const bounded = () => or(() => ({ timeout: random(), [pick(NAMES)]: any() }));

function isDocumented(e) {
  return (
    e instanceof QuorumliteError ||
    e instanceof AbortError ||
    e instanceof TypeError ||
    e instanceof RangeError ||
    // Thrown by an argument's own code.
    e instanceof EvalError
  );
}

test(`random arguments (QUORUMLITE_FUZZ_SEED=${SEED})`, async (t) => {
  const dir = directory(t);
  const node = await open(join(dir, "node"), { timeout: 2 });
  await node.execute("CREATE TABLE t(a)");
  const calls = [
    () => node.execute(sql(), params(), bounded()),
    () =>
      node.executeBatch(
        or(() => [[sql(), params()], sql()]),
        bounded(),
      ),
    () => node.query(sql(), params(), bounded()),
    () => node.members(bounded()),
    () => node.waitForLeader(or(random)),
    () => node.waitForLeader(bounded()),
    () => node.transferLeadership(any(), bounded()),
    () => node.removeMember(any(), bounded()),
    () => node.contentHash(bounded()),
    () => node.status(any()),
    () => real(any()),
    async () => {
      // Never a directory of somebody else's: only what is no path at all, or one in here.
      const where = any();
      const isPath = typeof where === "string" || where instanceof URL;
      const options = Object.fromEntries(
        Array.from({ length: below(3) }, () => [pick(NAMES), any()]),
      );
      const opened = await open(isPath ? join(dir, "other") : where, {
        timeout: 0.2,
        ...or(() => options),
      });
      await opened.close();
    },
  ];
  let succeeded = 0;
  let failed = 0;
  for (let i = 0; i < ROUNDS; i++) {
    try {
      await pick(calls)();
      succeeded++;
    } catch (e) {
      failed++;
      assert.ok(isDocumented(e), `round ${i}: ${e?.stack ?? String(e)}`);
      if (e instanceof QuorumliteError) {
        assert.match(e.code, /^[A-Z][A-Z0-9_]*$/);
        assert.notEqual(e.kind, "Internal", e.message);
      }
    }
  }
  assert.ok(succeeded > ROUNDS / 50 && failed > ROUNDS / 50, `${succeeded} and ${failed}`);
  assert.deepEqual(await node.query("SELECT 1 AS a"), [{ a: 1 }]);
  await node.close();
});

test("random arguments for the native half itself: an error, never a crash", async (t) => {
  const { native } = await import(join(import.meta.dirname, "..", "dist", "native.js"));
  const opened = await native.open({ dir: join(directory(t), "n"), timeout: 2 });
  const node = opened.value;
  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(node)).filter(
    (name) => !["constructor", "close"].includes(name),
  );
  assert.equal(methods.length, 12);
  const some = () => Array.from({ length: below(7) }, () => any());
  for (let i = 0; i < ROUNDS; i++) {
    try {
      const name = pick(methods);
      // A deadline where there is a place for one.
      const self = random() < 0.9 ? node : any();
      await Reflect.apply(node[name], self, some());
      if (random() < 0.1) new native.Cancellation(...some()).cancel(...some());
      if (random() < 0.1) Reflect.construct(node.constructor, some());
    } catch (e) {
      assert.ok(e instanceof Error, String(e));
    }
  }
  assert.deepEqual((await node.query("SELECT 1 AS a", [null, []], {})).value.rows, [[1]]);
  await node.close();
});

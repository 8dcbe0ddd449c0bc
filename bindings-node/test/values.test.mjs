import assert from "node:assert/strict";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { real } from "quorumlite";
import { standalone } from "./support.mjs";

const MAX = 2n ** 63n - 1n;

async function roundTrip(node, v) {
  const [row] = (await node.query("SELECT ?1, typeof(?1)", [v])).arrays;
  return row;
}

test("what each value binds as, and comes back as", async (t) => {
  const node = await standalone(t);
  const cases = [
    [null, null, "null"],
    [true, 1, "integer"],
    [false, 0, "integer"],
    [0, 0, "integer"],
    [-1, -1, "integer"],
    [1.0, 1, "integer"],
    [1.5, 1.5, "real"],
    [-0, -0, "real"],
    [real(1), 1, "real"],
    [real(-0), -0, "real"],
    [NaN, null, "null"],
    [real(NaN), null, "null"],
    [Infinity, Infinity, "real"],
    [-Infinity, -Infinity, "real"],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, "integer"],
    [Number.MIN_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, "integer"],
    [2 ** 53, 2 ** 53, "real"],
    [Number.MAX_VALUE, Number.MAX_VALUE, "real"],
    [Number.MIN_VALUE, Number.MIN_VALUE, "real"],
    [5n, 5, "integer"],
    [2n ** 53n - 1n, 2 ** 53 - 1, "integer"],
    [2n ** 53n, 2n ** 53n, "integer"],
    [-(2n ** 53n), -(2n ** 53n), "integer"],
    [MAX, MAX, "integer"],
    [-MAX - 1n, -MAX - 1n, "integer"],
    ["", "", "text"],
    ["a\0b", "a\0b", "text"],
    ["größe 😀", "größe 😀", "text"],
    [Buffer.from([0, 255]), Buffer.from([0, 255]), "blob"],
    [new Uint8Array(0), Buffer.alloc(0), "blob"],
    [new Uint8Array([9, 1, 2, 9]).subarray(1, 3), Buffer.from([1, 2]), "blob"],
    [new Uint8Array(new SharedArrayBuffer(2)), Buffer.alloc(2), "blob"],
    [runInNewContext("new Uint8Array([5])"), Buffer.from([5]), "blob"],
  ];
  for (const [given, back, type] of cases) {
    const [got, gotType] = await roundTrip(node, given);
    assert.ok(Object.is(got, back) || Buffer.isBuffer(back), `${String(given)} gave ${got}`);
    assert.deepEqual(got, back);
    assert.equal(gotType, type, String(given));
  }
});

test("the option bigint gives every INTEGER as a bigint, and only those", async (t) => {
  const node = await standalone(t, { bigint: true });
  assert.deepEqual(await roundTrip(node, 1), [1n, "integer"]);
  assert.deepEqual(await roundTrip(node, real(1)), [1, "real"]);
  await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)");
  const result = await node.execute("INSERT INTO t VALUES (7) RETURNING id");
  assert.equal(result.lastInsertRowid, 7n);
  assert.deepEqual(result.rows, [{ id: 7n }]);
  assert.equal(result.rowsAffected, 1);
});

test("a rowid beyond the safe integers is a bigint", async (t) => {
  const node = await standalone(t);
  await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)");
  const { lastInsertRowid } = await node.execute("INSERT INTO t VALUES (?)", [MAX - 1n]);
  assert.equal(lastInsertRowid, MAX - 1n);
});

test("what cannot be stored is a TypeError or RangeError that names the place", async (t) => {
  const node = await standalone(t);
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const wrong = [
    undefined,
    Symbol("s"),
    () => 1,
    {},
    [],
    new Date(),
    new Map(),
    Promise.resolve(1),
    new Float64Array(1),
    new Uint16Array(1),
    new DataView(new ArrayBuffer(1)),
    new ArrayBuffer(1),
    new Number(1),
    new String("s"),
    Object.create(null),
    { value: 1 },
    revoked.proxy,
  ];
  for (const v of wrong) {
    await assert.rejects(node.query("SELECT ?, ?", [1, v]), {
      name: "TypeError",
      message: /^parameter 2: a value of this kind cannot be stored/,
    });
    await assert.rejects(node.execute("SELECT :a", { a: v }), {
      name: "TypeError",
      message: /^parameter 'a':/,
    });
    await assert.rejects(node.executeBatch(["SELECT 1", ["SELECT ?", [v]]]), {
      name: "TypeError",
      message: /^statement 2, parameter 1:/,
    });
  }
  for (const v of [MAX + 1n, -MAX - 2n, 2n ** 64n, 2n ** 4096n]) {
    await assert.rejects(node.query("SELECT ?", [v]), {
      name: "RangeError",
      message: /^parameter 1: the bigint does not fit in 64 bits/,
    });
  }
  await assert.rejects(node.query("SELECT ?", ["\ud800"]), { name: "TypeError" });
  // eslint-disable-next-line no-sparse-arrays
  await assert.rejects(node.query("SELECT ?, ?", [, 1]), { message: /^parameter 1:.*undefined/ });
  assert.throws(() => real("1"), { name: "TypeError" });
});

test("bytes are copied when the call is made", async (t) => {
  const node = await standalone(t);
  const bytes = new Uint8Array([1, 2, 3]);
  const answer = node.query("SELECT ?", [bytes]);
  bytes.fill(9);
  assert.deepEqual((await answer).arrays, [[Buffer.from([1, 2, 3])]]);
  const detached = new Uint8Array([1, 2]);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  assert.deepEqual((await node.query("SELECT ?", [detached])).arrays, [[Buffer.alloc(0)]]);
});

test("params: arrays, objects, none", async (t) => {
  const node = await standalone(t);
  for (const none of [undefined, null, [], {}]) {
    assert.deepEqual(await node.query("SELECT 1 AS a", none), [{ a: 1 }]);
  }
  const named = Object.assign(Object.create(null), { a: 1, b: "x" });
  assert.deepEqual((await node.query("SELECT :a, @b", named)).arrays, [[1, "x"]]);
  for (const wrong of [
    1,
    "a",
    true,
    1n,
    Symbol("s"),
    () => 1,
    new Uint8Array(1),
    new Map(),
    real(1),
  ]) {
    await assert.rejects(node.query("SELECT ?", wrong), {
      name: "TypeError",
      message: /^params must be an array or an object/,
    });
  }
  await assert.rejects(node.query("SELECT ?", []), { kind: "Sql", code: "SQL_PARAMETERS" });
  const trap = {
    get a() {
      throw new RangeError("mine");
    },
  };
  await assert.rejects(node.query("SELECT :a", trap), { name: "RangeError", message: "mine" });
});

test("rows: objects, columns, arrays", async (t) => {
  const node = await standalone(t);
  const rows = await node.query('SELECT 1 AS a, 2 AS a, 3 AS "__proto__", 4 AS "constructor"');
  assert.deepEqual(rows.columns, ["a", "a", "__proto__", "constructor"]);
  assert.deepEqual(rows.arrays, [[1, 2, 3, 4]]);
  assert.equal(rows[0].a, 2);
  assert.equal(Object.getOwnPropertyDescriptor(rows[0], "__proto__").value, 3);
  assert.equal(Object.getPrototypeOf(rows[0]), Object.prototype);
  assert.equal(rows[0].constructor, 4);
  assert.ok(Array.isArray(rows));
  assert.deepEqual(Object.keys(rows), ["0"]);
  const none = await node.query("SELECT 1 AS a WHERE 0");
  assert.deepEqual([none, none.columns, none.arrays], [[], ["a"], []]);
});

test("a hundred thousand rows, and a value of many megabytes", async (t) => {
  const node = await standalone(t);
  const rows = await node.query(
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000) " +
      "SELECT x, 'text ' || x AS t FROM c",
  );
  assert.equal(rows.length, 100_000);
  assert.deepEqual(rows[99_999], { x: 100_000, t: "text 100000" });
  const bytes = Buffer.alloc(8 << 20, 7);
  const [[back, length]] = (await node.query("SELECT ?1, length(?1)", [bytes])).arrays;
  assert.equal(length, bytes.length);
  assert.ok(bytes.equals(back));
});

test("a batch is all or nothing", async (t) => {
  const node = await standalone(t);
  const results = await node.executeBatch([
    "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
    ["INSERT INTO t(name) VALUES (?)", ["ann"]],
    ["INSERT INTO t(name) VALUES (:n) RETURNING id", { n: "bob" }],
    ["SELECT count(*) AS n FROM t"],
  ]);
  assert.deepEqual(
    results.map((r) => [r.rowsAffected, r.lastInsertRowid, r.rows]),
    [
      [0, 0, []],
      [1, 1, []],
      [1, 2, [{ id: 2 }]],
      [0, 0, [{ n: 2 }]],
    ],
  );
  await assert.rejects(
    node.executeBatch(["DELETE FROM t", ["INSERT INTO t VALUES (1, 'x'), (2, 'x')"]]),
    { kind: "Constraint", code: "SQLITE_CONSTRAINT_UNIQUE", sqliteCode: 2067 },
  );
  assert.deepEqual(await node.query("SELECT count(*) AS n FROM t"), [{ n: 2 }]);
  assert.deepEqual(await node.executeBatch([]), []);
  for (const wrong of ["SELECT 1", null, {}, [1], [[]], [["a", [], 1]], [[1]], [null], new Set()]) {
    await assert.rejects(node.executeBatch(wrong), { name: "TypeError" });
  }
});

// The format of the conformance cases, as conformance/README.md describes it.

import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse } from "smol-toml";
import { real } from "quorumlite";
import { PACKAGE } from "./support.mjs";

const CASES = join(dirname(PACKAGE), "conformance", "cases");
const RUNNERS = ["sqlite3", "python", "rust", "node", "kotlin", "swift"];
const KINDS = ["Sql", "Constraint", "Forbidden", "Busy", "Config"];
const VERBS = ["execute", "execute_batch", "query"];

function only(table, allowed, where) {
  const unknown = Object.keys(table).filter((key) => !allowed.includes(key));
  if (unknown.length) throw new Error(`${where}: unknown keys ${unknown.join(", ")}`);
}

/** All cases, in the order of the files' names. Throws on the first fault. */
export function load() {
  const cases = [];
  for (const file of readdirSync(CASES)
    .filter((f) => f.endsWith(".toml"))
    .sort()) {
    const document = parse(readFileSync(join(CASES, file), "utf8"), { integersAsBigInt: true });
    only(document, ["case"], file);
    for (const raw of document.case) {
      const where = `${file}: ${raw.name}`;
      only(raw, ["name", "why", "skip", "since", "uses", "setup", "steps"], where);
      if (!/^[a-z0-9_]+$/.test(raw.name) || cases.some((c) => c.name === raw.name)) {
        throw new Error(`${where}: the name is malformed or used twice`);
      }
      only(raw.skip ?? {}, RUNNERS, `${where}: skip`);
      const loaded = { name: raw.name, file, skip: raw.skip?.node, steps: (p) => steps(raw, p) };
      try {
        loaded.steps("p_");
      } catch (e) {
        throw new Error(`${where}: ${e.message}`, { cause: e });
      }
      cases.push(loaded);
    }
  }
  if (!cases.length) throw new Error(`no cases in ${CASES}`);
  return cases;
}

function steps(raw, prefix) {
  const setup = (raw.setup ?? []).map((sql) => step({ execute: sql }, prefix));
  return [...setup, ...raw.steps.map((s) => step(s, prefix))];
}

function step(raw, prefix) {
  const verbs = VERBS.filter((verb) => verb in raw);
  if (verbs.length !== 1) throw new Error(`a step has one verb, not ${verbs}`);
  const [verb] = verbs;
  const results = ["columns", "rows"];
  const counts = ["rows_affected", "last_insert_rowid"];
  let calls, outcomes;
  if (verb === "execute_batch") {
    only(raw, [verb, "results", "error"], "step");
    raw[verb].forEach((s) => only(s, ["sql", "params"], "statement"));
    (raw.results ?? []).forEach((r) => only(r, [...results, ...counts], "result"));
    calls = raw[verb].map((s) => call(s, prefix));
    outcomes = (raw.results ?? calls.map(() => ({}))).map((r) => outcome(r, prefix));
    if (calls.length !== outcomes.length) throw new Error("as many results as statements");
  } else {
    const allowed = verb === "execute" ? [...results, ...counts] : results;
    only(raw, [...allowed, verb, "params", "error"], "step");
    calls = [call({ sql: raw[verb], params: raw.params }, prefix)];
    outcomes = [outcome(raw, prefix)];
  }
  if (raw.error) {
    only(raw.error, ["kind", "code"], "error");
    if (!KINDS.includes(raw.error.kind) || !/^[A-Z][A-Z0-9_]*$/.test(raw.error.code)) {
      throw new Error("not an error");
    }
    if (outcomes.some((o) => Object.values(o).some((v) => v !== undefined))) {
      throw new Error("a step expects an error or a result, not both");
    }
  }
  return { verb, calls, outcomes, error: raw.error, text: calls.map((c) => c.sql).join("; ") };
}

function call({ sql, params }, prefix) {
  let bound;
  if (Array.isArray(params)) bound = params.map((v) => value(v, prefix));
  else if (params !== undefined) {
    bound = Object.fromEntries(Object.entries(params).map(([k, v]) => [k, value(v, prefix)]));
  }
  return { sql: sql.replaceAll("{p}", prefix), params: bound };
}

function outcome(raw, prefix) {
  return {
    columns: raw.columns?.map((c) => c.replaceAll("{p}", prefix)),
    rows: raw.rows?.map((row) => row.map((v) => value(v, prefix))),
    rows_affected: raw.rows_affected,
    last_insert_rowid: raw.last_insert_rowid,
  };
}

/** Decodes one value, into what binds as it: an INTEGER is a bigint, a REAL is `real()`. */
function value(raw, prefix) {
  let times = 1;
  if (typeof raw === "object") {
    only(raw, ["repeat", "times"], "value");
    times = Number(raw.times);
    raw = raw.repeat;
    if (!/^[tx]:/.test(raw)) throw new Error(`only t: and x: can be repeated, not ${raw}`);
  }
  raw = raw.replaceAll("{p}", prefix);
  if (raw === "null") return null;
  const [, tag, text] = /^(.):(.*)$/s.exec(raw) ?? [];
  if (tag === "i" && /^-?[0-9]+$/.test(text)) return BigInt(text);
  if (tag === "r") {
    const special = { inf: Infinity, "-inf": -Infinity, nan: NaN };
    if (text in special) return real(special[text]);
    if (/^-?[0-9]/.test(text) && !Number.isNaN(Number(text))) return real(Number(text));
  }
  if (tag === "t") return text.repeat(times);
  if (tag === "x" && /^([0-9a-f]{2})*$/.test(text)) {
    return Buffer.concat(Array(times).fill(Buffer.from(text, "hex")));
  }
  throw new Error(`not a value: ${raw}`);
}

// The runner's nodes have the option `bigint`, so an INTEGER is a bigint and a REAL a number.
function same(expected, actual) {
  if (Buffer.isBuffer(expected)) return Buffer.isBuffer(actual) && expected.equals(actual);
  if (typeof expected === "object" && expected !== null) return Object.is(expected.value, actual);
  return expected === actual;
}

function show(thing) {
  const text = JSON.stringify(thing, (_, v) => (typeof v === "bigint" ? `${v}n` : v)) ?? "nothing";
  return text.length <= 400 ? text : `${text.slice(0, 400)}...`;
}

function difference(expected, columns, rows, affected, rowid) {
  if (expected.columns && show(expected.columns) !== show(columns)) {
    return `columns ${show(columns)} instead of ${show(expected.columns)}`;
  }
  if (expected.rows) {
    if (expected.rows.length !== rows.length) {
      return `${rows.length} rows instead of ${expected.rows.length}: ${show(rows)}`;
    }
    for (const [i, want] of expected.rows.entries()) {
      const got = rows[i];
      if (want.length !== got.length || !want.every((w, j) => same(w, got[j]))) {
        return `row ${i} is ${show(got)} instead of ${show(want)}`;
      }
    }
  }
  if (expected.rows_affected !== undefined && Number(expected.rows_affected) !== affected) {
    return `rows_affected ${affected} instead of ${expected.rows_affected}`;
  }
  if (expected.last_insert_rowid !== undefined && expected.last_insert_rowid !== rowid) {
    return `last_insert_rowid ${rowid} instead of ${expected.last_insert_rowid}`;
  }
  return undefined;
}

/** Runs one step on a node; says what differs, or undefined. */
export async function runStep(node, { verb, calls, outcomes, error }, consistency) {
  let results;
  try {
    const [{ sql, params }] = calls;
    if (verb === "query") {
      results = [{ rows: await node.query(sql, params, { consistency }) }];
    } else if (verb === "execute") {
      results = [await node.execute(sql, params)];
    } else {
      results = await node.executeBatch(calls.map((c) => [c.sql, c.params]));
    }
  } catch (e) {
    if (e.name !== "QuorumliteError") throw e;
    if (error && error.kind === e.kind && error.code === e.code) return undefined;
    return `failed with ${e.kind} ${e.code}: ${e.message}, expected ${show(error)}`;
  }
  if (error) return `succeeded instead of failing with ${show(error)}`;
  if (results.length !== outcomes.length) {
    return `${results.length} results for ${outcomes.length} statements`;
  }
  return outcomes
    .map((o, i) => {
      const { rows, rowsAffected, lastInsertRowid } = results[i];
      return difference(o, rows.columns, rows.arrays, rowsAffected, lastInsertRowid);
    })
    .find((d) => d !== undefined);
}

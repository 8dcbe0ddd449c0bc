/**
 * Checks arguments and brings them into the shape that the native half expects. What is wrong is a
 * TypeError or RangeError that names the place; nothing is guessed.
 */

import { types } from "node:util";
import { fileURLToPath } from "node:url";
import type { NativeOpenOptions, NativeParams } from "./native.js";

/** The longest accepted number of seconds: a day, as in the core. */
const MAX_SECONDS = 86_400;

class RealNumber {
  readonly #value: number;

  constructor(value: number) {
    this.#value = value;
  }

  get value(): number {
    return this.#value;
  }

  /** Unlike `instanceof`, neither deceived by a proxy nor stopped by one. */
  static is(v: object): v is RealNumber {
    return #value in v;
  }
}

/** Makes a number bind as REAL even if it is an integer: `real(1)`. */
export function real(value: number): { readonly value: number } {
  if (typeof value !== "number") {
    throw new TypeError(`real takes a number, not ${describe(value)}`);
  }
  return new RealNumber(value);
}

/** What a value is, for messages. */
export function describe(v: unknown): string {
  if (v === null || v === undefined) return String(v);
  if (typeof v !== "object") return `a ${typeof v}`;
  try {
    const name: unknown = (v as object).constructor?.name;
    if (typeof name === "string" && name !== "" && name !== "Object") return `an object (${name})`;
  } catch {
    // A proxy or a getter that throws: its name is not worth an error of its own.
  }
  return "an object";
}

/** A well-formed string: UTF-8 cannot hold a lone surrogate. */
export function text(v: unknown, place: string): string {
  if (typeof v !== "string") {
    throw new TypeError(`${place} must be a string, not ${describe(v)}`);
  }
  if (!v.isWellFormed()) {
    throw new TypeError(
      `${place}: the text contains a lone surrogate, which UTF-8 cannot hold; clean it, for ` +
        "example with text.toWellFormed()",
    );
  }
  return v;
}

function value(v: unknown, place: string): NativeParams[1][number] {
  switch (typeof v) {
    case "number":
    case "boolean":
      return v;
    case "string":
      return text(v, place);
    case "bigint":
      if (BigInt.asIntN(64, v) !== v) {
        throw new RangeError(
          `${place}: the bigint does not fit in 64 bits (-2n ** 63n to 2n ** 63n - 1n); pass ` +
            "String(value) to store it as text",
        );
      }
      return v;
    case "object":
      if (v === null || types.isUint8Array(v)) return v;
      if (RealNumber.is(v)) return Float64Array.of(v.value);
  }
  throw new TypeError(
    `${place}: a value of this kind cannot be stored: ${describe(v)}; convert it to null, a ` +
      "number, bigint, string or Uint8Array first (for example date.toISOString(), " +
      "JSON.stringify(object), or null for undefined)",
  );
}

/** Parameters of one statement; `place` is empty or names the statement. */
export function params(v: unknown, place = ""): NativeParams {
  if (v === undefined || v === null) return [null, []];
  if (Array.isArray(v)) {
    const values: NativeParams[1] = [];
    for (let i = 0; i < v.length; i++) {
      values.push(value(v[i], `${place}parameter ${i + 1}`));
    }
    return [null, values];
  }
  const isPlain =
    typeof v === "object" &&
    !ArrayBuffer.isView(v) &&
    !types.isAnyArrayBuffer(v) &&
    !types.isMap(v) &&
    !types.isSet(v) &&
    !types.isPromise(v) &&
    !types.isBoxedPrimitive(v) &&
    !types.isDate(v) &&
    !RealNumber.is(v);
  if (!isPlain) {
    throw new TypeError(
      `${place}params must be an array or an object, not ${describe(v)}; put a single value in ` +
        "an array: [value]",
    );
  }
  const names: string[] = [];
  const values: NativeParams[1] = [];
  for (const [name, member] of Object.entries(v as object)) {
    names.push(text(name, `${place}the name of a parameter`));
    values.push(value(member, `${place}parameter '${name}'`));
  }
  return [names, values];
}

/** The statements of a batch. */
export function statements(list: unknown): { sqls: string[]; params: NativeParams[] } {
  const shape = 'executeBatch takes an array whose items are "sql" or ["sql", params]';
  if (!Array.isArray(list)) {
    throw new TypeError(`${shape}; it was given ${describe(list)}`);
  }
  const result = { sqls: [] as string[], params: [] as NativeParams[] };
  for (let i = 0; i < list.length; i++) {
    const item: unknown = list[i];
    const place = `statement ${i + 1}`;
    if (typeof item === "string") {
      result.sqls.push(text(item, `${place}: sql`));
      result.params.push([null, []]);
    } else if (Array.isArray(item) && (item.length === 1 || item.length === 2)) {
      result.sqls.push(text(item[0], `${place}: sql`));
      result.params.push(params(item[1], `${place}, `));
    } else {
      throw new TypeError(`${shape}; item ${i + 1} is ${describe(item)}`);
    }
  }
  return result;
}

/** A number of seconds; undefined and null stay undefined. */
export function seconds(v: unknown, name: string): number | undefined {
  if (v === undefined || v === null) return undefined;
  if (typeof v !== "number") {
    throw new TypeError(`${name} must be a number of seconds, not ${describe(v)}`);
  }
  if (!(v >= 0 && v <= MAX_SECONDS)) {
    throw new RangeError(
      `${name} must be a number of seconds from 0 to ${MAX_SECONDS}, not ${v}; leave it out for ` +
        "the default",
    );
  }
  return v;
}

/** What `check` makes of a value; undefined and null become undefined. */
export function optional<T>(
  v: unknown,
  name: string,
  check: (v: unknown, name: string) => T,
): T | undefined {
  return v === undefined || v === null ? undefined : check(v, name);
}

export function boolean(v: unknown, name: string): boolean {
  if (typeof v !== "boolean") {
    throw new TypeError(`${name} must be true or false, not ${describe(v)}`);
  }
  return v;
}

function path(v: unknown, name: string): string {
  if (typeof v !== "string" && !(v instanceof URL)) {
    throw new TypeError(`${name} must be a path (a string or a file: URL), not ${describe(v)}`);
  }
  const given = typeof v === "string" ? v : fileURLToPath(v);
  if (given.includes("\0")) {
    throw new TypeError(`${name} must be a path, which cannot contain a NUL character`);
  }
  return text(given, name);
}

function addresses(v: unknown, name: string): string[] {
  if (!Array.isArray(v)) {
    throw new TypeError(
      `${name} must be an array of addresses such as ["127.0.0.1:7001"], not ${describe(v)}`,
    );
  }
  return Array.from(v, (a: unknown) => text(a, `each address in ${name}`));
}

function bytes(v: unknown, name: string): number {
  if (typeof v !== "number") {
    throw new TypeError(`${name} must be a number of bytes, not ${describe(v)}`);
  }
  if (!Number.isSafeInteger(v) || v < 0) {
    throw new RangeError(`${name} must be a whole number of bytes, not ${v}`);
  }
  return v;
}

/** An index in the log. */
export function logIndex(v: unknown, name: string): number {
  if (typeof v !== "number") {
    throw new TypeError(`${name} must be an index in the log, not ${describe(v)}`);
  }
  if (!Number.isSafeInteger(v) || v < 0) {
    throw new RangeError(`${name} must be an index in the log, a whole number, not ${v}`);
  }
  return v;
}

/** An object of options without any that is not in `allowed`; undefined and null are empty. */
export function options<K extends string>(
  v: unknown,
  call: string,
  allowed: readonly K[],
): { readonly [name in K]?: unknown } {
  if (v === undefined || v === null) return {};
  if (typeof v !== "object" || Array.isArray(v)) {
    throw new TypeError(`the options of ${call} must be an object, not ${describe(v)}`);
  }
  const copy: { [name in K]?: unknown } = {};
  for (const [name, option] of Object.entries(v)) {
    if (!(allowed as readonly string[]).includes(name)) {
      throw new TypeError(`${call} has no option '${name}'; it has ${allowed.join(", ")}`);
    }
    copy[name as K] = option as unknown;
  }
  return copy;
}

/** An `AbortSignal`; undefined and null stay undefined. */
export function signal(v: unknown): AbortSignal | undefined {
  if (v === undefined || v === null) return undefined;
  // Not `instanceof`: it may come from another realm, or a polyfill.
  const s = v as AbortSignal;
  if (
    typeof s !== "object" ||
    typeof s.aborted !== "boolean" ||
    typeof s.addEventListener !== "function" ||
    typeof s.removeEventListener !== "function"
  ) {
    throw new TypeError(`signal must be an AbortSignal, not ${describe(v)}`);
  }
  return s;
}

const OPEN_OPTIONS = [
  "nodeId",
  "listen",
  "advertise",
  "join",
  "secret",
  "ca",
  "cert",
  "key",
  "insecure",
  "role",
  "timeout",
  "consistency",
  "maxLogBytes",
  "checkInterval",
  "bigint",
  "signal",
] as const;

/** A data directory. */
export function directory(dir: unknown): string {
  return path(dir, "dir");
}

/** The directory and the options of `open`. */
export function openOptions(
  dir: unknown,
  v: unknown,
): { native: NativeOpenOptions; signal: AbortSignal | undefined } {
  const o = options(v, "open", OPEN_OPTIONS);
  const given = {
    dir: path(dir, "dir"),
    nodeId: optional(o.nodeId, "nodeId", text),
    listen: optional(o.listen, "listen", text),
    advertise: optional(o.advertise, "advertise", text),
    join: optional(o.join, "join", addresses),
    secret: optional(o.secret, "secret", text),
    ca: optional(o.ca, "ca", path),
    cert: optional(o.cert, "cert", path),
    key: optional(o.key, "key", path),
    insecure: optional(o.insecure, "insecure", boolean),
    role: optional(o.role, "role", text),
    timeout: seconds(o.timeout, "timeout"),
    consistency: optional(o.consistency, "consistency", text),
    maxLogBytes: optional(o.maxLogBytes, "maxLogBytes", bytes),
    checkInterval: seconds(o.checkInterval, "checkInterval"),
    bigint: optional(o.bigint, "bigint", boolean),
  };
  const present = Object.entries(given).filter(([, option]) => option !== undefined);
  return {
    native: Object.fromEntries(present) as unknown as NativeOpenOptions,
    signal: signal(o.signal),
  };
}

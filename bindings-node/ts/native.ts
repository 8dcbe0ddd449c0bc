/** Finds and loads the native half: from this package's own build, or a prebuilt package. */

import { createRequire } from "node:module";
import { join } from "node:path";
import type { Failure } from "./errors.js";
import type { CheckReport, ContentHash, Member, Recovery, Status, Value } from "./types.js";

/** What a native call resolves to; empty where it was cancelled. */
export interface Outcome<T> {
  value?: T;
  failure?: Failure;
}

/** An outcome that may have to be waited for. */
export type Pending<T> = Outcome<T> | Promise<Outcome<T>>;

/** Parameters, checked: the names (null: by position), and the values. */
export type NativeParams = [
  names: string[] | null,
  values: (null | boolean | number | bigint | string | Uint8Array | Float64Array)[],
];

export interface NativeRows {
  columns: string[];
  rows: Value[][];
}

export interface NativeResult {
  rowsAffected: number;
  lastInsertRowid: number | bigint;
  index: number;
  rows: NativeRows;
}

export interface NativeOpenOptions {
  dir: string;
  nodeId?: string;
  listen?: string;
  advertise?: string;
  join?: string[];
  secret?: string;
  ca?: string;
  cert?: string;
  key?: string;
  insecure?: boolean;
  role?: string;
  timeout?: number;
  consistency?: string;
  maxLogBytes?: number;
  checkInterval?: number;
  bigint?: boolean;
}

export interface Cancellation {
  cancel(): void;
}

type Cancel = Cancellation | undefined;
type Seconds = number | undefined;

export interface NativeNode {
  execute(
    sql: string,
    params: NativeParams,
    timeout: Seconds,
    cancel: Cancel,
  ): Pending<NativeResult>;
  executeBatch(
    sqls: string[],
    params: NativeParams[],
    timeout: Seconds,
    cancel: Cancel,
  ): Pending<NativeResult[]>;
  query(
    sql: string,
    params: NativeParams,
    options: { consistency: string | undefined; maxStaleness: Seconds; timeout: Seconds },
    cancel: Cancel,
  ): Pending<NativeRows>;
  status(): Outcome<Status>;
  members(cancel: Cancel): Pending<Member[]>;
  waitForLeader(timeout: Seconds, cancel: Cancel): Pending<string>;
  transferLeadership(nodeId: string, timeout: Seconds, cancel: Cancel): Pending<null>;
  removeMember(nodeId: string, timeout: Seconds, cancel: Cancel): Pending<null>;
  voidCommand(index: number, force: boolean, timeout: Seconds, cancel: Cancel): Pending<null>;
  retryApply(timeout: Seconds, cancel: Cancel): Pending<null>;
  resetClock(timeout: Seconds, cancel: Cancel): Pending<null>;
  contentHash(cancel: Cancel): Pending<ContentHash>;
  close(): Pending<null>;
}

interface Native {
  open(options: NativeOpenOptions, cancel: Cancel): Pending<NativeNode>;
  check(dir: string): Pending<CheckReport>;
  recoverLostQuorum(dir: string): Pending<Recovery>;
  shutdown(): void;
  Cancellation: new () => Cancellation;
}

/** The platform as the prebuilt packages spell it: `linux-x64-gnu`, `darwin-arm64`. */
function platform(): string {
  const parts: string[] = [process.platform, process.arch];
  if (process.platform === "linux") {
    const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
    parts.push(report.header.glibcVersionRuntime === undefined ? "musl" : "gnu");
  }
  return parts.join("-");
}

function load(): Native {
  const require = createRequire(__filename);
  const name = platform();
  const candidates = [
    join(__dirname, "..", "native", `quorumlite.${name}.node`),
    `@quorumlite/${name}`,
  ];
  const missing: unknown[] = [];
  for (const candidate of candidates) {
    try {
      return require(candidate) as Native;
    } catch (e) {
      const code = (e as NodeJS.ErrnoException).code;
      if (code !== "MODULE_NOT_FOUND") throw e;
      missing.push(e);
    }
  }
  throw new Error(
    `quorumlite has no native library for ${name}. Install Rust (https://rustup.rs) and a C ` +
      "compiler, then run: npm rebuild quorumlite (npm 12 and later run install scripts only after: " +
      "npm install-scripts approve quorumlite)",
    { cause: missing },
  );
}

export const native = load();

// An environment that ends closes its nodes. Where no JavaScript runs any more (a worker that is
// terminated), the native half does it by itself.
process.on("exit", () => native.shutdown());

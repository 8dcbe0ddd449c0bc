/** `open` and `Node`: the public API. */

import * as check from "./arguments.js";
import { type NativeNode, native } from "./native.js";
import { call, unwrap } from "./outcome.js";
import { toResult, toRows } from "./rows.js";
import type {
  CallOptions,
  ContentHash,
  ExecuteResult,
  Member,
  OpenOptions,
  Params,
  QueryOptions,
  Row,
  Rows,
  SignalOptions,
  Statement,
  Status,
  VoidOptions,
} from "./types.js";

// Only this module can make a Node.
const MADE_BY_OPEN = Symbol("made by open");
let make: (opened: NativeNode) => Node;

function callOptions(options: unknown, name: string) {
  const o = check.options(options, name, ["timeout", "signal"]);
  return { timeout: check.seconds(o.timeout, "timeout"), signal: check.signal(o.signal) };
}

function signalOption(options: unknown, name: string) {
  return check.signal(check.options(options, name, ["signal"]).signal);
}

/**
 * Opens a node in the data directory `dir`, which is created if it does not exist. Without `listen`
 * it is standalone: a replicated log of one, and no network at all. Opening a directory that is open
 * in this process already gives another handle on the same node.
 *
 * **Never open the database file inside the directory with another SQLite in the same process**
 * (`node:sqlite`, `better-sqlite3`): that drops the locks which protect the file, and can corrupt it.
 *
 * An open node does not keep the process alive; a call that is waited for does, until its timeout.
 */
export async function open(dir: string | URL, options?: OpenOptions): Promise<Node> {
  const { native: checked, signal } = check.openOptions(dir, options);
  const opened = await call(signal, (cancel) => native.open(checked, cancel));
  return make(opened);
}

/**
 * A member of a cluster, or a standalone database, inside this process; made by `open`.
 *
 * A call that is aborted, or that times out, is abandoned, not undone: **aborted does not mean not
 * written**.
 */
export class Node {
  readonly #native: NativeNode;
  #closing: Promise<void> | undefined;

  static {
    make = (opened) => new Node(MADE_BY_OPEN, opened);
  }

  private constructor(token: symbol, opened: NativeNode) {
    if (token !== MADE_BY_OPEN) {
      throw new TypeError("a Node is made by open(dir, options)");
    }
    this.#native = opened;
  }

  /**
   * Runs one write on the cluster, from whichever node, and waits until it is committed. It is
   * retried through a change of leader within the timeout, and never applied twice.
   */
  async execute<R = Row>(
    sql: string,
    params?: Params | null,
    options?: CallOptions,
  ): Promise<ExecuteResult<R>> {
    const statement = check.text(sql, "sql");
    const bound = check.params(params);
    const { timeout, signal } = callOptions(options, "execute");
    return toResult<R>(
      await call(signal, (cancel) => this.#native.execute(statement, bound, timeout, cancel)),
    );
  }

  /** Runs several statements as one write, all or nothing, with a result for each. */
  async executeBatch(
    statements: readonly Statement[],
    options?: CallOptions,
  ): Promise<ExecuteResult[]> {
    const { sqls, params } = check.statements(statements);
    const { timeout, signal } = callOptions(options, "executeBatch");
    const results = await call(signal, (cancel) =>
      this.#native.executeBatch(sqls, params, timeout, cancel),
    );
    return results.map((r) => toResult<Row>(r));
  }

  /** Reads. */
  async query<R = Row>(
    sql: string,
    params?: Params | null,
    options?: QueryOptions,
  ): Promise<Rows<R>> {
    const statement = check.text(sql, "sql");
    const bound = check.params(params);
    const o = check.options(options, "query", ["consistency", "maxStaleness", "timeout", "signal"]);
    const given = {
      consistency: check.optional(o.consistency, "consistency", check.text),
      maxStaleness: check.seconds(o.maxStaleness, "maxStaleness"),
      timeout: check.seconds(o.timeout, "timeout"),
    };
    const rows = await call(check.signal(o.signal), (cancel) =>
      this.#native.query(statement, bound, given, cancel),
    );
    return toRows<R>(rows);
  }

  /** Tells what this node knows about itself and its cluster; never waits. */
  status(): Status {
    return unwrap(this.#native.status());
  }

  /** Lists the members of the cluster, each asked whether it answers. */
  async members(options?: SignalOptions): Promise<Member[]> {
    const signal = signalOption(options, "members");
    return call(signal, (cancel) => this.#native.members(cancel));
  }

  /** Waits until some node leads, and returns its id. A number is the timeout in seconds. */
  async waitForLeader(options?: number | CallOptions): Promise<string> {
    const { timeout, signal } = callOptions(
      typeof options === "number" ? { timeout: options } : options,
      "waitForLeader",
    );
    return call(signal, (cancel) => this.#native.waitForLeader(timeout, cancel));
  }

  /** Hands leadership to another voter, and returns when it leads. */
  async transferLeadership(nodeId: string, options?: CallOptions): Promise<void> {
    const id = check.text(nodeId, "nodeId");
    const { timeout, signal } = callOptions(options, "transferLeadership");
    await call(signal, (cancel) => this.#native.transferLeadership(id, timeout, cancel));
  }

  /** Removes a member from the cluster. Removing what is no member is harmless. */
  async removeMember(nodeId: string, options?: CallOptions): Promise<void> {
    const id = check.text(nodeId, "nodeId");
    const { timeout, signal } = callOptions(options, "removeMember");
    await call(signal, (cancel) => this.#native.removeMember(id, timeout, cancel));
  }

  /**
   * Takes back, on all nodes, the commands at the log index of `status().halted`, which no node could
   * apply. `force` leaves out what the other members say that they have applied. Returns when this
   * node has gone on beyond it.
   */
  async voidCommand(index: number, options?: VoidOptions): Promise<void> {
    const at = check.logIndex(index, "index");
    const o = check.options(options, "voidCommand", ["force", "timeout", "signal"]);
    const force = check.optional(o.force, "force", check.boolean) ?? false;
    const timeout = check.seconds(o.timeout, "timeout");
    const signal = check.signal(o.signal);
    await call(signal, (cancel) => this.#native.voidCommand(at, force, timeout, cancel));
  }

  /** Tries the command before which this node has halted once more, on this node alone. */
  async retryApply(options?: CallOptions): Promise<void> {
    const { timeout, signal } = callOptions(options, "retryApply");
    await call(signal, (cancel) => this.#native.retryApply(timeout, cancel));
  }

  /** Lets `CURRENT_TIMESTAMP` go back to the leader's clock, which it was ahead of. */
  async resetClock(options?: CallOptions): Promise<void> {
    const { timeout, signal } = callOptions(options, "resetClock");
    await call(signal, (cancel) => this.#native.resetClock(timeout, cancel));
  }

  /** Hashes the logical content of the local database: equal on nodes at the same index. */
  async contentHash(options?: SignalOptions): Promise<ContentHash> {
    const signal = signalOption(options, "contentHash");
    return call(signal, (cancel) => this.#native.contentHash(cancel));
  }

  /**
   * Stops the node and releases its directory. Closing again is harmless, and waits for the same
   * end. Another handle on the same directory, from another `open`, goes on working.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => void unwrap(await this.#native.close()))();
    return this.#closing;
  }

  /** Whether `close` was called on this handle. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** Closes: `await using node = await open(dir)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

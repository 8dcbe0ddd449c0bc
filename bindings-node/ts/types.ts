/** What goes in and what comes out: no code. */

/** How fresh the answer of a read must be. */
export type Consistency = "none" | "session" | "weak" | "linearizable" | "strong";

/** Whether a node votes. */
export type Role = "voter" | "learner";

/**
 * A value that SQLite stores, as it comes out: NULL, INTEGER (a `bigint` where a `number` would
 * lose precision, or always with the option `bigint`), REAL, TEXT, BLOB.
 */
export type Value = null | number | bigint | string | Buffer;

/**
 * A value that can be bound. A boolean is 0 or 1. A safe integer (`Number.isSafeInteger`, but not
 * -0) binds as INTEGER, every other number as REAL; `NaN` becomes NULL. JavaScript does not tell
 * 1.0 from 1: say `real(1)` where it must be a REAL. A `bigint` must fit in 64 bits.
 */
export type Param = null | boolean | number | bigint | string | Uint8Array | Real;

/** A number that binds as REAL even if it is an integer; made by `real()`. */
export interface Real {
  readonly value: number;
}

/** An array binds to `?`; an object binds by name to `:name`, `@name`, `$name`. */
export type Params = readonly Param[] | { readonly [name: string]: Param };

/** A statement of a batch: `"sql"`, `["sql", params]`. */
export type Statement = string | readonly [sql: string, params?: Params | null];

/** One row: its columns by name. Of two columns with one name the last wins; see `Rows.arrays`. */
export type Row = { [column: string]: Value };

/** The rows of an answer: an array of objects, with the columns beside it. */
export type Rows<R = Row> = R[] & {
  /** The names of the columns, in order. */
  readonly columns: readonly string[];
  /** The rows once more, each an array of values in the order of the columns. */
  readonly arrays: readonly (readonly Value[])[];
};

/** What one write did. */
export interface ExecuteResult<R = Row> {
  /** Rows that the statement itself inserted, updated or deleted. */
  rowsAffected: number;
  /** The rowid of the last row that this statement inserted; 0 where it inserted none. */
  lastInsertRowid: number | bigint;
  /** The log index at which the write was applied. */
  index: number;
  /** The rows of a RETURNING clause. */
  rows: Rows<R>;
}

/** One member of the cluster. */
export interface Member {
  nodeId: string;
  /** Its address; empty for a standalone node. */
  address: string;
  role: Role;
  /** Whether it answers now; `null` where it was not asked. */
  reachable: boolean | null;
  /** The index that it has applied, where known. */
  appliedIndex: number | null;
}

/** What a node knows about itself and its cluster at one moment. */
export interface Status {
  nodeId: string;
  /** The cluster's id, 32 hexadecimal digits. */
  clusterId: string;
  role: Role;
  state: "leader" | "follower" | "candidate" | "learner" | "stopped";
  /** The node that leads, as far as this node knows. */
  leaderId: string | null;
  /** The current Raft term. */
  term: number;
  /** The index of the last entry in this node's log. */
  lastLogIndex: number;
  /** The index up to which this node knows entries to be committed. */
  commitIndex: number;
  /** The index up to which entries are applied to this node's database. */
  appliedIndex: number;
  /** The index up to which the database survives a power cut without the log. */
  durableIndex: number;
  /** The last index that was purged from the log. */
  purgedIndex: number;
  /** Bytes of log on disk. */
  logBytes: number;
  /** The address at which other nodes reach this one; `null` for a standalone node. */
  address: string | null;
  /** Why the last peer that was turned away was turned away. */
  lastRefusal: string | null;
  /** The latest log index at which this replica was found equal to the others; 0 for never. */
  checkedIndex: number;
  /** The first difference between replicas that was found; see the option `checkInterval`. */
  divergence: string | null;
  /** That the time of the last command is far ahead of this node's clock, where it is. */
  clockWarning: string | null;
  /** What log entries mean to this node; members replicate only where this is equal. */
  applyLevel: number;
  /** Of all else that decides what a write does: SQLite, functions, limits, the platform. */
  fingerprint: string;
  /** Where this node has stopped applying, if it has; see `Node.voidCommand`. */
  halted: Halted | null;
  /** The snapshot that this node receives, or the last one; `null` since it was opened. */
  snapshot: SnapshotProgress | null;
  /** `reachable` and `appliedIndex` are known only of this node; ask `members()` for the others. */
  members: Member[];
}

/** A command that this node does not apply any more, nor anything after it. */
export interface Halted {
  /** The index of its entry in the log. */
  index: number;
  /** How often it was tried. */
  attempts: number;
  /** What came of it. */
  reason: string;
}

/** How far the reception of a snapshot is. */
export interface SnapshotProgress {
  /** Bytes of the whole database. */
  totalBytes: number;
  /** How many of them are there. */
  presentBytes: number;
  /** What had to be sent for it: less where this node had an old copy, and it is compressed. */
  receivedBytes: number;
}

/** A hash of the logical content, and the applied index that it belongs to. */
export interface ContentHash {
  /** SHA-256, 64 hexadecimal digits. */
  hash: string;
  index: number;
}

/** One thing that `check` found. */
export interface Finding {
  /** `error`: data is damaged or missing; `note`: worth knowing, and no damage. */
  severity: "error" | "note";
  /** A stable code, such as `CORRUPTION_LOG`. */
  code: string;
  /** What was found, and what to do. */
  message: string;
}

/**
 * What `check` says of a data directory. Of several copies of one cluster, the one with the highest
 * `lastLogTerm`, and among these the highest `lastLogIndex`, knows most.
 */
export interface CheckReport {
  /** Whether nothing is damaged: no finding is an error. */
  ok: boolean;
  /** The node's id; empty where the directory does not say. */
  nodeId: string;
  /** The cluster's id, 32 hexadecimal digits; empty before the node has joined one. */
  clusterId: string;
  /** The term of the last vote. */
  term: number;
  /** The term of the last entry in the log. */
  lastLogTerm: number;
  /** The index of the last entry in the log (0 where it is empty). */
  lastLogIndex: number;
  /** The last index that was purged from the log. */
  purgedIndex: number;
  /** The index up to which entries are applied to the database. */
  appliedIndex: number;
  /** The members that log and database name last; not asked whether they are there. */
  members: Member[];
  /** What was found; empty where there is nothing to say. */
  findings: Finding[];
}

/** What `recoverLostQuorum` has done. */
export interface Recovery {
  /** The node's id, as before. */
  nodeId: string;
  /** The id of the new cluster, 32 hexadecimal digits. */
  clusterId: string;
  /** The index of the last entry of the old cluster that the new one has. */
  lastLogIndex: number;
  /** The members of the old cluster that are none of the new one. */
  removed: string[];
}

/** Options of `open`. */
export interface OpenOptions {
  /**
   * The name of this node in its cluster, 1 to 64 of `a-z A-Z 0-9 . _ -`. By default it is made
   * once and kept in the directory.
   */
  nodeId?: string | undefined;
  /** The address, `"host:port"`, to listen at for other nodes. Without it: no network at all. */
  listen?: string | undefined;
  /** The address at which other nodes reach this one; by default `listen`. */
  advertise?: string | undefined;
  /**
   * Addresses of members of the cluster to join. Joining again is harmless; an empty directory with
   * a `join` list never starts a cluster of its own.
   */
  join?: readonly string[] | undefined;
  /** A secret that all nodes share; it encrypts and authenticates their connections. */
  secret?: string | undefined;
  /** PEM file of the authority that signed every node's certificate; instead of `secret`. */
  ca?: string | URL | undefined;
  /** PEM file of this node's certificate chain. */
  cert?: string | URL | undefined;
  /** PEM file of this node's private key. */
  key?: string | URL | undefined;
  /** Allow plain TCP beyond loopback. Anyone who reaches the port can read and write. */
  insecure?: boolean | undefined;
  /** `"voter"` by default, or `"learner"` for a copy that does not vote. */
  role?: Role | undefined;
  /**
   * Seconds that `open` waits until the node has joined and can serve, and the default deadline of
   * every call; 10 by default.
   */
  timeout?: number | undefined;
  /** The level of reads that do not name one; `"session"` by default. */
  consistency?: Consistency | undefined;
  /** Bytes of log after which its applied and durable part is purged; 32 MiB by default. */
  maxLogBytes?: number | undefined;
  /**
   * How often, in seconds, this node has all replicas hash their content and compare while it leads
   * (at least 1); by default never. `Status.divergence` says what was found.
   */
  checkInterval?: number | undefined;
  /** Give every INTEGER as a `bigint`, also one that a `number` could hold. */
  bigint?: boolean | undefined;
  /** Gives up opening; what was begun is closed again. */
  signal?: AbortSignal | undefined;
}

/** Options of every call. */
export interface CallOptions {
  /** Seconds; by default the node's. */
  timeout?: number | undefined;
  /** Rejects the call at once with an `AbortError`. Aborted does not mean not written. */
  signal?: AbortSignal | undefined;
}

/** Options of `voidCommand`. */
export interface VoidOptions extends CallOptions {
  /** Whatever the other members say that they have applied. */
  force?: boolean | undefined;
}

/** Options of calls without a deadline of their own. */
export type SignalOptions = Pick<CallOptions, "signal">;

/** Options of `query`. */
export interface QueryOptions extends CallOptions {
  /** How fresh the answer must be; by default the node's level. */
  consistency?: Consistency | undefined;
  /** No answer (`Unavailable`) if the data of this node is older than so many seconds. */
  maxStaleness?: number | undefined;
}

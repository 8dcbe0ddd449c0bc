/** What a call may reject with. */

/** What to do about a `QuorumliteError`; the README has a table. */
export type ErrorKind =
  | "Sql"
  | "Constraint"
  | "Conflict"
  | "Unavailable"
  | "Timeout"
  | "Busy"
  | "Config"
  | "Corruption"
  | "Closed"
  | "Forbidden"
  | "Internal";

/** An error as the native half describes it. */
export interface Failure {
  kind: ErrorKind;
  code: string;
  message: string;
  retryable: boolean;
  leader: string | null;
  sqliteCode: number | null;
}

/** Every error of a node. Wrong types of arguments are a `TypeError` or `RangeError` instead. */
export class QuorumliteError extends Error {
  /** What the caller should do. */
  readonly kind: ErrorKind;
  /** The stable code, such as `SQLITE_CONSTRAINT_UNIQUE` or `NO_LEADER`: see docs/errors.md. */
  readonly code: string;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
  /** The id of the node that leads, where that is known. */
  readonly leader: string | null;
  /** SQLite's extended result code, where SQLite failed. */
  readonly sqliteCode: number | null;

  constructor(failure: Failure) {
    super(failure.message);
    this.kind = failure.kind;
    this.code = failure.code;
    this.retryable = failure.retryable;
    this.leader = failure.leader;
    this.sqliteCode = failure.sqliteCode;
  }

  static {
    this.prototype.name = "QuorumliteError";
  }
}

/** The call's `AbortSignal` was aborted; `cause` is its reason. It may still be written. */
export class AbortError extends Error {
  readonly code = "ABORT_ERR";

  constructor(reason: unknown) {
    super("the call was aborted; a write may still be applied", { cause: reason });
  }

  static {
    this.prototype.name = "AbortError";
  }
}

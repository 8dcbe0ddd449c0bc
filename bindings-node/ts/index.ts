/** The public API of `quorumlite`. */

export { check, recoverLostQuorum } from "./directory.js";
export { Node, open } from "./node.js";
export { real } from "./arguments.js";
export { AbortError, type ErrorKind, QuorumliteError } from "./errors.js";
export type * from "./types.js";

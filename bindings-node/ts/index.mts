// For `import`: the same module that `require` gives, so that there is one of each class.
export {
  AbortError,
  Node,
  QuorumliteError,
  check,
  open,
  real,
  recoverLostQuorum,
} from "./index.js";
export type * from "./index.js";

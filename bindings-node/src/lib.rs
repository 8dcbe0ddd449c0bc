//! The native half of the npm package: converts, calls the core, maps errors. It is private; the
//! public package around it is written in TypeScript (`ts/`), which checks the arguments.

#![cfg_attr(test, allow(dead_code, reason = "napi exports nothing from a test build"))]

mod convert;
mod directory;
mod node;
mod operation;
mod outcome;
mod runtime;

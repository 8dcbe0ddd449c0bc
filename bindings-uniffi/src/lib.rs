//! The core as UniFFI describes it to other languages: converts, calls the core, maps errors. The
//! public packages are written by hand on top of what is generated (`kotlin/`, `swift/`).

mod cancellation;
mod config;
mod directory;
mod error;
mod node;
mod operation;
mod runtime;
mod status;
mod value;

#[cfg(test)]
mod tests;

pub use cancellation::{Cancellation, open_node_unless};
pub use config::{Config, Consistency, ReadOptions, Role};
pub use directory::{CheckReport, Finding, Recovery, check_directory, recover_lost_quorum};
pub use error::{ErrorInfo, NativeError};
pub use node::{NativeNode, open_node};
pub use runtime::{close_all, open_nodes};
pub use status::{ContentHash, Halted, Member, SnapshotProgress, Status};
pub use value::{ExecuteResult, Params, Rows, Statement, Value};

uniffi::setup_scaffolding!();

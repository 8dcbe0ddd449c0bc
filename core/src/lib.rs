//! SQLite that lives inside the application and keeps a quorum of copies.

mod cluster;
mod config;
mod consensus;
mod error;
mod log;
mod node;
mod proto;
mod sqlite;
mod statement;
mod status;
mod transport;
mod value;

pub use config::{Config, Consistency, Role, Security};
pub use error::{Error, ErrorKind, Result};
pub use node::{Node, ReadOptions, WriteOptions};
pub use statement::{ExecuteResult, Params, Row, Rows, Statement};
pub use status::{ContentHash, Member, Status};
pub use value::Value;

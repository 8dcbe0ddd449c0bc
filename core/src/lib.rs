//! SQLite that lives inside the application and keeps a quorum of copies.

mod config;
mod error;
mod log;
mod node;
mod sqlite;
mod statement;
mod transport;
mod value;

pub use config::{Config, Consistency, Role, Security};
pub use error::{Error, ErrorKind, Result};
pub use node::{ContentHash, Member, Node, ReadOptions, Status, WriteOptions};
pub use statement::{ExecuteResult, Params, Row, Rows, Statement};
pub use value::Value;

//! SQLite that lives inside the application and keeps a quorum of copies.
//!
//! A [`Node`] runs Raft and SQLite in this process. Alone, it is an embedded database that needs no
//! network. With [`Config::listen`] it is a member of a cluster: every write is on disk on a majority
//! of the voters when [`Node::execute`] returns, and every node has a full copy to read from.
//!
//! ```
//! use quorumlite::{Config, Node, params};
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> quorumlite::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let node = Node::open(Config::new(path)).await?;
//! node.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT)", ()).await?;
//! let ann = node.execute("INSERT INTO person(name) VALUES (?)", params!["ann"]).await?;
//! assert_eq!(ann.last_insert_rowid, 1);
//! for row in node.query("SELECT id, name FROM person", ()).await?.iter() {
//!     println!("{:?} {:?}", row[0], row.get("name"));
//! }
//! node.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A cluster takes an address and a secret that all its nodes share; the first node has no `join`:
//!
//! ```no_run
//! # use quorumlite::{Config, Node};
//! # async fn cluster() -> quorumlite::Result<()> {
//! let first = Config::new("data/n1").listen("10.0.0.1:7001").secret("a long random text");
//! let second = Config::new("data/n2")
//!     .listen("10.0.0.2:7001")
//!     .join(["10.0.0.1:7001"])
//!     .secret("a long random text");
//! # Node::open(first).await?; Node::open(second).await?; Ok(()) }
//! ```
//!
//! **Never open the database file in the data directory with another SQLite library in the same
//! process** (Python's `sqlite3`, another crate): POSIX file locks belong to the process, and closing
//! such a second connection drops the locks of this one
//! (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
//!
//! A write that is cancelled (its future dropped) is not undone: it may still be applied. A read ends, here
//! or on the node that carries it out; see also [`Cancel`].

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "quorumlite needs a 64-bit target: SQLite computes differently with 32-bit pointers (full-text \
     indexes are written at other rows), so the replicas of a cluster would differ"
);

mod cancel;
mod check;
mod cluster;
mod config;
mod consensus;
mod disk;
mod error;
#[cfg(test)]
mod fuzz;
mod log;
mod node;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod node_tests_reads;
mod private;
mod proto;
mod recover;
mod row_stream;
mod sqlite;
mod statement;
mod status;
mod transport;
mod value;

pub use cancel::Cancel;
pub use check::{CheckReport, Finding, Severity, check};
pub use config::{Config, Consistency, Role, Security};
pub use error::{Error, ErrorKind, Result};
pub use node::{Node, ReadOptions, WriteOptions};
pub use recover::{Recovery, recover_lost_quorum};
pub use row_stream::RowStream;
pub use statement::{ExecuteResult, Params, Row, Rows, Statement};
pub use status::{ContentHash, Halted, Member, SnapshotProgress, Status};
pub use value::Value;

/// Compiles the programs of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/getting-started-rust.md")]
struct GettingStarted;

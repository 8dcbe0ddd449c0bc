//! What every database of the benchmarks is asked to do, and how it is timed.
//!
//! Each database runs in a process of its own, so that it can be killed and its memory measured, and
//! obeys lines of JSON on its standard input ([`serve()`]). The load is made in that process, since the
//! databases are libraries.

mod arguments;
mod measure;
mod serve;

use std::future::Future;

pub use arguments::Arguments;
pub use measure::{Latencies, closed_loop, closed_loop_during};
pub use serve::serve;

/// What can go wrong in a database under test, as text.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of one operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Makes the only table. Ids are given out in order and nothing is deleted, so the largest id counts
/// the rows.
pub const CREATE: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)";
/// Writes one row.
pub const INSERT: &str = "INSERT INTO t(v) VALUES (?)";
/// Reads one row.
pub const SELECT: &str = "SELECT v FROM t WHERE id = ?";
/// Reads how many rows there are.
pub const MAX_ID: &str = "SELECT coalesce(max(id), 0) AS n FROM t";
/// Bytes of one row of the yardstick.
pub const ROW_BYTES: usize = 200;

/// A row that does not compress to nothing.
pub fn row(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut row = Vec::with_capacity(bytes + 8);
    while row.len() < bytes {
        row.extend_from_slice(&random.next().to_le_bytes());
    }
    row.truncate(bytes);
    row
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
pub struct Random(u64);

impl Random {
    /// A generator; every seed is good.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// A database under test: one node, or several in this process.
pub trait Subject: Send + Sync + 'static {
    /// What one caller holds.
    type Caller: Caller;

    /// A caller of the given node.
    fn caller(&self, node: usize) -> impl Future<Output = Result<Self::Caller>> + Send;
    /// The largest id, from a linearizable read.
    fn max_id(&self) -> impl Future<Output = Result<i64>> + Send;
    /// The size of the database: its pages.
    fn database_bytes(&self) -> impl Future<Output = Result<u64>> + Send;
    /// Stops one node.
    fn stop(&self, node: usize) -> impl Future<Output = Result<()>> + Send;
    /// Starts it again; returns when it has applied what the others had when it began.
    fn start(&self, node: usize) -> impl Future<Output = Result<()>> + Send;
    /// Stops one node, removes what it has, and starts it empty; returns when it has applied what the
    /// others had when it began.
    fn replace(&self, node: usize) -> impl Future<Output = Result<()>> + Send {
        async move { Err(format!("node {node} cannot be replaced here").into()) }
    }
}

/// One client of one node, which waits for each answer.
pub trait Caller: Send + 'static {
    /// Writes one row of [`ROW_BYTES`], in a transaction of its own.
    fn write(&mut self, row: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
    /// Writes several rows in one transaction.
    fn batch(&mut self, rows: Vec<Vec<u8>>) -> impl Future<Output = Result<()>> + Send;
    /// Reads one row by its id.
    fn read(&mut self, level: &str, id: i64) -> impl Future<Output = Result<()>> + Send;
}

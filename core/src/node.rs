//! [`Node`]: the public handle. Says what happens and calls those below.

use std::time::Duration;

use crate::config::{Config, Consistency, Role};
use crate::error::Result;
use crate::statement::{ExecuteResult, Params, Rows, Statement};

/// A member of a cluster, or a standalone database, inside this process.
#[derive(Clone)]
pub struct Node {
    _private: (),
}

/// How one read is answered. Unset fields take the node's configuration.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub consistency: Option<Consistency>,
    /// No answer (`Unavailable`) if this node has not heard from a leader for longer than this.
    pub max_staleness: Option<Duration>,
    /// The deadline of the call.
    pub timeout: Option<Duration>,
}

/// How one write is carried out. Unset fields take the node's configuration.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The deadline of the call.
    pub timeout: Option<Duration>,
}

/// A snapshot of what a node knows about itself and its cluster.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// This node's id.
    pub node_id: String,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster_id: String,
    /// Whether this node votes.
    pub role: Role,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: &'static str,
    /// The node that leads, as far as this node knows.
    pub leader_id: Option<String>,
    /// The current Raft term.
    pub term: u64,
    /// The index of the last entry in this node's log (0 where it is empty).
    pub last_log_index: u64,
    /// The index up to which this node knows entries to be committed.
    pub commit_index: u64,
    /// The index up to which entries are applied to this node's database.
    pub applied_index: u64,
    /// The index up to which the database survives a power cut without the log.
    pub durable_index: u64,
    /// The last index that was purged from the log.
    pub purged_index: u64,
    /// Bytes of log on disk.
    pub log_bytes: u64,
    /// The address at which other nodes reach this one; none for a standalone node.
    pub address: Option<String>,
    /// All members.
    pub members: Vec<Member>,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub node_id: String,
    /// Its address; empty for a standalone node.
    pub address: String,
    /// Whether it votes.
    pub role: Role,
    /// Whether it answers now.
    pub reachable: bool,
    /// The index that it has applied, where known.
    pub applied_index: Option<u64>,
}

/// A hash of the logical content (schema and rows) of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHash {
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
    /// The applied index that the hash belongs to.
    pub index: u64,
}

#[allow(unused_variables)]
impl Node {
    /// Opens a data directory. See [`Config`].
    pub async fn open(config: Config) -> Result<Node> {
        unimplemented!()
    }

    /// Runs one write on the cluster.
    pub async fn execute(
        &self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<ExecuteResult> {
        unimplemented!()
    }

    /// Like [`Node::execute`], with options.
    pub async fn execute_with(
        &self,
        statement: Statement,
        options: WriteOptions,
    ) -> Result<ExecuteResult> {
        unimplemented!()
    }

    /// Runs several statements as one write: all or nothing.
    pub async fn execute_batch<S: Into<Statement>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> Result<Vec<ExecuteResult>> {
        unimplemented!()
    }

    /// Like [`Node::execute_batch`], with options.
    pub async fn execute_batch_with(
        &self,
        statements: Vec<Statement>,
        options: WriteOptions,
    ) -> Result<Vec<ExecuteResult>> {
        unimplemented!()
    }

    /// Reads with the node's default consistency.
    pub async fn query(&self, sql: impl Into<String>, params: impl Into<Params>) -> Result<Rows> {
        unimplemented!()
    }

    /// Reads with options.
    pub async fn query_with(&self, statement: Statement, options: ReadOptions) -> Result<Rows> {
        unimplemented!()
    }

    /// Answers a read on the calling thread if nothing has to be waited for (levels `none` and
    /// `session` on a node that is not behind); `None` says: call [`Node::query_with`].
    pub fn query_now(&self, statement: &Statement, options: &ReadOptions) -> Result<Option<Rows>> {
        unimplemented!()
    }

    /// What this node knows about itself and its cluster; never waits.
    pub fn status(&self) -> Result<Status> {
        unimplemented!()
    }

    /// The members, each asked whether it answers.
    pub async fn members(&self) -> Result<Vec<Member>> {
        unimplemented!()
    }

    /// Waits until some node leads, and returns its id.
    pub async fn wait_for_leader(&self, timeout: Option<Duration>) -> Result<String> {
        unimplemented!()
    }

    /// Hands leadership to another voter.
    pub async fn transfer_leadership(
        &self,
        node_id: &str,
        timeout: Option<Duration>,
    ) -> Result<()> {
        unimplemented!()
    }

    /// Removes a member from the cluster.
    pub async fn remove_member(&self, node_id: &str, timeout: Option<Duration>) -> Result<()> {
        unimplemented!()
    }

    /// A hash of the local database's content and the applied index that it belongs to.
    pub async fn content_hash(&self) -> Result<ContentHash> {
        unimplemented!()
    }

    /// Stops the node and releases its directory. Closing again is harmless.
    pub async fn close(&self) -> Result<()> {
        unimplemented!()
    }
}

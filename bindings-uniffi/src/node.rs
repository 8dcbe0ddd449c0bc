//! [`NativeNode`]: the core's `Node`. Each verb runs as an operation of its own.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use quorumlite::{Node, WriteOptions};
use tokio::sync::watch;

use crate::config::{Config, ReadOptions, seconds};
use crate::operation::{Result, abandonable, detachable};
use crate::runtime::{forget, remember, runtime};
use crate::status::{ContentHash, Member, Status};
use crate::value::{ExecuteResult, Rows, Statement};

/// The native half of a node. Where it goes without `shutdown`, it closes in the background.
#[derive(uniffi::Object)]
pub struct NativeNode {
    node: Node,
    key: u64,
    /// Made by the first `shutdown`; its sender goes when the node is closed.
    ending: OnceLock<watch::Receiver<()>>,
}

/// The longest time that `close_within` may be asked to wait.
const LONGEST: Duration = Duration::from_secs(3600);

/// Opens a node. Cancelled, it closes again what it has begun to open.
///
/// # Errors
/// `Config` for wrong options, and those of the core's `Node::open`.
#[uniffi::export]
pub async fn open_node(config: Config) -> Result<Arc<NativeNode>> {
    let config = quorumlite::Config::try_from(config)?;
    let node = abandonable(Node::open(config)).await?;
    let key = remember(node.clone());
    Ok(Arc::new(NativeNode { node, key, ending: OnceLock::new() }))
}

impl Drop for NativeNode {
    fn drop(&mut self) {
        if let Some(node) = forget(self.key)
            && let Ok(runtime) = runtime()
        {
            runtime.spawn(async move { node.close().await });
        }
    }
}

fn write_options(timeout: Option<f64>) -> quorumlite::Result<WriteOptions> {
    Ok(WriteOptions { timeout: seconds("timeout", timeout)? })
}

/// A call that is cancelled detaches: it may still be carried out, whole. Timeouts are in seconds,
/// and by default the node's.
#[uniffi::export]
impl NativeNode {
    /// Runs one write, and returns when it is committed and applied.
    pub async fn execute(
        &self,
        statement: Statement,
        timeout: Option<f64>,
    ) -> Result<ExecuteResult> {
        let (node, options) = (self.node.clone(), write_options(timeout)?);
        let work = async move { node.execute_with(statement.into(), options).await };
        detachable(work).await.map(Into::into)
    }

    /// Runs several statements as one write, all or nothing, with a result for each.
    pub async fn execute_batch(
        &self,
        statements: Vec<Statement>,
        timeout: Option<f64>,
    ) -> Result<Vec<ExecuteResult>> {
        let (node, options) = (self.node.clone(), write_options(timeout)?);
        let statements = statements.into_iter().map(Into::into).collect();
        let work = async move { node.execute_batch_with(statements, options).await };
        Ok(detachable(work).await?.into_iter().map(Into::into).collect())
    }

    /// Reads.
    pub async fn query(&self, statement: Statement, options: ReadOptions) -> Result<Rows> {
        let (node, options) = (self.node.clone(), options.try_into()?);
        let work = async move { node.query_with(statement.into(), options).await };
        detachable(work).await.map(Into::into)
    }

    /// What this node knows about itself and its cluster; never waits.
    pub fn status(&self) -> Result<Status> {
        Ok(self.node.status()?.into())
    }

    /// The members, each asked whether it answers and what it has applied.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let node = self.node.clone();
        let members = detachable(async move { node.members().await }).await?;
        Ok(members.into_iter().map(Into::into).collect())
    }

    /// Waits until some node leads, and returns its id.
    pub async fn wait_for_leader(&self, timeout: Option<f64>) -> Result<String> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.wait_for_leader(timeout).await }).await
    }

    /// Hands leadership to another voter, and returns when it leads.
    pub async fn transfer_leadership(&self, node_id: String, timeout: Option<f64>) -> Result<()> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.transfer_leadership(&node_id, timeout).await }).await
    }

    /// Removes a member from the cluster. Removing what is no member is harmless.
    pub async fn remove_member(&self, node_id: String, timeout: Option<f64>) -> Result<()> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.remove_member(&node_id, timeout).await }).await
    }

    /// Takes back, on all nodes, the commands at a log index that no node could apply.
    pub async fn void_command(&self, index: u64, force: bool, timeout: Option<f64>) -> Result<()> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.void_command(index, force, timeout).await }).await
    }

    /// Tries the command before which this node has halted once more, on this node alone.
    pub async fn retry_apply(&self, timeout: Option<f64>) -> Result<()> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.retry_apply(timeout).await }).await
    }

    /// Lets the time of commands go back to the leader's clock, which it was ahead of.
    pub async fn reset_clock(&self, timeout: Option<f64>) -> Result<()> {
        let (node, timeout) = (self.node.clone(), seconds("timeout", timeout)?);
        detachable(async move { node.reset_clock(timeout).await }).await
    }

    /// A hash of the local database's content, and the applied index that it belongs to.
    pub async fn content_hash(&self) -> Result<ContentHash> {
        let node = self.node.clone();
        detachable(async move { node.content_hash().await }).await.map(Into::into)
    }

    /// Closes: stops the node, unless another handle has it open, and releases its directory.
    /// Again is harmless, and waits for the same end. (`close` is UniFFI's name of the destructor.)
    pub async fn shutdown(&self) -> Result<()> {
        let mut ending = self.ending()?;
        // Nothing is ever sent: it fails when the sender has gone.
        let _ = ending.changed().await;
        Ok(())
    }

    /// Like `shutdown`, but blocks the calling thread, for at most so many seconds (and never more
    /// than an hour). Tells whether the node is closed; if not, it goes on closing.
    pub fn close_within(&self, seconds: f64) -> Result<bool> {
        let bound = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST);
        let mut ending = self.ending()?;
        if ending.has_changed().is_err() {
            return Ok(true);
        }
        let (running, ended) = mpsc::channel::<()>();
        runtime()?.spawn(async move {
            let _ = ending.changed().await;
            drop(running);
        });
        Ok(ended.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Disconnected))
    }
}

impl NativeNode {
    /// Starts to close, the first time.
    fn ending(&self) -> Result<watch::Receiver<()>> {
        let runtime = runtime()?;
        let ending = self.ending.get_or_init(|| {
            let (running, ended) = watch::channel(());
            let (node, key) = (self.node.clone(), self.key);
            runtime.spawn(async move {
                let _ = node.close().await;
                forget(key);
                drop(running);
            });
            ended
        });
        Ok(ending.clone())
    }
}

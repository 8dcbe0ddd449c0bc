//! [`Node`]: the public handle. Says what happens and calls those below.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::cancel::Cancel;
use crate::cluster::{ClusterCore, Registry, Slot, canonical};
use crate::config::{Config, Consistency, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::row_stream::RowStream;
use crate::sqlite::Pace;
use crate::statement::{ExecuteResult, Params, Rows, Statement};
use crate::status::{ContentHash, Member, Status};

/// How one read is answered. Unset fields take the node's configuration.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub consistency: Option<Consistency>,
    /// For reads at [`Consistency::None`] and [`Consistency::Session`]: no answer (`Unavailable`,
    /// code `STALE`) if the data of this node is older than this: all that the leader had committed
    /// at some moment since then, as far as this node heard, must be applied here.
    pub max_staleness: Option<Duration>,
    /// The deadline of the call. Of a stream: of its opening, and of each batch that is asked for.
    pub timeout: Option<Duration>,
    /// Ends the read from outside. Dropping its future does so, too.
    pub cancel: Option<Cancel>,
    /// Of a stream: how long it waits until its rows are asked for, 5 minutes if unset. After that
    /// it ends (`Busy`, code `BUSY_STREAM_IDLE`), since it holds a snapshot.
    pub idle_timeout: Option<Duration>,
}

/// How one write is carried out. Unset fields take the node's configuration.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The deadline of the call. A write that misses it may still be applied; the error's code
    /// says so.
    pub timeout: Option<Duration>,
}

/// A member of a cluster, or a standalone database, inside this process.
///
/// Clones are the same handle: they share the session, and closing one closes all. Opening the same
/// directory again in this process gives another handle, with a session of its own, to the same
/// node.
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<ClusterCore>,
    slot: Slot,
    /// The highest index that this handle has written or read.
    session: AtomicU64,
    closed: AtomicBool,
    /// Ends the reads of this handle.
    closing: Cancel,
    /// Those that run, also where nobody waits for them any more.
    reads: TaskTracker,
    timeout: Duration,
    consistency: Consistency,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("node_id", &self.handle.core.node_id()).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens a data directory: a standalone database, the first node of a cluster, or a node that
    /// joins one. Returns when the node can serve. Must be called on a tokio runtime, which has to
    /// live as long as the node.
    ///
    /// # Errors
    /// `Config` for options that are wrong or a directory that cannot be used, `Forbidden` where
    /// the cluster refuses this node, `Unavailable` where it cannot be reached in time,
    /// `Corruption` where the directory is damaged.
    pub async fn open(config: Config) -> Result<Node> {
        config.validate()?;
        // A task of its own: a half-opened directory must be closed again even where the caller
        // does not wait any longer.
        let (_waiting, waits) = tokio::sync::oneshot::channel::<()>();
        let opening = tokio::spawn(Node::open_unless(config, async move {
            let _ = waits.await;
        }));
        opening.await.unwrap_or_else(|e| {
            Err(Error::new(
                ErrorKind::Unavailable,
                "START_FAILED",
                format!("opening the node did not end: {e}"),
            ))
        })
    }

    async fn open_unless(
        config: Config,
        abandoned: impl Future<Output = ()> + Send,
    ) -> Result<Node> {
        let slot = Registry::slot(canonical(config.dir())?);
        let mut place = slot.lock().await;
        let core = match place.upgrade().filter(|core| core.handles() > 0) {
            Some(core) => {
                core.check_same(&config)?;
                core
            }
            None => {
                let core = ClusterCore::open(&config, abandoned).await?;
                *place = Arc::downgrade(&core);
                core
            }
        };
        core.add_handle();
        drop(place);
        Ok(Node {
            handle: Arc::new(Handle {
                core,
                slot,
                session: AtomicU64::new(0),
                closed: AtomicBool::new(false),
                closing: Cancel::new(),
                reads: TaskTracker::new(),
                timeout: config.timeout,
                consistency: config.consistency,
                runtime: tokio::runtime::Handle::current(),
            }),
        })
    }

    fn core(&self) -> Result<&Arc<ClusterCore>> {
        if self.handle.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        Ok(&self.handle.core)
    }

    /// What lies below the handle.
    #[cfg(test)]
    pub(crate) fn core_of_test(&self) -> &Arc<ClusterCore> {
        &self.handle.core
    }

    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + self.timeout(timeout)
    }

    fn timeout(&self, timeout: Option<Duration>) -> Duration {
        timeout.unwrap_or(self.handle.timeout).min(FOR_EVER)
    }

    fn saw(&self, index: u64) {
        self.handle.session.fetch_max(index, Ordering::AcqRel);
    }

    /// Runs one write: it is durable on a majority of the voters, and applied, when this returns.
    /// On any node; retried by itself through a change of the leader, and never applied twice.
    ///
    /// # Errors
    /// `Sql`, `Constraint` and `Forbidden` for the statement; `Unavailable` and `Timeout` for the
    /// cluster (a `Timeout` with the code `TIMEOUT_MAYBE_APPLIED` may still be applied).
    pub async fn execute(
        &self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<ExecuteResult> {
        self.execute_with(Statement::new(sql, params), WriteOptions::default()).await
    }

    /// Like [`Node::execute`], with options.
    pub async fn execute_with(
        &self,
        statement: Statement,
        options: WriteOptions,
    ) -> Result<ExecuteResult> {
        let mut results = self.execute_batch_with(vec![statement], options).await?;
        results.pop().ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "MALFORMED_MESSAGE", "a write without a result")
        })
    }

    /// Runs several statements as one write, all or nothing, and gives a result for each.
    ///
    /// # Errors
    /// As [`Node::execute`]; the message names the statement that failed, counted from 1.
    pub async fn execute_batch<S: Into<Statement>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> Result<Vec<ExecuteResult>> {
        let statements = statements.into_iter().map(Into::into).collect();
        self.execute_batch_with(statements, WriteOptions::default()).await
    }

    /// Like [`Node::execute_batch`], with options.
    pub async fn execute_batch_with(
        &self,
        statements: Vec<Statement>,
        options: WriteOptions,
    ) -> Result<Vec<ExecuteResult>> {
        let core = self.core()?;
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let results = core.execute(&statements, self.deadline(options.timeout)).await;
        let seen = match &results {
            Ok(results) => results.last().map(|last| last.index),
            // The caller may look for what was in the way.
            Err(error) => error.index(),
        };
        if let Some(index) = seen {
            self.saw(index);
        }
        results
    }

    /// Reads with the node's default consistency.
    ///
    /// # Errors
    /// `Sql` and `Forbidden` for the statement, `Timeout` and `Unavailable` as the consistency has
    /// it.
    pub async fn query(&self, sql: impl Into<String>, params: impl Into<Params>) -> Result<Rows> {
        self.query_with(Statement::new(sql, params), ReadOptions::default()).await
    }

    /// Reads with options. The read ends when this is dropped.
    pub async fn query_with(&self, statement: Statement, options: ReadOptions) -> Result<Rows> {
        let core = self.core()?;
        let read = self.begin_read(&options);
        let kept = self.handle.reads.token();
        let work = async {
            if read.consistency == Consistency::Weak {
                return core.query_leader(&statement, read.deadline, &read.cancel, kept).await;
            }
            self.reach(core, &read, &options).await?;
            core.query_local(statement, read.deadline, &read.cancel, kept).await
        };
        let (rows, index) = read.cancel.unless(work).await?;
        self.saw(index);
        Ok(rows)
    }

    /// Reads rows piece by piece, for results of any size: only some are in memory at a time. All of
    /// them are of one state of the database, that of the beginning.
    ///
    /// At `weak` the local copy answers, as fresh as the leader's was. The state is held while the
    /// stream lives, and holds up SQLite's write-ahead log: once 128 MiB were written meanwhile, or
    /// another node needs a copy of the database, the stream ends with `BUSY_READ_INTERRUPTED`. So
    /// read on without long pauses; see [`ReadOptions::idle_timeout`]. It ends when it is dropped, when
    /// it is closed, and with the node.
    ///
    /// # Errors
    /// As [`Node::query`], and `Busy` (`BUSY_STREAMS`) where no place among the streams became free
    /// before the deadline: there are four for each core of the machine, 16 at least.
    pub async fn query_stream(
        &self,
        statement: Statement,
        options: ReadOptions,
    ) -> Result<RowStream> {
        let core = self.core()?;
        let read = self.begin_read(&options);
        let kept = self.handle.reads.token();
        let readers = core.consensus.database().readers();
        let idle = options.idle_timeout.unwrap_or(STREAM_IDLE);
        let pace = Pace { batch: read.timeout, idle };
        let work = async {
            self.reach(core, &read, &options).await?;
            readers.stream(statement, pace, read.deadline, &read.cancel, kept).await
        };
        let rows = read.cancel.unless(work).await?;
        self.saw(rows.index());
        Ok(RowStream::new(rows))
    }

    fn begin_read(&self, options: &ReadOptions) -> BegunRead {
        let timeout = self.timeout(options.timeout);
        let parents = std::iter::once(&self.handle.closing).chain(&options.cancel);
        BegunRead {
            consistency: options.consistency.unwrap_or(self.handle.consistency),
            timeout,
            deadline: Instant::now() + timeout,
            cancel: Cancel::child(parents),
        }
    }

    /// Waits until the local copy is as new as the read wants it.
    async fn reach(
        &self,
        core: &ClusterCore,
        read: &BegunRead,
        options: &ReadOptions,
    ) -> Result<()> {
        let deadline = read.deadline;
        let index = match read.consistency {
            Consistency::Linearizable => core.shared_read_index(deadline).await?,
            Consistency::Strong => core.log_barrier(deadline).await?,
            Consistency::Session => self.handle.session.load(Ordering::Acquire),
            // What the node that believes that it leads has applied.
            Consistency::Weak => {
                let look = Statement::from("SELECT 1");
                core.query_leader(&look, deadline, &read.cancel, ()).await?.1
            }
            Consistency::None => 0,
        };
        core.wait_applied(index, deadline).await?;
        core.check_staleness(read.consistency, options.max_staleness)
    }

    /// Answers a read on the calling thread, without a runtime, if nothing has to be waited for:
    /// at `none`, and at `session` on a node that is not behind, where not too many other reads run.
    /// `None` says that [`Node::query_with`] has to be called instead.
    ///
    /// # Errors
    /// As [`Node::query`].
    pub fn query_now(&self, statement: &Statement, options: &ReadOptions) -> Result<Option<Rows>> {
        let core = self.core()?;
        if let Some(e) = core.stopped() {
            return Err(e);
        }
        let read = self.begin_read(options);
        let database = core.consensus.database();
        match read.consistency {
            Consistency::None => {}
            Consistency::Session
                if database.applied_index() >= self.handle.session.load(Ordering::Acquire) => {}
            _ => return Ok(None),
        }
        core.check_staleness(read.consistency, options.max_staleness)?;
        let Some(place) = database.readers().try_place() else { return Ok(None) };
        let _kept = self.handle.reads.token();
        let (rows, index) =
            database.readers().read(statement, read.deadline, &read.cancel, place)?;
        self.saw(index);
        Ok(Some(rows))
    }

    /// What this node knows about itself and its cluster; never waits.
    ///
    /// # Errors
    /// `Closed`.
    pub fn status(&self) -> Result<Status> {
        let core = self.core()?;
        let raft = core.consensus.status();
        let database = core.consensus.database();
        let applied_index = database.applied_index();
        let members: Vec<_> = raft
            .members
            .into_iter()
            .map(|m| {
                let me = m.node_id == core.node_id();
                Member {
                    reachable: me.then_some(true),
                    applied_index: me.then_some(applied_index),
                    node_id: m.node_id,
                    address: m.address,
                    role: m.role,
                }
            })
            .collect();
        let build = core.build();
        let found = core.replica_check.found();
        let role = members.iter().find(|m| m.node_id == core.node_id()).map(|m| m.role);
        Ok(Status {
            node_id: core.node_id().to_owned(),
            cluster_id: core.cluster_id(),
            role: role.unwrap_or(Role::Learner),
            state: raft.state,
            leader_id: raft.leader,
            term: raft.term,
            last_log_index: raft.last_log_index,
            // An applied entry is committed, whatever Raft has reported so far.
            commit_index: raft.commit_index.max(applied_index),
            applied_index,
            durable_index: database.durable().map_or(0, |p| p.index),
            purged_index: raft.purged_index,
            log_bytes: core.consensus.log_bytes(),
            address: core.address().map(str::to_owned),
            checked_index: found.checked_index,
            divergence: found.divergence,
            last_refusal: core.last_refusal(),
            clock_warning: core.consensus.clock_warning(),
            apply_level: build.apply_level,
            fingerprint: build.fingerprint,
            halted: database.halted(),
            snapshot: core.consensus.snapshot_progress(),
            members,
        })
    }

    /// The members, each asked whether it answers and what it has applied.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn members(&self) -> Result<Vec<Member>> {
        Ok(self.core()?.ping_members().await)
    }

    /// Waits until some node leads, and returns its id.
    ///
    /// # Errors
    /// `Unavailable` (`NO_LEADER`) when the timeout passes.
    pub async fn wait_for_leader(&self, timeout: Option<Duration>) -> Result<String> {
        self.core()?.wait_for_leader(self.deadline(timeout)).await
    }

    /// Hands leadership to another voter and returns when it leads.
    ///
    /// # Errors
    /// `Config` where `node_id` is no voter, `Unavailable` or `Timeout` where it did not take over.
    pub async fn transfer_leadership(
        &self,
        node_id: &str,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.core()?.transfer_leadership(node_id, self.deadline(timeout)).await
    }

    /// Removes a member from the cluster. Removing what is no member is harmless. A node that was
    /// removed keeps its data but is no longer sent anything; close it.
    ///
    /// # Errors
    /// `Config` for the last voter, `Unavailable` or `Timeout` without a quorum.
    pub async fn remove_member(&self, node_id: &str, timeout: Option<Duration>) -> Result<()> {
        let index = self.core()?.remove_on_leader(node_id, self.deadline(timeout)).await?;
        self.saw(index);
        Ok(())
    }

    /// Takes back the commands of the log entry at `index`, which no node could apply: every node
    /// skips them, and whoever sent them gets the error `COMMAND_VOIDED`. The decision is replicated;
    /// it may be asked for on any node, and needs a majority of the voters. Returns when this node has
    /// gone on beyond it.
    ///
    /// `index` is what [`Status::halted`] says. A member that has applied the entry all the same will
    /// differ from the others and stop: so this is refused while the leader, or any member that
    /// answers, has applied it, or none has halted there. `force` leaves out what the other members
    /// say.
    ///
    /// # Errors
    /// `Config` (`CONFIG_VOID`) where it is refused, `Unavailable` or `Timeout` without a quorum.
    pub async fn void_command(
        &self,
        index: u64,
        force: bool,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let deadline = self.deadline(timeout);
        let core = self.core()?;
        let at = core.void_on_leader(index, force, deadline).await?;
        core.wait_applied(at, deadline).await?;
        self.saw(at);
        Ok(())
    }

    /// Tries the command before which this node has halted once more, on this node alone, and goes on
    /// if it gets over it: when what ended the process came from outside or is mended (more memory,
    /// say). If it ends the process again, the node opens halted again. Does nothing on a node that
    /// has not halted.
    ///
    /// # Errors
    /// The error that stops the node where it has to stop again; `Timeout`.
    pub async fn retry_apply(&self, timeout: Option<Duration>) -> Result<()> {
        self.core()?.retry_apply(self.deadline(timeout)).await
    }

    /// Lets the time of commands (`CURRENT_TIMESTAMP`, `uuid7()`) go back to the leader's clock, on all
    /// nodes. It never goes back by itself, so a write under a clock that was far ahead makes it stand
    /// still until then. May be called on any node; returns when this node has applied it.
    ///
    /// # Errors
    /// `Config` (`CONFIG_CLOCK`) where the time is not ahead of the leader's clock; `Unavailable` or
    /// `Timeout` without a quorum.
    pub async fn reset_clock(&self, timeout: Option<Duration>) -> Result<()> {
        let deadline = self.deadline(timeout);
        let core = self.core()?;
        let at = core.reset_clock_on_leader(deadline).await?;
        core.wait_applied(at, deadline).await?;
        self.saw(at);
        Ok(())
    }

    /// A hash of the local database's content, and the applied index that it belongs to. Two nodes
    /// at the same index have the same hash.
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub async fn content_hash(&self) -> Result<ContentHash> {
        let database = self.core()?.consensus.database().clone();
        let cancel = Cancel::child([&self.handle.closing]);
        let kept = self.handle.reads.token();
        let work = async {
            let place = database.readers().hash_place().await;
            let (_on_drop, cancel) = (cancel.on_drop(), cancel.clone());
            let hash = tokio::task::spawn_blocking(move || {
                let hash = database.content_hash_unless(&cancel);
                drop((place, kept));
                hash
            });
            hash.await.unwrap_or_else(|e| Err(Error::closed().with_source(e)))
        };
        let (hash, index) = cancel.unless(work).await?;
        Ok(ContentHash { hash, index })
    }

    /// Closes this handle; the last handle stops the node and releases its directory. Reads of the
    /// handle that are running end at once, with `Closed`, and have ended when this returns (unless
    /// SQLite does not let go of one for several seconds). Closing again is harmless.
    ///
    /// # Errors
    /// None at present.
    pub async fn close(&self) -> Result<()> {
        if !self.handle.closed.swap(true, Ordering::AcqRel) {
            self.handle.closing.close();
            self.handle.reads.close();
            if tokio::time::timeout(CLOSE_WAIT, self.handle.reads.wait()).await.is_err() {
                tracing::warn!("closing does not wait for reads any longer");
            }
            close(&self.handle.core, &self.handle.slot).await;
        }
        Ok(())
    }
}

/// How long closing waits for reads that were told to end.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Longer timeouts are as good as this one, which clocks can reckon with.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// See [`ReadOptions::idle_timeout`].
const STREAM_IDLE: Duration = Duration::from_secs(300);

/// What was decided when a read began.
struct BegunRead {
    consistency: Consistency,
    timeout: Duration,
    deadline: Instant,
    cancel: Cancel,
}

/// Opening and closing take turns in the directory's slot.
async fn close(core: &ClusterCore, slot: &Slot) {
    let _place = slot.lock().await;
    if core.drop_handle() {
        core.shutdown().await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.closing.close();
            let (core, slot) = (self.core.clone(), self.slot.clone());
            self.runtime.spawn(async move { close(&core, &slot).await });
        }
    }
}

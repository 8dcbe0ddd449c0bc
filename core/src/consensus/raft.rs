//! [`Consensus`]: one Raft node with its log, its state machine and its helpers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, LinearizableReadError, RaftError};
use openraft::storage::RaftLogStorage;
use openraft::{ChangeMembers, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::clock::Clock;
use super::codec;
use super::freshness::{self, Freshness};
use super::incoming::Incoming;
use super::log_store::LogStore;
use super::maintenance::Maintenance;
use super::network::{Addresses, Network};
use super::proposer::Proposer;
use super::repair;
use super::replica_hashes::ReplicaHashes;
use super::service::RaftService;
use super::state_machine::{ApplyThread, Retries, StateMachine, TRANSACTION_ENTRIES};
use super::types::{MemberInfo, Membership, Metrics, NodeId, Payload, Raft, TypeConfig};
use crate::config::Role;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Log, LogOptions};
use crate::proto::{self, Method};
use crate::sqlite::{ApplyPace, CommandResult, Database};
use crate::status::SnapshotProgress;
use crate::transport::Client;

const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION_MIN: Duration = Duration::from_millis(500);
const ELECTION_MAX: Duration = Duration::from_millis(1000);
/// A leader that was not heard for so long is not called one any more: some heartbeats may be late,
/// twice the longest election timeout is not.
const LEADER_FORGOTTEN: Duration = Duration::from_millis(2000);

/// One Raft node.
pub(crate) struct Consensus {
    node_id: NodeId,
    raft: Raft,
    log: Log,
    database: Database,
    applied: watch::Receiver<u64>,
    failure: watch::Receiver<Option<Error>>,
    hashes: ReplicaHashes,
    retries: Retries,
    clock: Clock,
    service: RaftService,
    proposer: Proposer,
    maintenance: Maintenance,
    freshness: Arc<Freshness>,
    /// One change of the membership at a time.
    membership_change: tokio::sync::Mutex<()>,
    apply_thread: Mutex<Option<ApplyThread>>,
    /// Whether the directory held no log when the node was opened.
    fresh: bool,
}

/// A member as the membership lists it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MemberEntry {
    pub(crate) node_id: String,
    pub(crate) address: String,
    pub(crate) role: Role,
}

/// What Raft knows of itself.
#[derive(Debug, Clone)]
pub(crate) struct RaftStatus {
    pub(crate) state: &'static str,
    pub(crate) leader: Option<String>,
    pub(crate) term: u64,
    pub(crate) last_log_index: u64,
    pub(crate) commit_index: u64,
    pub(crate) purged_index: u64,
    pub(crate) members: Vec<MemberEntry>,
}

impl Consensus {
    /// Opens the log and the database in `dir` and starts Raft.
    pub(crate) async fn start(
        dir: &Path,
        node_id: &str,
        max_log_bytes: u64,
        transaction_entries: Option<usize>,
        clock_ahead_us: Option<i64>,
        client: Client,
    ) -> Result<Consensus> {
        let segment_bytes = (max_log_bytes / 4).min(LogOptions::default().segment_bytes);
        let log_dir = dir.join("log");
        let state_dir = dir.to_owned();
        let (log, database, writer) = tokio::task::spawn_blocking(move || {
            let log = Log::open(&log_dir, LogOptions { segment_bytes, ..Default::default() })?;
            let (database, writer) = Database::open(&state_dir)?;
            Ok::<_, Error>((log, database, writer))
        })
        .await
        .map_err(|e| Error::closed().with_source(e))??;
        repair::check_agreement(&log, &writer.applied())?;
        let incoming = Incoming::new(dir.join("incoming"), database.clone())?;
        let (machine, apply_thread) = StateMachine::start(
            database.clone(),
            writer,
            &log,
            incoming.dir().to_owned(),
            transaction_entries.unwrap_or(TRANSACTION_ENTRIES),
        )?;
        let applied = machine.applied();
        let failure = machine.failure();
        let hashes = machine.hashes();
        let retries = machine.retries();
        tokio::spawn(watch_pace(database.pace()));

        let node_id = NodeId::from(node_id);
        let addresses = Addresses::default();
        let freshness = Arc::<Freshness>::default();
        let network = Network {
            client,
            addresses: addresses.clone(),
            database: database.clone(),
            freshness: freshness.clone(),
        };
        let mut log_store = LogStore::new(log.clone());
        // What stopped the state machine or the log says more than that Raft did not start.
        let stopped = |e: &dyn std::fmt::Display| {
            failure.borrow().clone().or_else(|| log.error()).unwrap_or_else(|| start_failed(e))
        };
        let state = log_store.get_log_state().await.map_err(|e| stopped(&e))?;
        let fresh = state.last_log_id.is_none() && log.vote().is_none();
        let raft = Raft::new(node_id.clone(), raft_config()?, network, log_store, machine)
            .await
            .map_err(|e| stopped(&e))?;
        // The metrics start out empty; from here on they show what the log holds.
        let loaded = raft
            .with_raft_state(|state| *state.membership_state.effective().log_id())
            .await
            .map_err(|e| stopped(&e))?;
        raft.wait(None)
            .metrics(|m| *m.membership_config.log_id() >= loaded, "the membership is loaded")
            .await
            .map_err(|e| stopped(&e))?;
        let clock = Clock::ahead_by(clock_ahead_us);
        let seed = getrandom::u64().map_err(|e| start_failed(&e))?;
        let proposer = Proposer::start(raft.clone(), seed, clock.clone());
        let maintenance = Maintenance::start(
            raft.clone(),
            log.clone(),
            database.clone(),
            failure.clone(),
            addresses,
            max_log_bytes,
        );
        tokio::spawn(freshness::watch(freshness.clone(), raft.metrics()));
        let service =
            RaftService::new(raft.clone(), incoming, database.clone(), !fresh, freshness.clone());
        Ok(Consensus {
            node_id,
            raft,
            log,
            database,
            applied,
            failure,
            hashes,
            retries,
            clock,
            service,
            proposer,
            maintenance,
            freshness,
            membership_change: tokio::sync::Mutex::new(()),
            apply_thread: Mutex::new(Some(apply_thread)),
            fresh,
        })
    }

    /// How far the snapshot is that this node receives, or how far the last one came.
    pub(crate) fn snapshot_progress(&self) -> Option<SnapshotProgress> {
        self.service.snapshot_progress()
    }

    /// Whether this node had never taken part in a cluster when it was opened.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Makes this node the only member of a new cluster.
    pub(crate) async fn bootstrap(&self, address: &str) -> Result<()> {
        self.service.admit();
        let me = MemberInfo { address: address.to_owned() };
        self.raft
            .initialize(BTreeMap::from([(self.node_id.clone(), me)]))
            .await
            .map_err(|e| self.failure().unwrap_or_else(|| start_failed(&e)))
    }

    /// Asks for the leadership at once, without waiting for the election timeout.
    pub(crate) async fn elect(&self) -> Result<()> {
        self.raft.trigger().elect(false).await.map_err(|e| self.stopped(&e))
    }

    /// The leader has agreed that this empty node may take part.
    pub(crate) fn admit(&self) {
        self.service.admit();
    }

    fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The id of the node that leads, as far as this node knows. Raft itself remembers the last
    /// leader for ever; one that was not heard for long is none.
    pub(crate) fn leader(&self) -> Option<String> {
        self.leader_address().map(|(id, _)| id)
    }

    /// Whether this node believes that it leads.
    pub(crate) fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader.as_ref() == Some(&self.node_id)
    }

    /// The leader's id and address, as far as this node knows.
    pub(crate) fn leader_address(&self) -> Option<(String, String)> {
        let metrics = self.raft.metrics();
        let (id, address) = {
            let metrics = metrics.borrow_watched();
            let id = metrics.current_leader.clone()?;
            let address = metrics.membership_config.membership().get_node(&id)?.address.clone();
            (id, address)
        };
        let heard =
            || self.service.last_contact().is_some_and(|at| at.elapsed() < LEADER_FORGOTTEN);
        (id == self.node_id || heard()).then(|| (id.as_str().to_owned(), address))
    }

    /// Returns when anything that Raft reports has changed.
    pub(crate) fn watch(&self) -> RaftWatch {
        RaftWatch(self.raft.metrics())
    }

    /// This node's name.
    pub(crate) fn node_id(&self) -> &str {
        self.node_id.as_str()
    }

    /// Follows the index that SQLite has applied.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// The database of this node.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The bytes of log on disk.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Why this node has stopped, if it has.
    pub(crate) fn failure(&self) -> Option<Error> {
        let applying = self.failure.borrow().clone();
        applying.or_else(|| self.log.error()).or_else(|| self.database.failure())
    }

    fn stopped(&self, e: &dyn std::fmt::Display) -> Error {
        self.failure().unwrap_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "NODE_STOPPED",
                format!("this node has stopped ({e}); close it and open its directory again"),
            )
            .with_retryable(false)
        })
    }

    /// Whether this node leads, or a leader has sent it something since it was opened.
    pub(crate) fn in_touch(&self) -> bool {
        self.service.last_contact().is_some()
            || self.raft.metrics().borrow_watched().last_quorum_acked.is_some()
    }

    /// How long ago everything that was committed in the cluster then, as far as this node heard,
    /// was what is applied here now. `None`: not since it was opened.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.freshness.lead(&self.raft.metrics().borrow_watched());
        self.freshness.at(self.database.applied_index()).map(|at| at.elapsed())
    }

    /// The index up to which this node knows entries to be committed.
    pub(crate) fn commit_index(&self) -> u64 {
        self.raft.metrics().borrow_watched().local_committed.map_or(0, |id| id.index)
    }

    /// What Raft knows of itself.
    pub(crate) fn status(&self) -> RaftStatus {
        let m = self.metrics();
        let state = match m.state {
            _ if self.failure().is_some() => "stopped",
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Candidate => "candidate",
            ServerState::Learner => "learner",
            ServerState::Shutdown => "stopped",
        };
        RaftStatus {
            state,
            leader: self.leader(),
            term: m.current_term,
            last_log_index: m.last_log_index.unwrap_or(0),
            commit_index: m.local_committed.map_or(0, |id| id.index),
            purged_index: m.purged.map_or(0, |id| id.index),
            members: members(m.membership_config.membership()),
        }
    }

    /// All members.
    pub(crate) fn members(&self) -> Vec<MemberEntry> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        members(metrics.membership_config.membership())
    }

    /// Proposes a command; only the leader can.
    ///
    /// # Errors
    /// Retryable `Unavailable`s of a node that does not lead; `STOPPED_MAYBE_APPLIED` where this node
    /// stopped meanwhile; why it has stopped, where it had before: then nothing was proposed.
    pub(crate) async fn propose(
        &self,
        command: proto::Command,
        bytes: usize,
    ) -> Result<CommandResult> {
        if let Some(e) = self.failure() {
            return Err(e);
        }
        if let Some(halted) = self.database.halted() {
            return Err(halted.error());
        }
        match self.proposer.propose(command, bytes).await {
            Err(e) if e.kind() == ErrorKind::Closed => {
                Err(self.failure().as_ref().map_or(e, stopped_maybe_applied))
            }
            result => result,
        }
    }

    /// The log index that a linearizable read must have applied; only the leader can say.
    pub(crate) async fn read_index(&self) -> Result<u64> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => {
                Err(not_leader(f.leader_id))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Error::new(
                ErrorKind::Unavailable,
                "NO_QUORUM",
                "the leader cannot reach a majority of the voters now; retry later, or read \
                     with consistency \"none\"",
            )),
            Err(RaftError::Fatal(e)) => Err(self.stopped(&e)),
        }
    }

    /// Commits an empty entry and returns its index; only the leader can.
    pub(crate) async fn log_barrier(&self) -> Result<u64> {
        match self.raft.write_blank().await {
            Ok(response) => Ok(response.log_id.index),
            Err(e) => Err(self.write_error(e)),
        }
    }

    /// Has every replica hash its content at the same index; only the leader can.
    pub(crate) async fn check_replicas(&self) -> Result<()> {
        let batch = proto::CommandBatch { check_replicas: true, ..Default::default() };
        match self.raft.client_write(codec::batch_to_entry(&batch)).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.write_error(e)),
        }
    }

    /// Voids the commands at log index `index`, which nobody may have applied; only the leader can.
    pub(crate) async fn void_command(&self, index: u64) -> Result<u64> {
        match self.raft.client_write(codec::void_to_entry(index)).await {
            Ok(response) => Ok(response.log_id.index),
            Err(e) => Err(self.write_error(e)),
        }
    }

    /// Lets the time of commands go back to this node's clock; only the leader can.
    ///
    /// # Errors
    /// `Config` (`CONFIG_CLOCK`) where it is not ahead of it.
    pub(crate) async fn reset_clock(&self) -> Result<u64> {
        let now = self.clock.stamp_us();
        if self.database.applied().timestamp_us <= now {
            return Err(Error::config(
                "CONFIG_CLOCK",
                "the time of the last command is not ahead of the leader's clock: there is nothing to \
                 reset. If that clock is wrong, mend it first, or let another node lead",
            ));
        }
        match self.raft.client_write(codec::clock_to_entry(now)).await {
            Ok(response) => Ok(response.log_id.index),
            Err(e) => Err(self.write_error(e)),
        }
    }

    /// This node's wall clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is strange about the time of the last command, if anything is.
    pub(crate) fn clock_warning(&self) -> Option<String> {
        self.clock.warning(self.database.applied().timestamp_us)
    }

    /// How many commands the entry at log index `index` holds; none where it holds something else,
    /// or is not in the log (any more).
    pub(crate) fn commands_at(&self, index: u64) -> Result<Option<usize>> {
        let records = self.log.read(index..index + 1, 0).map_err(|e| repair::read_error(&e))?;
        let Some(record) = records.into_iter().next() else { return Ok(None) };
        match codec::payload_from_bytes(record.payload)? {
            Payload::Normal(data) if codec::is_commands(&data) => {
                Ok(Some(codec::batch_from_entry(data)?.commands.len()))
            }
            _ => Ok(None),
        }
    }

    /// Tries once more what is halted on this node, and everything after it.
    pub(crate) async fn retry_apply(&self) -> Result<()> {
        self.retries.retry().await.map_err(|e| self.failure().unwrap_or(e))
    }

    /// The hashes that this replica made.
    pub(crate) fn hashes(&self) -> &ReplicaHashes {
        &self.hashes
    }

    fn write_error(&self, e: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        match e {
            RaftError::Fatal(e) => self.stopped(&e),
            RaftError::APIError(e) => match e {
                ClientWriteError::ForwardToLeader(f) | ClientWriteError::LogEntryDiscarded(f) => {
                    not_leader(f.leader_id)
                }
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::EmptyMembership(_),
                ) => Error::config(
                    "CONFIG_LAST_VOTER",
                    "this is the last voter of the cluster and cannot be removed",
                ),
                e => Error::new(
                    ErrorKind::Unavailable,
                    "MEMBERSHIP_CHANGING",
                    format!("the membership cannot be changed now: {e}"),
                ),
            },
        }
    }

    /// Carries out a join on the leader: see [`proto::JoinRequest`].
    pub(crate) async fn add_member(&self, request: &proto::JoinRequest) -> Result<u64> {
        let _one = self.membership_change.lock().await;
        let id = NodeId::from(request.node_id.as_str());
        if id == self.node_id && request.prepare {
            return Err(Error::config(
                "CONFIG_NODE_ID",
                format!(
                    "node_id {:?} is the leader's own; give every node another node_id",
                    request.node_id
                ),
            ));
        }
        let known = |m: &Membership| m.get_node(&id).cloned();
        if request.prepare {
            // Only the leader may answer, even where there is nothing to do.
            let index = self.log_barrier().await?;
            return match known(&self.membership()) {
                None => Ok(index),
                Some(_) => self.remove(&id).await,
            };
        }
        let info = MemberInfo { address: request.address.clone() };
        let mut index = self.log_barrier().await?;
        match known(&self.membership()) {
            None => {
                index = self
                    .raft
                    .add_learner(id.clone(), info, true)
                    .await
                    .map_err(|e| self.write_error(e))?
                    .log_id
                    .index;
            }
            Some(present) if present != info => {
                let change = ChangeMembers::SetNodes(BTreeMap::from([(id.clone(), info)]));
                index = self.change(change, true).await?;
            }
            Some(_) => {}
        }
        let votes = self.membership().voter_ids().any(|v| v == id);
        match (request.learner, votes) {
            (false, false) => {
                self.wait_until_stored(&id, index).await?;
                self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await
            }
            (true, true) => {
                self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), true).await
            }
            _ => Ok(index),
        }
    }

    /// Waits until `id` has the log up to `index` on disk, or this node does not lead any more.
    ///
    /// A voter must not find itself empty after a power cut: it would wait to be let in again by a
    /// leader that may need its vote. openraft lets a learner vote that is merely close to the end of
    /// the log, and to a short log an empty one is close.
    async fn wait_until_stored(&self, id: &NodeId, index: u64) -> Result<()> {
        let stored = |m: &Metrics| {
            let Some(replication) = &m.replication else { return true };
            replication.get(id).is_none_or(|at| at.as_ref().is_some_and(|at| at.index >= index))
        };
        if *id != self.node_id {
            self.raft
                .wait(None)
                .metrics(stored, "the new member has the log")
                .await
                .map_err(|e| self.stopped(&e))?;
        }
        Ok(())
    }

    /// Removes a member; only the leader can. Removing what is no member is harmless.
    pub(crate) async fn remove_member(&self, node_id: &str) -> Result<u64> {
        let _one = self.membership_change.lock().await;
        let index = self.log_barrier().await?;
        let id = NodeId::from(node_id);
        match self.membership().get_node(&id) {
            None => Ok(index),
            Some(_) => self.remove(&id).await,
        }
    }

    async fn remove(&self, id: &NodeId) -> Result<u64> {
        let set = BTreeSet::from([id.clone()]);
        if self.membership().voter_ids().any(|v| v == *id) {
            self.change(ChangeMembers::RemoveVoters(set), false).await
        } else {
            self.change(ChangeMembers::RemoveNodes(set), false).await
        }
    }

    async fn change(&self, change: ChangeMembers<NodeId, MemberInfo>, retain: bool) -> Result<u64> {
        match self.raft.change_membership(change, retain).await {
            Ok(response) => Ok(response.log_id.index),
            Err(e) => Err(self.write_error(e)),
        }
    }

    fn membership(&self) -> Membership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    }

    /// Asks the leader, which must be this node, to hand over to `to`.
    pub(crate) async fn transfer_leadership(&self, to: &str) -> Result<()> {
        let id = NodeId::from(to);
        if !self.membership().voter_ids().any(|v| v == id) {
            return Err(Error::config(
                "CONFIG_NODE_ID",
                format!("{to:?} is no voter of this cluster and cannot lead it"),
            ));
        }
        self.raft.trigger().transfer_leader(id).await.map_err(|e| self.stopped(&e))
    }

    /// Answers one of Raft's own messages.
    pub(crate) async fn handle(&self, method: Method, body: Bytes) -> Result<Bytes> {
        match method {
            Method::Append => self.service.append(body).await,
            Method::Vote => self.service.request_vote(body).await,
            Method::Transfer => self.service.transfer(body).await,
            Method::SnapshotBegin => self.service.snapshot_begin(body).await,
            Method::SnapshotPages => self.service.snapshot_pages(body).await,
            Method::SnapshotChunk => self.service.snapshot_chunk(body).await,
            Method::SnapshotEnd => self.service.snapshot_end(body).await,
            _ => Err(codec::malformed("a request")),
        }
    }

    /// Stops Raft, lets what is committed be applied, and releases all files.
    pub(crate) async fn shutdown(&self) {
        self.maintenance.stop().await;
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop cleanly");
        }
        let apply_thread = self.apply_thread.lock().take();
        let (log, database) = (self.log.clone(), self.database.clone());
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(thread) = apply_thread {
                thread.join();
            }
            database.close();
            if let Err(e) = log.close() {
                tracing::warn!(error = %e, "the log did not close cleanly");
            }
        });
        if let Err(e) = closed.await {
            tracing::error!(error = %e, "closing panicked");
        }
    }
}

/// How often is looked whether one transaction takes long.
const PACE: Duration = Duration::from_millis(500);

async fn watch_pace(pace: std::sync::Weak<ApplyPace>) {
    let mut seen = 0;
    while let Some(pace) = pace.upgrade() {
        seen = pace.watch(seen);
        drop(pace);
        tokio::time::sleep(PACE).await;
    }
}

/// Notices every change that Raft reports.
pub(crate) struct RaftWatch(openraft::type_config::alias::WatchReceiverOf<TypeConfig, Metrics>);

/// The pause in the place of a change that cannot come.
const STOPPED: Duration = Duration::from_millis(20);

impl RaftWatch {
    /// Waits for the next change, at most until `deadline`. False: the deadline has passed or Raft
    /// has stopped.
    pub(crate) async fn changed(&mut self, deadline: Instant) -> bool {
        let until = tokio::time::Instant::from_std(deadline);
        match tokio::time::timeout_at(until, self.0.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => {
                // Nobody may spin on a Raft that has stopped.
                tokio::time::sleep_until(until.min(tokio::time::Instant::now() + STOPPED)).await;
                false
            }
            Err(_) => false,
        }
    }
}

pub(super) fn members(membership: &Membership) -> Vec<MemberEntry> {
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    membership
        .nodes()
        .map(|(id, info)| MemberEntry {
            node_id: id.as_str().to_owned(),
            address: info.address.clone(),
            role: if voters.contains(id) { Role::Voter } else { Role::Learner },
        })
        .collect()
}

pub(super) fn not_leader(leader: Option<NodeId>) -> Error {
    Error::new(ErrorKind::Unavailable, "NOT_LEADER", "this node does not lead the cluster")
        .with_leader(leader.map(|id| id.as_str().to_owned()))
}

/// The error of a write that was on its way when this node stopped: the others may go on with it.
pub(crate) fn stopped_maybe_applied(cause: &Error) -> Error {
    let e = Error::new(
        ErrorKind::Unavailable,
        "STOPPED_MAYBE_APPLIED",
        format!(
            "this node stopped while the write was on its way, and it may be applied: look whether it \
             is there once the node is open again, or at another node. It stopped because of {}: {}",
            cause.code(),
            cause.message()
        ),
    )
    .with_retryable(false)
    .with_source(cause.clone());
    match cause.sqlite_code() {
        Some(code) => e.with_sqlite_code(code),
        None => e,
    }
}

fn start_failed(e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "START_FAILED", format!("the node cannot start: {e}"))
        .with_retryable(false)
}

fn raft_config() -> Result<Arc<openraft::Config>> {
    let config = openraft::Config {
        cluster_name: "quorumlite".into(),
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        election_timeout_min: ELECTION_MIN.as_millis() as u64,
        election_timeout_max: ELECTION_MAX.as_millis() as u64,
        enable_pre_vote: Some(true),
        // A restarted leader may have sent entries that its own log lost: it must be elected anew.
        enable_leader_restore: Some(false),
        // The log is purged by its size in bytes: see `maintenance`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A new learner may vote once it is this close to the end of the log.
        replication_lag_threshold: 64,
        backoff: "50ms,100ms,200ms..1s".into(),
        ..Default::default()
    };
    config.validate().map(Arc::new).map_err(|e| start_failed(&e))
}

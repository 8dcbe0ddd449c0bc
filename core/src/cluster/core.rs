//! [`ClusterCore`]: one open data directory: identity, transport and consensus, opened and closed
//! together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::Identities;
use super::directory::{DataDirectory, StoredIdentity, hex};
use super::identity::Identity;
use super::join::Wanted;
use super::peers_reads::PeersReads;
use super::replica_check::{self, ReplicaCheck};
use super::router::Router;
use super::{clocks, void};
use crate::config::{Config, Role, split_address};
use crate::consensus::{Consensus, ReadBarrier};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::sqlite::Database;
use crate::transport::{Build, Client, ClusterId, Local, Server, Tls};

/// How long a member that starts again waits for a leader before `open` returns without one: when a
/// whole cluster is started, somebody has to be the first. Calls wait by themselves.
const RESTART_WAIT: Duration = Duration::from_secs(3);
/// How often is looked whether a leader was heard.
const CHECK: Duration = Duration::from_millis(10);
/// How long one round of the read barrier may take before its readers try again.
const BARRIER_ROUND: Duration = Duration::from_secs(1);

/// One open data directory.
pub(crate) struct ClusterCore {
    pub(super) identity: Arc<Identity>,
    pub(super) client: Client,
    pub(crate) consensus: Consensus,
    pub(super) identities: Arc<Identities>,
    pub(crate) barrier: ReadBarrier,
    pub(super) server: Option<Server>,
    pub(super) listen: Option<String>,
    address: Option<String>,
    pub(crate) replica_check: ReplicaCheck,
    pub(super) peers_reads: Arc<PeersReads>,
    /// What the node was opened on.
    pub(super) runtime: tokio::runtime::Handle,
    admitted: AtomicBool,
    closed: AtomicBool,
    /// Handles that were opened and not closed.
    handles: AtomicUsize,
    directory: Mutex<Option<Arc<DataDirectory>>>,
}

impl ClusterCore {
    /// Opens the directory and returns when the node has joined and can serve. What was opened is
    /// closed again where that fails, and where `abandoned` comes first. The future itself must be
    /// driven to its end.
    pub(crate) async fn open(
        config: &Config,
        abandoned: impl Future<Output = ()>,
    ) -> Result<Arc<ClusterCore>> {
        let deadline = Instant::now() + config.timeout;
        let path = config.dir.clone();
        let directory = tokio::task::spawn_blocking(move || DataDirectory::open(&path))
            .await
            .map_err(|e| Error::closed().with_source(e))??;
        let directory = Arc::new(directory);
        let identity = Arc::new(load_identity(config, &directory)?);
        let tls = Tls::from_config(&config.security)?;
        let local: Arc<dyn Local> = identity.clone();
        let client = Client::new(tls.clone(), local.clone());
        let router = Arc::new(Router::default());
        let (server, address) = match &config.listen {
            None => (None, None),
            Some(listen) => {
                let server = Server::bind(listen, tls, local, router.clone()).await?;
                let address = advertised(config, listen, server.local_addr().port());
                (Some(server), Some(address))
            }
        };
        let consensus = Consensus::start(
            directory.path(),
            &identity.node_id(),
            config.max_log_bytes,
            config.transaction_entries,
            config.pretended_clock_us,
            client.clone(),
        )
        .await;
        let consensus = match consensus {
            Ok(consensus) => consensus,
            Err(e) => {
                client.shutdown().await;
                if let Some(server) = server {
                    server.shutdown().await;
                }
                return Err(e);
            }
        };
        let admitted = AtomicBool::new(!consensus.is_fresh());
        let identities = Identities::new()?;
        let core = Arc::new_cyclic(|weak: &std::sync::Weak<ClusterCore>| {
            router.connect(weak.clone());
            let weak = weak.clone();
            let barrier = ReadBarrier::start(move || {
                let core = weak.upgrade();
                async move {
                    let core = core.ok_or_else(Error::closed)?;
                    core.read_index(Instant::now() + BARRIER_ROUND).await
                }
            });
            ClusterCore {
                identity,
                client,
                consensus,
                identities,
                barrier,
                server,
                listen: config.listen.clone(),
                address,
                replica_check: ReplicaCheck::default(),
                peers_reads: Arc::default(),
                runtime: tokio::runtime::Handle::current(),
                admitted,
                closed: AtomicBool::new(false),
                handles: AtomicUsize::new(0),
                directory: Mutex::new(Some(directory)),
            }
        });
        let entered = tokio::select! {
            entered = core.enter_cluster(config, deadline) => entered,
            () = abandoned => Err(Error::closed()),
        };
        match entered {
            Ok(()) => {
                replica_check::start(&core, config.check_interval);
                void::start(&core);
                clocks::start(&core);
                Ok(core)
            }
            Err(e) => {
                core.shutdown().await;
                Err(e)
            }
        }
    }

    async fn enter_cluster(&self, config: &Config, deadline: Instant) -> Result<()> {
        let me = self.consensus.node_id().to_owned();
        let wanted = Wanted {
            address: self.address.clone().unwrap_or_default(),
            role: config.role,
            join: config.join.clone(),
        };
        let members = self.consensus.members();
        if !wanted.join.is_empty() && members.is_empty() {
            return self.join(&wanted, deadline).await;
        }
        if self.consensus.is_fresh() {
            return self.bootstrap(&wanted, deadline).await;
        }
        if members.is_empty() {
            return Err(Error::config(
                "CONFIG_NEEDS_JOIN",
                "this directory began to join a cluster and did not finish; open it with join",
            ));
        }
        if members.iter().all(|m| m.node_id == me) {
            return self.restart_alone(&wanted, deadline).await;
        }
        if self.address.is_none() {
            let members: Vec<_> = members.into_iter().map(|m| m.node_id).collect();
            return Err(Error::config(
                "CONFIG_NEEDS_LISTEN",
                format!(
                    "this directory is a member of the cluster of {}; open it with listen (and the \
                     cluster's secret), or it cannot take part",
                    members.join(", ")
                ),
            ));
        }
        self.restart_member(&wanted, deadline).await
    }

    /// An empty directory without `join` becomes a cluster of its own.
    async fn bootstrap(&self, wanted: &Wanted, deadline: Instant) -> Result<()> {
        if wanted.role == Role::Learner {
            return Err(Error::config(
                "CONFIG_ROLE",
                "the first node of a cluster cannot be a learner; give it join, or leave role out",
            ));
        }
        if self.identity.cluster_id().is_none() {
            self.identity.adopt(new_cluster_id()?)?;
        }
        self.set_admitted();
        self.consensus.bootstrap(&wanted.address).await?;
        self.wait_ready(deadline).await
    }

    /// The only member needs nobody's vote; it may have got an address, or lost one.
    async fn restart_alone(&self, wanted: &Wanted, deadline: Instant) -> Result<()> {
        self.refuse_other_clusters(wanted, deadline).await?;
        self.consensus.elect().await?;
        self.wait_ready(deadline).await?;
        if self.address.is_some() && !self.is_member_as(wanted) {
            let request = crate::proto::JoinRequest {
                node_id: self.consensus.node_id().to_owned(),
                address: wanted.address.clone(),
                learner: false,
                timeout_ms: 0,
                prepare: false,
                instance: self.identities.instance(),
            };
            self.join_on_leader(request, deadline).await?;
        }
        Ok(())
    }

    async fn restart_member(&self, wanted: &Wanted, deadline: Instant) -> Result<()> {
        if !self.is_member_as(wanted) {
            return self.join(wanted, deadline).await;
        }
        self.wait_caught_up(self.consensus.commit_index(), deadline).await?;
        let patience = deadline.min(Instant::now() + RESTART_WAIT);
        if self.wait_in_touch(patience).await? {
            return Ok(());
        }
        self.refuse_if_shut_out(deadline).await
    }

    /// Waits until this node leads, or a leader has sent it something since it was opened: the log
    /// still names the last leader, which need not be there any more. False when the deadline
    /// passes.
    async fn wait_in_touch(&self, deadline: Instant) -> Result<bool> {
        loop {
            if let Some(e) = self.stopped() {
                return Err(e);
            }
            if self.consensus.leader().is_some() && self.consensus.in_touch() {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(false);
            }
            // Hearing from a known leader changes nothing that Raft reports: there is nothing to
            // watch.
            tokio::time::sleep(CHECK.min(deadline - now)).await;
        }
    }

    /// Waits until this node leads and has applied everything that its log held.
    async fn wait_ready(&self, deadline: Instant) -> Result<()> {
        self.wait_for_leader(deadline).await?;
        let index = self.read_index(deadline).await?;
        self.wait_caught_up(index, deadline).await
    }

    /// Waits until some node leads, and returns its id.
    pub(crate) async fn wait_for_leader(&self, deadline: Instant) -> Result<String> {
        let mut watch = self.consensus.watch();
        loop {
            if let Some(e) = self.stopped() {
                return Err(e);
            }
            if let Some(leader) = self.consensus.leader() {
                return Ok(leader);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.no_leader());
            }
            // That a known leader was heard again is no change that Raft reports.
            watch.changed(deadline.min(now + CHECK)).await;
        }
    }

    /// As [`ClusterCore::wait_applied`], for a node that is to open: also one that has stopped applying
    /// can serve reads.
    pub(super) async fn wait_caught_up(&self, index: u64, deadline: Instant) -> Result<()> {
        match self.wait_applied(index, deadline).await {
            Err(e) if e.code() == "APPLY_HALTED" => {
                tracing::error!(error = %e, "opened without applying a command");
                Ok(())
            }
            result => result,
        }
    }

    /// Waits until this node's database has applied `index`.
    pub(crate) async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<()> {
        let mut applied = self.consensus.applied();
        if *applied.borrow() >= index {
            return Ok(());
        }
        if let Some(halted) = self.consensus.database().halted().filter(|h| h.index <= index) {
            return Err(halted.error());
        }
        let at = tokio::time::Instant::from_std(deadline);
        match tokio::time::timeout_at(at, applied.wait_for(|i| *i >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stopped().unwrap_or_else(Error::closed)),
            Err(_) => Err(self.stopped().unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Timeout,
                    "TIMEOUT",
                    format!(
                        "this node has applied index {} and did not reach {index} before the \
                         deadline; it is behind the leader or cut off from it",
                        self.consensus.database().applied_index()
                    ),
                )
            })),
        }
    }

    /// Why this node cannot serve any more, if that is so.
    pub(crate) fn stopped(&self) -> Option<Error> {
        if self.closed.load(Ordering::Acquire) {
            return Some(Error::closed());
        }
        self.consensus.failure()
    }

    pub(super) fn admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    pub(super) fn set_admitted(&self) {
        self.admitted.store(true, Ordering::Release);
        self.consensus.admit();
    }

    /// This node's id.
    pub(crate) fn node_id(&self) -> &str {
        self.consensus.node_id()
    }

    /// The cluster's id in hexadecimal; empty before the node has one.
    pub(crate) fn cluster_id(&self) -> String {
        self.identity.cluster_id().as_ref().map(hex).unwrap_or_default()
    }

    /// The address at which other nodes reach this one.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// What decides what commands do on this node.
    pub(crate) fn build(&self) -> Build {
        self.identity.build()
    }

    /// Which peer was turned away last, and why.
    pub(crate) fn last_refusal(&self) -> Option<String> {
        let (peer, why, _) = self.server.as_ref()?.last_refusal()?;
        Some(format!("{peer}: {why}"))
    }

    /// How many handles use this node.
    pub(crate) fn handles(&self) -> usize {
        self.handles.load(Ordering::Acquire)
    }

    /// One more handle uses this node.
    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// One handle less; true for the last one, who shuts down.
    pub(crate) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Stops everything and releases the directory; bounded in time, harmless when repeated.
    pub(crate) async fn shutdown(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.peers_reads.close();
        if let Some(server) = &self.server {
            server.shutdown().await;
        }
        self.consensus.shutdown().await;
        self.client.shutdown().await;
        self.directory.lock().take();
        self.identity.release();
    }
}

fn load_identity(config: &Config, directory: &Arc<DataDirectory>) -> Result<Identity> {
    let has_log = Log::exists(&directory.path().join("log"))?;
    let stored = match (directory.identity()?, &config.node_id) {
        (None, _) if has_log || Database::exists(directory.path()) => {
            return Err(directory.lost_identity());
        }
        // The cluster's id is written after the log's first segment.
        (Some(stored), _) if stored.cluster_id.is_some() && !has_log => {
            return Err(directory.lost_log());
        }
        (Some(stored), Some(wanted)) if stored.node_id != *wanted => {
            return Err(Error::config(
                "CONFIG_NODE_ID",
                format!(
                    "the data directory {} belongs to node {:?}, not {wanted:?}; leave node_id out \
                     or choose another directory",
                    directory.path().display(),
                    stored.node_id
                ),
            ));
        }
        (Some(stored), _) if stored.recovering => {
            return Err(Error::config(
                "CONFIG_RECOVERY",
                format!(
                    "recover_lost_quorum was interrupted in {}: call it again, then open the node",
                    directory.path().display()
                ),
            ));
        }
        (Some(stored), _) => stored,
        (None, wanted) => {
            let node_id = match wanted {
                Some(id) => id.clone(),
                None => random_node_id()?,
            };
            let stored = StoredIdentity { node_id, ..Default::default() };
            directory.save_identity(&stored)?;
            stored
        }
    };
    Ok(Identity::new(stored, directory.clone(), config.pretended_build.clone()))
}

/// A random id for a new cluster.
pub(crate) fn new_cluster_id() -> Result<ClusterId> {
    let mut cluster = [0; 16];
    getrandom::fill(&mut cluster).map_err(|e| {
        Error::new(
            ErrorKind::Unavailable,
            "NO_RANDOMNESS",
            format!("the operating system gives no randomness: {e}"),
        )
    })?;
    Ok(cluster)
}

fn random_node_id() -> Result<String> {
    let n = getrandom::u32().map_err(|e| {
        Error::new(
            ErrorKind::Unavailable,
            "NO_RANDOMNESS",
            format!("the operating system gives no randomness: {e}"),
        )
    })?;
    Ok(format!("node-{n:08x}"))
}

/// The address that others dial; a `listen` on port 0 is known only after binding.
fn advertised(config: &Config, listen: &str, port: u16) -> String {
    match (&config.advertise, split_address(listen)) {
        (Some(address), _) => address.clone(),
        (None, Some((host, 0))) if host.contains(':') => format!("[{host}]:{port}"),
        (None, Some((host, 0))) => format!("{host}:{port}"),
        (None, _) => listen.to_owned(),
    }
}

/// The canonical path of a directory, created where it is missing.
pub(crate) fn canonical(path: &Path) -> Result<std::path::PathBuf> {
    DataDirectory::create(path)?;
    std::fs::canonicalize(path)
        .map_err(|e| Error::config("CONFIG_DIRECTORY", format!("{}: {e}", path.display())))
}

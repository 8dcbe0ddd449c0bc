//! Frames over mutual TLS between nodes: the only folder that names rustls. Moves opaque requests
//! and responses; what they mean is decided in `consensus` and `cluster`.
//!
//! One connection carries one [`Lane`] between two nodes. It starts with a hello in both directions
//! (protocol version, cluster id, node id); only then do requests reach the [`Handler`]. The bytes
//! on the wire are described in `wire.rs`.

mod call;
mod certificates;
mod client;
mod connection;
mod handshake;
mod limits;
mod secret;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use call::{CallError, PendingCall};
pub(crate) use client::Client;
pub(crate) use limits::Limits;
pub(crate) use server::Server;
pub(crate) use tls::Tls;

use crate::error::{Error, ErrorKind, Result};

/// The random id that a cluster gets at its first bootstrap.
pub(crate) type ClusterId = [u8; 16];

/// Independent connections per pair of nodes, so that heartbeats never wait behind data, nor data
/// behind snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Votes, heartbeats, small questions.
    Control,
    /// Log entries and forwarded statements.
    Data,
    /// Snapshots.
    Bulk,
}

impl Lane {
    /// The largest request or response body that this lane carries, in bytes. Larger messages are
    /// refused before they are sent; cut them into chunks.
    pub(crate) fn max_body(self) -> usize {
        self.max_frame() - wire::MAX_HEAD
    }

    fn max_frame(self) -> usize {
        match self {
            Lane::Control => 8 * 1024 * 1024,
            Lane::Data | Lane::Bulk => 32 * 1024 * 1024,
        }
    }

    /// How many requests of one connection may be in the handler's hands at once.
    fn concurrency(self) -> u32 {
        match self {
            Lane::Control | Lane::Data => 256,
            Lane::Bulk => 16,
        }
    }
}

/// What decides what a command does on a node, beside the command. Opaque here, but for being equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Build {
    /// What entries of the log mean.
    pub apply_level: u32,
    /// Of SQLite's version and options, our functions and limits, the platform.
    pub fingerprint: String,
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.fingerprint.as_str() {
            "" => f.write_str("an older version, which does not say"),
            fingerprint => write!(f, "apply level {}, build {fingerprint}", self.apply_level),
        }
    }
}

/// What the other side of a connection said in its hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name in the cluster; well-formed, but only as true as the secret that protects the port.
    pub node_id: String,
    /// Its cluster; `None` while it has not joined or founded one.
    pub cluster_id: Option<ClusterId>,
    /// The newest protocol version that both sides speak.
    pub version: u32,
    /// What the connection is for.
    pub lane: Lane,
    /// What decides what commands do there.
    pub build: Build,
}

/// Who this node is. Changes once, when a joining node learns its cluster.
pub(crate) trait Local: Send + Sync + 'static {
    /// This node's name.
    fn node_id(&self) -> String;

    /// The cluster that this node belongs to, once that is known.
    fn cluster_id(&self) -> Option<ClusterId>;

    /// What decides what commands do here.
    fn build(&self) -> Build {
        Build::default()
    }

    /// A peer was refused, or refused us, since its build is another one.
    fn other_build(&self, _refusal: &Error) {}

    /// May this peer talk to us? Asked once per connection; the error is sent to the peer as the
    /// refusal. By default two known and different cluster ids are refused.
    fn admit(&self, peer: &Peer) -> Result<()> {
        same_cluster(self.cluster_id(), peer)
    }
}

/// The check that both sides make: two known cluster ids must be equal.
fn same_cluster(ours: Option<ClusterId>, peer: &Peer) -> Result<()> {
    match (ours, peer.cluster_id) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Error::new(
            ErrorKind::Forbidden,
            "FORBIDDEN_CLUSTER",
            format!(
                "node {:?} belongs to another cluster ({} here, {} there); check the addresses in \
                 join, or start the node with an empty directory to move it to this cluster",
                peer.node_id,
                hex(&ours),
                hex(&theirs)
            ),
        )),
        _ => Ok(()),
    }
}

/// The check that both sides make: builds that may compute different rows must not replicate.
fn same_build(local: &dyn Local, peer: &Peer) -> Result<()> {
    let ours = local.build();
    if ours == peer.build {
        return Ok(());
    }
    let (me, node) = (local.node_id(), &peer.node_id);
    let advice = if ours.apply_level == peer.build.apply_level && !peer.build.fingerprint.is_empty()
    {
        "install the same version of quorumlite, for the same kind of platform, on both".to_owned()
    } else if ours.apply_level > peer.build.apply_level {
        format!("upgrade {node:?}")
    } else {
        format!("upgrade {me:?}")
    };
    let refusal = Error::new(
        ErrorKind::Forbidden,
        "FORBIDDEN_VERSION",
        format!(
            "nodes {me:?} ({ours}) and {node:?} ({}) could compute different rows from the same \
             statement and do not replicate to each other: {advice}. Reads at \"none\" and \
             \"session\" go on",
            peer.build
        ),
    );
    local.other_build(&refusal);
    Err(refusal)
}

fn hex(id: &ClusterId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers the requests of peers whose hello was accepted.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    ///
    /// Called in the order in which the requests of one connection arrived. The returned future is
    /// polled once before the next request of that connection is handed over, then runs
    /// concurrently with others: a handler that cares about order does that part before its first
    /// await point. At most [`Lane::concurrency`] requests of a connection run at once; beyond it
    /// reading pauses. A request runs to its end even when its caller has gone, unless
    /// [`Handler::is_only_for_its_answer`]; otherwise only [`Server::shutdown`] cuts it off.
    ///
    /// `body` is a slice of the connection's read buffer: copy what is to be kept for long.
    fn handle(&self, peer: &Peer, method: u32, body: Bytes) -> BoxFuture<'static, Result<Bytes>>;

    /// Whether requests of this method are dropped when their connection ends: nobody can have the
    /// answer then, and they do nothing else.
    fn is_only_for_its_answer(&self, _method: u32) -> bool {
        false
    }
}

//! [`Identity`]: who this node is towards the others, and which peers it talks to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::directory::{DataDirectory, StoredIdentity, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::{APPLY_LEVEL, fingerprint};
use crate::transport::{Build, ClusterId, Local, Peer};

/// Peers try again all the time: a refusal that does not come again is over.
const REFUSAL_STANDS: Duration = Duration::from_secs(15);

/// This node's identity; it changes once, when a joining node learns its cluster.
pub(crate) struct Identity {
    stored: RwLock<StoredIdentity>,
    /// None once the node is closed: the directory may then belong to somebody else.
    directory: RwLock<Option<Arc<DataDirectory>>>,
    build: Build,
    /// The last refusal because of another build, and when that was.
    other_build: RwLock<Option<(Error, Instant)>>,
}

impl Identity {
    pub(crate) fn new(
        stored: StoredIdentity,
        directory: Arc<DataDirectory>,
        pretended: Option<(u32, String)>,
    ) -> Self {
        let (apply_level, fingerprint) =
            pretended.unwrap_or_else(|| (APPLY_LEVEL, fingerprint().to_owned()));
        Identity {
            stored: RwLock::new(stored),
            directory: RwLock::new(Some(directory)),
            build: Build { apply_level, fingerprint },
            other_build: RwLock::new(None),
        }
    }

    /// Why peers and this node refused each other lately, if their builds differ.
    pub(crate) fn build_refusal(&self) -> Option<Error> {
        let refusal = self.other_build.read();
        refusal.as_ref().filter(|(_, at)| at.elapsed() < REFUSAL_STANDS).map(|(e, _)| e.clone())
    }

    /// Lets go of the directory.
    pub(crate) fn release(&self) {
        self.directory.write().take();
    }

    /// Makes `cluster` the cluster of this directory, for good.
    ///
    /// # Errors
    /// `Forbidden` where the directory belongs to another one.
    pub(crate) fn adopt(&self, cluster: ClusterId) -> Result<()> {
        let mut stored = self.stored.write();
        match stored.cluster_id {
            Some(mine) if mine == cluster => Ok(()),
            Some(mine) => Err(other_cluster(&mine, &cluster)),
            None => {
                let adopted = StoredIdentity { cluster_id: Some(cluster), ..stored.clone() };
                let directory = self.directory.read();
                directory.as_ref().ok_or_else(Error::closed)?.save_identity(&adopted)?;
                *stored = adopted;
                Ok(())
            }
        }
    }
}

fn other_cluster(mine: &ClusterId, theirs: &ClusterId) -> Error {
    Error::new(
        ErrorKind::Forbidden,
        "FORBIDDEN_CLUSTER",
        format!(
            "a node of cluster {} and one of cluster {} cannot talk to each other; check the \
             addresses in join, or remove the data directory of the node that shall move",
            hex(mine),
            hex(theirs)
        ),
    )
}

impl Local for Identity {
    fn node_id(&self) -> String {
        self.stored.read().node_id.clone()
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.stored.read().cluster_id
    }

    fn build(&self) -> Build {
        self.build.clone()
    }

    fn other_build(&self, refusal: &Error) {
        *self.other_build.write() = Some((refusal.clone(), Instant::now()));
    }

    fn admit(&self, peer: &Peer) -> Result<()> {
        match (self.cluster_id(), peer.cluster_id) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(other_cluster(&mine, &theirs)),
            _ => Ok(()),
        }
    }
}

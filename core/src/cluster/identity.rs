//! [`Identity`]: who this node is towards the others, and which peers it talks to.

use std::sync::Arc;

use parking_lot::RwLock;

use super::directory::{DataDirectory, StoredIdentity, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{ClusterId, Local, Peer};

/// This node's identity; it changes once, when a joining node learns its cluster.
pub(crate) struct Identity {
    stored: RwLock<StoredIdentity>,
    /// None once the node is closed: the directory may then belong to somebody else.
    directory: RwLock<Option<Arc<DataDirectory>>>,
}

impl Identity {
    pub(crate) fn new(stored: StoredIdentity, directory: Arc<DataDirectory>) -> Self {
        Identity { stored: RwLock::new(stored), directory: RwLock::new(Some(directory)) }
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

    fn admit(&self, peer: &Peer) -> Result<()> {
        match (self.cluster_id(), peer.cluster_id) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(other_cluster(&mine, &theirs)),
            _ => Ok(()),
        }
    }
}

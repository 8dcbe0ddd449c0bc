//! The cluster around one Raft node: its directory and identity, joining, the way to the leader, and
//! what is answered to other nodes.

mod client;
mod clocks;
mod core;
mod directory;
mod identity;
mod join;
mod members;
mod peers_reads;
mod registry;
mod replica_check;
mod router;
mod void;

pub(crate) use self::core::{ClusterCore, canonical, new_cluster_id};
pub(crate) use directory::{DataDirectory, StoredIdentity, hex};
pub(crate) use registry::{Registry, Slot};

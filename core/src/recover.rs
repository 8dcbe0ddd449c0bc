//! [`recover_lost_quorum`]: makes one data directory the start of a new cluster.

use std::path::Path;

use crate::cluster::{DataDirectory, StoredIdentity, hex, new_cluster_id};
use crate::consensus::repair;
use crate::error::{Error, Result};
use crate::log::{Log, LogOptions};
use crate::sqlite::Database;

/// What [`recover_lost_quorum`] has done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The node's id, as before.
    pub node_id: String,
    /// The id of the new cluster, 32 hexadecimal digits.
    pub cluster_id: String,
    /// The index of the last entry of the old cluster that this directory has, and so the new one.
    pub last_log_index: u64,
    /// The members of the old cluster that are none of the new one.
    pub removed: Vec<String>,
}

/// Makes the data directory at `path` the start of a new cluster, of which its node is the only
/// member, with all the data that it has. For a cluster that lost its majority for good, and for
/// nothing else: **what only the lost nodes had is lost**, which may be writes that were
/// acknowledged; and writes that were under way may turn out to be applied.
///
/// No node may have the directory open. Take the copy that knows most (see
/// [`CheckReport`](crate::CheckReport)), and keep a copy of the directory. Afterwards open the node,
/// and let empty directories join it. Members of the old cluster are refused
/// (`FORBIDDEN_CLUSTER`): stop them and remove their directories.
///
/// After a crash in the middle the directory does not open (`CONFIG_RECOVERY`): call this again.
/// Blocks.
///
/// # Errors
/// `Config` where the directory is in use or holds no member of a cluster, `Corruption` where it is
/// damaged, `Unavailable` where the disk fails.
pub fn recover_lost_quorum(path: impl AsRef<Path>) -> Result<Recovery> {
    let path = path.as_ref();
    let directory = DataDirectory::open_existing(path)?;
    let Some(identity) = directory.identity()? else { return Err(nothing_to_recover(path)) };
    let log = Log::open(&path.join("log"), LogOptions::default())?;
    let (database, writer) = Database::open(path)?;
    let applied = writer.applied();
    drop(writer);
    database.close();
    let summary = repair::summarize(&log, Some(&applied));
    if let Some(problem) = summary.problems.into_iter().next() {
        return Err(problem);
    }
    if summary.members.is_empty() {
        return Err(nothing_to_recover(path));
    }
    let me = &identity.node_id;
    let address = summary.members.iter().find(|m| m.node_id == *me);
    let address = address.map_or("", |m| m.address.as_str());

    // The cluster id first: a log in which this node is alone must never meet the old members under
    // the old id. The mark keeps the node from opening in between.
    let cluster = match identity.cluster_id {
        Some(begun) if identity.recovering => begun,
        _ => new_cluster_id()?,
    };
    let begun = StoredIdentity { node_id: me.clone(), cluster_id: Some(cluster), recovering: true };
    directory.save_identity(&begun)?;
    repair::become_only_member(&log, &applied, me, address)?;
    log.close().map_err(|e| log.error().unwrap_or_else(|| Error::closed().with_source(e)))?;
    directory.save_identity(&StoredIdentity { recovering: false, ..begun })?;
    Ok(Recovery {
        node_id: me.clone(),
        cluster_id: hex(&cluster),
        last_log_index: summary.last.map_or(0, |last| last.index),
        removed: summary.members.into_iter().map(|m| m.node_id).filter(|id| id != me).collect(),
    })
}

fn nothing_to_recover(path: &Path) -> Error {
    Error::config(
        "CONFIG_RECOVERY",
        format!(
            "{} holds no member of a cluster: its node never finished to start or to join, so there \
             is nothing to recover",
            path.display()
        ),
    )
}

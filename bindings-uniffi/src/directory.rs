//! What is done to a data directory that no node has open: `check` and `recover_lost_quorum`.

use crate::operation::{Result, detachable};
use crate::status::Member;

/// One thing that `check_directory` found.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Finding {
    /// `error`: data is damaged or missing; `note`: worth knowing, and no damage.
    pub severity: String,
    /// A stable code, such as `CORRUPTION_LOG`.
    pub code: String,
    /// What was found, and what to do.
    pub message: String,
}

/// What `check_directory` says of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct CheckReport {
    /// Whether nothing is damaged: no finding is an error.
    pub ok: bool,
    /// The node's id; empty where the directory does not say.
    pub node_id: String,
    /// The cluster's id; empty before the node has joined one.
    pub cluster_id: String,
    /// The term of the last vote.
    pub term: u64,
    /// The term of the last entry in the log.
    pub last_log_term: u64,
    /// The index of the last entry in the log.
    pub last_log_index: u64,
    /// The last index that was purged from the log.
    pub purged_index: u64,
    /// The index up to which entries are applied to the database.
    pub applied_index: u64,
    /// The members that log and database name last; not asked whether they are there.
    pub members: Vec<Member>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl From<quorumlite::CheckReport> for CheckReport {
    fn from(r: quorumlite::CheckReport) -> Self {
        CheckReport {
            ok: r.ok,
            node_id: r.node_id,
            cluster_id: r.cluster_id,
            term: r.term,
            last_log_term: r.last_log_term,
            last_log_index: r.last_log_index,
            purged_index: r.purged_index,
            applied_index: r.applied_index,
            members: r.members.into_iter().map(Into::into).collect(),
            findings: r
                .findings
                .into_iter()
                .map(|f| Finding {
                    severity: f.severity.as_str().to_owned(),
                    code: f.code,
                    message: f.message,
                })
                .collect(),
        }
    }
}

/// What `recover_lost_quorum` has done.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Recovery {
    /// The node's id, as before.
    pub node_id: String,
    /// The id of the new cluster.
    pub cluster_id: String,
    /// The index of the last entry of the old cluster that the new one has.
    pub last_log_index: u64,
    /// The members of the old cluster that are none of the new one.
    pub removed: Vec<String>,
}

async fn blocking<T, F>(work: F) -> Result<T>
where
    F: FnOnce() -> quorumlite::Result<T> + Send + 'static,
    T: Send + 'static,
{
    detachable(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(quorumlite::Error::closed().with_source(e)))
    })
    .await
}

/// Checks a data directory that no node has open.
///
/// # Errors
/// Those of the core's `check`.
#[uniffi::export]
pub async fn check_directory(dir: String) -> Result<CheckReport> {
    blocking(move || quorumlite::check(dir)).await.map(Into::into)
}

/// Makes a data directory the start of a new cluster, with all the data that it has.
///
/// # Errors
/// Those of the core's `recover_lost_quorum`.
#[uniffi::export]
pub async fn recover_lost_quorum(dir: String) -> Result<Recovery> {
    let r = blocking(move || quorumlite::recover_lost_quorum(dir)).await?;
    Ok(Recovery {
        node_id: r.node_id,
        cluster_id: r.cluster_id,
        last_log_index: r.last_log_index,
        removed: r.removed,
    })
}

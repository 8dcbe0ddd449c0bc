//! The comparison of replicas in the background: the leader puts a mark into the log, every replica
//! hashes its content as it is at that mark, and each compares its hash with those of the others.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::ClusterCore;
use crate::consensus::codec;
use crate::proto::{self, Method};
use crate::transport::Lane;

/// How long another replica may take to answer once.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that has no hash yet is asked again after this pause...
const PAUSE: Duration = Duration::from_millis(250);
/// ...so often; it may hash a large database, or have been away when the mark was applied.
const ATTEMPTS: u32 = 240;

/// What the comparisons found.
#[derive(Default)]
pub(crate) struct ReplicaCheck(Mutex<Found>);

#[derive(Default, Clone)]
pub(crate) struct Found {
    /// The latest index at which this replica and all that answered were equal.
    pub(crate) checked_index: u64,
    /// The first difference that was found. It stays: a replica does not become equal by itself.
    pub(crate) divergence: Option<String>,
}

impl ReplicaCheck {
    pub(crate) fn found(&self) -> Found {
        self.0.lock().clone()
    }

    fn equal_at(&self, index: u64) {
        self.0.lock().checked_index = index;
    }

    fn differs(&self, what: String) {
        tracing::error!(divergence = what, "replicas differ");
        self.0.lock().divergence.get_or_insert(what);
    }
}

/// Starts the tasks of one node; they end with it. Every node compares, whoever asked for it.
pub(super) fn start(core: &Arc<ClusterCore>, interval: Option<Duration>) {
    tokio::spawn(compare_always(Arc::downgrade(core)));
    if let Some(interval) = interval {
        tokio::spawn(mark_always(Arc::downgrade(core), interval));
    }
}

async fn mark_always(core: Weak<ClusterCore>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(core) = core.upgrade().filter(|core| core.stopped().is_none()) else { return };
        if core.leads()
            && let Err(e) = core.consensus.check_replicas().await
        {
            tracing::debug!(error = %e, "no replica check this time");
        }
    }
}

async fn compare_always(weak: Weak<ClusterCore>) {
    let Some(mut latest) = weak.upgrade().map(|core| core.consensus.hashes().latest()) else {
        return;
    };
    while latest.changed().await.is_ok() {
        let index = *latest.borrow_and_update();
        let Some(core) = weak.upgrade().filter(|core| core.stopped().is_none()) else { return };
        core.compare(index).await;
    }
}

impl ClusterCore {
    /// Compares this replica's hash at `index` with those of all members that have one.
    async fn compare(&self, index: u64) {
        let Some(mine) = self.consensus.hashes().get(index) else { return };
        let others = self.consensus.members().into_iter().filter(|m| m.node_id != self.node_id());
        let asked = others.map(|m| async move {
            let hash = self.hash_of(&m.address, &m.node_id, index).await?;
            Some((m.node_id, hash))
        });
        let theirs = futures_util::future::join_all(asked).await;
        let different: Vec<_> =
            theirs.into_iter().flatten().filter(|(_, hash)| *hash != mine).collect();
        if different.is_empty() {
            return self.replica_check.equal_at(index);
        }
        let mut what = format!("at log index {index}: {} {mine}", self.node_id());
        for (node_id, hash) in different {
            what.push_str(&format!(", {node_id} {hash}"));
        }
        self.replica_check.differs(what);
    }

    async fn hash_of(&self, address: &str, node_id: &str, index: u64) -> Option<String> {
        let body = codec::encode(&proto::HashRequest { index });
        for _ in 0..ATTEMPTS {
            if self.stopped().is_some() {
                return None;
            }
            let method = Method::ReplicaHash as u32;
            let asked = self.client.call(
                address,
                Some(node_id),
                Lane::Control,
                method,
                body.clone(),
                ASK_TIMEOUT,
            );
            if let Ok(body) = asked.await
                && let Ok(answer) = codec::decode::<proto::HashResponse>(body, "a replica's hash")
                && !answer.hash.is_empty()
            {
                return Some(answer.hash);
            }
            // Members that are away now are compared at a later mark.
            self.consensus.hashes().get(index)?;
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

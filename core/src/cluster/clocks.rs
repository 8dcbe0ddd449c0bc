//! Comparing this node's clock with those of the members, so that one leader whose clock is far ahead
//! does not take the time of all commands with it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::ClusterCore;

/// How often the members are asked.
const INTERVAL: Duration = Duration::from_secs(2);

impl ClusterCore {
    async fn compare_clocks(&self) {
        let others = self.consensus.members().into_iter().filter(|m| m.node_id != self.node_id());
        let clock = self.consensus.clock();
        let asked = others.map(|m| async move {
            let (before, begun) = (clock.now_us(), Instant::now());
            let pong = self.ping(&m.address, &m.node_id).await?;
            let halfway = before + begun.elapsed().as_micros() as i64 / 2;
            (pong.clock_us != 0).then(|| pong.clock_us.saturating_sub(halfway))
        });
        let ahead = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        clock.compare(ahead);
    }
}

/// Starts the task of one node; it ends with it.
pub(super) fn start(core: &Arc<ClusterCore>) {
    let weak: Weak<ClusterCore> = Arc::downgrade(core);
    tokio::spawn(async move {
        while let Some(core) = weak.upgrade().filter(|core| core.stopped().is_none()) {
            core.compare_clocks().await;
            drop(core);
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

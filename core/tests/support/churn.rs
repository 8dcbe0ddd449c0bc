//! Leadership that moves all the time.

use std::time::Duration;

use quorumlite::{ErrorKind, Node};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Hands leadership to the next node again and again for `total`, and returns how often the term
/// rose meanwhile.
pub async fn move_leadership(nodes: &[Node], every: Duration, total: Duration) -> u64 {
    let term = || nodes.iter().map(|n| n.status().expect("a status").term).max().expect("a node");
    let before = term();
    let end = Instant::now() + total;
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0;
    while Instant::now() < end {
        pace.tick().await;
        // Asked of every node in turn, the one that leads or not.
        let asked = &nodes[turn % nodes.len()];
        turn += 1;
        let Some(leader) = asked.status().expect("a status").leader_id else { continue };
        let at = nodes.iter().position(|n| n.status().expect("a status").node_id == leader);
        let next = &nodes[(at.expect("a member leads") + 1) % nodes.len()];
        let next = next.status().expect("a status").node_id;
        if let Err(e) = asked.transfer_leadership(&next, Some(Duration::from_secs(5))).await {
            // A transfer may fail to happen; it must not fail in another way.
            assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e:?}");
        }
    }
    term() - before
}

//! Reads that another node carries out: that they end there, too.

use std::time::{Duration, Instant};

use super::node_tests::{PATIENCE, at, close, cluster};
use crate::cancel::Cancel;
use crate::{Consistency, Node, ReadOptions, Statement};

/// Counts for longer than anybody waits.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";

fn running(node: &Node) -> usize {
    node.core_of_test().consensus.database().readers().running()
}

async fn wait_for_running(node: &Node, reads: usize) {
    let began = Instant::now();
    while running(node) != reads {
        assert!(began.elapsed() < PATIENCE, "{} run, not {reads}", running(node));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_the_leader_ends_when_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = cluster(dir.path()).await;
    let [leader, follower, _] = &nodes;
    let weak = at(Consistency::Weak, 120_000);
    // Its future is dropped.
    let read = tokio::spawn({
        let (node, weak) = (follower.clone(), weak.clone());
        async move { node.query_with(ENDLESS.into(), weak).await }
    });
    wait_for_running(leader, 1).await;
    read.abort();
    wait_for_running(leader, 0).await;
    // It is cancelled.
    let cancel = Cancel::new();
    let read = tokio::spawn({
        let options = ReadOptions { cancel: Some(cancel.clone()), ..weak.clone() };
        let node = follower.clone();
        async move { node.query_with(ENDLESS.into(), options).await }
    });
    wait_for_running(leader, 1).await;
    cancel.cancel();
    assert_eq!(read.await.unwrap().unwrap_err().code(), "CANCELLED");
    wait_for_running(leader, 0).await;
    // More than the leader carries out at once: those that wait there end, too.
    let reads: Vec<_> = (0..300)
        .map(|_| {
            let (node, weak) = (follower.clone(), weak.clone());
            tokio::spawn(async move { node.query_with(ENDLESS.into(), weak).await })
        })
        .collect();
    let began = Instant::now();
    while running(leader) < 8 {
        assert!(began.elapsed() < PATIENCE, "only {} run", running(leader));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    reads.iter().for_each(|read| read.abort());
    let one = Statement::from("SELECT 1");
    follower.query_with(one, at(Consistency::Weak, 30_000)).await.unwrap();
    wait_for_running(leader, 0).await;
    // Its handle is closed, while the node of the handle goes on.
    let read = tokio::spawn({
        let (node, weak) = (follower.clone(), weak.clone());
        async move { node.query_with(ENDLESS.into(), weak).await }
    });
    wait_for_running(leader, 1).await;
    follower.close().await.unwrap();
    assert_eq!(read.await.unwrap().unwrap_err().code(), "CLOSED");
    wait_for_running(leader, 0).await;
    close(nodes).await;
}

/// It is begun once, and not anew whenever a write would be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_the_leader_may_take_long() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = cluster(dir.path()).await;
    let [leader, follower, _] = &nodes;
    let limited = |rows: u64| {
        let rows = rows.to_string();
        Statement::from(ENDLESS.replace("FROM n) SELECT", &format!("FROM n LIMIT {rows}) SELECT")))
    };
    let begin = Instant::now();
    leader.query_with(limited(200_000), at(Consistency::None, 60_000)).await.unwrap();
    // Some 8 seconds.
    let rows = 200_000 * 8_000 / u64::try_from(begin.elapsed().as_millis()).unwrap().max(1);
    let begin = Instant::now();
    let read = follower.query_with(limited(rows), at(Consistency::Weak, 100_000)).await;
    assert_eq!(read.unwrap().get(0).unwrap()[0], crate::Value::Integer(rows as i64));
    assert!(begin.elapsed() > Duration::from_secs(5), "too quick to show anything");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    close(nodes).await;
}

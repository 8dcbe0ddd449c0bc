//! A register that is written through one node after the other and read on all of them at
//! `linearizable` and `strong` while leadership moves: no read goes back in time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quorumlite::{Consistency, Node, params};
use support::churn::move_leadership;
use support::{Cluster, equal_content, integer, query};
use tokio::sync::watch;

const TOTAL: Duration = Duration::from_secs(8);
/// Readers on each node.
const READERS: usize = 2;

/// The history as far as the check needs it: there is one writer, and it writes 1, 2, 3, ...
#[derive(Default)]
struct History {
    /// The highest value whose write has begun.
    begun: AtomicI64,
    /// The highest value that was acknowledged to the writer or returned to any reader.
    known: AtomicI64,
}

async fn write(nodes: Vec<Node>, history: Arc<History>, stopped: watch::Receiver<bool>) -> i64 {
    let mut value = 0;
    while !*stopped.borrow() {
        value += 1;
        history.begun.store(value, Ordering::SeqCst);
        let node = &nodes[value as usize % nodes.len()];
        node.execute("UPDATE register SET value = ?", params![value]).await.expect("a write");
        history.known.fetch_max(value, Ordering::SeqCst);
    }
    value
}

async fn read(node: Node, history: Arc<History>, stopped: watch::Receiver<bool>) -> u64 {
    let mut reads = 0;
    while !*stopped.borrow() {
        let level = match reads % 8 {
            7 => Consistency::Strong,
            _ => Consistency::Linearizable,
        };
        reads += 1;
        let at_least = history.known.load(Ordering::SeqCst);
        let rows = query(&node, "SELECT value FROM register", level).await.expect("a read");
        let value = integer(&rows);
        let at_most = history.begun.load(Ordering::SeqCst);
        history.known.fetch_max(value, Ordering::SeqCst);
        assert!(
            (at_least..=at_most).contains(&value),
            "{node:?} read {value} at {level:?}; {at_least} was known before the read began and \
             {at_most} was the last write that had begun when it ended"
        );
    }
    reads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_never_goes_back_while_leadership_moves() {
    let cluster = Cluster::start().await;
    let schema = ["CREATE TABLE register(value INTEGER)", "INSERT INTO register VALUES (0)"];
    cluster.nodes[0].execute_batch(schema).await.unwrap();
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;

    let history = Arc::new(History::default());
    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write(cluster.nodes.clone(), history.clone(), stopped.clone()));
    let mut readers = Vec::new();
    for i in 0..3 {
        for _ in 0..READERS {
            // A session of its own, so that no other reader's index helps it.
            let handle = cluster.open(i).await.unwrap();
            readers.push(tokio::spawn(read(handle, history.clone(), stopped.clone())));
        }
    }
    let terms = move_leadership(&cluster.nodes, Duration::from_millis(200), TOTAL).await;
    stop.send_replace(true);
    let last = writer.await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() >= 20, "a reader stood still");
    }
    assert!(terms >= 10, "leadership moved {terms} times only");
    assert!(last >= 20, "{last} writes only");
    for node in &cluster.nodes {
        let rows = query(node, "SELECT value FROM register", Consistency::Linearizable).await;
        assert_eq!(integer(&rows.unwrap()), last);
    }
    cluster.close().await;
}

//! Nodes that the log cannot help any more: they receive a page snapshot.

mod support;

use std::time::Duration;

use quorumlite::{Config, Consistency, Node, params};
use support::{Cluster, equal_content, eventually, free_address, integer, member, query};

const LOG_BYTES: u64 = 1024 * 1024;

fn small_log(config: Config) -> Config {
    config.max_log_bytes(LOG_BYTES)
}

/// Writes until the leader has purged entries beyond `index`, and returns the number of rows.
async fn write_past_purge(cluster: &Cluster, writer: &Node, index: u64, first: i64) -> i64 {
    let leader = &cluster.nodes[cluster.leader().await];
    let mut next = first;
    eventually("a purged log", || async {
        leader.status().is_ok_and(|s| s.purged_index > index).then_some(())
    })
    .await_while(|| {
        let id = next;
        next += 1;
        async move {
            // The bytes travel in the log; randomblob() would not.
            let bytes: Vec<u8> = (0..20_000u32).map(|i| (i * 31 + id as u32) as u8).collect();
            let insert = "INSERT INTO t VALUES (?, ?)";
            writer.execute(insert, params![id, bytes]).await.expect("a write");
        }
    })
    .await;
    next - first
}

/// Does something again and again until a condition holds.
trait AwaitWhile: Future<Output = ()> + Sized {
    async fn await_while<F, Fut>(self, mut work: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut condition = std::pin::pin!(self);
        loop {
            tokio::select! {
                biased;
                () = &mut condition => return,
                () = async {} => work().await,
            }
        }
    }
}

impl<T: Future<Output = ()>> AwaitWhile for T {}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_after_the_purge_receives_a_snapshot() {
    let cluster = Cluster::start_with(small_log).await;
    cluster.nodes[1].execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)", ()).await.unwrap();
    // More than fits into the chunks that are on their way at once.
    let fill = "CREATE TABLE big AS WITH RECURSIVE n(i) AS \
                (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800) \
                SELECT i, randomblob(10000) AS b FROM n";
    cluster.nodes[0].execute(fill, ()).await.unwrap();
    let rows = write_past_purge(&cluster, &cluster.nodes[1], 20, 0).await;

    let dir = tempfile::tempdir().unwrap();
    let join = [cluster.addresses[2].as_str()];
    let config = small_log(member(dir.path(), "n4", &free_address(), &join));
    let fourth = Node::open(config.clone()).await.unwrap();
    let counted = query(&fourth, "SELECT count(*) FROM t", Consistency::Linearizable).await;
    assert_eq!(integer(&counted.unwrap()), rows);
    // It is a full member: it writes, and the others see it.
    fourth.execute("INSERT INTO t VALUES (-1, x'00')", ()).await.unwrap();
    let mut all: Vec<&Node> = cluster.nodes.iter().collect();
    all.push(&fourth);
    let hash = equal_content(&all).await.hash;
    assert_eq!(fourth.members().await.unwrap().len(), 4);

    // What it received survives a restart.
    fourth.close().await.unwrap();
    let fourth = Node::open(config).await.unwrap();
    assert_eq!(fourth.content_hash().await.unwrap().hash, hash);
    fourth.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_the_purge_receives_a_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::start_with(small_log).await;
    cluster.nodes[0].execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)", ()).await.unwrap();
    let leader = cluster.leader().await;
    let (writer, absent) = ((leader + 1) % 3, (leader + 2) % 3);
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let seen = cluster.nodes[absent].status().unwrap().last_log_index;
    cluster.nodes[absent].close().await.unwrap();
    let absent_node = cluster.nodes.remove(absent);
    drop(absent_node);
    let writer = if writer > absent { writer - 1 } else { writer };
    write_past_purge(&cluster, &cluster.nodes[writer], seen + 20, 0).await;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let busy = cluster.nodes[writer].clone();
    let writes = tokio::spawn(async move {
        let mut id = 1_000_000;
        while !*stopped.borrow() {
            busy.execute("INSERT INTO t VALUES (?, 'x')", params![id]).await.expect("a write");
            id += 1;
        }
    });
    let back = cluster.open(absent).await.unwrap();
    eventually("the follower has caught up", || async {
        let leader = cluster.nodes.iter().filter_map(|n| n.status().ok()).map(|s| s.commit_index);
        let behind = leader.max()?.saturating_sub(back.status().ok()?.applied_index);
        (behind < 50).then_some(())
    })
    .await;
    stop.send_replace(true);
    writes.await.unwrap();
    let mut all: Vec<&Node> = cluster.nodes.iter().collect();
    all.push(&back);
    equal_content(&all).await;
    let wait = Some(Duration::from_secs(30));
    back.transfer_leadership(&back.status().unwrap().node_id, wait).await.unwrap();
    back.execute("INSERT INTO t VALUES (-1, 'led by the one that came back')", ()).await.unwrap();
    equal_content(&all).await;
    back.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_an_old_copy_receives_only_what_differs() {
    let mut cluster = Cluster::start_with(small_log).await;
    let fill = "CREATE TABLE t AS WITH RECURSIVE n(i) AS \
                (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
                SELECT i, randomblob(3000) AS b FROM n";
    cluster.nodes[0].execute(fill, ()).await.unwrap();
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let leader = cluster.leader().await;
    let absent = (leader + 1) % 3;
    let seen = cluster.nodes[absent].status().unwrap().last_log_index;
    cluster.nodes[absent].close().await.unwrap();
    drop(cluster.nodes.remove(absent));
    // One page in a hundred.
    let change = "UPDATE t SET b = randomblob(3000) WHERE i % 100 = 0";
    cluster.nodes[0].execute(change, ()).await.unwrap();
    let mut round = 0u8;
    // Whichever of the two leads later, its log does not reach back so far.
    while !cluster.nodes.iter().all(|n| n.status().is_ok_and(|s| s.purged_index > seen + 1)) {
        round = round.wrapping_add(1);
        let bytes = vec![round; 20_000];
        let update = "UPDATE t SET b = substr(?, 1, 3000) WHERE i = 7";
        cluster.nodes[0].execute(update, params![bytes]).await.unwrap();
    }

    let back = cluster.open(absent).await.unwrap();
    let progress = eventually("a snapshot", || async {
        back.status().ok()?.snapshot.filter(|s| s.present_bytes == s.total_bytes)
    })
    .await;
    let nodes: Vec<&Node> = cluster.nodes.iter().chain([&back]).collect();
    equal_content(&nodes).await;
    let share = progress.received_bytes as f64 / progress.total_bytes as f64;
    println!("{progress:?}: {:.2} % of the bytes", share * 100.0);
    assert!(progress.total_bytes > 40_000_000 && share <= 0.03, "{progress:?}");
    back.close().await.unwrap();
    cluster.close().await;
}

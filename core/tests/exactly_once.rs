//! A write that is acknowledged is there once, however often it had to be tried while the leader
//! changed under it and answers were lost; and whoever wrote it reads it back, on every node.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use quorumlite::{Consistency, Node, Statement, params};
use support::churn::move_leadership;
use support::proxy::Proxy;
use support::{equal_content, free_address, integer, member, query};
use tokio::sync::watch;

/// Writers on each node: half of them write single statements, half of them batches.
const WRITERS: usize = 8;
const TOTAL: Duration = Duration::from_secs(15);
/// How often leadership moves.
const MOVE: Duration = Duration::from_millis(300);
/// How often the ways to one of the nodes are cut. A graceful change of leadership alone answers
/// every request; only a write whose answer is lost is tried again after it was applied.
const CUT: Duration = Duration::from_millis(500);

/// What one writer was told.
#[derive(Default)]
struct Told {
    sequences: Vec<i64>,
    /// What its increments of the shared counter returned.
    counts: Vec<i64>,
}

async fn write(node: Node, writer: i64, stopped: watch::Receiver<bool>) -> Told {
    const INSERT: &str = "INSERT INTO t VALUES (?, ?)";
    let batches = writer % 2 == 1;
    let mut told = Told::default();
    let mut sequence = 0;
    while !*stopped.borrow() {
        sequence += 1;
        let params = params![writer, sequence];
        // No error at all: the calls retry by themselves, and their deadline is far away.
        let done = if batches {
            let increment = Statement::from("UPDATE counter SET n = n + 1 RETURNING n");
            let batch = [Statement::new(INSERT, params.clone()), increment];
            let mut results = node.execute_batch(batch).await.expect("a batch");
            told.counts.push(integer(&results[1].rows));
            results.swap_remove(0)
        } else {
            node.execute(INSERT, params.clone()).await.expect("a write")
        };
        assert_eq!(done.rows_affected, 1);
        told.sequences.push(sequence);
        // At the default consistency: one row, and the very one that the result spoke of.
        let mine = "SELECT rowid FROM t WHERE writer = ? AND sequence = ?";
        let rows = node.query(mine, params).await.expect("a read");
        assert_eq!(rows.len(), 1, "writer {writer} reads its write {sequence}: {rows:?}");
        assert_eq!(integer(&rows), done.last_insert_rowid, "writer {writer}, write {sequence}");
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_never_apply_twice_and_sessions_hold_while_leadership_moves() {
    let dir = tempfile::tempdir().unwrap();
    let (mut proxies, mut configs, mut nodes) = (Vec::<Proxy>::new(), Vec::new(), Vec::new());
    for i in 0..3 {
        let listen = free_address();
        let proxy = Proxy::start(listen.clone()).await;
        let join: Vec<&str> = proxies.first().map(Proxy::address).into_iter().collect();
        let config = member(dir.path(), &format!("n{}", i + 1), &listen, &join);
        let config = config.advertise(proxy.address());
        proxies.push(proxy);
        nodes.push(Node::open(config.clone()).await.unwrap());
        configs.push(config);
    }
    let schema = [
        "CREATE TABLE t(writer INTEGER, sequence INTEGER)",
        "CREATE INDEX of_writer ON t(writer, sequence)",
        "CREATE TABLE counter(n INTEGER)",
        "INSERT INTO counter VALUES (0)",
    ];
    nodes[0].execute_batch(schema).await.unwrap();
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;

    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for (i, config) in configs.iter().enumerate() {
        for w in 0..WRITERS {
            // A handle, and with it a session, of its own.
            let handle = Node::open(config.clone()).await.unwrap();
            let id = (i * WRITERS + w) as i64;
            writers.push(tokio::spawn(write(handle, id, stopped.clone())));
        }
    }
    let cutting = async {
        let mut pace = tokio::time::interval(CUT);
        for proxy in proxies.iter().cycle() {
            pace.tick().await;
            proxy.cut();
        }
    };
    let terms = tokio::select! {
        terms = move_leadership(&nodes, MOVE, TOTAL) => terms,
        () = cutting => unreachable!("the cycle has no end"),
    };
    stop.send_replace(true);
    let mut acknowledged = BTreeSet::new();
    let mut counts = Vec::new();
    for (writer, task) in writers.into_iter().enumerate() {
        let told = task.await.unwrap();
        assert!(!told.sequences.is_empty(), "writer {writer} wrote nothing");
        acknowledged.extend(told.sequences.into_iter().map(|s| (writer as i64, s)));
        counts.extend(told.counts);
    }
    assert!(terms >= 10, "leadership moved {terms} times only");

    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        let sql = "SELECT writer, sequence, count(*) FROM t GROUP BY 1, 2";
        let rows = query(node, sql, Consistency::None).await.unwrap();
        let mut present = BTreeSet::new();
        for row in rows.iter() {
            let [writer, sequence, count] =
                [0, 1, 2].map(|column: usize| row[column].as_i64().expect("an integer"));
            assert_eq!(count, 1, "write {sequence} of writer {writer}");
            present.insert((writer, sequence));
        }
        // Every write was acknowledged, so there is nothing else either.
        assert_eq!(present, acknowledged);
        let n = query(node, "SELECT n FROM counter", Consistency::None).await.unwrap();
        assert_eq!(integer(&n), counts.len() as i64);
    }
    // Each increment returned its own count.
    counts.sort_unstable();
    assert!(counts.iter().copied().eq(1..=counts.len() as i64), "{counts:?}");
    for node in &nodes {
        node.close().await.unwrap();
    }
}

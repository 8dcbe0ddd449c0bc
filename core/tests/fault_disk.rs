//! Real disks that fail: a small one that gets full, one that becomes read-only, and a directory
//! that is removed under a running node. The node says so and stops, the others go on, and once the
//! disk is well again nothing is missing.
//!
//! Mounting takes privileges: without them these tests say so and do nothing.

#![cfg(target_os = "linux")]

mod support;

use std::path::PathBuf;

use quorumlite::{Config, Consistency, Error, ErrorKind, Node, params};
use support::small_disk::Small;
use support::{equal_content, eventually, free_address, integer, member, query};

/// Three nodes, the third with its data below `third`.
struct Trio {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    third: PathBuf,
}

impl Trio {
    fn new(dir: tempfile::TempDir) -> Trio {
        let third = dir.path().join("small");
        Trio { dir, addresses: (0..3).map(|_| free_address()).collect(), third }
    }

    fn config(&self, i: usize) -> Config {
        let dir = if i == 2 { &self.third } else { self.dir.path() };
        let join: Vec<&str> = if i == 0 { vec![] } else { vec![&self.addresses[0]] };
        member(dir, &format!("n{}", i + 1), &self.addresses[i], &join)
    }

    async fn open(&self, i: usize) -> Node {
        Node::open(self.config(i)).await.unwrap_or_else(|e| panic!("n{} opens: {e:?}", i + 1))
    }

    async fn start(&self) -> [Node; 3] {
        let nodes = [self.open(0).await, self.open(1).await, self.open(2).await];
        nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)", ()).await.unwrap();
        nodes
    }
}

async fn stopped(node: &Node) {
    eventually("the node stops", || async {
        (node.status().expect("a status").state == "stopped").then_some(())
    })
    .await;
}

/// A stopped node says why it writes nothing any more.
async fn refusal(node: &Node) -> Error {
    let refused = node.execute("INSERT INTO t(x) VALUES (0)", ()).await;
    let refused = refused.expect_err("a stopped node writes nothing");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(!refused.retryable(), "{refused:?}");
    refused
}

/// The others go on, and the healed node has everything again.
async fn heals(trio: &Trio, mut nodes: [Node; 3], mut rows: i64) {
    for node in &nodes[..2] {
        node.execute("INSERT INTO t(x) VALUES ('without the third')", ()).await.unwrap();
        rows += 1;
    }
    nodes[2] = trio.open(2).await;
    nodes[2].execute("INSERT INTO t(x) VALUES ('healed')", ()).await.unwrap();
    rows += 1;
    for node in &nodes {
        let count = query(node, "SELECT count(*) FROM t", Consistency::Linearizable).await;
        assert_eq!(integer(&count.unwrap()), rows);
    }
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        node.close().await.unwrap();
    }
    assert!(quorumlite::check(trio.config(2).dir()).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_gets_full_under_a_member_stops_it_alone() {
    let trio = Trio::new(tempfile::tempdir().unwrap());
    let Some(small) = Small::mount(trio.third.clone(), 24) else { return };
    let nodes = trio.start().await;
    let mut rows = 0;
    while nodes[2].status().unwrap().state != "stopped" {
        let sql = "INSERT INTO t(x) VALUES (?)";
        nodes[rows as usize % 2].execute(sql, params![vec![1; 500_000]]).await.unwrap();
        rows += 1;
        assert!(rows < 500, "24 MB are never full");
    }
    let refused = refusal(&nodes[2]).await;
    assert!(
        ["STORAGE_FAILED", "SQLITE_FULL"].contains(&refused.code()),
        "the reason is a full disk: {refused:?}"
    );
    nodes[2].close().await.unwrap();
    // While the disk is full the node does not come back, and says why.
    let refused = Node::open(trio.config(2)).await;
    if let Err(e) = &refused {
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
    }
    if let Ok(node) = refused {
        node.close().await.unwrap();
    }
    small.set("size=1g", 0).unwrap();
    heals(&trio, nodes, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_stops_its_node_alone() {
    let trio = Trio::new(tempfile::tempdir().unwrap());
    let Some(small) = Small::mount(trio.third.clone(), 200) else { return };
    let nodes = trio.start().await;
    nodes[0].execute("INSERT INTO t(x) VALUES ('before')", ()).await.unwrap();
    eventually("the third has it", || async {
        let rows = query(&nodes[2], "SELECT count(*) FROM t", Consistency::None).await.ok()?;
        (integer(&rows) == 1).then_some(())
    })
    .await;
    // With files open for writing the system refuses: the node finds it so when it starts.
    nodes[2].close().await.unwrap();
    // The last descriptors go with the readers' own threads.
    eventually("nothing is open for writing there", || async {
        small.set("", libc::MS_RDONLY).ok()
    })
    .await;
    let refused = Node::open(trio.config(2)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Config, "CONFIG_READ_ONLY"));
    nodes[0].execute("INSERT INTO t(x) VALUES ('meanwhile')", ()).await.unwrap();
    small.set("", 0).unwrap();
    heals(&trio, nodes, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_removed_stops_its_node_alone() {
    let trio = Trio::new(tempfile::tempdir().unwrap());
    let nodes = trio.start().await;
    nodes[0].execute("INSERT INTO t(x) VALUES ('before')", ()).await.unwrap();
    let lost = trio.config(2).dir().to_owned();
    std::fs::remove_dir_all(&lost).unwrap();
    stopped(&nodes[2]).await;
    let refused = refusal(&nodes[2]).await;
    assert!(refused.message().contains(&lost.display().to_string()), "{refused}");
    nodes[2].close().await.unwrap();
    // What it had is gone with the directory: it joins again as a new node.
    heals(&trio, nodes, 1).await;
}

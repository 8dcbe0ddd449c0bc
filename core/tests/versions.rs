//! Nodes whose builds could compute different rows: they do not replicate to each other, and say why.

mod support;

use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, ErrorKind, Node};
use support::{equal_content, free_address, integer, member, query};

fn config(dir: &std::path::Path, id: &str, address: &str, join: &[&str]) -> Config {
    member(dir, id, address, join).timeout(Duration::from_secs(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_the_build_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::open(Config::new(dir.path())).await.expect("it opens");
    let status = node.status().expect("a status");
    assert!(status.apply_level >= 1);
    assert_eq!(status.fingerprint.len(), 16, "{}", status.fingerprint);
    node.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_build_may_not_join() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (free_address(), free_address());
    let first = Node::open(config(dir.path(), "n1", &a, &[])).await.expect("it opens");
    // An older version says nothing of its build.
    for (level, fingerprint) in [(1, "another"), (0, ""), (u32::MAX, "newer")] {
        let other = config(dir.path(), "n2", &b, &[&a]).pretended_build(level, fingerprint);
        let begun = Instant::now();
        let error = Node::open(other).await.expect_err("it is refused");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, "FORBIDDEN_VERSION"));
        assert!(begun.elapsed() < Duration::from_secs(3), "at once");
        let advice = match level {
            0 => "upgrade \"n2\"",
            1 => "the same version",
            _ => "upgrade \"n1\"",
        };
        assert!(error.message().contains(advice), "{error}");
        let refusal = first.status().expect("a status").last_refusal.expect("a refusal");
        assert!(refusal.contains("do not replicate"), "{refusal}");
    }
    first.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_build_reads_but_neither_writes_nor_is_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
    let mut nodes = Vec::new();
    for (i, id) in ["n1", "n2", "n3"].iter().enumerate() {
        let join: Vec<&str> = if i == 0 { vec![] } else { vec![&addresses[0]] };
        let node = config(dir.path(), id, &addresses[i], &join).timeout(Duration::from_secs(20));
        nodes.push(Node::open(node).await.expect("it opens"));
    }
    nodes[0].execute("CREATE TABLE t(v)", ()).await.expect("a table");
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
    let n3 = nodes.pop().expect("n3");
    n3.close().await.expect("it closes");

    let other = config(dir.path(), "n3", &addresses[2], &[]).pretended_build(1, "another");
    let n3 = Node::open(other).await.expect("it opens all the same");
    nodes[0].execute("INSERT INTO t VALUES (1)", ()).await.expect("a write without it");
    let rows = query(&n3, "SELECT count(*) FROM t", Consistency::None).await.expect("a read");
    assert_eq!(integer(&rows), 0, "nothing reaches it");
    query(&n3, "SELECT count(*) FROM t", Consistency::Session).await.expect("a read");
    let error = n3.execute("INSERT INTO t VALUES (2)", ()).await.expect_err("a write");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, "FORBIDDEN_VERSION"));
    let error = query(&n3, "SELECT 1", Consistency::Linearizable).await.expect_err("a read");
    assert_eq!(error.code(), "FORBIDDEN_VERSION");
    n3.close().await.expect("it closes");

    // The right version again: it catches up.
    let n3 = config(dir.path(), "n3", &addresses[2], &[]).timeout(Duration::from_secs(20));
    nodes.push(Node::open(n3).await.expect("it opens"));
    nodes[2].execute("INSERT INTO t VALUES (3)", ()).await.expect("a write");
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        node.close().await.expect("it closes");
    }
}

//! A clock that was years ahead, and the way back.

mod support;

use quorumlite::{Config, Consistency, ErrorKind, Node};
use support::{equal_content, eventually, free_address, integer, member, query};

const YEAR_US: i64 = 365 * 24 * 3600 * 1_000_000;

async fn written(node: &Node) -> i64 {
    node.execute("INSERT INTO t VALUES (unixepoch())", ()).await.expect("a write");
    let sql = "SELECT v FROM t ORDER BY rowid DESC LIMIT 1";
    integer(&query(node, sql, Consistency::Linearizable).await.expect("a read"))
}

async fn now(node: &Node) -> i64 {
    let rows = query(node, "SELECT unixepoch()", Consistency::None).await.expect("a read");
    integer(&rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_ran_ahead_goes_back_when_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = || Config::new(dir.path());
    let ahead = config().pretended_clock_us(10 * YEAR_US);
    let node = Node::open(ahead).await.expect("it opens");
    node.execute("CREATE TABLE t(v)", ()).await.expect("a table");
    let future = written(&node).await;
    assert!(future > now(&node).await + 300_000_000, "{future}");
    let error = node.reset_clock(None).await.expect_err("nothing to reset, by this clock");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Config, "CONFIG_CLOCK"));
    node.close().await.expect("it closes");

    let node = Node::open(config()).await.expect("it opens");
    assert!(written(&node).await >= future, "never back by itself");
    let warning = node.status().expect("a status").clock_warning.expect("a warning");
    assert!(warning.contains("reset_clock()"), "{warning}");
    node.reset_clock(None).await.expect("it goes back");
    assert_eq!(node.status().expect("a status").clock_warning, None);
    assert!((written(&node).await - now(&node).await).abs() < 60);
    node.close().await.expect("it closes");
    // It stays so, also where a row of recent commands says how far the database is.
    let node = Node::open(config()).await.expect("it opens");
    assert!((written(&node).await - now(&node).await).abs() < 60);
    node.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_ahead_uses_the_time_of_the_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
    let mut nodes = Vec::new();
    for (i, id) in ["n1", "n2", "n3"].iter().enumerate() {
        let join: Vec<&str> = if i == 0 { vec![] } else { vec![&addresses[0]] };
        let mut config = member(dir.path(), id, &addresses[i], &join);
        if i == 2 {
            config = config.pretended_clock_us(10 * YEAR_US);
        }
        nodes.push(Node::open(config).await.expect("it opens"));
    }
    nodes[0].execute("CREATE TABLE t(v)", ()).await.expect("a table");
    let warning =
        eventually("a warning", || async { nodes[2].status().expect("a status").clock_warning })
            .await;
    assert!(warning.contains("ahead of those of most members"), "{warning}");
    nodes[0].transfer_leadership("n3", None).await.expect("it leads");
    assert!((written(&nodes[2]).await - now(&nodes[0]).await).abs() < 60);
    assert_eq!(nodes[0].status().expect("a status").clock_warning, None);
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        node.close().await.expect("it closes");
    }
}

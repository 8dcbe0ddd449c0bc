//! One node without a network.

mod support;

use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, ErrorKind, Node, ReadOptions, Statement, Value, params};
use support::{eventually, integer, query};

fn standalone(dir: &tempfile::TempDir) -> Config {
    Config::new(dir.path().join("data"))
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_read_back_at_every_level_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)", ()).await.unwrap();
    let done = node.execute("INSERT INTO t(name) VALUES (?)", params!["ann"]).await.unwrap();
    assert_eq!((done.rows_affected, done.last_insert_rowid), (1, 1));
    let batch = node
        .execute_batch([
            ("INSERT INTO t(name) VALUES (?)", params!["bob"]),
            ("UPDATE t SET name = upper(name) WHERE id = 1 RETURNING name", params![]),
        ])
        .await
        .unwrap();
    assert_eq!(batch[1].rows.get(0).unwrap()[0], Value::from("ANN"));
    for level in ["none", "session", "weak", "linearizable", "strong"] {
        let rows = query(&node, "SELECT name FROM t ORDER BY id", level.parse().unwrap()).await;
        let names: Vec<_> = rows.unwrap().iter().map(|r| r[0].clone()).collect();
        assert_eq!(names, [Value::from("ANN"), Value::from("bob")], "{level}");
    }
    let before = node.content_hash().await.unwrap();
    node.close().await.unwrap();
    node.close().await.unwrap();
    assert_eq!(node.query("SELECT 1", ()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(node.execute("SELECT 1", ()).await.unwrap_err().kind(), ErrorKind::Closed);

    let node = Node::open(standalone(&dir)).await.unwrap();
    assert_eq!(node.content_hash().await.unwrap().hash, before.hash);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_log_entries() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a INTEGER)", ()).await.unwrap();
    let before = node.status().unwrap().last_log_index;
    let writers = (0..64).map(|w| {
        let node = node.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                node.execute("INSERT INTO t VALUES (?)", params![w * 20 + i]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rows = node.query("SELECT count(*), count(DISTINCT a) FROM t", ()).await.unwrap();
    assert_eq!(rows.get(0).unwrap().values(), [Value::Integer(1280), Value::Integer(1280)]);
    let entries = node.status().unwrap().last_log_index - before;
    assert!(entries < 640, "{entries} log entries for 1280 writes");
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_statement_changes_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a INTEGER UNIQUE)", ()).await.unwrap();
    node.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let e = node.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Constraint, "SQLITE_CONSTRAINT_UNIQUE"));
    let e = node.execute("SELEKT 1", ()).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Sql, "SQLITE_ERROR"));
    let batch = ["INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (1)"];
    let e = node.execute_batch(batch).await.unwrap_err();
    assert_eq!(e.code(), "SQLITE_CONSTRAINT_UNIQUE");
    let rows = node.query("SELECT count(*) FROM t", ()).await.unwrap();
    assert_eq!(integer(&rows), 1);
    let e = node.query("DELETE FROM t", ()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Forbidden);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_share_a_node_and_close_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let first = Node::open(standalone(&dir)).await.unwrap();
    let second = Node::open(standalone(&dir)).await.unwrap();
    first.execute("CREATE TABLE t(a)", ()).await.unwrap();
    first.close().await.unwrap();
    second.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let other = standalone(&dir).node_id("somebody-else");
    assert_eq!(Node::open(other).await.unwrap_err().kind(), ErrorKind::Config);
    second.close().await.unwrap();
    let third = Node::open(standalone(&dir)).await.unwrap();
    assert_eq!(integer(&third.query("SELECT a FROM t", ()).await.unwrap()), 1);
    third.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_releases_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    drop(node);
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.query("SELECT * FROM t", ()).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn local_reads_run_on_the_calling_thread() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.execute("INSERT INTO t VALUES (7)", ()).await.unwrap();
    let statement = Statement::from("SELECT a FROM t");
    let read = |consistency| {
        let options = ReadOptions { consistency: Some(consistency), ..Default::default() };
        node.query_now(&statement, &options).unwrap()
    };
    assert_eq!(integer(&read(Consistency::Session).unwrap()), 7);
    assert_eq!(integer(&read(Consistency::None).unwrap()), 7);
    assert_eq!(read(Consistency::Linearizable), None);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_behind_a_durable_database() {
    let dir = tempfile::tempdir().unwrap();
    let config = || standalone(&dir).max_log_bytes(1024 * 1024);
    let node = Node::open(config()).await.unwrap();
    node.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)", ()).await.unwrap();
    let status = eventually("a log that is purged again and again", || async {
        let insert = "INSERT INTO t(b) VALUES (?)";
        node.execute(insert, params![vec![0u8; 20_000]]).await.unwrap();
        let status = node.status().unwrap();
        (status.purged_index > 300).then_some(status)
    })
    .await;
    // Small entries, so that at most one purge is outstanding.
    assert!(status.log_bytes < 4 * 1024 * 1024, "{status:?}");
    assert!(status.durable_index >= status.purged_index, "{status:?}");
    let hash = node.content_hash().await.unwrap().hash;
    node.close().await.unwrap();
    let node = Node::open(config()).await.unwrap();
    assert_eq!(node.content_hash().await.unwrap().hash, hash);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_read_ends_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    let forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n";
    let options = ReadOptions { timeout: Some(Duration::from_millis(100)), ..Default::default() };
    let started = Instant::now();
    let e = node.query_with(Statement::from(forever), options).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(10));
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_nobody_waits_for_any_more_releases_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = support::free_address();
    let joining = standalone(&dir)
        .listen(support::free_address())
        .join([nobody])
        .timeout(Duration::from_secs(3600));
    let waited = tokio::time::timeout(Duration::from_millis(300), Node::open(joining)).await;
    assert!(waited.is_err(), "nobody answers there");
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_statement_is_refused_before_it_is_proposed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(standalone(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let before = node.status().unwrap().last_log_index;
    for sql in [
        "BEGIN",
        "ATTACH 'x' AS x",
        "VACUUM",
        "PRAGMA foreign_keys = OFF",
        "CREATE TEMP TABLE x(a)",
    ] {
        let error = node.execute(sql, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{sql}");
        let error = node.execute_batch(["INSERT INTO t VALUES (1)", sql]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{sql}");
        assert!(error.message().starts_with("statement 2: "), "{error}");
    }
    assert_eq!(node.status().unwrap().last_log_index, before);
    // What only the schema can tell is proposed, and refused when it is applied.
    let error = node.execute("INSERT INTO t VALUES (sqlite_version())", ()).await.unwrap_err();
    assert_eq!(error.code(), "FORBIDDEN_FUNCTION");
    assert!(node.status().unwrap().last_log_index > before);
    node.close().await.unwrap();
}

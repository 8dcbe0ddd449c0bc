//! Nodes whose parts are held up: what integration tests cannot reach.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Config, Consistency, ErrorKind, Node, ReadOptions, Statement, params};

/// No wait here takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

async fn member(dir: &Path, id: &str, listen: &str, join: &[&str]) -> Node {
    let config = Config::new(dir.join(id))
        .node_id(id)
        .listen(listen)
        .join(join.iter().copied())
        .secret("a secret that only these tests share")
        .timeout(PATIENCE);
    Node::open(config).await.expect("a node opens")
}

/// Three nodes; the first one leads.
pub(crate) async fn cluster(dir: &Path) -> [Node; 3] {
    let first = free_address();
    let one = member(dir, "n1", &first, &[]).await;
    let two = member(dir, "n2", &free_address(), &[&first]).await;
    let three = member(dir, "n3", &free_address(), &[&first]).await;
    [one, two, three]
}

pub(crate) fn at(consistency: Consistency, timeout_ms: u64) -> ReadOptions {
    ReadOptions {
        consistency: Some(consistency),
        timeout: Some(Duration::from_millis(timeout_ms)),
        ..Default::default()
    }
}

pub(crate) async fn close(nodes: [Node; 3]) {
    for node in nodes {
        node.close().await.expect("a node closes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_the_row_that_was_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = cluster(dir.path()).await;
    let [leader, follower, _] = &nodes;
    follower.execute("CREATE TABLE t(a UNIQUE)", ()).await.unwrap();
    let read = || Statement::from("SELECT a FROM t WHERE a = 'ann'");
    let held = follower.core_of_test().consensus.database().hold_up_applying();
    leader.execute("INSERT INTO t VALUES ('ann')", ()).await.unwrap();
    let write = Statement::new("INSERT INTO t VALUES (?)", params!["ann"]);
    let error = follower.execute_with(write.clone(), Default::default()).await.unwrap_err();
    assert_eq!(error.code(), "SQLITE_CONSTRAINT_UNIQUE");
    let index = error.index().expect("an index");
    assert!(index > follower.status().unwrap().applied_index);
    // It waits for that index; it does not say that there is no such row.
    let session = at(Consistency::Session, 200);
    assert!(follower.query_now(&read(), &session).unwrap().is_none());
    let waited = follower.query_with(read(), session).await.unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::Timeout);
    drop(held);
    let rows = follower.query_with(read(), at(Consistency::Session, 30_000)).await.unwrap();
    assert_eq!(rows.len(), 1);
    // In a batch, and at the leader itself.
    let batch = vec![Statement::from("INSERT INTO t VALUES ('bob')"), write];
    for node in [follower, leader] {
        let error = node.execute_batch_with(batch.clone(), Default::default()).await.unwrap_err();
        assert!(error.index() > Some(index), "{error:?}");
    }
    // What was never in the log has no place there.
    let refused = follower.execute("VACUUM", ()).await.unwrap_err();
    assert_eq!(refused.index(), None);
    close(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn max_staleness_is_about_the_data_not_about_the_last_contact() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = cluster(dir.path()).await;
    let [leader, follower, _] = &nodes;
    leader.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let read = || Statement::from("SELECT count(*) FROM t");
    let fresh =
        ReadOptions { max_staleness: Some(Duration::from_millis(800)), ..Default::default() };
    let none = ReadOptions { consistency: Some(Consistency::None), ..fresh.clone() };
    for node in &nodes {
        // The table is less than 800 ms old: without it a node may be fresh enough.
        node.query_with(read(), at(Consistency::Linearizable, 30_000)).await.unwrap();
        let began = Instant::now();
        while let Err(error) = node.query_with(read(), none.clone()).await {
            assert_eq!(error.code(), "STALE");
            assert!(began.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // They hear the leader all the time; the leader knows that it leads.
    for held_up in [follower, leader] {
        let other = if std::ptr::eq(held_up, leader) { follower } else { leader };
        let held = held_up.core_of_test().consensus.database().hold_up_applying();
        let session = at(Consistency::None, 100);
        let write = other.execute_with(
            Statement::from("INSERT INTO t VALUES (1)"),
            crate::WriteOptions { timeout: Some(Duration::from_millis(1500)) },
        );
        // Where the leader applies nothing, it answers nobody.
        let _ = write.await;
        let began = Instant::now();
        let error = loop {
            match held_up.query_with(read(), none.clone()).await {
                Err(error) => break error,
                Ok(_) => assert!(began.elapsed() < PATIENCE, "its data is never called old"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "STALE"));
        assert_eq!(held_up.query_now(&read(), &none).unwrap_err().code(), "STALE");
        // Who does not ask how old it is gets it.
        held_up.query_with(read(), session).await.unwrap();
        drop(held);
        let began = Instant::now();
        while let Err(error) = held_up.query_with(read(), none.clone()).await {
            assert_eq!(error.code(), "STALE");
            assert!(began.elapsed() < PATIENCE, "its data stays old: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    close(nodes).await;
}

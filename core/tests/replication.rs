//! Three nodes in one process over real connections: writes from anywhere, reads at every level,
//! membership.

mod support;

use std::time::Duration;

use quorumlite::{Config, Consistency, ErrorKind, Node, ReadOptions, Role, Statement, params};
use support::{Cluster, equal_content, eventually, free_address, integer, member, query};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_writes_and_reads_its_own_and_the_others_writes() {
    let cluster = Cluster::start().await;
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    b.execute("CREATE TABLE t(a INTEGER)", ()).await.unwrap();
    for (i, node) in [c, a, b].into_iter().enumerate() {
        node.execute("INSERT INTO t VALUES (?)", params![i as i64]).await.unwrap();
        // Its own write, at the default level.
        let rows = node.query("SELECT max(a) FROM t", ()).await.unwrap();
        assert_eq!(integer(&rows), i as i64);
        // Everybody's writes, where that is asked for.
        for reader in [a, b, c] {
            for level in [Consistency::Linearizable, Consistency::Strong, Consistency::Weak] {
                let rows = query(reader, "SELECT count(*) FROM t", level).await.unwrap();
                assert_eq!(integer(&rows), i as i64 + 1, "{level:?}");
            }
        }
    }
    equal_content(&[a, b, c]).await;
    let members = a.members().await.unwrap();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|m| m.reachable == Some(true) && m.role == Role::Voter));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_forwarded_statement_arrive_whole() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let follower = &cluster.nodes[(leader + 1) % 3];
    follower.execute("CREATE TABLE t(a UNIQUE)", ()).await.unwrap();
    follower.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let e = follower.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Constraint, "SQLITE_CONSTRAINT_UNIQUE"));
    assert_eq!(e.sqlite_code(), Some(2067));
    let e = follower.execute("VACUUM", ()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Forbidden);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_directory_grows_into_a_cluster_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let alone = Node::open(Config::new(dir.path().join("n1"))).await.unwrap();
    let id = alone.status().unwrap().node_id;
    alone.execute("CREATE TABLE t(a)", ()).await.unwrap();
    alone.execute("INSERT INTO t VALUES (42)", ()).await.unwrap();
    alone.close().await.unwrap();

    let first = free_address();
    let config = member(dir.path(), "n1", &first, &[]).node_id(id);
    let one = Node::open(config.clone()).await.unwrap();
    let two = Node::open(member(dir.path(), "n2", &free_address(), &[&first])).await.unwrap();
    let rows = two.query("SELECT a FROM t", ()).await.unwrap();
    assert_eq!(integer(&rows), 42);
    equal_content(&[&one, &two]).await;
    one.close().await.unwrap();

    // Now it is a member, and says so when it is opened without the network.
    let e = Node::open(Config::new(dir.path().join("n1"))).await.unwrap_err();
    assert_eq!(e.code(), "CONFIG_NEEDS_LISTEN");
    let one = Node::open(config).await.unwrap();
    one.execute("INSERT INTO t VALUES (43)", ()).await.unwrap();
    equal_content(&[&one, &two]).await;
    two.close().await.unwrap();
    one.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_is_harmless_and_a_new_address_is_taken_over() {
    let mut cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(a)", ()).await.unwrap();
    cluster.nodes[2].close().await.unwrap();
    // The same directory, with join as on its first day.
    cluster.nodes[2] = cluster.open(2).await.unwrap();
    assert_eq!(cluster.nodes[0].members().await.unwrap().len(), 3);
    cluster.nodes[2].close().await.unwrap();
    cluster.addresses[2] = free_address();
    cluster.nodes[2] = cluster.open(2).await.unwrap();
    cluster.nodes[2].execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    eventually("the new address in the membership", || async {
        let members = cluster.nodes[0].members().await.unwrap();
        let moved = members.iter().find(|m| m.node_id == "n3")?;
        (moved.address == cluster.addresses[2] && moved.reachable == Some(true)).then_some(())
    })
    .await;
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_disk_was_lost_joins_again_empty() {
    let mut cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(a)", ()).await.unwrap();
    cluster.nodes[0].execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    cluster.nodes[2].close().await.unwrap();
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    cluster.nodes[2] = cluster.open(2).await.unwrap();
    cluster.nodes[2].execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let members = cluster.nodes[0].members().await.unwrap();
    assert!(members.iter().all(|m| m.role == Role::Voter), "{members:?}");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_cannot_have_one_name() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    for taken in ["n1", "n3"] {
        let join = [cluster.addresses[0].as_str()];
        let config =
            member(dir.path(), taken, &free_address(), &join).timeout(Duration::from_secs(3));
        let e = Node::open(config).await.unwrap_err();
        assert!(e.message().contains("node_id"), "{e:?}");
        assert_eq!(cluster.nodes[1].members().await.unwrap().len(), 3);
    }
    cluster.nodes[1].execute("CREATE TABLE t(a)", ()).await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_reads_and_forwards_and_never_votes() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config =
        member(dir.path(), "reader", &address, &[&cluster.addresses[1]]).role(Role::Learner);
    let learner = Node::open(config).await.unwrap();
    learner.execute("CREATE TABLE t(a)", ()).await.unwrap();
    learner.query("SELECT * FROM t", ()).await.unwrap();
    let status = learner.status().unwrap();
    assert_eq!((status.state, status.role), ("learner", Role::Learner));
    let mut all: Vec<&Node> = cluster.nodes.iter().collect();
    all.push(&learner);
    equal_content(&all).await;
    cluster.nodes[0].remove_member("reader", None).await.unwrap();
    assert_eq!(cluster.nodes[0].members().await.unwrap().len(), 3);
    learner.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let next = format!("n{}", (leader + 1) % 3 + 1);
    let bystander = &cluster.nodes[(leader + 2) % 3];
    bystander.transfer_leadership(&next, None).await.unwrap();
    bystander.execute("CREATE TABLE t(a)", ()).await.unwrap();
    eventually("the new leader", || async {
        (cluster.nodes[leader].status().unwrap().leader_id.as_deref() == Some(&next)).then_some(())
    })
    .await;
    let e = bystander.transfer_leadership("nobody", None).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_writes_fail_and_local_reads_go_on() {
    let cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(a)", ()).await.unwrap();
    cluster.nodes[0].execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    let leader = cluster.leader().await;
    let left = &cluster.nodes[(leader + 1) % 3];
    let term = left.status().unwrap().term;
    cluster.nodes[leader].close().await.unwrap();
    cluster.nodes[(leader + 2) % 3].close().await.unwrap();
    let options = quorumlite::WriteOptions { timeout: Some(Duration::from_secs(2)) };
    let write = Statement::from("INSERT INTO t VALUES (2)");
    let e = left.execute_with(write, options).await.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e:?}");
    assert_eq!(integer(&left.query("SELECT a FROM t", ()).await.unwrap()), 1);
    let options = ReadOptions {
        consistency: Some(Consistency::Linearizable),
        timeout: Some(Duration::from_secs(2)),
        ..Default::default()
    };
    let e = left.query_with(Statement::from("SELECT a FROM t"), options).await.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e:?}");
    let options = ReadOptions {
        consistency: Some(Consistency::None),
        max_staleness: Some(Duration::from_millis(100)),
        ..Default::default()
    };
    let e = left.query_with(Statement::from("SELECT a FROM t"), options).await.unwrap_err();
    assert_eq!(e.code(), "STALE");
    // A leader that is gone is not called one for ever.
    eventually("no leader is named", || async {
        left.status().unwrap().leader_id.is_none().then_some(())
    })
    .await;
    let wait = Some(Duration::from_millis(50));
    assert_eq!(left.wait_for_leader(wait).await.unwrap_err().code(), "NO_LEADER");
    // It asked for votes all the time, but only the Pre-Vote kind (Raft thesis 9.6): when the others
    // come back, its term does not push their leader aside.
    assert_eq!(left.status().unwrap().term, term);
    left.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_starts_again_one_by_one() {
    let mut cluster = Cluster::start().await;
    cluster.nodes[1].execute("CREATE TABLE t(a)", ()).await.unwrap();
    cluster.nodes[1].execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let hash = equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await.hash;
    for node in &cluster.nodes {
        node.close().await.unwrap();
    }
    for i in 0..3 {
        cluster.nodes[i] = cluster.open(i).await.unwrap();
    }
    cluster.nodes[2].wait_for_leader(None).await.unwrap();
    let rows = query(&cluster.nodes[2], "SELECT a FROM t", Consistency::Linearizable).await;
    assert_eq!(integer(&rows.unwrap()), 1);
    assert_eq!(equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await.hash, hash);
    cluster.close().await;
}

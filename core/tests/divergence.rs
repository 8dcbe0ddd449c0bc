//! Replicas that are compared in the background: equal ones are found equal, and one that was
//! tampered with is reported and stays reported.

mod support;

use std::time::Duration;

use quorumlite::Config;
use support::{Cluster, eventually};

fn checked(config: Config) -> Config {
    config.check_interval(Duration::from_secs(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_tampered_with_is_reported() {
    let mut cluster = Cluster::start_with(checked).await;
    cluster.nodes[0].execute("CREATE TABLE t(a INTEGER)", ()).await.unwrap();
    cluster.nodes[0].execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let index = cluster.nodes[0].status().unwrap().applied_index;
    for node in &cluster.nodes {
        eventually("a check that finds equal replicas", || async {
            let status = node.status().unwrap();
            assert_eq!(status.divergence, None);
            (status.checked_index > index).then_some(())
        })
        .await;
    }

    let victim = (cluster.leader().await + 1) % 3;
    cluster.nodes[victim].close().await.unwrap();
    let file = cluster.data_dir(victim).join("state/quorumlite.replica");
    let tampered = rusqlite::Connection::open(file).unwrap();
    tampered.execute("UPDATE t SET a = 2", ()).unwrap();
    drop(tampered);
    cluster.nodes[victim] = cluster.open(victim).await.unwrap();

    let name = format!("n{}", victim + 1);
    for node in &cluster.nodes {
        let found = eventually("a report of the difference", || async {
            node.status().unwrap().divergence
        })
        .await;
        assert!(found.contains(&name), "{found}");
    }
    cluster.close().await;
}

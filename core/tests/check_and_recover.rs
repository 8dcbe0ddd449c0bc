//! The offline check of a data directory, and a cluster that lost its majority for good.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorumlite::{
    CheckReport, Config, Consistency, ErrorKind, Node, Severity, check, params, recover_lost_quorum,
};
use support::{Cluster, SECRET, equal_content, eventually, free_address, integer, member, query};

fn codes(report: &CheckReport) -> Vec<&str> {
    report.findings.iter().map(|f| f.code.as_str()).collect()
}

async fn standalone(dir: &Path) {
    let node = Node::open(Config::new(dir)).await.unwrap();
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)", ()).await.unwrap();
    for i in 0..50 {
        let text = format!("row {i} {}", "x".repeat(200));
        node.execute("INSERT INTO t(x) VALUES (?)", params![text]).await.unwrap();
    }
    node.close().await.unwrap();
}

/// The bytes of every file below `dir`.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    // What only SQLite's own processes share, and who had the directory open last.
    files.retain(|(path, _)| !path.to_string_lossy().ends_with("-shm"));
    files.sort();
    files
}

fn only_file(dir: &Path, suffix: &str) -> PathBuf {
    let mut found = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    found.find(|p| p.to_string_lossy().ends_with(suffix)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_directory_is_ok_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    standalone(dir.path()).await;
    let before = contents(dir.path());
    let report = check(dir.path()).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.findings, []);
    assert_eq!(report.cluster_id.len(), 32);
    assert!(report.applied_index >= 51 && report.last_log_index >= report.applied_index);
    assert!(report.term >= 1 && report.last_log_term >= 1);
    assert_eq!(report.members.len(), 1);
    assert_eq!(report.members[0].node_id, report.node_id);
    assert_eq!(contents(dir.path()), before);
    let node = Node::open(Config::new(dir.path())).await.unwrap();
    let rows = query(&node, "SELECT count(*) FROM t", Consistency::Session).await.unwrap();
    assert_eq!(integer(&rows), 50);
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_and_one_of_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(Config::new(dir.path())).await.unwrap();
    for refused in [check(dir.path()).unwrap_err(), recover_lost_quorum(dir.path()).unwrap_err()] {
        assert_eq!(refused.code(), "CONFIG_IN_USE");
    }
    node.close().await.unwrap();
    let other = tempfile::tempdir().unwrap();
    for path in [other.path().to_owned(), other.path().join("missing")] {
        assert_eq!(check(&path).unwrap_err().code(), "CONFIG_DIRECTORY");
        assert_eq!(recover_lost_quorum(&path).unwrap_err().code(), "CONFIG_DIRECTORY");
    }
    assert_eq!(contents(other.path()), []);
    assert!(!other.path().join("missing").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    standalone(dir.path()).await;
    let files = contents(dir.path());
    let restore = || {
        for (path, bytes) in &files {
            fs::write(path, bytes).unwrap();
        }
    };
    let flip = |path: &Path, at: u64| {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    };
    let finds = |code: &str| {
        let report = check(dir.path()).unwrap();
        assert!(!report.ok);
        let finding = report.findings.iter().find(|f| f.code == code);
        let finding = finding.unwrap_or_else(|| panic!("no {code} in {report:?}"));
        assert_eq!(finding.severity, Severity::Error);
        assert!(!finding.message.is_empty());
        restore();
    };
    let log = only_file(&dir.path().join("log"), ".log");
    flip(&log, 500);
    finds("CORRUPTION_LOG");

    let identity = dir.path().join("node");
    fs::write(&identity, "quorumlite 1\nnode").unwrap();
    finds("CORRUPTION_IDENTITY");
    fs::remove_file(&identity).unwrap();
    finds("CORRUPTION_IDENTITY");

    let state = dir.path().join("state");
    // A page of the database.
    let node = Node::open(Config::new(dir.path())).await.unwrap();
    for _ in 0..40 {
        node.execute("INSERT INTO t(x) VALUES (randomblob(1000000))", ()).await.unwrap();
    }
    // Pages that SQLite's write-ahead log has, too, are read from there.
    let wal = only_file(&state, "-wal");
    eventually("a checkpoint that empties the write-ahead log", || async {
        let length = fs::metadata(&wal).unwrap().len();
        // A log that was truncated while writes went on, and grew a little since, stays.
        if (1_000_000..5_000_000).contains(&length) {
            node.execute("INSERT INTO t(x) VALUES (randomblob(1000000))", ()).await.unwrap();
        }
        (length < 1_000_000).then_some(())
    })
    .await;
    node.close().await.unwrap();
    let database = only_file(&state, ".replica");
    let pristine = fs::read(&database).unwrap();
    let mut damaged = pristine.clone();
    damaged[4096 * 1000..4096 * 1010].fill(0xa5);
    fs::write(&database, damaged).unwrap();
    let report = check(dir.path()).unwrap();
    assert!(!report.ok && codes(&report).contains(&"CORRUPTION_DATABASE"), "{report:?}");
    fs::write(&database, pristine).unwrap();
    assert!(check(dir.path()).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_the_log_does_not_follow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let node = Node::open(Config::new(&path).max_log_bytes(1 << 20)).await.unwrap();
    node.execute("CREATE TABLE t(x)", ()).await.unwrap();
    node.close().await.unwrap();
    let state = path.join("state");
    let early: Vec<_> = contents(&state);
    let node = Node::open(Config::new(&path).max_log_bytes(1 << 20)).await.unwrap();
    for _ in 0..20 {
        node.execute("INSERT INTO t VALUES (?)", params![vec![7; 100_000]]).await.unwrap();
    }
    eventually("the log is purged", || async {
        (node.status().unwrap().purged_index > 8).then_some(())
    })
    .await;
    node.close().await.unwrap();
    assert!(check(&path).unwrap().ok);
    // Somebody restores the database alone from a copy.
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    for (file, bytes) in early {
        fs::write(file, bytes).unwrap();
    }
    let report = check(&path).unwrap();
    assert_eq!(codes(&report), ["CORRUPTION_AGREEMENT"]);
    let refused = Node::open(Config::new(&path)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Corruption, "CORRUPTION_AGREEMENT"));
    assert_eq!(recover_lost_quorum(&path).unwrap_err().code(), "CORRUPTION_AGREEMENT");
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_its_majority_is_recovered_from_the_third() {
    let cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x)", ()).await.unwrap();
    for i in 0..30 {
        let node = &cluster.nodes[i % 3];
        node.execute("INSERT INTO t(x) VALUES (random())", ()).await.unwrap();
    }
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let before = equal_content(&nodes).await;
    let old_cluster = cluster.nodes[2].status().unwrap().cluster_id;
    for node in &cluster.nodes {
        node.close().await.unwrap();
    }
    let base = cluster.dir.path();
    // An old member of which somebody kept the disk.
    let kept = base.join("kept");
    copy_directory(&cluster.data_dir(0), &kept);
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();

    // Alone, the third cannot write.
    let third = cluster.config(2).timeout(Duration::from_secs(4));
    let node = Node::open(third.clone()).await.unwrap();
    let refused = node.execute("INSERT INTO t(x) VALUES (1)", ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    node.close().await.unwrap();

    let report = check(third.dir()).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.members.len(), 3);
    let recovery = recover_lost_quorum(third.dir()).unwrap();
    assert_eq!(recovery.node_id, "n3");
    assert_ne!(recovery.cluster_id, old_cluster);
    let mut removed = recovery.removed.clone();
    removed.sort();
    assert_eq!(removed, ["n1", "n2"]);
    let report = check(third.dir()).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!(report.cluster_id, recovery.cluster_id);
    assert_eq!(report.members.len(), 1);

    // The same options as before, but for the members that are gone.
    let address = cluster.addresses[2].clone();
    let node = Node::open(member(base, "n3", &address, &[])).await.unwrap();
    assert_eq!(node.content_hash().await.unwrap().hash, before.hash);
    assert_eq!(node.status().unwrap().cluster_id, recovery.cluster_id);
    node.execute("INSERT INTO t(x) VALUES ('after')", ()).await.unwrap();

    // Two fresh nodes, one with the name of a lost one.
    let mut nodes = vec![node];
    for id in ["n1", "n4"] {
        let config = member(base, id, &free_address(), &[&address]);
        nodes.push(Node::open(config).await.unwrap());
    }
    nodes[1].execute("INSERT INTO t(x) VALUES ('again')", ()).await.unwrap();
    for node in &nodes {
        let rows = query(node, "SELECT count(*) FROM t", Consistency::Linearizable).await.unwrap();
        assert_eq!(integer(&rows), 32);
    }
    equal_content(&nodes.iter().collect::<Vec<_>>()).await;

    // The old member is told why it cannot come back: whether it asks to join, or waits for the
    // members that it remembers.
    for (listen, join) in [(free_address(), vec![address.clone()]), (free_address(), vec![])] {
        let old = Config::new(&kept)
            .node_id("n1")
            .listen(&listen)
            .advertise(&cluster.addresses[0])
            .join(join)
            .secret(SECRET)
            .timeout(Duration::from_secs(20));
        let refused = Node::open(old).await.unwrap_err();
        assert_eq!(refused.code(), "FORBIDDEN_CLUSTER", "{refused:?}");
        assert!(refused.message().contains("remove"), "{refused}");
    }
    for node in &nodes {
        node.close().await.unwrap();
    }
    assert!(check(third.dir()).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_recovery_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    standalone(dir.path()).await;
    // As a crash right after the first step leaves it.
    let identity = dir.path().join("node");
    let text = fs::read_to_string(&identity).unwrap();
    let new_id = "0123456789abcdef0123456789abcdef";
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with("cluster_id ") {
            true => format!("cluster_id {new_id}"),
            false => line.to_owned(),
        })
        .collect();
    fs::write(&identity, format!("{}\nrecovering\n", lines.join("\n"))).unwrap();
    let refused = Node::open(Config::new(dir.path())).await.unwrap_err();
    assert_eq!(refused.code(), "CONFIG_RECOVERY");
    let report = check(dir.path()).unwrap();
    assert_eq!(codes(&report), ["CONFIG_RECOVERY"]);
    let recovery = recover_lost_quorum(dir.path()).unwrap();
    assert_eq!(recovery.cluster_id, new_id);
    let node = Node::open(Config::new(dir.path())).await.unwrap();
    let rows = query(&node, "SELECT count(*) FROM t", Consistency::Session).await.unwrap();
    assert_eq!(integer(&rows), 50);
    node.close().await.unwrap();
    // Deliberately once more: another cluster id, the same data.
    let again = recover_lost_quorum(dir.path()).unwrap();
    assert_ne!(again.cluster_id, new_id);
    assert_eq!(again.removed, Vec::<String>::new());
    let node = Node::open(Config::new(dir.path())).await.unwrap();
    let rows = query(&node, "SELECT count(*) FROM t", Consistency::Session).await.unwrap();
    assert_eq!(integer(&rows), 50);
    node.close().await.unwrap();
}

//! A node that cannot start names the cause, and what to do about it.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;

use quorumlite::{Config, Error, ErrorKind, Node, check, params, recover_lost_quorum};
use support::integer;
use support::small_disk::Small;

async fn refusal(dir: &Path) -> Error {
    let e = Node::open(Config::new(dir)).await.expect_err("it cannot start");
    assert!(!e.retryable(), "{e:?}");
    e
}

async fn filled(dir: &Path) {
    let node = Node::open(Config::new(dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.execute("INSERT INTO t VALUES (42)", ()).await.unwrap();
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_when_the_node_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    // Sizes at which now the log, now the database finds no room.
    for megabytes in [6, 10, 12, 14] {
        let place = dir.path().join(megabytes.to_string());
        let Some(small) = Small::mount(place.clone(), megabytes) else { return };
        let path = place.join("n1");
        let node = Node::open(Config::new(&path)).await.unwrap();
        node.execute("CREATE TABLE t(a)", ()).await.unwrap();
        let insert = || node.execute("INSERT INTO t VALUES (?)", params![vec![1; 100_000]]);
        let e = loop {
            if let Err(e) = insert().await {
                break e;
            }
        };
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e:?}");
        node.close().await.unwrap();
        // Not even a byte is left.
        let _ = fs::write(place.join("filler"), vec![1; 32 << 20]);

        // It may open, where all that it has to write has room in what it has; then it cannot write.
        let e = match Node::open(Config::new(&path)).await {
            Err(e) => e,
            Ok(node) => {
                let insert = node.execute("INSERT INTO t VALUES (?)", params![vec![1; 9 << 20]]);
                let e = insert.await.expect_err("the disk is full");
                node.close().await.unwrap();
                e
            }
        };
        let named = ["disk is full", "No space left on device"];
        assert!(named.iter().any(|n| e.message().contains(n)), "{megabytes} MB: {e:?}");
        assert!(e.message().contains("free space on"), "{megabytes} MB: {e:?}");
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{megabytes} MB: {e:?}");
        assert_ne!(e.code(), "START_FAILED", "{e:?}");

        let e = refusal(&place.join("n2")).await;
        assert_eq!((e.kind(), e.code()), (ErrorKind::Unavailable, "STORAGE_FAILED"), "{e:?}");
        assert!(e.message().contains("free space on that disk"), "{e}");
        small.set("size=1g", 0).unwrap();
        Node::open(Config::new(&path)).await.unwrap().close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_system_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("read-only");
    let Some(small) = Small::mount(place.clone(), 64) else { return };
    filled(&place.join("n1")).await;
    support::eventually("nothing is open for writing there", || async {
        small.set("", libc::MS_RDONLY).ok()
    })
    .await;
    for name in ["n1", "n2", "below/n3"] {
        let e = refusal(&place.join(name)).await;
        assert_eq!((e.kind(), e.code()), (ErrorKind::Config, "CONFIG_READ_ONLY"), "{e:?}");
        assert!(e.message().contains("mount it writable"), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n1");
    filled(&path).await;
    fs::remove_dir_all(path.join("log")).unwrap();
    let missing = || async {
        let e = refusal(&path).await;
        assert_eq!((e.kind(), e.code()), (ErrorKind::Corruption, "CORRUPTION_LOG"), "{e:?}");
        assert!(e.message().contains("the log of this node is missing"), "{e}");
        let report = check(&path).unwrap();
        assert!(report.findings.iter().any(|f| f.code == "CORRUPTION_LOG"), "{report:?}");
    };
    missing().await;
    // Empty, it is no less missing.
    fs::create_dir(path.join("log")).unwrap();
    missing().await;

    // What the database holds is not lost.
    recover_lost_quorum(&path).unwrap();
    let node = Node::open(Config::new(&path)).await.unwrap();
    assert_eq!(integer(&node.query("SELECT a FROM t", ()).await.unwrap()), 42);
    node.execute("INSERT INTO t VALUES (43)", ()).await.unwrap();
    node.close().await.unwrap();

    // Without the database too: it must not begin a second time under the name of its cluster.
    fs::remove_dir_all(path.join("log")).unwrap();
    fs::remove_dir_all(path.join("state")).unwrap();
    missing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_name_is_missing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n1");
    filled(&path).await;
    let name = fs::read(path.join("node")).unwrap();
    fs::remove_file(path.join("node")).unwrap();
    let e = refusal(&path).await;
    assert_eq!((e.kind(), e.code()), (ErrorKind::Corruption, "CORRUPTION_IDENTITY"), "{e:?}");
    assert!(e.message().contains("n1/node"), "{e}");
    fs::write(path.join("node"), name).unwrap();
    Node::open(Config::new(&path)).await.unwrap().close().await.unwrap();
}

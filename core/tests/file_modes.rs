//! What a node writes is for its user alone, whatever the process makes of other files.

#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quorumlite::{Config, Node, params};
use support::{free_address, member};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

/// Every file and directory below `dir`, with its mode; all must be as they should, and be there.
fn check_below(dir: &Path, wanted: &[&str]) {
    let mut seen = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path).expect("a directory").map(|e| e.expect("a name").path()),
            );
        }
        let right = if path.is_dir() { 0o700 } else { 0o600 };
        let name = path.strip_prefix(dir).expect("below it").display().to_string();
        assert_eq!(mode(&path), right, "{name}: {:o}", mode(&path));
        seen.push(name);
    }
    for name in wanted {
        assert!(seen.iter().any(|s| s.ends_with(name)), "{name} is not among {seen:?}");
    }
}

const FILES: &[&str] = &[
    "quorumlite.lock",
    "node",
    ".log",
    "quorumlite.replica",
    "-wal",
    "-shm",
    "applying",
    "incoming",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_for_its_user_alone() {
    // The mask under which most programs run; all tests of this file set the same one.
    // SAFETY: it has no precondition.
    unsafe { libc::umask(0o022) };
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("made").join("n1");
    let node = Node::open(Config::new(&dir)).await.unwrap();
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    node.query("SELECT * FROM t", ()).await.unwrap();
    check_below(&dir, FILES);
    assert_eq!(mode(&above.path().join("made")), 0o755, "a directory above is the user's affair");
    node.close().await.unwrap();

    // What others may read already is what somebody wanted.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    let replica = dir.join("state/quorumlite.replica");
    fs::set_permissions(&replica, fs::Permissions::from_mode(0o640)).unwrap();
    let node = Node::open(Config::new(&dir)).await.unwrap();
    node.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((mode(&dir), mode(&replica)), (0o750, 0o640));
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_came_over_the_network_is_for_its_user_alone() {
    // SAFETY: it has no precondition.
    unsafe { libc::umask(0o022) };
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let first = member(dir.path(), "n1", &address, &[]).max_log_bytes(1 << 20);
    let first = Node::open(first).await.unwrap();
    first.execute("CREATE TABLE t(a)", ()).await.unwrap();
    while first.status().unwrap().purged_index < 10 {
        let insert = "INSERT INTO t VALUES (?)";
        first.execute(insert, params![vec![7u8; 50_000]]).await.unwrap();
    }
    let second = member(dir.path(), "n2", &free_address(), &[&address]);
    let second = Node::open(second).await.unwrap();
    assert!(second.status().unwrap().snapshot.is_some(), "it came as a snapshot");
    check_below(&dir.path().join("n2"), FILES);
    second.close().await.unwrap();
    first.close().await.unwrap();
}

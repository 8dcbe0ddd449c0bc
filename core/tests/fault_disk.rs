//! Real disks that fail: a small one that gets full, one that becomes read-only, and a directory
//! that is removed under a running node. The node says so and stops, the others go on, and once the
//! disk is well again nothing is missing.
//!
//! Mounting takes privileges: without them these tests say so and do nothing.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::CString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use quorumlite::{Config, Consistency, Error, ErrorKind, Node, params};
use support::{equal_content, eventually, free_address, integer, member, query};

/// A small file system in memory, unmounted when dropped.
struct Small {
    path: PathBuf,
}

impl Small {
    /// None where this user may not mount.
    fn mount(path: PathBuf, megabytes: u32) -> Option<Small> {
        std::fs::create_dir_all(&path).expect("a mount point");
        match mount(&path, &format!("size={megabytes}m"), 0) {
            Ok(()) => Some(Small { path }),
            Err(e) => {
                // Not captured by the test harness: nobody shall believe that this was tested.
                let text = format!("NOT TESTED: a real full disk (mounting a tmpfs fails: {e})\n");
                let _ = std::io::stderr().write_all(text.as_bytes());
                None
            }
        }
    }

    fn set(&self, options: &str, flags: libc::c_ulong) -> std::io::Result<()> {
        mount(&self.path, options, libc::MS_REMOUNT | flags)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = c_string(self.path.as_os_str().as_bytes());
        // SAFETY: a C string is all that it takes.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL")
}

fn mount(path: &Path, options: &str, flags: libc::c_ulong) -> std::io::Result<()> {
    let (path, options) = (c_string(path.as_os_str().as_bytes()), c_string(options.as_bytes()));
    let tmpfs = c"tmpfs".as_ptr();
    // SAFETY: all are C strings that live until the call returns; tmpfs takes its options as one.
    let done = unsafe { libc::mount(tmpfs, path.as_ptr(), tmpfs, flags, options.as_ptr().cast()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

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
    assert!(matches!(refused.kind(), ErrorKind::Config | ErrorKind::Unavailable), "{refused:?}");
    assert!(refused.message().contains("permission"), "{refused}");
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

//! What the integration tests share: free ports, clusters inside this process, waiting for a
//! condition.

#![allow(dead_code, missing_docs)]

pub mod churn;
pub mod proxy;
#[cfg(target_os = "linux")]
pub mod small_disk;

use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use quorumlite::{Config, ContentHash, Node, ReadOptions, Result, Rows, Statement};

/// No wait in a test takes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SECRET: &str = "a secret that only the tests share";

/// An address on loopback that nobody listened at a moment ago. Its port is not one of those that
/// the system gives to outgoing connections, one of which might take it before the node does.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(61) as u16;
    loop {
        let port = 12_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("its address").to_string();
        }
    }
}

/// Polls until `condition` gives a value.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Like [`eventually`], outside a runtime.
pub fn eventually_sync<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A member of a cluster of the tests.
pub fn member(dir: &Path, id: &str, listen: &str, join: &[&str]) -> Config {
    Config::new(dir.join(id))
        .node_id(id)
        .listen(listen)
        .join(join.iter().copied())
        .secret(SECRET)
        .timeout(Duration::from_secs(30))
}

/// Three nodes in this process, talking over real connections.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub addresses: Vec<String>,
    pub nodes: Vec<Node>,
    adjust: fn(Config) -> Config,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_with(|config| config).await
    }

    pub async fn start_with(adjust: fn(Config) -> Config) -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let mut cluster = Cluster { dir, addresses, nodes: Vec::new(), adjust };
        for i in 0..3 {
            let node = cluster.open(i).await.expect("a node opens");
            cluster.nodes.push(node);
        }
        cluster
    }

    pub fn config(&self, i: usize) -> Config {
        let join: Vec<&str> = if i == 0 { vec![] } else { vec![&self.addresses[0]] };
        let id = format!("n{}", i + 1);
        (self.adjust)(member(self.dir.path(), &id, &self.addresses[i], &join))
    }

    pub async fn open(&self, i: usize) -> Result<Node> {
        Node::open(self.config(i)).await
    }

    pub fn data_dir(&self, i: usize) -> PathBuf {
        self.config(i).dir().to_owned()
    }

    /// The index of the node that leads.
    pub async fn leader(&self) -> usize {
        eventually("a leader that knows of itself", || async {
            self.nodes.iter().position(|n| n.status().is_ok_and(|s| s.state == "leader"))
        })
        .await
    }

    pub async fn close(self) {
        for node in &self.nodes {
            node.close().await.expect("a node closes");
        }
    }
}

/// Waits until all nodes have the same content at the same index, and returns its hash.
pub async fn equal_content(nodes: &[&Node]) -> ContentHash {
    eventually("equal content on all nodes", || async {
        let mut hashes = Vec::new();
        for node in nodes {
            hashes.push(node.content_hash().await.expect("a hash"));
        }
        let first = hashes[0].clone();
        if hashes.iter().all(|h| h.index == first.index) {
            assert!(hashes.iter().all(|h| h.hash == first.hash), "replicas differ: {hashes:?}");
            return Some(first);
        }
        None
    })
    .await
}

pub async fn query(node: &Node, sql: &str, consistency: quorumlite::Consistency) -> Result<Rows> {
    let options = ReadOptions { consistency: Some(consistency), ..Default::default() };
    node.query_with(Statement::from(sql), options).await
}

/// The one integer that a query gives.
pub fn integer(rows: &Rows) -> i64 {
    rows.get(0).and_then(|row| row[0].as_i64()).expect("one integer")
}

//! Memory and file descriptors stay flat, however often one opens, closes and calls.
//!
//! QUORUMLITE_FLAT_OPENS and QUORUMLITE_FLAT_CALLS say how often (200 and 10,000 unless set).
#![cfg(target_os = "linux")]

use std::time::Instant;

use quorumlite::{Config, Node, params};

#[derive(Debug, Clone, Copy)]
struct Measured {
    rss_kib: u64,
    descriptors: usize,
    threads: u64,
}

fn measure() -> Measured {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name)).expect("a field");
        line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    Measured { rss_kib: field("VmRSS:"), descriptors, threads: field("Threads:") }
}

fn times(name: &str, unless_set: usize) -> usize {
    std::env::var(name).map_or(unless_set, |text| text.parse().expect("a number"))
}

/// Measures after a third, when caches and pools are full, and at the end.
struct Flat {
    name: &'static str,
    count: usize,
    began: Instant,
    warm: Option<Measured>,
}

impl Flat {
    fn new(name: &'static str, count: usize) -> Flat {
        Flat { name, count, began: Instant::now(), warm: None }
    }

    fn step(&mut self, i: usize) {
        if i == self.count / 3 {
            self.warm = Some(measure());
        }
    }

    fn end(self) {
        let (warm, end) = (self.warm.expect("a third"), measure());
        let Flat { name, count, began, .. } = self;
        println!(
            "{name}: {count} in {:.1} s; warm {warm:?}; end {end:?}",
            began.elapsed().as_secs_f64()
        );
        // The pools of readers and of threads come and go. A leak of one descriptor, or of a few
        // KiB, in each call would be far beyond.
        assert!(end.rss_kib <= warm.rss_kib + 32_768, "{name}: memory is not flat");
        assert!(end.descriptors <= warm.descriptors + 32, "{name}: descriptors are not flat");
        assert!(end.threads <= 600, "{name}: threads are not flat");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_descriptors_stay_flat() {
    let dir = tempfile::tempdir().expect("a directory");
    // A directory now and then: with one alone the log would grow, and with it what is read of it.
    let config = |i: usize| Config::new(dir.path().join(format!("n{}", i / 100)));
    let opens = times("QUORUMLITE_FLAT_OPENS", 200);
    let mut flat = Flat::new("open and close", opens);
    for i in 0..opens {
        flat.step(i);
        let node = Node::open(config(i)).await.expect("a node opens");
        node.close().await.expect("it closes");
    }
    flat.end();

    // What is kept in memory of the log is bounded by its size: a short one shows what else grows.
    let config = config(opens).max_log_bytes(2 * 1024 * 1024);
    let node = Node::open(config).await.expect("a node opens");
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)", ()).await.expect("a table");
    let rounds = times("QUORUMLITE_FLAT_CALLS", 10_000) / 20;
    let mut flat = Flat::new("20 calls", rounds);
    for i in 0..rounds {
        flat.step(i);
        let mut calls = tokio::task::JoinSet::new();
        for j in 0..20i64 {
            let node = node.clone();
            calls.spawn(async move {
                match j % 4 {
                    0 => {
                        let insert = "INSERT OR REPLACE INTO t VALUES (?, 'text', zeroblob(100))";
                        node.execute(insert, params![j]).await.expect("a write");
                    }
                    1 => {
                        let rows = node.query("SELECT * FROM t WHERE id < 20", ()).await;
                        assert!(rows.expect("a read").len() <= 20);
                    }
                    2 => assert!(node.query("SELEKT", ()).await.is_err()),
                    _ => {
                        let update = "UPDATE t SET a = 1 WHERE id = 0";
                        node.execute_batch([update, "SELECT 1"]).await.expect("a batch");
                    }
                }
            });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("a call");
        }
    }
    flat.end();
    node.close().await.expect("it closes");
}

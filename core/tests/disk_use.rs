//! What a node takes on disk beside the database itself, and what bounds it.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, ErrorKind, Node, ReadOptions, Statement, params};
use support::{eventually, integer, query};

const MIB: u64 = 1 << 20;
/// The bytes of one large row: fewer than a command may carry.
const ROW: i64 = 900_000;

/// In memory where there is room: sizes are looked at, not speed.
fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a directory")
}

fn database(dir: &Path) -> PathBuf {
    dir.join("state/quorumlite.replica")
}

/// Looked at by name, never opened: that would drop SQLite's locks.
fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn wal_bytes(dir: &Path) -> u64 {
    bytes(&database(dir).with_extension("replica-wal"))
}

/// All files below `dir`, but for the database.
fn beside_the_database(dir: &Path) -> u64 {
    let mut sum = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if path == database(dir) => {}
                _ => sum += bytes(&path),
            }
        }
    }
    sum
}

/// Remembers the largest of the sizes that `size` gives until it is dropped.
struct Largest {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Largest {
    fn watch(size: impl Fn() -> u64 + Send + 'static) -> Largest {
        let largest = Largest { seen: Arc::default(), stop: Arc::default() };
        let (seen, stop) = (largest.seen.clone(), largest.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                seen.fetch_max(size(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        largest
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Largest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A query that holds its read transaction for longer than the gate of a checkpoint waits.
async fn slow_query(node: &Node) -> String {
    let mut steps = 50_000_u64;
    loop {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {steps}) \
             SELECT count(*) FROM n WHERE EXISTS (SELECT 1 FROM t)"
        );
        let begun = Instant::now();
        query(node, &sql, Consistency::None).await.expect("read");
        if begun.elapsed() > Duration::from_millis(300) {
            return sql;
        }
        steps *= 2;
    }
}

/// Four readers whose transactions overlap all the time, and one without an end: none
/// of them lets SQLite's write-ahead log grow without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_readers_do_not_let_the_write_ahead_log_grow_without_bound() {
    const WRITTEN: u64 = 300 * MIB;
    /// What reads may hold up, and what may be written until that is noticed.
    const BOUND: u64 = (128 + 96) * MIB;
    let dir = temporary();
    let config = Config::new(dir.path()).timeout(Duration::from_secs(120));
    let node = Node::open(config).await.expect("the node opens");
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)", ()).await.expect("written");
    node.execute("INSERT INTO t VALUES (0, zeroblob(10))", ()).await.expect("written");
    let slow = slow_query(&node).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (node, slow, stop) = (node.clone(), slow.clone(), stop.clone());
        readers.spawn(async move {
            let (mut answered, mut ended) = (0_u32, 0_u32);
            while !stop.load(Ordering::Relaxed) {
                match query(&node, &slow, Consistency::None).await {
                    Ok(_) => answered += 1,
                    Err(e) if e.code() == "BUSY_READ_INTERRUPTED" => ended += 1,
                    Err(e) => panic!("{e:?}"),
                }
            }
            (answered, ended)
        });
    }
    let endless = tokio::spawn({
        let node = node.clone();
        async move {
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n WHERE EXISTS (SELECT 1 FROM t)";
            let options = ReadOptions {
                consistency: Some(Consistency::None),
                timeout: Some(Duration::from_secs(120)),
                ..Default::default()
            };
            node.query_with(Statement::from(sql), options).await
        }
    });

    let wal = dir.path().to_owned();
    let largest = Largest::watch(move || wal_bytes(&wal));
    // The same rows again and again: the log of SQLite grows, the database does not.
    for i in 0..WRITTEN / ROW as u64 {
        let row = params![(i % 20) as i64, ROW];
        node.execute("REPLACE INTO t VALUES (?, randomblob(?))", row).await.expect("written");
    }
    let largest = largest.seen();
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut ended) = (0, 0);
    while let Some(reader) = readers.join_next().await {
        let (a, e) = reader.expect("a reader");
        (answered, ended) = (answered + a, ended + e);
    }
    println!(
        "{} MiB written under reads: {answered} answered, {ended} ended; the write-ahead log had at \
         most {} MiB",
        WRITTEN / MIB,
        largest / MIB
    );
    assert!(largest > 32 * MIB, "the reads were not in the way: this tests nothing");
    assert!(largest <= BOUND, "{largest} bytes");
    assert!(answered > 0);
    let error = endless.await.expect("no panic").expect_err("it has no end");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_INTERRUPTED"));
    // At rest it is emptied.
    eventually("an empty write-ahead log", || async {
        (wal_bytes(dir.path()) < 4 * MIB).then_some(())
    })
    .await;
    let rows = query(&node, "SELECT count(*) FROM t", Consistency::None).await.expect("read");
    assert_eq!(integer(&rows), 20);
    node.close().await.expect("closed");
}

/// A stream whose consumer stays away ends when the log has grown large behind it, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_left_alone_does_not_let_the_write_ahead_log_grow_without_bound() {
    const WRITTEN: u64 = 300 * MIB;
    /// As above.
    const BOUND: u64 = (128 + 96) * MIB;
    let dir = temporary();
    let config = Config::new(dir.path()).timeout(Duration::from_secs(120));
    let node = Node::open(config).await.expect("the node opens");
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)", ()).await.expect("written");
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
               SELECT i, (SELECT count(*) FROM t) FROM n";
    let stream = node.query_stream(sql.into(), ReadOptions::default()).await.expect("begun");
    let wal = dir.path().to_owned();
    let largest = Largest::watch(move || wal_bytes(&wal));
    for i in 0..WRITTEN / ROW as u64 {
        let row = params![(i % 20) as i64, ROW];
        node.execute("REPLACE INTO t VALUES (?, randomblob(?))", row).await.expect("written");
    }
    let largest = largest.seen();
    assert!(largest > 100 * MIB, "the stream was not in the way: this tests nothing ({largest})");
    assert!(largest <= BOUND, "{largest} bytes");
    let mut rows = 0;
    let error = loop {
        match stream.next_batch().await {
            Ok(some) => {
                let some = some.expect("no end without an error");
                // What it gave is of its own state.
                assert!(some.iter().all(|row| row[1].as_i64() == Some(0)));
                rows += some.len();
            }
            Err(error) => break error,
        }
    };
    assert!(rows > 0);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_INTERRUPTED"));
    eventually("an empty write-ahead log", || async {
        (wal_bytes(dir.path()) < 4 * MIB).then_some(())
    })
    .await;
    node.close().await.expect("closed");
}

/// The database, and at most 64 MB beside it (with the defaults) whenever the writes pause.
/// `QUORUMLITE_DISK_MEGABYTES` writes more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_write_ahead_log_take_a_bounded_place() {
    const BOUND: u64 = 64_000_000;
    /// Between two pauses: no multiple of what the log or its segments hold.
    const ROWS: i64 = 23;
    let dir = temporary();
    let config = Config::new(dir.path()).timeout(Duration::from_secs(120));
    let node = Node::open(config).await.expect("the node opens");
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)", ()).await.expect("written");
    let megabytes: u64 = std::env::var("QUORUMLITE_DISK_MEGABYTES")
        .map_or(200, |text| text.parse().expect("a number of megabytes"));
    let all = dir.path().to_owned();
    let during = Largest::watch(move || beside_the_database(&all));
    let (mut rows, mut at_rest) = (0, 0);
    while ROW * rows < megabytes as i64 * 1_000_000 {
        for _ in 0..ROWS {
            // It travels through the Raft log.
            let row = params![rows, vec![rows as u8; ROW as usize]];
            node.execute("INSERT INTO t VALUES (?, ?)", row).await.expect("written");
            rows += 1;
        }
        eventually("at most 64 MB beside the database", || async {
            (beside_the_database(dir.path()) <= BOUND).then_some(())
        })
        .await;
        at_rest = at_rest.max(beside_the_database(dir.path()));
    }
    let database = bytes(&database(dir.path()));
    println!(
        "{database} bytes of database; beside it at most {at_rest} at rest, {} while {megabytes} MB \
         were written",
        during.seen()
    );
    assert!(database > (ROW * (rows - ROWS)) as u64, "the database is not where it is looked for");
    assert!(during.seen() > BOUND / 2, "what is looked at is not what grows");
    node.close().await.expect("closed");
    assert!(beside_the_database(dir.path()) <= BOUND, "after closing");
}

//! What a data directory takes on disk beyond the database itself is bounded, however much is written.
//!
//! QUORUMLITE_DISK_MB says how much is written (150 unless set).

use std::path::Path;
use std::time::{Duration, Instant};

use quorumlite::{Config, Node, params};

/// Log and write-ahead log together, with the defaults.
const BOUND: u64 = 64_000_000;
/// How long purge and checkpoint may take after the last write.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of all files below `dir` by their allocation, and those of the database's main file.
fn sizes(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut all, mut main) = (0, 0);
    for entry in std::fs::read_dir(dir).expect("the directory").flatten() {
        // Files come and go meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let (more, inner) = sizes(&entry.path());
            all += more;
            main += inner;
        } else {
            all += metadata.blocks() * 512;
            if entry.file_name() == "quorumlite.replica" {
                main += metadata.blocks() * 512;
            }
        }
    }
    (all, main)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_wal_are_small_after_any_amount_of_writes() {
    let megabytes: u64 = std::env::var("QUORUMLITE_DISK_MB")
        .map_or(150, |text| text.parse().expect("a number of megabytes"));
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::open(Config::new(dir.path())).await.expect("opens");
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)", ()).await.expect("creates");
    let mut largest = 0;
    for batch in 0..megabytes * 4 {
        let rows = (0..25_u8).map(|i| {
            let row = vec![i.wrapping_add(batch as u8); 10_000];
            ("INSERT INTO t(v) VALUES (?)", params![row])
        });
        node.execute_batch(rows).await.expect("writes");
        let (all, main) = sizes(dir.path());
        largest = largest.max(all - main);
    }
    let ended = Instant::now();
    let (all, main) = loop {
        let (all, main) = sizes(dir.path());
        if all - main <= BOUND || ended.elapsed() > PATIENCE {
            break (all, main);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!(
        "{megabytes} MB written: database {main} bytes, beside it at most {largest}, {} after {:?}",
        all - main,
        ended.elapsed()
    );
    assert!(main > megabytes * 1_000_000, "the database holds what was written");
    assert!(all - main <= BOUND, "{} bytes beside the database", all - main);
    node.close().await.expect("closes");
}

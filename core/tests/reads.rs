//! Reads that are ended, many reads at once, and large results.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use quorumlite::{
    Cancel, Config, Consistency, Error, ErrorKind, Node, ReadOptions, RowStream, Statement, Value,
    WriteOptions, params,
};
use support::{Cluster, PATIENCE, eventually, integer};

/// Counts for longer than anybody waits.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";
/// So many rows that no consumer gets them all.
const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT i FROM n";

async fn open(dir: &tempfile::TempDir) -> Node {
    Node::open(Config::new(dir.path().join("data"))).await.unwrap()
}

fn local(timeout: Duration) -> ReadOptions {
    ReadOptions {
        consistency: Some(Consistency::None),
        timeout: Some(timeout),
        ..Default::default()
    }
}

/// The resident memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many threads have this name.
#[cfg(target_os = "linux")]
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

#[test]
fn cancelled_reads_leave_nothing_behind() {
    // Its threads have a name: other tests have theirs in the same process.
    const NAME: &str = "cancelled-reads";
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_name(NAME).enable_all().build().unwrap();
    runtime.block_on(cancel_many_reads(NAME));
}

#[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
async fn cancel_many_reads(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    node.query("SELECT 1", ()).await.unwrap();
    for round in 0..3 {
        let reads: Vec<_> = (0..300)
            .map(|_| {
                let node = node.clone();
                tokio::spawn(
                    async move { node.query_with(ENDLESS.into(), local(PATIENCE * 2)).await },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        reads.iter().for_each(|read| read.abort());
        // Nobody has to wait for what nobody wants.
        let begin = Instant::now();
        node.query("SELECT 1", ()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "{round}: {:?}", begin.elapsed());
        #[cfg(target_os = "linux")]
        {
            // Two workers, the places, and some that open and close.
            let places = 4 * std::thread::available_parallelism().unwrap().get().max(4);
            let now = threads(name);
            assert!((3..=places + 10).contains(&now), "{now} threads");
        }
    }
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_cancelled_by_its_token_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    for level in ["none", "session", "weak", "linearizable", "strong"] {
        let cancel = Cancel::new();
        let options = ReadOptions {
            consistency: Some(level.parse().unwrap()),
            timeout: Some(PATIENCE * 2),
            cancel: Some(cancel.clone()),
            ..Default::default()
        };
        let read = tokio::spawn({
            let (node, options) = (node.clone(), options.clone());
            async move { node.query_with(ENDLESS.into(), options).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begin = Instant::now();
        cancel.cancel();
        let error = read.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout, "CANCELLED"), "{level}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{level}: {:?}", begin.elapsed());
        // It stays so.
        let error = node.query_with("SELECT 1".into(), options.clone()).await.unwrap_err();
        assert_eq!(error.code(), "CANCELLED");
        let error = node.query_stream("SELECT 1".into(), options).await.unwrap_err();
        assert_eq!(error.code(), "CANCELLED");
    }
    node.close().await.unwrap();
}

/// For the languages whose signals somebody has to look for.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_the_calling_thread_asks_whether_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let asked = Arc::new(AtomicU32::new(0));
    let caller = std::thread::current().id();
    let cancel = Cancel::asking({
        let asked = asked.clone();
        move || {
            assert_eq!(std::thread::current().id(), caller);
            asked.fetch_add(1, Ordering::SeqCst) < 4
        }
    });
    let options = ReadOptions { cancel: Some(cancel), ..local(PATIENCE * 2) };
    let begin = Instant::now();
    let error = node.query_now(&ENDLESS.into(), &options);
    assert_eq!(error.unwrap_err().code(), "CANCELLED");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_the_reads_of_the_handle_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let other = open(&dir).await;
    let ended = Arc::new(AtomicU32::new(0));
    let mut reads = Vec::new();
    for _ in 0..40 {
        let (node, ended) = (node.clone(), ended.clone());
        reads.push(tokio::spawn(async move {
            let result = node.query_with(ENDLESS.into(), local(PATIENCE * 2)).await;
            ended.fetch_add(1, Ordering::SeqCst);
            result
        }));
    }
    // On threads of their own, too, which nobody could stop otherwise.
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let node = node.clone();
            std::thread::spawn(move || node.query_now(&ENDLESS.into(), &local(PATIENCE * 2)))
        })
        .collect();
    let stream = node.query_stream(NUMBERS.into(), local(PATIENCE)).await.unwrap();
    let others = other.query_stream(NUMBERS.into(), local(PATIENCE)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    node.close().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap_err().code(), "CLOSED");
    }
    for thread in threads {
        match thread.join().unwrap() {
            Err(error) => assert_eq!(error.code(), "CLOSED"),
            // It came too late for a place.
            Ok(rows) => assert!(rows.is_none()),
        }
    }
    assert_eq!(stream.next_batch().await.unwrap_err().code(), "CLOSED");
    // Another handle of the same node is none of its business.
    assert!(others.next_batch().await.unwrap().is_some());
    other.close().await.unwrap();
    assert_eq!(others.next_batch().await.unwrap_err().code(), "CLOSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_reads_than_may_run_wait_in_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let cancel = Cancel::new();
    let options = ReadOptions { cancel: Some(cancel.clone()), ..local(PATIENCE * 2) };
    let hogs: Vec<_> = (0..200)
        .map(|_| {
            let (node, options) = (node.clone(), options.clone());
            tokio::spawn(async move { node.query_with(ENDLESS.into(), options).await })
        })
        .collect();
    let error = eventually("a read that waits in vain", || async {
        let options = local(Duration::from_millis(200));
        node.query_with("SELECT 1".into(), options).await.err()
    })
    .await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_QUEUE"), "{error}");
    assert!(error.retryable());
    // Writes do not stand in that line.
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.query_with("SELECT 1".into(), local(PATIENCE)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    cancel.cancel();
    assert_eq!(integer(&waiting.await.unwrap().unwrap()), 1);
    for hog in hogs {
        assert_eq!(hog.await.unwrap().unwrap_err().code(), "CANCELLED");
    }
    node.close().await.unwrap();
}

async fn sum(stream: &RowStream, max: usize) -> Result<(i64, i64), Error> {
    let (mut rows, mut sum) = (0, 0);
    while let Some(batch) = stream.next_rows(max).await? {
        assert!(!batch.is_empty() && batch.len() <= max.max(1), "{}", batch.len());
        assert_eq!(batch.columns(), stream.columns());
        rows += batch.len() as i64;
        sum += batch.iter().map(|row| row[0].as_i64().unwrap()).sum::<i64>();
    }
    Ok((rows, sum))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_what_no_single_result_holds_in_little_memory() {
    const ROWS: i64 = 1_500_000;
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let all = format!("{NUMBERS} LIMIT {ROWS}");
    let whole = node.query_with(Statement::from(all.as_str()), local(PATIENCE)).await;
    assert_eq!(whole.unwrap_err().code(), "BUSY_RESULT_TOO_LARGE");
    #[cfg(target_os = "linux")]
    let before = resident();
    let stream = node.query_stream(Statement::from(all), local(PATIENCE)).await.unwrap();
    assert_eq!(&stream.columns()[..], ["i"]);
    assert_eq!(sum(&stream, 300).await.unwrap(), (ROWS, ROWS * (ROWS + 1) / 2));
    assert!(stream.next_rows(1).await.unwrap().is_none(), "it stays at its end");
    // Also where each row is large: 160 MiB.
    let large = format!("SELECT i, zeroblob(1000000) FROM ({NUMBERS} LIMIT 160)");
    let stream = node.query_stream(Statement::from(large), local(PATIENCE)).await.unwrap();
    assert_eq!(sum(&stream, usize::MAX).await.unwrap(), (160, 160 * 161 / 2));
    #[cfg(target_os = "linux")]
    {
        let grown = resident().saturating_sub(before);
        // Other tests run in the same process, and use some, too.
        assert!(grown < 120 * 1024, "{grown} KiB more");
    }
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_one_state_at_every_level_on_every_node() {
    let cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(a)", ()).await.unwrap();
    let fill = format!("INSERT INTO t {NUMBERS} LIMIT 20000");
    for (i, node) in cluster.nodes.iter().enumerate() {
        for level in ["session", "weak", "linearizable", "strong"] {
            node.execute("DELETE FROM t", ()).await.unwrap();
            node.execute(fill.as_str(), ()).await.unwrap();
            let options =
                ReadOptions { consistency: Some(level.parse().unwrap()), ..Default::default() };
            let stream = node.query_stream("SELECT a FROM t".into(), options).await.unwrap();
            node.execute("UPDATE t SET a = -a WHERE a % ? = 0", params![3]).await.unwrap();
            node.execute("DELETE FROM t WHERE a > 500", ()).await.unwrap();
            let seen = sum(&stream, 1000).await.unwrap();
            assert_eq!(seen, (20_000, 20_000 * 20_001 / 2), "{level} on n{}", i + 1);
        }
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_is_shared_by_threads_closed_from_any_and_a_futures_stream() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let limited = || Statement::from(format!("{NUMBERS} LIMIT 30000"));
    // Each row goes to one of them.
    let stream = Arc::new(node.query_stream(limited(), local(PATIENCE)).await.unwrap());
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let (stream, runtime) = (stream.clone(), tokio::runtime::Handle::current());
            std::thread::spawn(move || runtime.block_on(sum(&stream, 7 + i)).unwrap())
        })
        .collect();
    let sums = threads.into_iter().map(|thread| thread.join().unwrap());
    let total = sums.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert_eq!(total, (30_000, 30_000 * 30_001 / 2));
    stream.close();
    assert!(stream.next_batch().await.unwrap().is_none(), "it had ended before");

    let mut batches = node.query_stream(limited(), local(PATIENCE)).await.unwrap();
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        rows += batch.unwrap().len();
    }
    assert_eq!(rows, 30_000);

    // Closed while one waits: the next row never comes.
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                SELECT i FROM n WHERE i <= 1000 OR i < 0";
    let stream = Arc::new(node.query_stream(slow.into(), local(PATIENCE * 2)).await.unwrap());
    let first = stream.next_rows(2).await.unwrap().unwrap();
    assert_eq!(first.values(), [[Value::Integer(1)], [Value::Integer(2)]]);
    assert_eq!(stream.next_batch().await.unwrap().unwrap().len(), 998);
    let waiting = tokio::spawn({
        let stream = stream.clone();
        async move { stream.next_batch().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.close();
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), "CANCELLED");
    assert!(stream.next_batch().await.unwrap().is_none());
    // Closed while rows are left: nobody gets them.
    let stream = node.query_stream(limited(), local(PATIENCE)).await.unwrap();
    stream.next_rows(1).await.unwrap();
    stream.close();
    assert_eq!(stream.next_rows(1).await.unwrap_err().code(), "CANCELLED");
    node.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_errors_of_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir).await;
    let begin = |sql: &str, options| node.query_stream(Statement::from(sql), options);
    let refused = begin("INSERT INTO t VALUES (1)", local(PATIENCE)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Sql, "{refused}");
    node.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let refused = begin("INSERT INTO t VALUES (1)", local(PATIENCE)).await.unwrap_err();
    assert_eq!(refused.code(), "FORBIDDEN_WRITE_IN_QUERY");
    let late = begin(ENDLESS, local(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!((late.kind(), late.code()), (ErrorKind::Timeout, "TIMEOUT"));
    // The timeout is that of each piece, not of the whole; a consumer may take its time.
    let patient = local(Duration::from_millis(500));
    let stream = begin(&format!("{NUMBERS} LIMIT 5000"), patient).await.unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.next_batch().await.unwrap() {
        rows += batch.len();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(rows, 5000);
    // Longer than any clock goes on.
    let ever = ReadOptions { idle_timeout: Some(Duration::MAX), ..local(Duration::MAX) };
    let stream = begin("SELECT 1", ever.clone()).await.unwrap();
    assert_eq!(sum(&stream, 1).await.unwrap(), (1, 1));
    node.query_with("SELECT 1".into(), ever).await.unwrap();
    let write = WriteOptions { timeout: Some(Duration::MAX) };
    node.execute_with("INSERT INTO t VALUES (1)".into(), write).await.unwrap();
    // But nobody may stay away for ever.
    let options = ReadOptions { idle_timeout: Some(Duration::from_millis(100)), ..local(PATIENCE) };
    let stream = begin(NUMBERS, options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = sum(&stream, 1000).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_STREAM_IDLE"));
    assert!(stream.next_batch().await.unwrap().is_none(), "after an error nothing comes");
    node.close().await.unwrap();
}

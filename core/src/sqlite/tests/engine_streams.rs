//! Streams, the places of reads, and what ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::cancel::Cancel;
use crate::error::ErrorKind;
use crate::sqlite::read::readers::Readers;
use crate::sqlite::read::stream::{Pace, RowSource};
use crate::statement::Rows;

/// Counts for longer than anybody waits.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";
/// So many rows that no consumer gets them all.
const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT i FROM n";

const PATIENCE: Duration = Duration::from_secs(60);

const PACE: Pace = Pace { batch: PATIENCE, idle: PATIENCE };

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn readers(engine: &Engine, places: usize) -> Readers {
    Readers::with_places(&engine.path, Arc::new(AtomicU64::new(7)), places)
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

async fn open(readers: &Readers, sql: &str) -> crate::Result<RowSource> {
    readers.stream(sql.into(), PACE, soon(), &Cancel::new(), ()).await
}

async fn next(rows: &mut RowSource) -> crate::Result<Option<Rows>> {
    std::future::poll_fn(|cx| rows.poll_next(cx)).await.transpose()
}

#[tokio::test]
async fn a_stream_gives_all_rows_in_order_and_in_pieces() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    let limited = format!("{NUMBERS} LIMIT 25000");
    let mut rows = open(&readers, &limited).await.unwrap();
    assert_eq!((&rows.columns()[..], rows.index()), (&["i".to_string()][..], 7));
    let mut seen = 0;
    while let Some(batch) = next(&mut rows).await.unwrap() {
        assert!(!batch.is_empty() && batch.len() <= 1000);
        for row in batch.iter() {
            seen += 1;
            assert_eq!(row[0], Value::Integer(seen));
        }
    }
    assert_eq!(seen, 25_000);
    assert!(next(&mut rows).await.unwrap().is_none(), "it stays at its end");
    // Its connection went back to the others.
    wait_until(|| readers.running() == 0);
    assert_eq!(readers.idle(), 1);
    // Large values make small batches.
    let large = format!("SELECT i, zeroblob(400000) AS b FROM ({NUMBERS} LIMIT 20)");
    let mut rows = open(&readers, &large).await.unwrap();
    let mut seen = 0;
    while let Some(batch) = next(&mut rows).await.unwrap() {
        assert!(batch.len() <= 3, "{}", batch.len());
        seen += batch.len();
    }
    assert_eq!(seen, 20);
    // Nothing, and errors.
    let mut none = open(&readers, "SELECT 1 AS a, 2 AS b WHERE 0").await.unwrap();
    assert_eq!(none.columns().len(), 2);
    assert!(next(&mut none).await.unwrap().is_none());
    assert_eq!(open(&readers, "SELECT x").await.map(drop).unwrap_err().code(), "SQLITE_ERROR");
    let write = open(&readers, "CREATE TABLE t(a)").await.map(drop).unwrap_err();
    assert_eq!(write.code(), "FORBIDDEN_WRITE_IN_QUERY");
    let late = format!(
        "SELECT CASE WHEN i < 3000 THEN i ELSE abs(-9223372036854775808) END FROM ({NUMBERS})"
    );
    let mut rows = open(&readers, &late).await.unwrap();
    let mut seen = 0;
    let error = loop {
        match next(&mut rows).await {
            Ok(batch) => seen += batch.expect("an error before the end").len(),
            Err(error) => break error,
        }
    };
    assert!(seen >= 2000 && error.message().contains("integer overflow"), "{seen} {error}");
    assert!(next(&mut rows).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_reads_one_state_whatever_is_written_meanwhile() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    engine.run(format!("INSERT INTO t {NUMBERS} LIMIT 20000").as_str());
    let readers = readers(&engine, 4);
    let mut rows = open(&readers, "SELECT a FROM t").await.unwrap();
    let mut sum = 0;
    while let Some(batch) = next(&mut rows).await.unwrap() {
        engine.run("UPDATE t SET a = -a");
        engine.run("DELETE FROM t WHERE rowid % 7 = 0");
        sum += batch.iter().map(|row| row[0].as_i64().unwrap()).sum::<i64>();
    }
    assert_eq!(sum, 20_000 * 20_001 / 2);
}

#[tokio::test]
async fn a_stream_that_is_dropped_or_cancelled_ends_at_once() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    // Its consumer takes its time, or SQLite does.
    for sql in [
        NUMBERS,
        "SELECT 1 UNION ALL SELECT max(i) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)",
    ] {
        let cancel = Cancel::new();
        let rows = readers.stream(sql.into(), PACE, soon(), &cancel, ());
        let Ok(mut rows) = tokio::time::timeout(Duration::from_millis(200), rows).await else {
            // The second one gives nothing: to stop waiting for it ends it.
            wait_until(|| readers.running() == 0);
            continue;
        };
        let rows = rows.as_mut().unwrap();
        next(rows).await.unwrap();
        assert_eq!(readers.running(), 1);
        cancel.cancel();
        wait_until(|| readers.running() == 0);
        let error = loop {
            match next(rows).await {
                Ok(batch) => assert!(batch.is_some(), "an end without an error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), "CANCELLED");
    }
    let rows = open(&readers, NUMBERS).await.unwrap();
    assert_eq!(readers.running(), 1);
    drop(rows);
    wait_until(|| readers.running() == 0);
}

#[tokio::test]
async fn a_stream_gives_way_to_a_checkpoint_that_cannot_wait() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    let mut rows = open(&readers, NUMBERS).await.unwrap();
    next(&mut rows).await.unwrap();
    // Soon it waits for its consumer.
    tokio::time::sleep(Duration::from_millis(200)).await;
    // A checkpoint that would not interrupt it does not even hold others back.
    let begin = Instant::now();
    assert!(readers.gate_within(PATIENCE, false).is_none());
    assert!(begin.elapsed() < PATIENCE / 2);
    let gate = readers.gate_within(Duration::ZERO, true).expect("the stream makes way");
    drop(gate);
    let error = loop {
        match next(&mut rows).await {
            Ok(batch) => assert!(batch.is_some(), "an end without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_INTERRUPTED"));
    assert!(error.retryable());
    readers.query(&"SELECT 1".into(), soon()).unwrap();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_gives_its_snapshot_up() {
    let engine = Engine::new();
    let readers = readers(&engine, 1);
    let pace = Pace { batch: PATIENCE, idle: Duration::from_millis(200) };
    let begin = Instant::now();
    let mut rows = readers.stream(NUMBERS.into(), pace, soon(), &Cancel::new(), ()).await.unwrap();
    // As long as somebody asks now and then, it goes on.
    for _ in 0..10 {
        assert!(next(&mut rows).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begin.elapsed() > 2 * pace.idle);
    wait_until(|| readers.running() == 0);
    // Its place is free, too.
    let small = open(&readers, "SELECT 1").await.map(drop);
    small.unwrap();
    let error = loop {
        match next(&mut rows).await {
            Ok(batch) => assert!(batch.is_some(), "an end without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_STREAM_IDLE"));
    assert!(error.message().contains("0.2 seconds"), "{error}");
}

#[tokio::test]
async fn streams_have_places_of_their_own_and_say_when_there_is_none() {
    let engine = Engine::new();
    let readers = readers(&engine, 2);
    let mut held =
        vec![open(&readers, NUMBERS).await.unwrap(), open(&readers, NUMBERS).await.unwrap()];
    let late = Instant::now() + Duration::from_millis(50);
    let error = readers.stream("SELECT 1".into(), PACE, late, &Cancel::new(), ()).await;
    let error = error.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_STREAMS"));
    assert!(error.message().starts_with("2 streams are open"), "{error}");
    // Everybody else goes on.
    let place = readers.place(soon()).await.unwrap();
    readers.read(&"SELECT 1".into(), soon(), &Cancel::new(), place).unwrap();
    let waiting = tokio::spawn({
        let readers = readers.clone();
        async move { open(&readers, "SELECT 1").await.map(drop) }
    });
    tokio::task::yield_now().await;
    held.pop();
    waiting.await.unwrap().unwrap();
    // One that was read to its last batch holds nothing, though nobody has taken that yet.
    let _small = open(&readers, "SELECT 1").await.unwrap();
    let _another = open(&readers, "SELECT 1").await.unwrap();
    open(&readers, "SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_wait_for_a_place_and_the_first_to_come_is_the_first_to_go() {
    let engine = Engine::new();
    let readers = readers(&engine, 2);
    let held = vec![readers.try_place().unwrap(), readers.try_place().unwrap()];
    assert!(readers.try_place().is_none());
    let error = readers.place(Instant::now() + Duration::from_millis(20)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_QUEUE"));
    assert!(error.retryable() && error.message().contains("2 reads run at once"), "{error}");
    let order = Arc::new(AtomicU64::new(0));
    let mut waiting = Vec::new();
    for i in 0..20 {
        let mut place = Box::pin({
            let readers = readers.clone();
            async move { readers.place(soon()).await }
        });
        // In line now.
        assert!(futures_util::poll!(&mut place).is_pending());
        let order = order.clone();
        waiting.push(async move {
            let place = place.await.unwrap();
            assert_eq!(order.fetch_add(1, Ordering::SeqCst), i, "nobody overtakes");
            drop(place);
        });
    }
    drop(held);
    // Who comes now is behind them.
    assert!(readers.try_place().is_none());
    futures_util::future::join_all(waiting).await;
    assert!(readers.try_place().is_some());
}

#[test]
fn a_read_is_ended_from_outside_and_says_by_what() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    let begin = |cancel: &Cancel| {
        let (readers, cancel) = (readers.clone(), cancel.clone());
        thread::spawn(move || {
            let place = readers.wait_for_place();
            readers.read(&ENDLESS.into(), soon(), &cancel, place)
        })
    };
    let cancel = Cancel::new();
    let read = begin(&cancel);
    wait_until(|| readers.running() == 1);
    cancel.cancel();
    assert_eq!(read.join().unwrap().unwrap_err().code(), "CANCELLED");
    // Also before it begins, while a gate holds it back, and by whom it asks.
    assert_eq!(begin(&cancel).join().unwrap().unwrap_err().code(), "CANCELLED");
    let (gate, cancel) = (readers.gate(), Cancel::new());
    let read = begin(&cancel);
    cancel.cancel();
    assert_eq!(read.join().unwrap().unwrap_err().code(), "CANCELLED");
    drop(gate);
    let asked = Arc::new(AtomicU64::new(0));
    let cancel = Cancel::asking({
        let asked = asked.clone();
        move || asked.fetch_add(1, Ordering::SeqCst) < 3
    });
    let begun = Instant::now();
    assert_eq!(begin(&cancel).join().unwrap().unwrap_err().code(), "CANCELLED");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // The end of the pool ends all.
    let read = begin(&Cancel::new());
    wait_until(|| readers.running() == 1);
    readers.close();
    assert_eq!(readers.running(), 0, "close waits for them");
    assert_eq!(read.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_read_within_a_read_leaves_it_as_it_was() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    let inner = Arc::new(AtomicU64::new(0));
    // A signal's handler may read, too.
    let cancel = Cancel::asking({
        let (readers, inner) = (readers.clone(), inner.clone());
        move || {
            readers.query(&"SELECT 1".into(), soon()).unwrap();
            inner.fetch_add(1, Ordering::SeqCst) < 2
        }
    });
    let place = readers.try_place().unwrap();
    let error = readers.read(&ENDLESS.into(), soon(), &cancel, place).unwrap_err();
    assert_eq!((error.code(), inner.load(Ordering::SeqCst)), ("CANCELLED", 3));
}

/// One instruction may take long: an interrupt is seen between two of them, a deadline now and then.
#[test]
fn reads_of_slow_instructions_end_in_time() {
    let engine = Engine::new();
    let readers = readers(&engine, 4);
    // Each comparison takes milliseconds.
    let slow = format!(
        "SELECT count(*) FROM ({NUMBERS} LIMIT 100000) \
         WHERE hex(zeroblob(1000000 + i)) LIKE '%x%'"
    );
    let cancel = Cancel::new();
    let read = thread::spawn({
        let (readers, cancel, slow) = (readers.clone(), cancel.clone(), slow.clone());
        move || {
            let place = readers.try_place().unwrap();
            readers.read(&slow.as_str().into(), soon(), &cancel, place)
        }
    });
    thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    cancel.cancel();
    assert_eq!(read.join().unwrap().unwrap_err().code(), "CANCELLED");
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(100);
    assert_eq!(readers.query(&slow.as_str().into(), deadline).unwrap_err().code(), "TIMEOUT");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

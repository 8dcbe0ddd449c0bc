//! The pool of readers: what they may do, deadlines, and the gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::cancel::Cancel;
use crate::error::ErrorKind;
use crate::params;
use crate::sqlite::read::readers::Readers;

/// Counts for longer than anybody waits.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn readers(engine: &Engine) -> Readers {
    Readers::new(&engine.path, Arc::new(AtomicU64::new(0)))
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

#[test]
fn reads_see_what_is_committed_and_say_which_index() {
    let engine = Engine::new();
    let applied = Arc::new(AtomicU64::new(0));
    let readers = Readers::new(&engine.path, applied.clone());
    engine.run("CREATE TABLE t(a)");
    for i in 1..=3_i64 {
        engine.run(("INSERT INTO t VALUES (?)", params![i]));
        applied.store(i as u64, Ordering::Release);
        let (rows, index) = readers.query(&"SELECT max(a) FROM t".into(), soon()).unwrap();
        assert_eq!((rows.values(), index), (&[vec![Value::Integer(i)]][..], i as u64));
    }
    assert_eq!(readers.idle(), 1, "one connection served them all");
}

#[test]
fn queries_only_read() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    engine.run("CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)");
    let readers = readers(&engine);
    for (sql, code) in [
        ("INSERT INTO t VALUES (1)", "FORBIDDEN_WRITE_IN_QUERY"),
        ("INSERT INTO t VALUES (1) RETURNING a", "FORBIDDEN_WRITE_IN_QUERY"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "FORBIDDEN_WRITE_IN_QUERY"),
        ("INSERT INTO r VALUES (1, 0, 1)", "FORBIDDEN_WRITE_IN_QUERY"),
        ("CREATE TABLE u(a)", "FORBIDDEN_WRITE_IN_QUERY"),
        ("DROP TABLE t", "FORBIDDEN_WRITE_IN_QUERY"),
        ("ALTER TABLE t RENAME TO u", "FORBIDDEN_WRITE_IN_QUERY"),
        ("CREATE INDEX i ON t(a)", "FORBIDDEN_WRITE_IN_QUERY"),
        ("REINDEX", "FORBIDDEN_WRITE_IN_QUERY"),
        ("ANALYZE", "FORBIDDEN_WRITE_IN_QUERY"),
        ("CREATE TEMP TABLE x(a)", "FORBIDDEN_TEMP"),
        ("BEGIN", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("SAVEPOINT a", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("ATTACH 'x' AS y", "FORBIDDEN_ATTACH"),
        ("VACUUM", "FORBIDDEN_VACUUM"),
        ("PRAGMA query_only = OFF", "FORBIDDEN_PRAGMA"),
        ("PRAGMA user_version = 1", "FORBIDDEN_PRAGMA"),
        ("PRAGMA journal_mode = DELETE", "FORBIDDEN_PRAGMA"),
        ("PRAGMA wal_checkpoint", "FORBIDDEN_PRAGMA"),
        ("SELECT load_extension('x')", "FORBIDDEN_FUNCTION"),
    ] {
        let error = readers.query(&sql.into(), soon()).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, code), "{sql}: {error}");
    }
    engine.run("INSERT INTO r VALUES (1, 0, 1)");
    for sql in [
        "SELECT sqlite_version(), datetime('now', 'localtime'), random(), total_changes()",
        "SELECT * FROM r WHERE x0 < 5",
        "SELECT count(*) FROM dbstat",
        "SELECT * FROM pragma_table_info('t')",
        "PRAGMA integrity_check",
        "PRAGMA table_list",
        "PRAGMA user_version",
        "PRAGMA compile_options",
        "EXPLAIN SELECT * FROM t",
        "SELECT * FROM _quorumlite_meta",
        "VALUES (1)",
    ] {
        readers.query(&sql.into(), soon()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn full_text_search_works_on_readers() {
    let engine = Engine::new();
    engine.run("CREATE VIRTUAL TABLE f USING fts5(a)");
    engine.run("INSERT INTO f VALUES ('hello world')");
    let readers = readers(&engine);
    for round in 1..=2 {
        for sql in [
            "SELECT highlight(f, 0, '[', ']') FROM f WHERE f MATCH 'world' ORDER BY rank",
            "SELECT snippet(f, 0, '[', ']', '', 9) FROM f WHERE f MATCH 'world'",
        ] {
            let (rows, _) = readers.query(&sql.into(), soon()).unwrap();
            assert_eq!(rows.values(), vec![vec![text("hello [world]")]; round], "{sql}");
        }
        // The reader must notice that the index has changed.
        engine.run("INSERT INTO f VALUES ('hello world')");
    }
}

#[test]
fn a_read_ends_at_its_deadline() {
    let engine = Engine::new();
    let readers = readers(&engine);
    let begin = Instant::now();
    let error = readers.query(&ENDLESS.into(), begin + Duration::from_millis(50)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout, "TIMEOUT"));
    assert!(begin.elapsed() >= Duration::from_millis(50));
    assert_eq!(readers.running(), 0);
    readers.query(&"SELECT 1".into(), soon()).unwrap();
}

#[test]
fn a_gate_holds_new_reads_back_until_it_goes() {
    let engine = Engine::new();
    let readers = readers(&engine);
    readers.query(&"SELECT 1".into(), soon()).unwrap();
    let gate = readers.gate();
    let error =
        readers.query(&"SELECT 1".into(), Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.code(), "TIMEOUT");
    readers.close_idle();
    assert_eq!(readers.idle(), 0);
    let second = readers.gate();
    drop(gate);
    let waiting = thread::spawn({
        let readers = readers.clone();
        move || readers.query(&"SELECT 1".into(), soon()).map(|(rows, _)| rows.len())
    });
    drop(second);
    assert_eq!(waiting.join().unwrap().unwrap(), 1);
}

#[test]
fn a_gate_gives_up_or_interrupts() {
    let engine = Engine::new();
    let readers = readers(&engine);
    let endless = thread::spawn({
        let readers = readers.clone();
        move || readers.query(&ENDLESS.into(), soon())
    });
    wait_until(|| readers.running() == 1);
    assert!(readers.gate_within(Duration::from_millis(20), false).is_none());
    assert_eq!(readers.running(), 1, "it was left alone");
    readers.query(&"SELECT 1".into(), soon()).unwrap();
    let gate = readers.gate_within(Duration::from_millis(5), true).unwrap();
    assert_eq!(readers.running(), 0);
    drop(gate);
    // The interrupted read begins again by itself; the second time it is told.
    wait_until(|| readers.running() == 1);
    drop(readers.gate_within(Duration::ZERO, true).unwrap());
    let error = endless.join().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_READ_INTERRUPTED"));
    assert!(error.retryable());
    readers.query(&"SELECT 1".into(), soon()).unwrap();
}

#[test]
fn many_threads_read_while_a_writer_writes_and_gates_come_and_go() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    engine.run("INSERT INTO t VALUES (0, 0)");
    let readers = readers(&engine);
    let threads: Vec<_> = (0..12)
        .map(|_| {
            let readers = readers.clone();
            thread::spawn(move || {
                for _ in 0..200 {
                    let (rows, _) = readers.query(&"SELECT a, b FROM t".into(), soon()).unwrap();
                    let row = rows.get(0).unwrap();
                    assert_eq!(row[0], row[1], "a transaction shows as a whole");
                }
            })
        })
        .collect();
    for i in 1..=100_i64 {
        engine.conn.execute_batch("BEGIN").unwrap();
        engine.run(("UPDATE t SET a = ?", params![i]));
        engine.run(("UPDATE t SET b = ?", params![i]));
        engine.conn.execute_batch("COMMIT").unwrap();
        if i % 10 == 0 {
            let _gate = readers.gate();
            assert_eq!(readers.running(), 0);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(readers.running(), 0);
}

#[test]
fn a_closed_pool_says_so() {
    let engine = Engine::new();
    let readers = readers(&engine);
    readers.query(&"SELECT 1".into(), soon()).unwrap();
    let gate = readers.gate();
    let waiting = thread::spawn({
        let readers = readers.clone();
        move || readers.query(&"SELECT 1".into(), soon())
    });
    readers.close();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    drop(gate);
    assert_eq!(readers.query(&"SELECT 1".into(), soon()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(readers.idle(), 0);
}

#[test]
fn work_that_leaves_a_transaction_open_does_not_spoil_the_pool() {
    let engine = Engine::new();
    let readers = readers(&engine);
    readers
        .with_connection(soon(), &Cancel::new(), |conn| {
            conn.execute_batch("BEGIN").map_err(crate::sqlite::error::internal)
        })
        .unwrap();
    assert_eq!((readers.idle(), readers.running()), (0, 0));
}

/// SQLite compiles with the schema that a connection read last, and tells of some errors without
/// asking whether the schema has changed since.
#[test]
fn a_query_is_compiled_with_the_current_schema() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    engine.run("CREATE TABLE s(a, c)");
    let readers = readers(&engine);
    let join = "SELECT a, b FROM t LEFT JOIN s USING (a, b)".into();
    assert_eq!(readers.query(&join, soon()).unwrap_err().code(), "SQLITE_ERROR");
    engine.run("ALTER TABLE s RENAME COLUMN c TO b");
    engine.run("INSERT INTO t VALUES (1, 2)");
    assert_eq!(readers.query(&join, soon()).unwrap().0.values(), [[1.into(), 2.into()]]);
}

//! Gathering the writes to SQLite's write-ahead log changes nothing of what is in it.

use super::*;
use crate::value::Value;

/// A cache so small that a transaction writes pages to the log before it ends, reads them back, and
/// writes some of them there again.
#[test]
fn a_transaction_larger_than_the_cache_is_whole() {
    let engine = Engine::new();
    engine.conn.execute_batch("PRAGMA cache_size = 10").unwrap();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
    engine.run("CREATE INDEX ta ON t(a)");
    for round in 0..3 {
        engine.conn.execute_batch("BEGIN").unwrap();
        engine.run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4000) \
             INSERT INTO t(a, b) SELECT random(), hex(randomblob(100)) FROM n",
        );
        engine.run("UPDATE t SET b = b || 'x', a = a + 1 WHERE id % 7 = 0");
        engine.run("DELETE FROM t WHERE id % 5 = 0");
        let sum = engine.one("SELECT sum(length(b)) || ' ' || total(a) FROM t");
        let count = || -> i64 {
            engine.reader().query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap()
        };
        let before = count();
        if round == 1 {
            engine.conn.execute_batch("ROLLBACK").unwrap();
            assert_eq!(count(), before);
        } else {
            engine.conn.execute_batch("COMMIT").unwrap();
            let reader = engine.reader();
            let seen: String = reader
                .query_row("SELECT sum(length(b)) || ' ' || total(a) FROM t", [], |r| r.get(0))
                .unwrap();
            assert_eq!(Value::from(seen), sum);
        }
        let check: String =
            engine.reader().query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
    // What a restart finds: the log is read from its beginning, checksums and all.
    let Engine { conn, path, _dir } = engine;
    let copy = _dir.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(path.with_extension("replica-wal"), _dir.path().join("copy-wal")).unwrap();
    let count: i64 = conn.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    let restarted = open_writer(&copy).unwrap();
    let again: i64 = restarted.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(again, count);
    assert!(count > 5000, "{count}");
}

/// A crash leaves frames of a transaction without its end. Recovery reads them, and the next
/// transaction goes over them: wherever it ends, its last frame must be in the file.
#[test]
fn a_transaction_over_the_remains_of_another_is_whole() {
    const FRAME: u64 = 24 + 4096;
    for left in 1..6 {
        let engine = Engine::new();
        engine.run("CREATE TABLE t(a)");
        let wal = engine.path.with_extension("replica-wal");
        // All that is committed is in the main file: after recovery nothing else is read of the log.
        engine.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let begun = 32;
        engine.run("INSERT INTO t VALUES (zeroblob(60000))");
        for pages in 1..8u64 {
            let dir = tempfile::tempdir().unwrap();
            let copy = dir.path().join("copy");
            let copy_wal = dir.path().join("copy-wal");
            std::fs::copy(&engine.path, &copy).unwrap();
            std::fs::copy(&wal, &copy_wal).unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&copy_wal).unwrap();
            file.set_len(begun + left * FRAME).unwrap();
            let conn = open_writer(&copy).unwrap();
            let blob = vec![7; usize::try_from(pages * 4080).unwrap()];
            conn.execute("INSERT INTO t VALUES (?1)", [&blob]).unwrap();

            let again = tempfile::tempdir().unwrap();
            let path = again.path().join("again");
            std::fs::copy(&copy, &path).unwrap();
            std::fs::copy(&copy_wal, again.path().join("again-wal")).unwrap();
            let restarted = open_writer(&path).unwrap();
            let found: Vec<u8> = restarted.query_row("SELECT a FROM t", [], |r| r.get(0)).unwrap();
            assert_eq!(found, blob, "{left} frames left, {pages} pages");
        }
    }
}

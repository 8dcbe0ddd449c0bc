//! EXPLAIN and PRAGMA in a query: they look, at what there is now.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::*;
use crate::error::ErrorKind;
use crate::sqlite::read::readers::Readers;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// All that a query answers, as one text.
fn shown(readers: &Readers, sql: &str) -> String {
    let rows = readers.query(&sql.into(), soon()).unwrap_or_else(|e| panic!("{sql}: {e}")).0;
    format!("{:?}", rows.values())
}

#[test]
fn explain_shows_the_plan_of_the_schema_of_now() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    let readers = Readers::new(&engine.path, Arc::new(AtomicU64::new(0)));
    let queries = [
        "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 1",
        " /* why */ explain query plan SELECT * FROM t WHERE a = 1",
        "EXPLAIN QUERY PLAN UPDATE t SET b = 1 WHERE a = 1",
    ];
    for sql in queries {
        assert!(shown(&readers, sql).contains("SCAN t"), "{sql}");
    }
    let program = shown(&readers, "EXPLAIN SELECT * FROM t WHERE a = 1");
    // Twice: the statement may be found compiled, and the connection may have seen the schema.
    for (create, drop) in [("CREATE INDEX i ON t(a)", "DROP INDEX i"); 2] {
        engine.run(create);
        for sql in queries {
            assert!(shown(&readers, sql).contains("USING INDEX i"), "{sql}: after {create}");
        }
        assert_ne!(shown(&readers, "EXPLAIN SELECT * FROM t WHERE a = 1"), program);
        engine.run(drop);
        for sql in queries {
            assert!(shown(&readers, sql).contains("SCAN t"), "{sql}: after {drop}");
        }
    }
    // A table that another connection made or dropped.
    engine.run("CREATE TABLE later(a)");
    assert!(shown(&readers, "EXPLAIN QUERY PLAN SELECT * FROM later").contains("SCAN later"));
    engine.run("DROP TABLE later");
    let gone = readers.query(&"EXPLAIN QUERY PLAN SELECT * FROM later".into(), soon());
    assert_eq!(gone.unwrap_err().code(), "SQLITE_ERROR");
}

#[test]
fn explaining_a_write_is_a_read_and_writes_nothing() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a PRIMARY KEY, b)");
    engine.run("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t WHERE b = new.b; END");
    engine.run("CREATE VIEW v AS SELECT a FROM t");
    engine.run("CREATE VIRTUAL TABLE f USING fts5(body)");
    engine.run("CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)");
    engine.run("INSERT INTO t VALUES (1, 2)");
    let before =
        (engine.values("SELECT * FROM t"), engine.values("SELECT name FROM sqlite_schema"));
    let readers = Readers::new(&engine.path, Arc::new(AtomicU64::new(0)));
    for write in [
        "INSERT INTO t VALUES (3, 4)",
        "INSERT INTO t SELECT a + 1, b FROM t RETURNING a",
        "REPLACE INTO t VALUES (1, 1)",
        "UPDATE t SET b = 9 WHERE a = 1",
        "DELETE FROM t",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "INSERT INTO f VALUES ('x')",
        "INSERT INTO r VALUES (1, 0, 1)",
        "CREATE TABLE u(a)",
        "CREATE TABLE u AS SELECT * FROM t",
        "CREATE INDEX i ON t(b)",
        "CREATE VIEW w AS SELECT 1",
        "CREATE TRIGGER h AFTER DELETE ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE g USING fts5(x)",
        "DROP TABLE t",
        "DROP TABLE f",
        "DROP VIEW v",
        "DROP TRIGGER g",
        "ALTER TABLE t ADD COLUMN c",
        "ALTER TABLE t RENAME TO u",
        "REINDEX",
        "ANALYZE",
    ] {
        let program = shown(&readers, &format!("EXPLAIN {write}"));
        assert!(program.contains("Halt"), "{write}: {program}");
        readers.query(&format!("EXPLAIN QUERY PLAN {write}").into(), soon()).unwrap();
        // Without EXPLAIN it is what it was: also where the text before it was explained.
        let error = readers.query(&write.into(), soon()).unwrap_err();
        assert_eq!(error.code(), "FORBIDDEN_WRITE_IN_QUERY", "{write}");
    }
    let after = (engine.values("SELECT * FROM t"), engine.values("SELECT name FROM sqlite_schema"));
    assert_eq!(before, after);
}

#[test]
fn what_may_not_run_may_not_be_explained_either() {
    let engine = Engine::new();
    let readers = Readers::new(&engine.path, Arc::new(AtomicU64::new(0)));
    for (sql, code) in [
        ("EXPLAIN BEGIN", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("EXPLAIN SAVEPOINT a", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("EXPLAIN ATTACH 'x' AS y", "FORBIDDEN_ATTACH"),
        ("EXPLAIN CREATE TEMP TABLE x(a)", "FORBIDDEN_TEMP"),
        ("EXPLAIN CREATE TABLE _quorumlite_x(a)", "FORBIDDEN_INTERNAL_TABLE"),
        ("EXPLAIN DROP TABLE _quorumlite_meta", "FORBIDDEN_INTERNAL_TABLE"),
        ("EXPLAIN CREATE VIRTUAL TABLE d USING dbstat", "FORBIDDEN_MODULE"),
        ("EXPLAIN SELECT load_extension('x')", "FORBIDDEN_FUNCTION"),
        // A pragma acts while it is compiled.
        ("EXPLAIN PRAGMA query_only = OFF", "FORBIDDEN_PRAGMA"),
        ("EXPLAIN QUERY PLAN PRAGMA user_version = 1", "FORBIDDEN_PRAGMA"),
        ("EXPLAIN PRAGMA journal_mode = DELETE", "FORBIDDEN_PRAGMA"),
        ("EXPLAIN PRAGMA writable_schema = ON", "FORBIDDEN_PRAGMA"),
    ] {
        let error = readers.query(&sql.into(), soon()).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, code), "{sql}: {error}");
    }
    // And nothing of them was left behind.
    assert_eq!(shown(&readers, "PRAGMA user_version"), "[[Integer(0)]]");
    assert_eq!(shown(&readers, "PRAGMA journal_mode"), "[[Text(\"wal\")]]");
}

#[test]
fn a_pragma_that_only_looks_is_answered_by_a_query() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let readers = Readers::new(&engine.path, Arc::new(AtomicU64::new(0)));
    for name in crate::sqlite::determinism::authorizer::LOCAL_PRAGMAS {
        let sql = format!("PRAGMA {name}");
        readers.query(&sql.as_str().into(), soon()).unwrap_or_else(|e| panic!("{sql}: {e}"));
        readers.query(&format!("PRAGMA main.{name}").into(), soon()).unwrap();
        // To execute it sends nobody to and fro: what it refuses it sends to query.
        if let Err(Failure::Statement(error)) = engine.try_run(sql.as_str()) {
            assert!(error.message().contains("query()"), "{sql}: {error}");
        }
    }
}

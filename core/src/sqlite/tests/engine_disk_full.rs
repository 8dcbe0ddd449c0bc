//! A full disk stops the node; a full table is the statement's failure.

use super::*;
use crate::error::ErrorKind;
use crate::sqlite::storage::disk_full;

#[test]
fn autoincrement_at_its_end_is_the_statements_failure() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)");
    engine.run("INSERT INTO t(a) VALUES (1)");
    engine.run("UPDATE sqlite_sequence SET seq = 9223372036854775807");
    let error = engine.refused("INSERT INTO t(a) VALUES (2)");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, "SQLITE_FULL"));
    engine.run("UPDATE sqlite_sequence SET seq = 1");
    assert_eq!(engine.run("INSERT INTO t(a) VALUES (2)").last_insert_rowid, 2);
}

#[test]
fn a_full_disk_is_the_nodes_trouble() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    disk_full::pretend(true);
    let outcome = engine.try_run("INSERT INTO t VALUES (1)");
    disk_full::pretend(false);
    match outcome {
        Err(Failure::Node(error)) => {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "SQLITE_FULL"));
            assert!(!error.retryable());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.one("SELECT count(*) FROM t"), Value::Integer(0));
    engine.run("INSERT INTO t VALUES (1)");
}

//! Entries whose commands were taken back, and what is compiled before it is proposed.

use std::time::{Duration, Instant};

use super::state_support::*;
use crate::error::ErrorKind;
use crate::sqlite::apply::writer::{Entry, EntryKind};

const BAD: u128 = 7 << 64;

/// A table, a command that is voided, one that is not, and the decision.
fn log() -> Vec<Entry> {
    vec![
        entry(1, vec![command(1, 1, 0, &["CREATE TABLE t(v)"])]),
        entry(
            2,
            vec![
                command(BAD, 1, 0, &["INSERT INTO t VALUES (1)"]),
                command(BAD, 2, 0, &["INSERT INTO t VALUES (2)"]),
            ],
        ),
        entry(3, vec![command(1, 2, 0, &["INSERT INTO t VALUES (3)"])]),
        Entry { position: at(4), kind: EntryKind::Void(2) },
    ]
}

#[test]
fn a_voided_entry_is_skipped_alike_however_it_is_met() {
    let mut together = Replica::new();
    together.writer.void(2);
    let results = together.writer.apply(log()).unwrap();
    assert_eq!(results[1].len(), 2);
    for result in &results[1] {
        assert_eq!(code(result), "COMMAND_VOIDED");
        assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Sql);
    }
    let mut one_by_one = Replica::new();
    for entry in log() {
        one_by_one.writer.void(2);
        one_by_one.apply(entry);
        one_by_one = one_by_one.reopen();
    }
    assert_eq!(together.state(), one_by_one.state());
    assert_eq!(together.count("t"), 1);
    assert_eq!(one_by_one.writer.applied().voided, [2]);
    together.check_memory();
    // Decided twice, and known again.
    one_by_one.writer.void(2);
    one_by_one.apply(Entry { position: at(5), kind: EntryKind::Void(2) });
}

#[test]
fn who_sent_a_voided_command_again_gets_the_same_answer() {
    let mut replica = Replica::new();
    replica.writer.void(2);
    replica.writer.apply(log()).unwrap();
    let mut replica = replica.reopen();
    let again = replica.apply(entry(5, vec![command(BAD, 2, 0, &["INSERT INTO t VALUES (2)"])]));
    assert_eq!(code(&again[0]), "COMMAND_VOIDED");
    assert_eq!(replica.count("t"), 1);
    // With an identity of its own it is another write.
    replica.apply(entry(6, vec![command(BAD, 3, 0, &["INSERT INTO t VALUES (2)"])]));
    assert_eq!(replica.count("t"), 2);
}

#[test]
fn a_replica_that_has_applied_what_is_voided_stops() {
    let mut replica = Replica::new();
    let error = replica.writer.apply(log()).unwrap_err();
    assert_eq!(error.code(), "CORRUPTION_VOIDED");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    // That is no reason to halt: it stops again, each time.
    for _ in 0..3 {
        replica = replica.reopen();
        assert_eq!(replica.db.halted(), None);
        let from = replica.writer.applied().index() as usize;
        let error = replica.writer.apply(log().split_off(from)).unwrap_err();
        assert_eq!(error.code(), "CORRUPTION_VOIDED");
    }
}

fn preflight(replica: &Replica, sql: &[&str]) -> crate::Result<()> {
    let texts = replica.db.unknown_texts(sql.iter().copied());
    replica.db.preflight(&texts, Instant::now() + Duration::from_secs(60))
}

#[test]
fn a_text_is_compiled_once_until_the_schema_changes() {
    let mut replica = Replica::new();
    replica.execute(&["CREATE TABLE t(v)"]).unwrap();
    let unknown = |replica: &Replica, sql| replica.db.unknown_texts([sql, sql].into_iter()).len();
    let sql = "INSERT INTO t VALUES (?)";
    assert_eq!(unknown(&replica, sql), 1);
    preflight(&replica, &[sql]).unwrap();
    assert_eq!(unknown(&replica, sql), 0);
    replica.execute(&["CREATE VIEW v AS SELECT 1"]).unwrap();
    assert_eq!(unknown(&replica, sql), 1);
    // What is merely wrong, or what acts when it is compiled, is left to the replicas.
    preflight(&replica, &["INSERT INTO nowhere VALUES (1)", "not SQL", "SELECT", ""]).unwrap();
    assert_eq!(unknown(&replica, "PRAGMA soft_heap_limit(1)"), 0);
    assert_eq!(unknown(&replica, "EXPLAIN PRAGMA soft_heap_limit(1)"), 0);
}

/// Each view doubles the tables that it is made of.
#[test]
fn what_does_not_end_to_be_compiled_is_refused_before_it_is_proposed() {
    let mut replica = Replica::new();
    replica.execute(&["CREATE TABLE t(a)"]).unwrap();
    replica.execute(&["CREATE VIEW v0 AS SELECT a FROM t"]).unwrap();
    for n in 0..14 {
        let sql = format!("CREATE VIEW v{} AS SELECT x.a FROM v{n} x, v{n} y", n + 1);
        preflight(&replica, &[&sql]).unwrap();
        replica.execute(&[&sql]).unwrap();
    }
    preflight(&replica, &["INSERT INTO t SELECT a FROM v3"]).unwrap();
    let begun = Instant::now();
    let error = preflight(&replica, &["INSERT INTO t SELECT a FROM v14"]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, "SQL_TOO_COMPLEX"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

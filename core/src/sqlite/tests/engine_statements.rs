//! Binding, results, counters and error codes of single statements.

use super::*;
use crate::error::ErrorKind;
use crate::statement::Params;
use crate::{named_params, params};

#[test]
fn values_of_every_type_come_back_as_they_went_in() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    let values = vec![
        Value::Null,
        Value::Integer(i64::MAX),
        Value::Integer(i64::MIN),
        Value::Real(1.5e300),
        Value::Real(-0.0),
        text(""),
        text("žluťoučký 🐎 nul\0inside"),
        Value::Blob(vec![]),
        Value::Blob((0..=255).collect()),
        Value::Blob(vec![7; 1 << 20]),
    ];
    for value in &values {
        engine.run(Statement::new("INSERT INTO t VALUES (?)", vec![value.clone()]));
    }
    let rows = engine.values("SELECT a FROM t ORDER BY rowid");
    assert_eq!(rows.into_iter().flatten().collect::<Vec<_>>(), values);
    engine.run(("DELETE FROM t", ()));
    engine.run(("INSERT INTO t VALUES (?)", params![f64::NAN]));
    assert_eq!(engine.one("SELECT a FROM t"), Value::Null);
}

#[test]
fn parameters_must_match_the_statement() {
    let engine = Engine::new();
    assert_eq!(
        engine.run(("SELECT :a, @b, $c, :a", named_params! {"a": 1, "b": 2, "c": 3})).rows.values(),
        [[1, 2, 3, 1].map(|v: i64| Value::from(v))]
    );
    assert_eq!(
        engine.run(("SELECT ?2, ?1", params![1, 2])).rows.values(),
        [[2, 1].map(|v: i64| Value::from(v))]
    );
    let none = || Params::Named(vec![]);
    assert!(engine.try_run(("SELECT 1", none())).is_ok());
    let cases: Vec<(&str, Params, &str)> = vec![
        ("SELECT ?, ?", params![1], "takes 2 parameters, 1 were given"),
        ("SELECT ?", params![1, 2], "takes 1 parameters, 2 were given"),
        ("SELECT 1", params![1], "takes 0 parameters, 1 were given"),
        ("SELECT ?3", params![1], "takes 3 parameters, 1 were given"),
        ("SELECT ?", none(), "has no name"),
        ("SELECT ?1", named_params! {"1": 1}, "has no name"),
        ("SELECT :a", params![1], "give them by name"),
        ("SELECT :a", none(), "parameter a was not given"),
        ("SELECT :a", named_params! {"a": 1, "b": 2}, "parameter b was given"),
        ("SELECT :a", named_params! {"a": 1, "a": 2}, "given twice"),
        ("SELECT 1", named_params! {":a": 1}, "none of that name"),
        ("SELECT $2", params![1], "takes 2 parameters, 1 were given"),
        ("SELECT $99999999999999999999", params![1], "give them by name"),
        ("SELECT $9223372036854775807", params![1], "parameters, 1 were given"),
    ];
    for (sql, params, message) in cases {
        let error = engine.refused((sql, params));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, "SQL_PARAMETERS"), "{sql}");
        assert!(error.message().contains(message), "{sql}: {error}");
    }
}

#[test]
fn exactly_one_statement() {
    let engine = Engine::new();
    for sql in ["SELECT 1;", " ; SELECT 1 ; -- end", "/* a */ SELECT 1 /* b", "--x\nSELECT 1\n;;"] {
        assert_eq!(engine.one(sql), Value::Integer(1), "{sql}");
    }
    for sql in ["", "  ;; ", "-- nothing", "/* open", "/**/;"] {
        assert_eq!(engine.refused(sql).code(), "SQL_EMPTY", "{sql:?}");
    }
    assert_eq!(engine.refused("SELECT 1; SELECT 2").code(), "SQL_MULTIPLE_STATEMENTS");
    assert_eq!(engine.refused("SELECT 1\0; SELECT 2").code(), "SQL_NUL");
    assert_eq!(engine.refused("/* quorumlite */ SELECT 1").code(), "FORBIDDEN_STATEMENT");
}

#[test]
fn counters_say_what_the_statement_itself_did() {
    let engine = Engine::new();
    let outcome = |sql: &str| {
        let o = engine.run(sql);
        (o.rows_affected, o.last_insert_rowid)
    };
    assert_eq!(outcome("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)"), (0, 0));
    assert_eq!(outcome("CREATE TABLE u(id INTEGER PRIMARY KEY)"), (0, 0));
    assert_eq!(outcome("CREATE TABLE w(id PRIMARY KEY) WITHOUT ROWID"), (0, 0));
    assert_eq!(outcome("INSERT INTO t(a) VALUES (1), (2), (3)"), (3, 3));
    assert_eq!(outcome("CREATE TABLE v AS SELECT * FROM t"), (0, 0));
    assert_eq!(outcome("INSERT INTO u VALUES (3)"), (1, 3), "the same rowid in another table");
    assert_eq!(outcome("SELECT * FROM t"), (0, 0));
    assert_eq!(outcome("UPDATE t SET a = a + 10"), (3, 0));
    assert_eq!(outcome("INSERT INTO w VALUES (9)"), (1, 0));
    assert_eq!(outcome("INSERT INTO t VALUES (3, 0) ON CONFLICT DO UPDATE SET a = 1"), (1, 0));
    assert_eq!(outcome("INSERT OR IGNORE INTO t VALUES (3, 0)"), (0, 0));
    assert_eq!(outcome("DELETE FROM t WHERE id > 1"), (2, 0));
    assert_eq!(outcome("ALTER TABLE t ADD COLUMN b"), (0, 0));
    assert_eq!(outcome("REPLACE INTO t(id) VALUES (1)"), (1, 1));
    assert_eq!(outcome("CREATE VIEW x AS SELECT * FROM u"), (0, 0));
    engine.run("CREATE TRIGGER xi INSTEAD OF INSERT ON x BEGIN INSERT INTO u VALUES (new.id); END");
    assert_eq!(outcome("INSERT INTO x VALUES (70)").0, 0, "as sqlite3_changes() has it");
}

#[test]
fn a_batch_sees_its_own_last_insert_rowid() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY)");
    engine.run("CREATE TABLE child(parent)");
    engine.run("INSERT INTO t VALUES (41)");
    engine.run("INSERT INTO child VALUES (last_insert_rowid())");
    assert_eq!(engine.one("SELECT parent FROM child"), Value::Integer(41));
    engine.run("DELETE FROM child");
    assert_eq!(engine.one("SELECT changes()"), Value::Integer(1));
    execute::reset_connection_state(&engine.conn, true).unwrap();
    assert_eq!(engine.values("SELECT changes(), last_insert_rowid()"), [[0, 0].map(Value::from)]);
}

#[test]
fn returning_gives_rows_and_counters() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    let outcome = engine.run("INSERT INTO t(a) VALUES ('x'), ('y') RETURNING id, a AS letter");
    assert_eq!(outcome.rows.columns().as_ref(), ["id", "letter"]);
    assert_eq!(outcome.rows.values(), [[1.into(), text("x")], [2.into(), text("y")]]);
    assert_eq!((outcome.rows_affected, outcome.last_insert_rowid), (2, 2));
}

#[test]
fn cached_statements_follow_the_schema() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    engine.run("INSERT INTO t VALUES (1)");
    assert_eq!(engine.run("SELECT * FROM t").rows.columns().as_ref(), ["a"]);
    engine.run("ALTER TABLE t ADD COLUMN b DEFAULT 2");
    let rows = engine.run("SELECT * FROM t").rows;
    assert_eq!(rows.columns().as_ref(), ["a", "b"]);
    assert_eq!(rows.values(), [[1, 2].map(Value::from)]);
    engine.run("DELETE FROM t");
    assert_eq!(engine.run("SELECT * FROM t").rows.columns().as_ref(), ["a", "b"]);
    engine.run("DROP TABLE t");
    assert_eq!(engine.refused("SELECT * FROM t").code(), "SQLITE_ERROR");
}

#[test]
fn errors_carry_sqlites_extended_codes() {
    let engine = Engine::new();
    engine.run("CREATE TABLE p(id INTEGER PRIMARY KEY)");
    engine.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 0, c CHECK (c > 0), \
         f REFERENCES p)",
    );
    engine.run("CREATE TABLE s(a INTEGER) STRICT");
    engine.run("INSERT INTO t(id, u) VALUES (1, 1)");
    let constraint = [
        ("INSERT INTO t(id) VALUES (1)", "SQLITE_CONSTRAINT_PRIMARYKEY", 1555),
        ("INSERT INTO t(u) VALUES (1)", "SQLITE_CONSTRAINT_UNIQUE", 2067),
        ("INSERT INTO t(n) VALUES (NULL)", "SQLITE_CONSTRAINT_NOTNULL", 1299),
        ("INSERT INTO t(c) VALUES (0)", "SQLITE_CONSTRAINT_CHECK", 275),
        ("INSERT INTO t(f) VALUES (5)", "SQLITE_CONSTRAINT_FOREIGNKEY", 787),
        ("INSERT INTO s VALUES ('x')", "SQLITE_CONSTRAINT_DATATYPE", 3091),
    ];
    for (sql, code, number) in constraint {
        let error = engine.refused(sql);
        assert_eq!(
            (error.kind(), error.code(), error.sqlite_code()),
            (ErrorKind::Constraint, code, Some(number)),
            "{sql}: {error}"
        );
        assert!(!error.retryable());
    }
    let sql = [
        ("SELEC 1", "SQLITE_ERROR"),
        ("SELECT * FROM nowhere", "SQLITE_ERROR"),
        ("SELECT abs(-9223372036854775808)", "SQLITE_ERROR"),
        ("SELECT zeroblob(16777217)", "SQLITE_TOOBIG"),
        ("INSERT INTO t(id) VALUES ('x')", "SQLITE_MISMATCH"),
        ("SELECT \"no such column\"", "SQLITE_ERROR"),
    ];
    for (sql, code) in sql {
        let error = engine.refused(sql);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, code), "{sql}: {error}");
    }
    let error = engine.refused("SELECT 1 FRM t");
    // Where in the text is told by reads only: a cached statement would not tell.
    assert_eq!(error.message(), "near \"t\": syntax error");
    assert_eq!(engine.refused("SELECT CAST(x'ff' AS TEXT)").code(), "SQL_INVALID_UTF8");
    let huge = Value::Blob(vec![0; (16 << 20) + 1]);
    assert_eq!(engine.refused(("SELECT ?", vec![huge])).code(), "SQLITE_TOOBIG");
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    assert_eq!(engine.refused(long).code(), "SQLITE_TOOBIG");
}

#[test]
fn a_result_has_a_limit() {
    let engine = Engine::new();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
               SELECT zeroblob(1000000) FROM n";
    let error = engine.refused(sql);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, "BUSY_RESULT_TOO_LARGE"));
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT NULL FROM n";
    assert_eq!(engine.refused(many).code(), "BUSY_RESULT_TOO_LARGE");
}

#[test]
fn a_file_that_is_no_database_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("garbage");
    std::fs::write(&path, [0x5a; 8192]).unwrap();
    let error = open_writer(&path).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "SQLITE_NOTADB"));
    let error = open_reader(&dir.path().join("missing")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "SQLITE_CANTOPEN"));
}

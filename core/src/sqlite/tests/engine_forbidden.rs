//! What may not be replicated says so, with the reason; what SQLite does on its own behalf works.

use super::*;
use crate::error::ErrorKind;

#[test]
fn writes_that_cannot_be_replicated_are_forbidden() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    engine.run("INSERT INTO t VALUES (1)");
    let cases = [
        ("BEGIN", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("COMMIT", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("END", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("ROLLBACK", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("SAVEPOINT a", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("RELEASE a", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("ROLLBACK TO a", "FORBIDDEN_TRANSACTION_CONTROL"),
        ("ATTACH 'x' AS x", "FORBIDDEN_ATTACH"),
        ("DETACH main", "FORBIDDEN_ATTACH"),
        ("VACUUM", "FORBIDDEN_VACUUM"),
        ("\u{feff}/* x */ vacuum INTO 'x'", "FORBIDDEN_VACUUM"),
        ("PRAGMA journal_mode = DELETE", "FORBIDDEN_PRAGMA"),
        ("PRAGMA foreign_keys = OFF", "FORBIDDEN_PRAGMA"),
        ("PRAGMA writable_schema = ON", "FORBIDDEN_PRAGMA"),
        ("PRAGMA optimize", "FORBIDDEN_PRAGMA"),
        ("PRAGMA wal_checkpoint(TRUNCATE)", "FORBIDDEN_PRAGMA"),
        ("PRAGMA data_version", "FORBIDDEN_PRAGMA"),
        ("PRAGMA no_such_pragma", "FORBIDDEN_PRAGMA"),
        ("INSERT INTO t SELECT * FROM pragma_data_version", "FORBIDDEN_PRAGMA"),
        ("PRAGMA foreign_key_check", "FORBIDDEN_PRAGMA"),
        ("INSERT INTO t SELECT name FROM pragma_table_list", "FORBIDDEN_PRAGMA"),
        ("INSERT INTO t SELECT rootpage FROM sqlite_schema", "FORBIDDEN_INTERNAL_TABLE"),
        ("CREATE TABLE x AS SELECT * FROM sqlite_master", "FORBIDDEN_INTERNAL_TABLE"),
        ("INSERT INTO t SELECT count(*) FROM pragma_database_list", "FORBIDDEN_PRAGMA"),
        ("INSERT INTO t SELECT count(*) FROM dbstat", "FORBIDDEN_INTERNAL_TABLE"),
        ("CREATE TEMP TABLE x(a)", "FORBIDDEN_TEMP"),
        ("CREATE TABLE temp.x(a)", "FORBIDDEN_TEMP"),
        ("CREATE TEMP VIEW x AS SELECT 1", "FORBIDDEN_TEMP"),
        ("CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "FORBIDDEN_TEMP"),
        ("CREATE TEMP TABLE x AS SELECT * FROM t", "FORBIDDEN_TEMP"),
        ("INSERT INTO t VALUES (sqlite_version())", "FORBIDDEN_FUNCTION"),
        ("INSERT INTO t VALUES (sqlite_source_id())", "FORBIDDEN_FUNCTION"),
        ("UPDATE t SET a = Total_Changes()", "FORBIDDEN_FUNCTION"),
        ("SELECT load_extension('x')", "FORBIDDEN_FUNCTION"),
        ("INSERT INTO _quorumlite_meta VALUES ('a', 1)", "FORBIDDEN_INTERNAL_TABLE"),
        ("DELETE FROM _QUORUMLITE_meta", "FORBIDDEN_INTERNAL_TABLE"),
        ("UPDATE \"_quorumlite_meta\" SET value = 1", "FORBIDDEN_INTERNAL_TABLE"),
        ("DROP TABLE _quorumlite_meta", "FORBIDDEN_INTERNAL_TABLE"),
        ("ALTER TABLE _quorumlite_meta RENAME TO x", "FORBIDDEN_INTERNAL_TABLE"),
        ("ALTER TABLE t RENAME TO [_Quorumlite_x]", "FORBIDDEN_INTERNAL_TABLE"),
        ("CREATE TABLE _quorumlite_x(a)", "FORBIDDEN_INTERNAL_TABLE"),
        ("CREATE TABLE x(a REFERENCES _quorumlite_meta)", "FORBIDDEN_INTERNAL_TABLE"),
        ("CREATE INDEX x ON _quorumlite_meta(value)", "FORBIDDEN_INTERNAL_TABLE"),
        ("INSERT INTO t SELECT value FROM _quorumlite_meta", "FORBIDDEN_INTERNAL_TABLE"),
        ("EXPLAIN SELECT * FROM t", "FORBIDDEN_STATEMENT"),
        ("explain query plan INSERT INTO t VALUES (1)", "FORBIDDEN_STATEMENT"),
        ("CREATE VIRTUAL TABLE x USING dbstat", "FORBIDDEN_MODULE"),
        ("CREATE VIRTUAL TABLE x USING no_such", "FORBIDDEN_MODULE"),
        ("CREATE VIRTUAL TABLE x USING fts3(a)", "FORBIDDEN_MODULE"),
        ("CREATE VIRTUAL TABLE x USING FTS4(a)", "FORBIDDEN_MODULE"),
        ("CREATE VIRTUAL TABLE x USING fts4aux(a)", "FORBIDDEN_MODULE"),
        ("CREATE VIRTUAL TABLE x USING fts3tokenize", "FORBIDDEN_MODULE"),
    ];
    for (sql, code) in cases {
        let error = engine.refused(sql);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Forbidden, code), "{sql}: {error}");
        assert!(engine.conn.is_autocommit(), "{sql}");
    }
    assert_eq!(engine.one("SELECT count(*) FROM t"), Value::Integer(1));
    assert_eq!(engine.refused("DELETE FROM sqlite_master").code(), "SQLITE_ERROR");
    engine.run("CREATE INDEX ta ON t(a)");
    engine.run("ANALYZE");
    engine.run("CREATE TRIGGER td AFTER DELETE ON t BEGIN DELETE FROM sqlite_stat1; END");
    for sql in [
        "UPDATE sqlite_stat1 SET stat = '1 1'",
        "WITH x AS (SELECT 1) DELETE FROM Sqlite_Stat4",
        "DELETE FROM t",
    ] {
        assert_eq!(engine.refused(sql).code(), "FORBIDDEN_INTERNAL_TABLE", "{sql}");
    }
    engine.run("DROP INDEX ta");
    engine.run("DROP TABLE t");
    assert_eq!(engine.one("SELECT count(*) FROM sqlite_stat1"), Value::Integer(0));
}

#[test]
fn forbidden_things_are_found_behind_views_triggers_and_defaults() {
    let engine = Engine::new();
    engine.run("CREATE TABLE u(a)");
    engine.run("CREATE VIEW v AS SELECT sqlite_source_id() AS s");
    engine.run("CREATE TRIGGER tu AFTER UPDATE ON u BEGIN INSERT INTO u SELECT s FROM v; END");
    engine.run("INSERT INTO u VALUES (1)");
    for sql in [
        "CREATE TABLE t(a, b DEFAULT (sqlite_version()))",
        "CREATE TABLE t(a CHECK (a > total_changes()))",
        "INSERT INTO u SELECT s FROM v",
        "UPDATE u SET a = 2",
    ] {
        assert_eq!(engine.refused(sql).code(), "FORBIDDEN_FUNCTION", "{sql}");
    }
    assert_eq!(engine.values("SELECT a FROM u"), [[Value::Integer(1)]]);
}

#[test]
fn a_cached_permission_does_not_pass_to_a_user() {
    let engine = Engine::new();
    for sql in ["/* quorumlite */ BEGIN", "/* quorumlite */ COMMIT"] {
        engine.conn.prepare_cached(sql).unwrap().raw_execute().unwrap();
        assert_eq!(engine.refused(sql).kind(), ErrorKind::Forbidden);
        assert_eq!(engine.refused(format!("  {sql} ")).kind(), ErrorKind::Forbidden);
    }
}

#[test]
fn what_sqlite_does_itself_is_allowed() {
    let engine = Engine::new();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)",
        "CREATE INDEX ta ON t(a)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE TRIGGER tt AFTER DELETE ON t BEGIN INSERT INTO t(a) VALUES (old.a); END",
        "INSERT INTO t(a, b) VALUES (1, 2), (3, 4)",
        "ANALYZE",
        "REINDEX t",
        "UPDATE sqlite_sequence SET seq = 10 WHERE name = 't'",
        "ALTER TABLE t RENAME COLUMN b TO c",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE u ADD COLUMN d DEFAULT 5",
        "ALTER TABLE u DROP COLUMN c",
        "CREATE TABLE copy AS SELECT * FROM u",
        "PRAGMA table_info(u)",
        "SELECT * FROM pragma_table_info('u')",
        "PRAGMA foreign_key_check(u)",
        "PRAGMA defer_foreign_keys = ON",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 9",
        "DROP TRIGGER tt",
        "DROP VIEW v",
        "DROP INDEX ta",
        "DROP TABLE u",
        "CREATE VIRTUAL TABLE f USING fts5(a, b)",
        "INSERT INTO f VALUES ('hello world', 'x'), ('brave new world', 'y')",
        "UPDATE f SET b = 'z' WHERE a MATCH 'brave'",
        "DELETE FROM f WHERE f MATCH 'hello'",
        "INSERT INTO f(f) VALUES ('optimize')",
        "INSERT INTO f(f) VALUES ('integrity-check')",
        "INSERT INTO f(f) VALUES ('rebuild')",
        "CREATE VIRTUAL TABLE fv USING fts5vocab(f, row)",
        "SELECT * FROM fv",
        "ALTER TABLE f RENAME TO g",
        "DROP TABLE g",
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1)",
        "INSERT INTO r VALUES (1, 0, 1, 0, 1), (2, 5, 6, 5, 6)",
        "DELETE FROM r WHERE x0 > 4",
        "SELECT * FROM json_each('[1, 2]')",
    ] {
        engine.run(sql);
    }
    assert_eq!(engine.one("PRAGMA user_version"), Value::Integer(7));
    engine.run("DROP TABLE r");
}

#[test]
fn external_content_that_went_astray_is_the_statements_failure() {
    let engine = Engine::new();
    engine.run("CREATE TABLE doc(id INTEGER PRIMARY KEY, body)");
    engine.run("CREATE VIRTUAL TABLE f USING fts5(body, content='doc', content_rowid='id')");
    engine.run("INSERT INTO f(rowid, body) VALUES (1, 'never stored')");
    let error = engine.refused("INSERT INTO f(f, rank) VALUES ('integrity-check', 1)");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, "SQLITE_CORRUPT_VTAB"));
}

/// What FTS4's name lets in by itself is gone as well: `f_stat` is a table like any other.
#[test]
fn a_table_beside_a_full_text_index_is_an_ordinary_one() {
    let engine = Engine::new();
    engine.run("CREATE VIRTUAL TABLE docs USING fts5(body)");
    engine.run("CREATE TABLE docs_stat(id INTEGER PRIMARY KEY, n)");
    for n in 0..3 {
        engine.run(format!("INSERT INTO docs_stat(n) VALUES ({n})").as_str());
        engine.run("INSERT INTO docs VALUES ('one two')");
    }
    assert_eq!(engine.one("SELECT count(*) FROM docs_stat"), Value::Integer(3));
}

#[test]
fn no_function_of_fts3_is_left() {
    let engine = Engine::new();
    let reader = engine.reader();
    for sql in [
        "SELECT fts3_tokenizer('simple')",
        "SELECT fts3_tokenizer('simple', ?1)",
        "SELECT * FROM fts3tokenize('simple', 'a b')",
    ] {
        let values = if sql.contains('?') { vec![Value::Blob(vec![65; 8])] } else { vec![] };
        let statement = Statement::new(sql, values);
        let error = execute::read(&reader, &statement).unwrap_err().into_error();
        assert_eq!(error.code(), "SQLITE_ERROR", "{sql}: {error}");
        assert_eq!(engine.refused(statement).code(), "SQLITE_ERROR", "{sql}");
    }
}

/// The authorizer is asked about the argument of a table-valued pragma, whatever bytes it has.
#[test]
fn a_name_that_is_no_utf8_does_not_panic() {
    let engine = Engine::new();
    let sql = "SELECT count(*) FROM pragma_table_info(CAST(x'ff' AS TEXT))";
    assert_eq!(engine.one(sql), Value::Integer(0));
    let rows = execute::read(&engine.reader(), &sql.into()).unwrap();
    assert_eq!(rows.into_values(), [[Value::Integer(0)]]);
}

/// What SQLite may do while it drops a table, a trigger that fires meanwhile may not.
#[test]
fn a_trigger_that_drop_fires_has_no_exceptions() {
    let engine = Engine::new();
    for sql in [
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(p REFERENCES parent ON DELETE CASCADE)",
        "CREATE TABLE log(a)",
        "CREATE INDEX child_p ON child(p)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (1)",
        "ANALYZE",
    ] {
        engine.run(sql);
    }
    for action in [
        "INSERT INTO log SELECT rootpage FROM sqlite_schema",
        "INSERT INTO log SELECT r FROM (SELECT max(rootpage) AS r FROM sqlite_master)",
        "DELETE FROM sqlite_stat1",
        "UPDATE sqlite_stat4 SET sample = NULL",
    ] {
        engine.run(format!("CREATE TRIGGER t AFTER DELETE ON child BEGIN {action}; END").as_str());
        engine.conn.execute_batch("SAVEPOINT a").unwrap();
        let error = engine.refused("DROP TABLE parent");
        assert_eq!(error.code(), "FORBIDDEN_INTERNAL_TABLE", "{action}: {error}");
        engine.conn.execute_batch("ROLLBACK TO a; RELEASE a").unwrap();
        engine.run("DROP TRIGGER t");
    }
    // By an expression of ALTER TABLE neither.
    let sql =
        "ALTER TABLE log ADD CONSTRAINT c CHECK ((SELECT max(rootpage) FROM sqlite_schema) > 0)";
    engine.conn.execute_batch("SAVEPOINT a").unwrap();
    engine.refused(sql);
    engine.conn.execute_batch("ROLLBACK TO a; RELEASE a").unwrap();
    engine.run("DROP TABLE parent");
}

/// Each of these once ended every node, in the statement itself or at the next savepoint.
#[test]
fn nothing_hangs_on_the_tables_of_a_virtual_table() {
    let engine = Engine::new();
    engine.run("CREATE VIRTUAL TABLE docs USING fts5(body)");
    engine.run("CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)");
    engine.run("CREATE TABLE bare_content(a)");
    engine.run("CREATE TRIGGER bare AFTER INSERT ON bare_content BEGIN SELECT 1; END");
    engine.run("CREATE TABLE child(x REFERENCES later_data(id))");
    engine.run("CREATE TABLE other(a)");
    engine.run("CREATE INDEX other_a ON other(a)");
    for sql in [
        "CREATE INDEX u ON docs_data(CASE WHEN id > 100 THEN json('x') END)",
        "CREATE UNIQUE INDEX u ON DOCS_IDX(term)",
        "CREATE INDEX u ON boxes_node(data)",
        "CREATE TRIGGER x AFTER INSERT ON docs_data BEGIN SELECT RAISE(FAIL, 'x'); END",
        "CREATE TABLE c(x REFERENCES docs_data(id))",
        "CREATE TABLE c(x REFERENCES Docs_Content ON DELETE CASCADE)",
        "ALTER TABLE other ADD COLUMN b REFERENCES boxes_rowid",
        "CREATE VIRTUAL TABLE later USING fts5(a)",
        "CREATE VIRTUAL TABLE bare USING fts5(a, content='')",
        "ALTER TABLE docs RENAME TO later",
        "ALTER TABLE other RENAME TO docs_node",
    ] {
        engine.conn.execute_batch("SAVEPOINT a").unwrap();
        let error = engine.refused(sql);
        let refused_by = ["FORBIDDEN_SHADOW_TABLE", "SQLITE_ERROR"];
        assert!(refused_by.contains(&error.code()), "{sql}: {error:?}");
        engine.conn.execute_batch("ROLLBACK TO a; RELEASE a").unwrap();
    }
    engine.run("INSERT INTO docs VALUES ('one two')");
    engine.run("INSERT INTO boxes VALUES (1, 0, 1)");
    engine.run("CREATE TABLE docs_stat(id INTEGER PRIMARY KEY, n REFERENCES other)");
    engine.run("CREATE INDEX stat_n ON docs_stat(n)");
}

/// A read-only root has no folder for temporary files.
#[test]
fn temporary_files_lie_beside_the_database() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)");
    engine.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 30000) \
         INSERT INTO t SELECT i, hex(randomblob(100)) FROM n",
    );
    // SQLite asks for its folder each time; this test's other threads do not need one.
    let statements =
        ["UPDATE t SET a = a || 'x'", "INSERT INTO t(a) SELECT a || 'y' FROM t ORDER BY a"];
    let child = std::env::var_os("QUORUMLITE_NO_TEMPORARY").is_some();
    if child {
        engine.conn.execute_batch("BEGIN; SAVEPOINT s").unwrap();
        for sql in statements {
            engine.run(sql);
        }
        let sql = "SELECT count(*) FROM (SELECT a FROM t ORDER BY a || 'z' LIMIT 100000)";
        execute::read(&engine.reader(), &sql.into()).unwrap();
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["temporary_files_lie_beside_the_database", "--test-threads=1"])
        .env("QUORUMLITE_NO_TEMPORARY", "1")
        .env("SQLITE_TMPDIR", "/nowhere")
        .env("TMPDIR", engine.path.parent().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let left: Vec<_> = std::fs::read_dir(engine.path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("temporary") || name.contains("etilqs"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

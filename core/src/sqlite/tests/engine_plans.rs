//! A plan depends on the text, the schema and the statistics, and on nothing else.

use super::*;

/// Bytecode as SQLite shows it: what a statement will do.
fn program(engine: &Engine, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let mut statement = engine.conn.prepare(&format!("EXPLAIN {sql}")).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|i| row.get::<_, rusqlite::types::Value>(i)).collect()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn at(seconds: i64) -> CommandContext {
    CommandContext { timestamp_us: seconds * 1_000_000, seed: 1 }
}

/// Samples tempt the planner to evaluate `'now'` while it compiles.
#[test]
fn plans_do_not_depend_on_when_a_statement_was_compiled() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, ts, k, v)");
    engine.run("CREATE INDEX t_ts ON t(ts)");
    engine.run("CREATE INDEX t_k ON t(k)");
    engine.run("CREATE TABLE out(v)");
    engine.run(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3999) \
         INSERT INTO t SELECT NULL, 1000 + i % 10, i % 40, i FROM n",
    );
    engine.run("ANALYZE");
    assert_eq!(engine.one("SELECT count(*) > 0 FROM sqlite_stat4"), Value::Integer(1));
    for sql in [
        "INSERT INTO out(v) SELECT v FROM t WHERE ts <= unixepoch('now') AND k = 1",
        "UPDATE t SET v = 0 WHERE ts < unixepoch() AND k IN (1, 2)",
        "DELETE FROM t WHERE ts BETWEEN unixepoch('now', '-1 day') AND unixepoch('now') AND k = 3",
    ] {
        let programs = [0, 1001, 1005, 5000].map(|now| {
            let _context = context::enter(at(now));
            engine.conn.flush_prepared_statement_cache();
            program(&engine, sql)
        });
        assert!(programs.iter().all(|p| *p == programs[0]), "{sql}");
    }
}

#[test]
fn bound_values_do_not_choose_the_plan() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a TEXT COLLATE NOCASE, b)");
    engine.run("CREATE INDEX t_a ON t(a)");
    let sql = "EXPLAIN SELECT b FROM t WHERE a LIKE ?1 AND b > ?2";
    let programs = ["abc%", "%abc"].map(|pattern| {
        let mut statement = engine.conn.prepare(sql).unwrap();
        let rows = statement.query_map((pattern, 1), |row| row.get::<_, String>(1)).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    });
    assert_eq!(programs[0], programs[1]);
}

/// SQLite would compile a statement of the cache again while it runs.
#[test]
fn nothing_compiled_outlives_a_change_of_the_schema() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a, b)");
    let sql = "INSERT INTO t VALUES (1, 2)";
    let compiled_again = |sql: &str| {
        let statement = engine.conn.prepare_cached(sql).unwrap();
        statement.get_status(rusqlite::StatementStatus::RePrepare)
    };
    for change in
        ["CREATE INDEX ta ON t(a)", "ANALYZE", "ALTER TABLE t RENAME b TO c", "DROP INDEX ta"]
    {
        engine.run(sql);
        engine.run(change);
        engine.run(sql);
        assert_eq!(compiled_again(sql), 0, "{change}");
    }
}

/// From the sixth equal name on SQLite draws names from a generator of the whole process.
#[test]
fn column_names_drawn_at_random_are_refused() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a)");
    engine.run("CREATE TABLE log(n)");
    let join = |n: usize| {
        let tables: Vec<String> = (0..n).map(|i| format!("t AS t{i}")).collect();
        format!("SELECT * FROM {}", tables.join(" JOIN "))
    };
    engine.run(format!("CREATE TABLE five AS {}", join(5)).as_str());
    engine.run("CREATE TABLE given(\"a:1\", \"a:2\", \"a:3\", \"a:4\", \"a:5\", \"a:6\")");
    engine.run(format!("CREATE VIEW six AS {}", join(6)).as_str());
    engine.run("CREATE VIEW named(a, b, c, d, e, f) AS SELECT * FROM six");
    for sql in [
        format!("CREATE TABLE y AS {}", join(6)),
        format!("CREATE TABLE IF NOT EXISTS y AS {}", join(9)),
        "CREATE TABLE y AS SELECT * FROM six".into(),
        "CREATE TABLE y AS SELECT 1, 1, 1, 1, 1, 1".into(),
        "INSERT INTO log SELECT name FROM pragma_table_info('six')".into(),
        "INSERT INTO log SELECT name FROM pragma_table_xinfo('SIX')".into(),
        "INSERT INTO log SELECT group_concat(x.name) FROM sqlite_schema s, \
         pragma_table_info(s.name) x"
            .into(),
        "PRAGMA table_info(six)".into(),
        "PRAGMA table_info(six)".into(),
        format!("SELECT * FROM ({})", join(6)),
    ] {
        engine.conn.execute_batch("SAVEPOINT a").unwrap();
        let error = engine.refused(sql.as_str());
        assert_eq!(error.code(), "SQL_DUPLICATE_COLUMNS", "{sql}: {error}");
        engine.conn.execute_batch("ROLLBACK TO a; RELEASE a").unwrap();
    }
    for sql in [
        "CREATE TABLE z AS SELECT * FROM named",
        "INSERT INTO log SELECT name FROM pragma_table_info('given')",
        "INSERT INTO log SELECT name FROM pragma_table_info('named')",
        "INSERT INTO log SELECT name FROM pragma_table_info('five')",
        "PRAGMA table_info(given)",
    ] {
        engine.run(sql);
    }
}

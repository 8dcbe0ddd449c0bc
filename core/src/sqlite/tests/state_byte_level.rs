//! The same bytes on every node: one named test for each thing that plain SQLite computes anew on
//! each machine.

use std::process::Command as Process;

use super::state_support::*;
use super::text;
use crate::sqlite::apply::writer::Entry;
use crate::value::Value;

/// 2001-02-03 04:05:06.789 UTC, the time of every command here.
const TIME_US: i64 = 981_173_106_789_000;

/// Applies each of `commands` (statements divided by `;;`) on two replicas, one command at a time
/// and all at once with a restart before, checks that they are equal, and returns one of them.
fn on_two_replicas(commands: &[&str]) -> Replica {
    let log: Vec<Entry> = commands
        .iter()
        .zip(1..)
        .map(|(sql, index)| {
            let statements: Vec<&str> = sql.split(";;").collect();
            timed(index, TIME_US, vec![command(u128::from(index), index, 0, &statements)])
        })
        .collect();
    let mut one = Replica::new();
    let mut results = Vec::new();
    for entry in &log {
        results.extend(one.writer.apply(vec![entry.clone()]).unwrap());
    }
    let mut other = Replica::new();
    let mut same = other.writer.apply(log[..1].to_vec()).unwrap();
    let mut other = other.reopen();
    same.extend(other.writer.apply(log[1..].to_vec()).unwrap());
    assert_eq!(format!("{results:?}"), format!("{same:?}"));
    assert_eq!(one.tables(), other.tables());
    assert_eq!(one.state(), other.state());
    one
}

#[test]
fn default_current_timestamp() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, at DEFAULT CURRENT_TIMESTAMP, \
         d DEFAULT CURRENT_DATE, t DEFAULT CURRENT_TIME)",
        "INSERT INTO t(id) VALUES (1);;INSERT INTO t DEFAULT VALUES",
    ]);
    let rows = r.query("SELECT DISTINCT at, d, t FROM t");
    assert_eq!(rows, [[text("2001-02-03 04:05:06"), text("2001-02-03"), text("04:05:06")]]);
}

#[test]
fn default_random() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, r DEFAULT (random()), b DEFAULT (randomblob(9)))",
        "INSERT INTO t(id) VALUES (1), (2);;INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t(id) VALUES (9)",
    ]);
    assert_eq!(
        r.query("SELECT count(DISTINCT r), count(DISTINCT b) FROM t"),
        [[4.into(), 4.into()]]
    );
}

#[test]
fn default_datetime_now_subsec() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, at DEFAULT (datetime('now','subsec')))",
        "INSERT INTO t(id) VALUES (1)",
    ]);
    assert_eq!(r.query("SELECT at FROM t"), [[text("2001-02-03 04:05:06.789")]]);
}

#[test]
fn triggers_that_ask_for_time_and_chance() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(a);;CREATE TABLE log(at, r, b, u)",
        "CREATE TRIGGER tt AFTER INSERT ON t BEGIN INSERT INTO log VALUES \
         (strftime('%J', 'now'), random(), hex(randomblob(4)), uuid7()); END",
        "INSERT INTO t VALUES (1), (2), (3)",
        "INSERT INTO t SELECT a FROM t",
    ]);
    let sql = "SELECT count(DISTINCT at), count(DISTINCT r), count(DISTINCT b), count(DISTINCT u) FROM log";
    assert_eq!(r.query(sql), [[1.into(), 6.into(), 6.into(), 6.into()]]);
}

#[test]
fn order_by_random_limit_1_in_insert_select() {
    let draws = "INSERT INTO won SELECT a FROM t ORDER BY random() LIMIT 1";
    let mut commands = vec![
        "CREATE TABLE t(a);;CREATE TABLE won(a)",
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) \
         SELECT i FROM n",
    ];
    commands.extend([draws; 20]);
    let r = on_two_replicas(&commands);
    let rows = r.query("SELECT count(*), count(DISTINCT a) > 10 FROM won");
    assert_eq!(rows, [[20.into(), 1.into()]]);
}

#[test]
fn insert_or_rollback_inside_a_batch() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(a UNIQUE, r DEFAULT (random()))",
        "INSERT INTO t(a) VALUES (1)",
        "INSERT INTO t(a) VALUES (2);;INSERT OR ROLLBACK INTO t(a) VALUES (1)",
        "INSERT INTO t(a) VALUES (3)",
        "INSERT OR ROLLBACK INTO t(a) VALUES (3)",
        "INSERT INTO t(a) VALUES (4);;INSERT INTO t(a) VALUES (5)",
    ]);
    let rows = r.query("SELECT a FROM t ORDER BY a");
    assert_eq!(rows, [[Value::Integer(1)], [3.into()], [4.into()], [5.into()]]);
}

#[test]
fn rowid_at_its_maximum() {
    let mut r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "INSERT INTO t VALUES (9223372036854775806, 1)",
        "INSERT INTO t(a) VALUES (2)",
        "INSERT INTO t(a) VALUES (3)",
    ]);
    assert_eq!(r.query("SELECT a FROM t"), [[Value::Integer(1)]]);
    let e = r.execute(&["INSERT INTO t(a) VALUES (4)"]).unwrap_err();
    assert_eq!(e.code(), "SQL_ROWID_EXHAUSTED");
}

#[test]
fn autoincrement_full() {
    let mut r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)",
        "INSERT INTO t(a) VALUES (1)",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "INSERT INTO t(a) VALUES (2)",
        "INSERT INTO t(id, a) VALUES (7, 3)",
    ]);
    assert_eq!(r.query("SELECT id, a FROM t"), [[1.into(), 1.into()], [7.into(), 3.into()]]);
    let e = r.execute(&["INSERT INTO t(a) VALUES (4)"]).unwrap_err();
    assert_eq!(e.code(), "SQLITE_FULL");
}

#[test]
fn changes_and_last_insert_rowid_after_a_restart() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(a);;INSERT INTO t VALUES (1), (2), (3)",
        "CREATE TABLE seen AS SELECT changes() AS c, last_insert_rowid() AS r",
    ]);
    assert_eq!(r.query("SELECT * FROM seen"), [[Value::Integer(0), 0.into()]]);
}

#[test]
fn analyze_leaves_the_state_machines_tables_out() {
    let r = on_two_replicas(&[
        "CREATE TABLE t(a);;INSERT INTO t VALUES (1), (2), (3)",
        "ANALYZE",
        "INSERT INTO t VALUES (4);;ANALYZE",
        "ANALYZE _quorumlite_recent",
    ]);
    assert_eq!(r.query("SELECT tbl, stat FROM sqlite_stat1"), [[text("t"), text("4")]]);
}

#[test]
fn analyze_writes_its_rows_in_one_order() {
    let mut tables = vec!["CREATE VIRTUAL TABLE boxes USING rtree(id, a, b)".to_string()];
    for name in ["zeta", "b", "Alpha", "m_rowid", "k", "q", "beta", "x", "c", "aa", "yy", "d"] {
        tables.push(format!("CREATE TABLE {name}(a, b)"));
        tables.push(format!(
            "CREATE INDEX {name}_b ON {name}(b);;CREATE INDEX {name}_a ON {name}(a)"
        ));
        tables.push(format!("INSERT INTO {name} VALUES (1, 2), (3, 4)"));
    }
    tables.extend([
        "INSERT INTO boxes VALUES (1, 2, 3)".into(),
        "ANALYZE".into(),
        "DROP TABLE q;;CREATE TABLE a0(x);;INSERT INTO a0 VALUES (1)".into(),
        "CREATE TABLE seen AS SELECT rowid AS at, * FROM sqlite_stat1".into(),
        "ANALYZE main".into(),
        "INSERT INTO seen SELECT rowid, * FROM sqlite_stat1".into(),
    ]);
    let r = on_two_replicas(&tables.iter().map(String::as_str).collect::<Vec<_>>());
    let of_all = r.query("SELECT DISTINCT tbl FROM sqlite_stat1 ORDER BY rowid");
    let names: Vec<_> = of_all.iter().filter_map(|row| row[0].as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert!(names.len() > 13, "{names:?}");
}

/// What the planner knows must be what the file says, or a node that was started later plans
/// otherwise.
#[test]
fn statistics_in_memory_are_those_of_the_file() {
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) \
                INSERT INTO t SELECT i % 2, i FROM n";
    for last in [
        // The rows of statistics go, and SQLite still remembers how large the table was.
        "DELETE FROM t;;ANALYZE",
        "DROP INDEX ta;;DROP INDEX tb",
        "DROP TABLE sqlite_stat1",
        "DROP TABLE sqlite_stat4",
        "ALTER TABLE t RENAME COLUMN b TO c",
    ] {
        let mut r = Replica::new();
        let statements = [
            "CREATE TABLE t(a, b)",
            "CREATE TABLE u(x, y)",
            "CREATE INDEX ux ON u(x)",
            "CREATE INDEX ta ON t(a)",
            "CREATE INDEX tb ON t(b, a)",
            "INSERT INTO u VALUES (1, 2)",
            many,
            "ANALYZE",
        ];
        r.execute(&statements).unwrap();
        r.execute(&last.split(";;").collect::<Vec<_>>()).unwrap();
        r.execute(&["SELECT 1"]).unwrap();
        let plans = |r: &Replica| -> Vec<String> {
            let conn = r.writer.conn.as_ref().unwrap();
            let sql = "EXPLAIN QUERY PLAN SELECT * FROM u, t WHERE t.a = u.x AND t.rowid > u.y";
            let mut statement = conn.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get("detail")).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let before = plans(&r);
        assert_eq!(plans(&r.reopen()), before, "{last}");
    }
}

const ZONE: &str = "QUORUMLITE_TEST_ZONE_CHILD";

/// Not a test of its own: what [`same_rows_under_tokyo_and_new_york`] starts with another TZ.
#[test]
fn in_another_time_zone() {
    if std::env::var_os(ZONE).is_none() {
        return;
    }
    let r = on_two_replicas(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, at DEFAULT CURRENT_TIMESTAMP, \
         x DEFAULT (datetime('now', '+1 month', 'start of day')), r DEFAULT (random()))",
        "INSERT INTO t(id) VALUES (1), (2)",
        "INSERT INTO t(at, x) SELECT datetime('now', 'subsec'), strftime('%s %w %j', 'now')",
        "INSERT INTO t(at) VALUES (datetime('now', 'localtime'))",
        "INSERT INTO t(at, x) VALUES (datetime('now', 'utc'), timediff('now', '1999-12-31'))",
        "CREATE TRIGGER tt AFTER UPDATE ON t BEGIN INSERT INTO t(x) VALUES (unixepoch()); END",
        "UPDATE t SET r = julianday() WHERE id = 1",
    ]);
    for row in r.tables() {
        println!("row {row}");
    }
    println!("hash {}", r.db.content_hash().unwrap().0);
    let local = r.query("SELECT datetime(1000000000, 'unixepoch', 'localtime')");
    println!("local {local:?}");
}

#[test]
fn same_rows_under_tokyo_and_new_york() {
    let run = |zone: &str| {
        let output = Process::new(std::env::current_exe().unwrap())
            .args([
                "sqlite::tests::state_byte_level::in_another_time_zone",
                "--exact",
                "--nocapture",
            ])
            .env(ZONE, "1")
            .env("TZ", zone)
            .output()
            .unwrap();
        assert!(output.status.success(), "{zone}: {output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let of = |kind: &str| -> Vec<String> {
            lines.lines().filter_map(|l| l.strip_prefix(kind)).map(str::to_string).collect()
        };
        (of("row "), of("hash "), of("local "))
    };
    let zones = ["Asia/Tokyo", "America/New_York", "JST-9", "EST5EDT,M3.2.0,M11.1.0"];
    let results = zones.map(run);
    let (rows, hash, _) = &results[0];
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert_eq!(hash.len(), 1);
    for other in &results {
        assert_eq!((&other.0, &other.1), (rows, hash));
    }
    // The test can fail: these two, which need no zone files, do read different clocks.
    assert_ne!(results[2].2, results[3].2);
}

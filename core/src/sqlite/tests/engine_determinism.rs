//! The same command gives the same bytes on every node, whatever its clock, zone and history.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::functions::FunctionFlags;

use super::*;
use crate::error::ErrorKind;
use crate::params;
use crate::sqlite::apply::budget::Budget;

/// 2001-02-03 04:05:06.789 UTC.
const TIME_US: i64 = 981_173_106_789_000;

const CONTEXT: CommandContext = CommandContext { timestamp_us: TIME_US, seed: 42 };

#[test]
fn every_clock_shows_the_commands_time() {
    let engine = Engine::new();
    engine.run("CREATE TABLE log(at)");
    engine.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a DEFAULT CURRENT_TIMESTAMP, \
         b DEFAULT (datetime('now', 'subsec')), c DEFAULT CURRENT_DATE, d DEFAULT CURRENT_TIME)",
    );
    engine.run(
        "CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT INTO log VALUES (unixepoch('subsec')); END",
    );
    engine.command(CONTEXT, "INSERT INTO t(id) VALUES (1)");
    let later = CommandContext { timestamp_us: TIME_US + 1_000_000, ..CONTEXT };
    engine.command(later, "INSERT INTO t(id) VALUES (2)");
    // The same compiled statement again, at another time.
    engine.command(CONTEXT, "INSERT INTO t(id) VALUES (2) ON CONFLICT DO NOTHING");
    let row = |id: i64, second: &str| {
        [
            Value::Integer(id),
            text(&format!("2001-02-03 04:05:{second}")),
            text(&format!("2001-02-03 04:05:{second}.789")),
            text("2001-02-03"),
            text(&format!("04:05:{second}")),
        ]
    };
    assert_eq!(engine.values("SELECT * FROM t"), [row(1, "06"), row(2, "07")]);
    assert_eq!(engine.one("SELECT at FROM log"), Value::Real(981_173_106.789));
    let _guard = context::enter(CONTEXT);
    assert_eq!(engine.one("SELECT CURRENT_TIMESTAMP"), text("2001-02-03 04:05:06"));
    assert_eq!(engine.one("SELECT julianday()"), Value::Real(2_451_943.670_217_465));
}

#[test]
fn outside_of_a_command_the_clock_is_the_systems() {
    let engine = Engine::new();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let before = now().as_secs() as i64;
    let seen = engine.one("SELECT unixepoch()").as_i64().unwrap();
    assert!((before..=now().as_secs() as i64).contains(&seen));
}

#[test]
fn times_out_of_range_are_no_trouble() {
    let engine = Engine::new();
    for timestamp_us in [i64::MIN, -1, 0, i64::MAX] {
        engine.command(CommandContext { timestamp_us, seed: 0 }, "SELECT CURRENT_TIMESTAMP");
    }
    let outcome = engine
        .command(CommandContext { timestamp_us: -1, seed: 0 }, "SELECT datetime('now','subsec')");
    assert_eq!(outcome.rows.values(), [[text("1969-12-31 23:59:59.999")]]);
}

#[test]
fn randomness_comes_from_the_seed_in_the_order_of_execution() {
    let make = || {
        let engine = Engine::new();
        engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, r DEFAULT (random()), b DEFAULT (randomblob(11)))");
        engine
    };
    let (one, other) = (make(), make());
    // The history of a process must not show: draw from SQLite's own generator on one side.
    let plain = Connection::open_in_memory().unwrap();
    plain.query_row("SELECT random()", [], |_| Ok(())).unwrap();
    for engine in [&one, &other] {
        let _guard = context::enter(CONTEXT);
        engine.run("INSERT INTO t(id) VALUES (1), (2), (3)");
        engine.run("INSERT INTO t(id) SELECT abs(random() % 1000000) + 10 FROM t ORDER BY random() LIMIT 2");
    }
    let rows = one.values("SELECT * FROM t");
    assert_eq!(rows, other.values("SELECT * FROM t"));
    assert_eq!(rows.len(), 5);
    let distinct = one.one("SELECT count(DISTINCT r) + count(DISTINCT b) FROM t");
    assert_eq!(distinct, Value::Integer(10), "each row draws its own");
    assert_eq!(one.one("SELECT min(length(b)) FROM t"), Value::Integer(11));

    let draw = |seed| {
        one.command(CommandContext { seed, ..CONTEXT }, "SELECT random(), hex(randomblob(8))").rows
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn randomblob_keeps_sqlites_rules() {
    let engine = Engine::new();
    let lengths = "SELECT length(randomblob(0)), length(randomblob(-5)), length(randomblob(NULL)), \
                   length(randomblob('7')), typeof(randomblob(1)), length(randomblob(100000))";
    assert_eq!(
        engine.values(lengths),
        [[1.into(), 1.into(), 1.into(), 7.into(), text("blob"), 100_000.into()]]
    );
    assert_eq!(engine.refused("SELECT randomblob(16777217)").code(), "SQLITE_TOOBIG");
    assert_eq!(engine.refused("SELECT randomblob(9223372036854775807)").code(), "SQLITE_TOOBIG");
    assert_eq!(engine.refused("CREATE TABLE g(a, b AS (random()))").code(), "SQLITE_ERROR");
}

#[test]
fn local_time_is_refused_in_a_command_and_fine_elsewhere() {
    let engine = Engine::new();
    {
        let _guard = context::enter(CONTEXT);
        for sql in [
            "SELECT datetime('now', 'localtime')",
            "SELECT datetime('2020-01-01', 'utc')",
            "SELECT strftime('%H', 0, 'unixepoch', 'localtime')",
            // Where each later write would be refused.
            "CREATE TABLE l(a, at DEFAULT (datetime('now', 'localtime')))",
        ] {
            assert_eq!(engine.refused(sql).code(), "FORBIDDEN_LOCAL_TIME", "{sql}");
        }
        engine.run("CREATE TABLE u(a, at DEFAULT (datetime('now', 'utc')))");
        engine.run("CREATE VIEW local AS SELECT datetime(at, 'localtime') FROM u");
        // UTC is known to be UTC already.
        assert_eq!(engine.one("SELECT datetime('now', 'utc')"), text("2001-02-03 04:05:06"));
    }
    assert!(engine.one("SELECT datetime('now', 'localtime')").as_str().is_some());
}

#[test]
fn a_rowid_at_the_maximum_fails_the_command() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    engine.run("CREATE VIRTUAL TABLE f USING fts5(a)");
    engine.run("INSERT INTO t VALUES (9223372036854775806, 1)");
    for sql in [
        "INSERT INTO t(a) VALUES (2)",
        "INSERT INTO t VALUES (9223372036854775807, 2)",
        "INSERT INTO t VALUES (9223372036854775807, 2), (NULL, 3), (NULL, 4)",
        "UPDATE t SET id = 9223372036854775807",
        "INSERT INTO f(rowid, a) VALUES (9223372036854775807, 'x')",
    ] {
        engine.conn.execute_batch("BEGIN").unwrap();
        assert_eq!(engine.refused(sql).code(), "SQL_ROWID_EXHAUSTED", "{sql}");
        engine.conn.execute_batch("ROLLBACK").unwrap();
    }
    engine.run("DELETE FROM t");
    assert_eq!(engine.run("INSERT INTO t(a) VALUES (1)").last_insert_rowid, 1);
}

#[test]
fn an_endless_statement_ends_at_the_same_instruction_everywhere() {
    const FILL: &str = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                        SELECT i FROM n WHERE tick(i) LIMIT ?";
    /// An engine that counts the rows that FILL has reached.
    fn make() -> (Engine, Arc<AtomicI64>) {
        let engine = Engine::new();
        let reached = Arc::new(AtomicI64::new(0));
        let counter = reached.clone();
        let tick = move |context: &rusqlite::functions::Context<'_>| {
            counter.store(context.get(0)?, Ordering::Relaxed);
            Ok(true)
        };
        let flags = FunctionFlags::SQLITE_UTF8;
        engine.conn.create_scalar_function("tick", 1, flags, move |c| tick(c)).unwrap();
        engine.run("CREATE TABLE t(a)");
        (engine, reached)
    }
    let spend = |(engine, reached): &(Engine, Arc<AtomicI64>)| {
        let error = engine.refused((FILL, params![-1]));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Sql, "SQL_TOO_LONG"));
        assert_eq!(engine.one("SELECT count(*) FROM t"), Value::Integer(0));
        reached.load(Ordering::Relaxed)
    };
    let (fresh, used) = (make(), make());
    // On one node the compiled statement has run before, for less than one tick.
    used.0.run((FILL, params![1000]));
    used.0.run("DELETE FROM t");
    Budget::pretend(Some(300_000));
    let rows = spend(&fresh);
    assert!(rows > 10_000, "{rows}");
    assert_eq!(spend(&used), rows);
    assert_eq!(spend(&used), rows);
    Budget::pretend(None);
    used.0.run((FILL, params![1]));
}

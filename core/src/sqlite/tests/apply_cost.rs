//! What applying costs against plain SQLite: a measurement that is there in optimized builds only,
//! `make bench-apply`.
//! QUORUMLITE_LOAD limits it to loads whose name holds that text, QUORUMLITE_ROUNDS says how often
//! each runs.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::state_support::*;
use crate::sqlite::apply::command::Command;
use crate::sqlite::apply::writer::{Entry, EntryKind};
use crate::statement::Statement;
use crate::{Params, Value};

/// Rounds take turns, so that a noisy machine disturbs both alike.
const ROUNDS: u64 = 30;

struct Load {
    name: &'static str,
    /// Of one parameter: a number that never comes twice.
    sql: &'static str,
    /// How many statements share a transaction, in plain SQLite as in an entry of the log.
    in_one: u64,
    transactions: u64,
}

const SCHEMA: &[&str] = &[
    "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE INDEX tn ON t(name)",
    "CREATE TABLE big(id INTEGER PRIMARY KEY, a, b)",
    "INSERT INTO big WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) \
     SELECT i, i % 100, 'row ' || i FROM n",
];

const LOADS: &[Load] = &[
    Load {
        name: "a row, each in a transaction of its own",
        sql: "INSERT INTO t(id, name) VALUES (?1, 'name ' || ?1)",
        in_one: 1,
        transactions: 200,
    },
    Load {
        name: "a row, 64 in a transaction",
        sql: "INSERT INTO t(id, name) VALUES (?1, 'name ' || ?1)",
        in_one: 64,
        transactions: 10,
    },
    Load {
        name: "a row, 512 in a transaction",
        sql: "INSERT INTO t(id, name) VALUES (?1, 'name ' || ?1)",
        in_one: 512,
        transactions: 2,
    },
    Load {
        name: "an update of 200 rows, 8 in a transaction",
        sql: "UPDATE big SET b = ?1 WHERE a = ?1 % 100",
        in_one: 8,
        transactions: 3,
    },
    Load {
        name: "1000 rows by INSERT ... SELECT",
        sql: "INSERT INTO t(name) SELECT b || ?1 FROM big LIMIT 1000",
        in_one: 1,
        transactions: 5,
    },
];

fn plain() -> (tempfile::TempDir, Connection) {
    crate::sqlite::memory::install();
    let dir = tempfile::tempdir().unwrap();
    let conn = Connection::open(dir.path().join("plain.db")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0",
    )
    .unwrap();
    SCHEMA.iter().for_each(|sql| conn.execute_batch(sql).unwrap());
    (dir, conn)
}

fn run_plain(conn: &Connection, load: &Load, numbers: &mut impl Iterator<Item = u64>) -> Duration {
    let begin = Instant::now();
    for _ in 0..load.transactions {
        conn.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
        for number in numbers.by_ref().take(load.in_one as usize) {
            conn.prepare_cached(load.sql).unwrap().execute([number as i64]).unwrap();
        }
        conn.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
    }
    begin.elapsed()
}

fn run_ours(r: &mut Replica, load: &Load, numbers: &mut impl Iterator<Item = u64>) -> Duration {
    let first = r.writer.applied().index() + 1;
    let entries: Vec<Entry> = (first..first + load.transactions)
        .map(|index| Entry {
            position: at(index),
            kind: EntryKind::Commands {
                timestamp_us: 1_000_000,
                commands: numbers
                    .by_ref()
                    .take(load.in_one as usize)
                    .map(|number| Command {
                        client: 1,
                        sequence: number,
                        acked_below: number.saturating_sub(512),
                        seed: number,
                        statements: vec![Statement::new(
                            load.sql,
                            Params::Positional(vec![Value::Integer(number as i64)]),
                        )],
                    })
                    .collect(),
            },
        })
        .collect();
    let begin = Instant::now();
    for entry in entries {
        let results = r.writer.apply(vec![entry]).unwrap();
        assert!(results.iter().flatten().all(Result::is_ok));
    }
    begin.elapsed()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[test]
fn cost_of_applying() {
    let only = std::env::var("QUORUMLITE_LOAD").unwrap_or_default();
    let rounds = std::env::var("QUORUMLITE_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    for load in LOADS.iter().filter(|load| load.name.contains(&only)) {
        let (_dir, conn) = plain();
        let mut ours = Replica::new();
        ours.execute(SCHEMA).unwrap();
        let (mut left, mut right) = (1_000_000.., 1_000_000..);
        let (mut plain_times, mut our_times) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            plain_times.push(run_plain(&conn, load, &mut left));
            our_times.push(run_ours(&mut ours, load, &mut right));
        }
        let statements = (load.in_one * load.transactions) as f64;
        let (plain, ours) = (median(&mut plain_times), median(&mut our_times));
        println!(
            "{:<42} plain {:>8.2} us, applied {:>8.2} us a statement, ratio {:.2}",
            load.name,
            plain / statements,
            ours / statements,
            ours / plain
        );
    }
}

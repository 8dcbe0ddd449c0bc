//! The state is a pure function of the log: however entries are put into transactions, whenever a
//! replica restarts, or gets its state as an image, all end up with the same bytes.

use proptest::prelude::*;
use proptest::sample::Index;

use super::state_support::*;
use crate::sqlite::apply::command::{Command, CommandResult};
use crate::sqlite::apply::recent::Limits;
use crate::sqlite::apply::writer::{Entry, EntryKind};
use crate::statement::{Params, Statement};
use crate::value::Value;

/// Small, so that a few commands reach them.
const LIMITS: Limits = Limits { clients: 4, results_per_client: 3 };

const SCHEMA: &[&str] = &[
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE, n INT CHECK(n < 18), \
     at TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE child(t INT REFERENCES t(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE log(what, changes, rowid_seen, r DEFAULT (random()))",
    "CREATE TRIGGER t_log AFTER INSERT ON t BEGIN \
     INSERT INTO log(what, changes, rowid_seen) VALUES (new.v, changes(), last_insert_rowid()); END",
    "CREATE TRIGGER t_no BEFORE UPDATE ON t WHEN new.n = 13 BEGIN \
     SELECT RAISE(ROLLBACK, 'thirteen'); END",
    "CREATE VIRTUAL TABLE words USING fts5(w)",
    "CREATE VIRTUAL TABLE notes USING fts5(w, detail=column)",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
];

/// Each takes a number from 0 to 19 as `?1`.
const STATEMENTS: &[&str] = &[
    "INSERT INTO t(v, n) VALUES ('v' || ?1, ?1)",
    "INSERT INTO t(v, n) VALUES ('w' || ?1, ?1) RETURNING id, v, n",
    "INSERT OR ROLLBACK INTO t(v, n) VALUES ('v' || ?1, 0)",
    "INSERT OR FAIL INTO t(v, n) VALUES ('f' || ?1, 0), ('v' || ?1, 0), ('g' || ?1, 0)",
    "INSERT OR REPLACE INTO t(id, v, n) VALUES (?1, 'r' || ?1, 1)",
    "INSERT OR IGNORE INTO t(v, n) VALUES ('v' || ?1, 1)",
    "UPDATE t SET n = ?1 WHERE id % 3 = ?1 % 3",
    "DELETE FROM t WHERE id % 7 = ?1 % 7",
    "INSERT INTO child VALUES (?1)",
    "DELETE FROM child WHERE t = ?1",
    "CREATE TABLE extra(a, b DEFAULT (?1))",
    "CREATE TABLE extra AS SELECT ?1 AS a, 2 AS b",
    "DROP TABLE extra",
    "INSERT INTO extra(a) VALUES (?1)",
    "INSERT INTO log(what, changes, rowid_seen) SELECT ?1, changes(), last_insert_rowid()",
    "INSERT INTO log(what) SELECT hex(randomblob(3000 + ?1)) RETURNING what",
    "INSERT INTO words VALUES ('one two ' || ?1)",
    "DELETE FROM words WHERE words MATCH ?1",
    "INSERT INTO notes SELECT 'three ' || v FROM t UNION ALL SELECT ?1",
    "INSERT INTO notes(notes, rank) VALUES ('automerge', ?1)",
    "INSERT INTO notes WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 120) \
     SELECT hex(randomblob(8)) FROM n",
    "DELETE FROM notes WHERE rowid % 5 = ?1 % 5",
    "INSERT INTO boxes VALUES (NULL, ?1, ?1 + 3)",
    "DELETE FROM boxes WHERE x0 < ?1 % 4",
    "ANALYZE",
    "ANALYZE t",
    "DROP TABLE sqlite_stat1",
    "DROP TABLE sqlite_stat4",
    "CREATE INDEX t_n ON t(n, v)",
    "DROP INDEX t_n",
    "ALTER TABLE t RENAME COLUMN at TO since",
    "ALTER TABLE t RENAME COLUMN since TO at",
    "INSERT INTO log(what, rowid_seen) SELECT tbl || coalesce(idx, '') || stat, rowid \
     FROM sqlite_stat1",
    "INSERT INTO log(what) SELECT w FROM boxes, t, words WHERE boxes.x0 < t.n AND t.id = words.rowid",
    "INSERT INTO nowhere VALUES (?1)",
    "SELEC ?1",
];

/// Without virtual tables, lone statements run without a savepoint.
fn is_of_virtual_tables(sql: &str) -> bool {
    ["VIRTUAL", "words", "notes", "boxes"].iter().any(|word| sql.contains(word))
}

fn statement(virtual_tables: bool) -> impl Strategy<Value = Statement> {
    let all = STATEMENTS.iter().copied();
    let of_log: Vec<_> = all.filter(|sql| virtual_tables || !is_of_virtual_tables(sql)).collect();
    (any::<Index>(), 0..20i64).prop_map(move |(which, number)| {
        Statement::new(*which.get(&of_log), Params::Positional(vec![Value::Integer(number)]))
    })
}

prop_compose! {
    fn a_command(virtual_tables: bool)(
        client in 0..7u128,
        sequence in 0..14u64,
        acked_below in 0..14u64,
        seed in any::<u64>(),
        statements in prop_oneof![
            prop::collection::vec(statement(virtual_tables), 1),
            prop::collection::vec(statement(virtual_tables), 1..4),
        ],
    ) -> Command {
        Command { client, sequence, acked_below, seed, statements }
    }
}

fn a_kind(virtual_tables: bool) -> impl Strategy<Value = EntryKind> {
    let commands = prop::collection::vec(a_command(virtual_tables), 0..7);
    let commands = (0..1_000_000_000i64, commands)
        .prop_map(|(timestamp_us, commands)| EntryKind::Commands { timestamp_us, commands });
    prop_oneof![
        1 => Just(EntryKind::Blank),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| EntryKind::Membership(b.into())),
        10 => commands,
    ]
}

fn a_log(virtual_tables: bool) -> impl Strategy<Value = Vec<Entry>> {
    let schema = SCHEMA.iter().copied();
    let schema: Vec<_> =
        schema.filter(|sql| virtual_tables || !is_of_virtual_tables(sql)).collect();
    prop::collection::vec(a_kind(virtual_tables), 1..30).prop_map(move |kinds| {
        let first = entry(1, vec![command(100, 1, 0, &schema)]);
        let rest =
            kinds.into_iter().zip(2..).map(|(kind, index)| Entry { position: at(index), kind });
        std::iter::once(first).chain(rest).collect()
    })
}

/// What happens to a replica after a transaction.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Reopen,
    Checkpoint,
    /// Its state moves to a new replica.
    Image,
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let event = prop_oneof![
        4 => Just(Event::Nothing),
        2 => Just(Event::Reopen),
        1 => Just(Event::Checkpoint),
        1 => Just(Event::Image),
    ];
    prop::collection::vec((1..8usize, event), 40)
}

fn text(results: Vec<Vec<CommandResult>>) -> Vec<String> {
    results.iter().map(|r| format!("{r:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(crate::fuzz::cases(48))
    })]

    #[test]
    fn all_ways_to_apply_a_log_end_up_equal(log in prop_oneof![a_log(true), a_log(false)], events in events()) {
        let mut one_by_one = Replica::with_limits(LIMITS);
        let mut expected = Vec::new();
        for entry in &log {
            expected.extend(text(one_by_one.writer.apply(vec![entry.clone()]).unwrap()));
        }
        one_by_one.check_memory();

        let mut at_once = Replica::with_limits(LIMITS);
        prop_assert_eq!(&text(at_once.writer.apply(log.clone()).unwrap()), &expected);
        at_once.check_memory();
        same(&at_once, &one_by_one);

        let mut mixed = Replica::with_limits(LIMITS);
        let mut results = Vec::new();
        let mut rest = &log[..];
        for (size, event) in events {
            let (now, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            results.extend(text(mixed.writer.apply(now.to_vec()).unwrap()));
            mixed.check_memory();
            match event {
                Event::Nothing => {}
                Event::Reopen => mixed = mixed.reopen(),
                Event::Checkpoint => {
                    mixed.db.checkpoint().unwrap();
                }
                Event::Image => mixed = moved(&mixed),
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(&results, &expected);
        same(&mixed, &one_by_one);
        mixed.check_memory();
    }
}

fn moved(from: &Replica) -> Replica {
    let mut to = Replica::with_limits(LIMITS);
    let image = from.db.image().unwrap();
    let path = to.db.incoming_path();
    std::fs::write(&path, image.read(0, usize::MAX).unwrap()).unwrap();
    let applied = to.writer.install(&path).unwrap();
    assert_eq!(applied, from.writer.applied());
    to
}

fn same(a: &Replica, b: &Replica) {
    // The tables first: they tell more than a hash.
    assert_eq!(a.tables(), b.tables());
    assert_eq!(a.state(), b.state());
}

/// A rollback that takes ANALYZE with it must leave no trace, however many entries it rolls back.
#[test]
fn a_rolled_back_analyze_creates_no_statistics() {
    let log = [
        entry(1, vec![command(100, 1, 0, SCHEMA)]),
        // Applied before, so a repeat; and one that fails.
        entry(2, vec![command(5, 1, 0, &["ANALYZE", "INSERT INTO nowhere VALUES (1)"])]),
        entry(3, vec![command(6, 1, 0, &["INSERT INTO t(id, v) VALUES (1, 'x')"])]),
        entry(4, vec![command(7, 1, 0, &["INSERT OR ROLLBACK INTO t(id, v) VALUES (1, 'y')"])]),
    ];
    let mut apart = Replica::with_limits(LIMITS);
    let mut together = Replica::with_limits(LIMITS);
    for entry in &log {
        apart.writer.apply(vec![entry.clone()]).unwrap();
    }
    together.writer.apply(log.to_vec()).unwrap();
    assert!(apart.query("SELECT 1 FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'").is_empty());
    same(&apart, &together);
}

/// FTS5 keeps some options in memory too, and a rollback does not bring back what they were.
#[test]
fn options_of_a_full_text_index_end_with_the_command_that_failed() {
    let set = |option: &str| format!("INSERT INTO words(words, rank) VALUES ({option})");
    let (rank, deletes) = (set("'rank', 'bm25(100.0)'"), set("'secure-delete', 1"));
    let fill = "INSERT INTO words WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900) \
         SELECT 'common a' || i % 10 FROM n";
    let log = [
        entry(1, vec![command(100, 1, 0, SCHEMA)]),
        entry(2, vec![command(5, 1, 0, &[fill, "INSERT INTO words(words) VALUES ('optimize')"])]),
        entry(3, vec![command(6, 1, 0, &[&rank, "SELECT json('x')"])]),
        entry(
            4,
            vec![command(7, 1, 0, &[&deletes, "INSERT OR ROLLBACK INTO t(id) VALUES (1), (1)"])],
        ),
        entry(
            5,
            vec![command(8, 1, 0, &["INSERT INTO log(what) SELECT rank FROM words('a1') LIMIT 3"])],
        ),
        entry(6, vec![command(9, 1, 0, &["DELETE FROM words WHERE rowid = 500"])]),
    ];
    let mut stays = Replica::with_limits(LIMITS);
    let mut restarts = Replica::with_limits(LIMITS);
    for entry in &log {
        stays.writer.apply(vec![entry.clone()]).unwrap();
        restarts.writer.apply(vec![entry.clone()]).unwrap();
        restarts = restarts.reopen();
    }
    same(&stays, &restarts);
}

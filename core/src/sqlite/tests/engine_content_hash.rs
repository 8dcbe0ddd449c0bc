//! The content hash tells what is different, and nothing else.

use super::*;
use crate::sqlite::determinism::content_hash::content_hash;

fn hash(engine: &Engine) -> String {
    let (hash, _) = content_hash(&engine.reader()).unwrap();
    assert_eq!((hash.len(), hash.to_lowercase()), (64, hash.clone()));
    hash
}

#[test]
fn equal_content_hashes_equal_whatever_the_pages() {
    let (one, other) = (Engine::new(), Engine::new());
    for engine in [&one, &other] {
        engine.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
        engine.run("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID");
    }
    one.run("INSERT INTO t VALUES (1, 'a'), (2, x'62')");
    one.run("INSERT INTO w VALUES ('x', 1), ('y', 2.5)");
    other.run("INSERT INTO w VALUES ('y', 2.5)");
    other.run("INSERT INTO t VALUES (7, zeroblob(100000)), (2, x'62')");
    other.run("DELETE FROM t WHERE id = 7");
    other.run("INSERT INTO t VALUES (1, 'a')");
    other.run("INSERT INTO w VALUES ('x', 1)");
    assert_eq!(hash(&one), hash(&other));
}

#[test]
fn every_difference_shows() {
    let engine = Engine::new();
    let mut seen = vec![hash(&engine)];
    for sql in [
        "CREATE TABLE t(a, b AS (a || 'x'), c AS (abs(a)) STORED)",
        "INSERT INTO t VALUES (NULL)",
        "UPDATE t SET a = ''",
        "UPDATE t SET a = x''",
        "UPDATE t SET a = 0",
        "UPDATE t SET a = 0.0",
        "UPDATE t SET a = '0'",
        "UPDATE t SET rowid = 5",
        "INSERT INTO t VALUES ('0')",
        "CREATE INDEX ta ON t(a)",
        "CREATE VIEW v AS SELECT * FROM t",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 1",
        "CREATE TABLE \"odd \"\"name\"(rowid, _rowid_, oid)",
        "INSERT INTO \"odd \"\"name\" VALUES (1, 2, 3)",
        "CREATE TABLE shadowed(rowid, a)",
        "INSERT INTO shadowed(_rowid_, a) VALUES (9, 1)",
        "CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO auto VALUES (10)",
        "DELETE FROM auto",
        "UPDATE sqlite_sequence SET seq = 3",
        "CREATE VIRTUAL TABLE f USING fts5(a)",
        "INSERT INTO f VALUES ('hello')",
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
        "INSERT INTO r VALUES (1, 0, 1)",
        "ANALYZE",
    ] {
        engine.run(sql);
        let now = hash(&engine);
        assert!(!seen.contains(&now), "{sql}");
        seen.push(now);
    }
    engine.conn.execute_batch("INSERT INTO _quorumlite_meta VALUES ('applied_index', 41)").unwrap();
    assert_eq!(content_hash(&engine.reader()).unwrap(), (seen.remove(seen.len() - 1), 41));
}

#[test]
fn a_virtual_column_that_cannot_be_computed_does_not_matter() {
    let engine = Engine::new();
    engine.run("CREATE TABLE t(a INTEGER)");
    engine.run("INSERT INTO t VALUES (-9223372036854775808)");
    engine.run("ALTER TABLE t ADD COLUMN b AS (abs(a))");
    assert_eq!(engine.refused("SELECT * FROM t").message(), "integer overflow");
    hash(&engine);
}

#[test]
fn commands_hash_equal_however_they_are_split_into_transactions() {
    const COMMANDS: &[&str] = &[
        "CREATE VIRTUAL TABLE f5 USING fts5(a, b)",
        "CREATE VIRTUAL TABLE f4 USING fts5(a, content='', contentless_delete=1)",
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a DEFAULT (randomblob(9)), at DEFAULT CURRENT_TIMESTAMP)",
    ];
    const REPEATED: &[&str] = &[
        "INSERT INTO f5 SELECT value || ' word' || (value * 7 % 13), random() FROM json_each('[1,2,3,4,5]')",
        "UPDATE f5 SET a = a || ' again' WHERE rowid % 3 = 0",
        "INSERT INTO f4 SELECT hex(randomblob(4)) || ' hello' FROM json_each('[1,2,3]')",
        "DELETE FROM f4 WHERE rowid % 5 = 0",
        "INSERT INTO r SELECT NULL, value, value + 1 FROM json_each('[1,2,3,4,5,6,7]')",
        "INSERT INTO t(id) VALUES (NULL), (NULL)",
        "DELETE FROM f5 WHERE rowid % 4 = 0",
    ];
    let commands: Vec<&str> =
        COMMANDS.iter().chain(REPEATED.iter().cycle().take(40 * REPEATED.len())).copied().collect();
    let apply = |per_transaction: usize| {
        let mut engine = Engine::new();
        for (batch, commands) in commands.chunks(per_transaction).enumerate() {
            if batch % 7 == 3 {
                // A restart.
                engine.conn = open_writer(&engine.path).unwrap();
            }
            engine.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (i, sql) in commands.iter().enumerate() {
                let seed = (batch * per_transaction + i) as u64;
                engine.conn.execute_batch("SAVEPOINT command").unwrap();
                engine.command(CommandContext { timestamp_us: seed as i64, seed }, sql);
                engine.conn.execute_batch("RELEASE command").unwrap();
            }
            engine.conn.execute_batch("COMMIT").unwrap();
        }
        hash(&engine)
    };
    let expected = apply(1);
    for per_transaction in [2, 5, 64, commands.len()] {
        assert_eq!(apply(per_transaction), expected, "{per_transaction} commands a transaction");
    }
}

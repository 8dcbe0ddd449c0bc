//! Statements to begin with: a small set of this test's own, and those of the SQL logic tests where
//! they are beside the repository (see `sql_logic/main.rs`).

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::split;

/// The tables that the statements below and those of [`crate::nest`] speak of.
pub const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS a(x, y)",
    "CREATE TABLE IF NOT EXISTS b(id INTEGER PRIMARY KEY, x TEXT UNIQUE, y REAL DEFAULT 1.5, \
     z AS (x || y) STORED)",
    "CREATE TABLE IF NOT EXISTS c(p TEXT, q INT, r BLOB, PRIMARY KEY (p, q)) STRICT, WITHOUT ROWID",
    "INSERT INTO a VALUES (1, 2), ('one', NULL), (x'00ff', 1e9)",
    "INSERT OR IGNORE INTO b(id, x) VALUES (1, 'ann'), (2, 'bob')",
    "INSERT OR IGNORE INTO c VALUES ('k', 1, x'01'), ('k', 2, NULL)",
];

/// One of every kind of statement, so that a splice has something of everything.
const OWN: &[&str] = &[
    "SELECT DISTINCT a.x, b.y AS \"y y\", count(*) FILTER (WHERE b.id > 1) FROM a LEFT JOIN b ON a.x = b.id \
     WHERE a.y BETWEEN 1 AND 3 OR a.x LIKE 'o%' ESCAPE '!' GROUP BY a.x HAVING count(*) > 0 \
     ORDER BY 1 DESC NULLS LAST LIMIT 5 OFFSET 1",
    "SELECT x FROM a UNION SELECT y FROM b EXCEPT SELECT q FROM c ORDER BY x COLLATE NOCASE",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) SELECT sum(i) FROM n",
    "WITH m AS MATERIALIZED (SELECT * FROM a), k AS NOT MATERIALIZED (SELECT * FROM b) SELECT * FROM m, k",
    "SELECT x, row_number() OVER (PARTITION BY y ORDER BY x RANGE BETWEEN UNBOUNDED PRECEDING AND \
     CURRENT ROW EXCLUDE TIES), lag(x, 2) OVER w FROM a WINDOW w AS (ORDER BY y)",
    "SELECT CASE x WHEN 1 THEN 'a' ELSE CAST(x AS TEXT) END, x IS NOT DISTINCT FROM y, x -> '$.a' FROM a",
    "SELECT * FROM json_each('[1,{\"a\":[2,3]}]') WHERE value > 1",
    "SELECT json_group_array(x), json_group_object(x, y), group_concat(x, '-' ORDER BY y) FROM a",
    "SELECT (SELECT max(y) FROM b WHERE b.x = a.x), EXISTS (SELECT 1 FROM c WHERE q = a.x) FROM a",
    "SELECT * FROM a NATURAL JOIN b FULL OUTER JOIN c ON p = x CROSS JOIN a AS a2 USING (x)",
    "SELECT (x, y) IN (VALUES (1, 2), (3, 4)), (1, 2) < (x, y) FROM a",
    "SELECT printf('%08.3f %s %q', 1.5, 'a', 'b'), substr('abc', -2, 1), round(1.55, 1), hex(x'ff')",
    "SELECT date('now', '+1 month', 'weekday 0'), strftime('%Y-%m-%dT%H:%M:%f', 1.5), CURRENT_TIMESTAMP",
    "SELECT * FROM pragma_table_info('a') JOIN pragma_index_list('b')",
    "SELECT CAST(x'ff' AS TEXT), typeof(CAST(x'c328' AS TEXT)), length(x'00' || 'a')",
    "SELECT 9223372036854775807 + 1, -9223372036854775808, 1e308 * 10, 0x7fffffffffffffff, 1_000",
    "SELECT unhex('zz'), zeroblob(10), randomblob(3), char(0, 65, 1114111), unicode('')",
    "VALUES (1, 'a'), (2, NULL) ORDER BY 1",
    "INSERT INTO a(x, y) VALUES (1, 2), (3, (SELECT max(x) FROM a)) RETURNING x, y AS why, rowid",
    "INSERT INTO b(id, x) VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET x = excluded.x WHERE y > 0 RETURNING *",
    "INSERT OR REPLACE INTO c SELECT x, 1, y FROM a WHERE typeof(x) = 'text' AND typeof(y) = 'blob'",
    "REPLACE INTO b(x) VALUES ('ann')",
    "INSERT INTO b DEFAULT VALUES",
    "UPDATE OR IGNORE b SET (x, y) = (SELECT x, y FROM a WHERE a.x = b.id) WHERE id IN (SELECT x FROM a) RETURNING *",
    "UPDATE a SET x = n.i FROM (SELECT 5 AS i) AS n WHERE a.x = 1",
    "DELETE FROM a WHERE x IS NULL OR rowid % 7 = 3 RETURNING *",
    "WITH d AS (SELECT max(rowid) AS r FROM a) DELETE FROM a WHERE rowid IN (SELECT r FROM d)",
    "CREATE TABLE IF NOT EXISTS d(k INTEGER PRIMARY KEY AUTOINCREMENT, l VARCHAR(10) NOT NULL DEFAULT 'x' \
     COLLATE RTRIM, m REFERENCES b(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, \
     n AS (k + 1) VIRTUAL, CHECK (length(l) < 9), UNIQUE (l, m) ON CONFLICT REPLACE)",
    "CREATE TABLE IF NOT EXISTS e AS SELECT x, count(*) AS n FROM a GROUP BY x",
    "CREATE UNIQUE INDEX IF NOT EXISTS ai ON a(lower(x), y DESC) WHERE x IS NOT NULL",
    "CREATE VIEW IF NOT EXISTS v(p, q) AS SELECT x, max(y) FROM a GROUP BY x",
    "CREATE TRIGGER IF NOT EXISTS at AFTER UPDATE OF x, y ON a FOR EACH ROW WHEN old.x <> new.x BEGIN \
     INSERT INTO e VALUES (new.x, changes()); SELECT RAISE(IGNORE) WHERE new.y = 7; END",
    "CREATE TRIGGER IF NOT EXISTS vt INSTEAD OF INSERT ON v BEGIN INSERT INTO a VALUES (new.p, new.q); END",
    "INSERT INTO v VALUES (9, 10)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(t, u UNINDEXED, prefix = '2', tokenize = 'porter')",
    "INSERT INTO f VALUES ('one two three', 1), ('zebra', 2)",
    "SELECT highlight(f, 0, '<', '>'), snippet(f, 0, '', '', '..', 4), bm25(f) FROM f('one AND (t: tw* OR NEAR(two three, 2))')",
    "INSERT INTO f(f) VALUES ('optimize')",
    "INSERT INTO f(f, rank) VALUES ('merge', 16)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS g USING rtree(id, x0, x1, +note)",
    "INSERT INTO g VALUES (NULL, 1, 2, 'here')",
    "SELECT * FROM g WHERE x0 > 0 AND x1 < 5",
    "CREATE VIRTUAL TABLE IF NOT EXISTS fv USING fts5vocab(f, 'row')",
    "SELECT * FROM fv",
    "ALTER TABLE e ADD COLUMN o DEFAULT 5",
    "ALTER TABLE e RENAME COLUMN o TO oo",
    "ALTER TABLE e DROP COLUMN oo",
    "ALTER TABLE e RENAME TO ee",
    "DROP TABLE IF EXISTS ee",
    "DROP VIEW IF EXISTS v",
    "DROP TRIGGER IF EXISTS at",
    "DROP INDEX IF EXISTS ai",
    "ANALYZE",
    "REINDEX a",
    "PRAGMA table_xinfo(a)",
    "PRAGMA user_version = 5",
    "PRAGMA foreign_key_list(d)",
    "EXPLAIN QUERY PLAN SELECT * FROM a WHERE x = 1",
    "SELECT name, sql FROM sqlite_schema WHERE type = 'table'",
];

/// Lists of statements that follow each other.
pub struct Seeds(Vec<Vec<String>>);

impl Seeds {
    pub fn load() -> Seeds {
        let mut lists = vec![OWN.iter().map(|sql| sql.to_string()).collect()];
        match folder() {
            Some(root) => lists.extend(files(&root).iter().map(|file| statements_of(file))),
            None => {
                println!("no SQL logic tests beside the repository: only this test's own seeds")
            }
        }
        lists.retain(|list| !list.is_empty());
        Seeds(lists)
    }

    pub fn lists(&self) -> &[Vec<String>] {
        &self.0
    }
}

fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("QUORUMLITE_SQLLOGICTEST").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sqllogictest");
    Some(given.unwrap_or(beside)).filter(|root| root.is_dir())
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "test" || e == "jsonl") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The statements of one file, in its order, without what is expected of them.
fn statements_of(file: &Path) -> Vec<String> {
    let text = std::fs::read(file).expect("a file");
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let mut found = Vec::new();
    if file.extension().is_some_and(|e| e == "jsonl") {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let case: Json = serde_json::from_str(line).expect("a case in JSON");
            let setup = case["setup"].as_array().map(Vec::as_slice).unwrap_or_default();
            for script in setup.iter().chain([&case["sql"]]).filter_map(Json::as_str) {
                found.extend(split::statements(script));
            }
        }
        return found;
    }
    for record in text.split("\n\n") {
        let lines: Vec<&str> = record
            .lines()
            .skip_while(|line| !line.starts_with("statement ") && !line.starts_with("query "))
            .collect();
        let Some((_, body)) = lines.split_first() else { continue };
        let sql: Vec<&str> = body.iter().copied().take_while(|line| *line != "----").collect();
        if !sql.is_empty() {
            found.push(sql.join("\n"));
        }
    }
    found
}

#[test]
fn the_seeds_of_this_test_are_valid() {
    // A typing error here would silently leave a kind of statement out: the tokens add up.
    for sql in OWN.iter().chain(SCHEMA) {
        let open = sql.matches('(').count();
        assert_eq!(open, sql.matches(')').count(), "{sql}");
        assert_eq!(split::statements(sql).len(), 1, "{sql}");
    }
}

//! Statements that are deep, long or wide: one shape each, to a size that is drawn.

use quorumlite::{Statement, Value};

use crate::call::{Call, Kind};
use crate::random::Random;

/// Below, at and beyond what SQLite's limits and a thread's stack take.
const SIZES: &[usize] =
    &[2, 3, 8, 20, 33, 64, 65, 100, 126, 127, 128, 200, 490, 501, 900, 1001, 2001, 5000, 20_000];

/// Texts longer than a mebibyte are refused by their length alone.
const LONGEST: usize = 1_040_000;

/// Calls that belong together and end with the deep one.
pub fn calls(random: &mut Random) -> Vec<Call> {
    if random.one_in(4) {
        return chains(random);
    }
    let (sql, params) = statement(random);
    let kind = if is_write(&sql) || random.one_in(4) { Kind::Execute } else { Kind::Query };
    vec![Call { kind, statements: vec![Statement::new(sql, params)] }]
}

fn is_write(sql: &str) -> bool {
    !["SELECT", "WITH", "VALUES", "EXPLAIN"].iter().any(|word| sql.starts_with(word))
}

fn repeated(part: &str, n: usize, separator: &str) -> String {
    let n = n.min(LONGEST / (part.len() + separator.len()).max(1));
    vec![part; n].join(separator)
}

fn around(before: &str, core: &str, after: &str, n: usize) -> String {
    let n = n.min(LONGEST / (before.len() + after.len()));
    format!("{}{core}{}", before.repeat(n), after.repeat(n))
}

fn numbered(n: usize, separator: &str, part: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for i in 0..n {
        if text.len() > LONGEST {
            break;
        }
        if i > 0 {
            text += separator;
        }
        text += &part(i);
    }
    text
}

/// An expression nested or chained `n` times.
pub fn expression(random: &mut Random, n: usize) -> String {
    match random.below(26) {
        0 => around("(", "1", ")", n),
        1 => around("CASE WHEN ", "1", " THEN 1 END", n),
        2 => around("CASE 1 WHEN 1 THEN ", "1", " ELSE 2 END", n),
        3 => around("(SELECT ", "1", ")", n),
        4 => around("abs(", "1", ")", n),
        5 => around("coalesce(1, ", "1", ")", n),
        6 => around("NOT ", "1", "", n),
        7 => around("- ", "1", "", n),
        8 => around("~", "1", "", n),
        9 => around("EXISTS (SELECT ", "1", ")", n),
        10 => around("1 IN (", "1", ")", n),
        11 => around("1 IN (SELECT ", "1", ")", n),
        12 => around("CAST(", "1", " AS TEXT)", n),
        13 => around("", "1", " COLLATE NOCASE", n),
        14 => around("", "1", " IS NULL", n),
        15 => around("", "1", " BETWEEN 0 AND 2", n),
        16 => around("", "'{}'", " -> '$.a'", n),
        17 => repeated("1", n, random.pick(&[" + ", " || ", " AND ", " OR ", " = ", " * ", " , "])),
        18 => repeated("x'ff'", n, " || "),
        19 => format!("1 IN ({})", repeated("1", n, ", ")),
        20 => format!("max({})", repeated("1", n, ", ")),
        21 => format!("({}) = ({})", repeated("1", n, ", "), repeated("1", n, ", ")),
        22 => format!("json('{}{}')", "[".repeat(n), "]".repeat(n)),
        23 => format!("json('{}1{}')", "{\"a\":".repeat(n), "}".repeat(n)),
        24 => format!("1{}", "0".repeat(n)),
        _ => around("max(1, (SELECT ", "1", "))", n),
    }
}

fn statement(random: &mut Random) -> (String, Vec<Value>) {
    let n = SIZES[random.below(SIZES.len())];
    let e = expression(random, n);
    let sql = match random.below(48) {
        0..6 => format!("SELECT {e}"),
        6 => format!("SELECT 1 WHERE {e}"),
        7 => format!("SELECT 1 ORDER BY {e}"),
        8 => format!("SELECT 1 GROUP BY {e} HAVING {e}"),
        9 => format!("INSERT INTO a(x) VALUES ({e})"),
        10 => format!("UPDATE a SET x = {e} WHERE {e}"),
        11 => format!("DELETE FROM a WHERE {e}"),
        12 => format!("CREATE TABLE IF NOT EXISTS deep(x DEFAULT ({e}), CHECK ({e}))"),
        13 => format!("CREATE INDEX IF NOT EXISTS deep_index ON a({e})"),
        14 => format!("CREATE INDEX IF NOT EXISTS deep_partial ON a(x) WHERE {e}"),
        15 => format!("CREATE TABLE IF NOT EXISTS generated(x, y AS ({e}))"),
        16 => format!(
            "CREATE TRIGGER IF NOT EXISTS deep_trigger AFTER INSERT ON a WHEN {e} \
             BEGIN UPDATE a SET y = {e} WHERE 0; END"
        ),
        17 => format!("CREATE VIEW IF NOT EXISTS deep_view AS SELECT {e}"),
        18 => repeated(
            "SELECT 1",
            n,
            random.pick(&[" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "]),
        ),
        19 => around("SELECT * FROM (", "SELECT 1", ")", n),
        20 => format!(
            "SELECT * FROM {}",
            repeated(
                "a",
                n,
                random.pick(&[", ", " JOIN ", " NATURAL JOIN ", " LEFT JOIN ", " FULL JOIN "])
            )
        ),
        21 => format!(
            "SELECT 1 FROM {}",
            numbered(n, " JOIN ", |i| format!("a AS q{i} USING (x)").replacen(
                " USING (x)",
                if i == 0 { "" } else { " USING (x)" },
                1
            ))
        ),
        22 => format!("SELECT {} FROM a", repeated("*", n, ", ")),
        23 => format!("SELECT {}", numbered(n, ", ", |i| format!("{i} AS c"))),
        24 => format!("VALUES {}", repeated("(1)", n, ", ")),
        25 => format!(
            "WITH {} SELECT * FROM q{}",
            numbered(n, ", ", |i| match i {
                0 => "q0 AS (SELECT 1 AS x)".into(),
                _ => format!("q{i} AS (SELECT l.x FROM q{} l, q{} r)", i - 1, i - 1),
            }),
            n - 1
        ),
        26 => format!(
            "WITH {} SELECT * FROM q{}",
            numbered(n, ", ", |i| match i {
                0 => "q0(x) AS (SELECT 1)".into(),
                _ =>
                    format!("q{i}(x) AS (SELECT x FROM q{} UNION SELECT x FROM q{})", i - 1, i - 1),
            }),
            n - 1
        ),
        27 => format!(
            "WITH RECURSIVE {} SELECT * FROM q0",
            numbered(n, ", ", |i| format!(
                "q{i}(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM q{} LIMIT 3)",
                (i + 1) % n
            ))
        ),
        28 => format!(
            "SELECT {}",
            numbered(n, ", ", |i| format!("sum(x) OVER (ORDER BY y ROWS {i} PRECEDING)"))
                + " FROM a"
        ),
        29 => format!(
            "SELECT 1 FROM a WINDOW {}",
            numbered(n, ", ", |i| match i {
                0 => "w0 AS ()".into(),
                _ => format!("w{i} AS (w{})", i - 1),
            })
        ),
        30 => format!(
            "CREATE TABLE IF NOT EXISTS wide{n}({})",
            numbered(n, ", ", |i| format!("c{i}"))
        ),
        31 => format!(
            "CREATE TABLE IF NOT EXISTS keys{n}(x, {})",
            numbered(n, ", ", |i| format!("UNIQUE (x), FOREIGN KEY (x) REFERENCES a{i}(x)"))
        ),
        32 => format!(
            "CREATE TABLE IF NOT EXISTS chain{n}(c0, {})",
            numbered(n, ", ", |i| format!("c{} AS (c{i} || c{i})", i + 1))
        ),
        33 => format!(
            "CREATE TRIGGER IF NOT EXISTS long_trigger AFTER UPDATE ON a BEGIN {} END",
            repeated("UPDATE a SET x = 1 WHERE 0;", n, " ")
        ),
        34 => repeated("SELECT 1", n, "; "),
        35 => repeated("INSERT INTO a(x) VALUES (1)", n, ";"),
        36 => format!("{}SELECT 1{}", ";".repeat(n), ";".repeat(n)),
        37 => format!("{}SELECT 1", "/* */".repeat(n.min(LONGEST / 5))),
        38 => format!("SELECT 1 AS \"{}\"", "long".repeat(n)),
        39 => format!("SELECT '{}'", "''".repeat(n)),
        40 => format!("SELECT {}", numbered(n, ", ", |i| format!("?{}", (i % 32_800) + 1))),
        41 => format!(
            "INSERT INTO a(x) VALUES (1) {} ",
            numbered(n, " ", |_| "ON CONFLICT (x) DO UPDATE SET y = 1".into())
        ),
        42 => {
            format!("INSERT INTO a(x) VALUES (1) RETURNING {}", numbered(n, ", ", |_| "*".into()))
        }
        43 => format!("UPDATE a SET {}", numbered(n, ", ", |_| "x = 1".into())),
        44 => format!("UPDATE a SET ({}) = ({})", repeated("x", n, ", "), repeated("1", n, ", ")),
        45 => format!(
            "SELECT * FROM json_each('{}') JOIN json_tree('{}')",
            "[".repeat(n) + &"]".repeat(n),
            around("[", "1", "]", n)
        ),
        46 => format!("EXPLAIN SELECT {e}"),
        _ => return patterns(random, n),
    };
    (sql, Vec::new())
}

/// Texts against patterns, where one instruction works for long.
fn patterns(random: &mut Random, n: usize) -> (String, Vec<Value>) {
    let n = n.max(1000);
    let (text, pattern) = match random.below(4) {
        0 => ("a".repeat(n + 1), "%a".repeat(n)),
        1 => ("a".repeat(n * 4), "%_".repeat(n / 2) + "b"),
        2 => ("a".repeat(n + 1), "*a".repeat(n)),
        _ => ("a".repeat(n), "*[a-z]".repeat(n / 8) + "b"),
    };
    let operator = random.pick(&["LIKE", "GLOB", "LIKE", "GLOB", "MATCH"]);
    let sql = match random.below(4) {
        0 => format!("INSERT INTO a(x) SELECT ? {operator} ?"),
        1 => "SELECT replace(?, 'a', ?)".into(),
        2 => "SELECT instr(?, ?)".into(),
        _ => format!("SELECT ? {operator} ?"),
    };
    (sql, vec![Value::Text(text), Value::Text(pattern)])
}

/// Objects that build on each other, and a statement that needs them all.
fn chains(random: &mut Random) -> Vec<Call> {
    let n = [3, 6, 10, 14, 20, 40, 90][random.below(7)];
    let mut sql = Vec::new();
    match random.below(6) {
        0 | 1 => {
            let (from, width) = match random.below(3) {
                0 => ("w{i} l, w{i} r", 2),
                1 => ("w{i} l", 1),
                _ => ("w{i} l JOIN w{i} r USING (x) JOIN w{i} s USING (x)", 3),
            };
            let n = if width > 1 { n.min(40) } else { n };
            sql.extend((0..=n).map(|i| format!("DROP VIEW IF EXISTS w{i}")));
            sql.push("CREATE VIEW w0 AS SELECT 1 AS x".into());
            for i in 0..n {
                let from = from.replace("{i}", &i.to_string());
                sql.push(format!("CREATE VIEW w{} AS SELECT l.x FROM {from}", i + 1));
            }
            sql.push(format!("INSERT INTO a(x) SELECT x FROM w{n} LIMIT 1"));
            sql.push(format!("ALTER TABLE a RENAME COLUMN x TO x{n}"));
            sql.push(format!("ALTER TABLE a RENAME COLUMN x{n} TO x"));
        }
        2 => {
            sql.extend((0..=n).map(|i| format!("CREATE TABLE IF NOT EXISTS k{i}(x)")));
            sql.extend((0..n).map(|i| {
                format!(
                    "CREATE TRIGGER IF NOT EXISTS kg{i} AFTER INSERT ON k{i} BEGIN \
                     INSERT INTO k{next} VALUES (new.x); INSERT INTO k{next} VALUES (new.x); END",
                    next = i + 1
                )
            }));
            sql.push("INSERT INTO k0 VALUES (1)".into());
        }
        3 => {
            sql.push("CREATE TABLE IF NOT EXISTS self(x)".into());
            sql.push(
                "CREATE TRIGGER IF NOT EXISTS sg AFTER INSERT ON self WHEN new.x > 0 BEGIN \
                 INSERT INTO self VALUES (new.x - 1); END"
                    .into(),
            );
            sql.push(format!("INSERT INTO self VALUES ({})", 30 * n));
        }
        4 => {
            sql.push("CREATE TABLE IF NOT EXISTS tree(id INTEGER PRIMARY KEY, up REFERENCES tree(id) ON DELETE CASCADE)".into());
            sql.push(format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
                 INSERT OR IGNORE INTO tree SELECT i, nullif(i - 1, 0) FROM n",
                n * 30
            ));
            sql.push("DELETE FROM tree WHERE id = 1".into());
        }
        _ => {
            sql.push("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(w)".into());
            let e = match random.below(4) {
                0 => around("(", "one", ")", n * 10),
                1 => repeated("one", n * 20, " AND "),
                2 => repeated("one", n * 20, " NOT "),
                _ => format!("NEAR({}, 3)", repeated("one", n * 20, " ")),
            };
            sql.push(format!("INSERT INTO words VALUES ('{}')", repeated("one two", n * 9, " ")));
            sql.push(format!("INSERT INTO a(x) SELECT count(*) FROM words('{e}')"));
        }
    }
    let mut calls: Vec<Call> = sql.iter().map(|sql| Call::new(Kind::Execute, sql)).collect();
    if random.one_in(2)
        && let Some(last) = sql.last()
        && let Some(select) = last.find("SELECT")
    {
        calls.push(Call::new(Kind::Query, &last[select..]));
    }
    calls
}

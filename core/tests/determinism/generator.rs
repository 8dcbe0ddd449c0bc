//! [`Generator`]: schemas and statements full of time, chance and conflicts, from a seed.

use quorumlite::{Statement, Value};

use crate::adverse::Kind;

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// How many tables of a kind there may be: enough to meet, few enough to stay full.
const TABLES: usize = 6;
pub const VIRTUAL: usize = 2;

/// One statement, or a batch.
#[derive(Debug, Clone)]
pub struct Command {
    pub statements: Vec<Statement>,
    /// It must fail, on every node.
    pub refused: bool,
}

impl Command {
    pub fn of(statements: Vec<Statement>) -> Command {
        Command { statements, refused: false }
    }
}

/// Every ordinary table has the columns k (its key), a, b, c and g (generated).
pub struct Generator {
    pub random: Random,
    /// Statements that come before anything else, the last one first: the first schema, and tables
    /// that were dropped.
    opening: Vec<String>,
    /// What was prepared by an earlier command.
    pub waiting: Vec<Command>,
    /// Whether there are virtual tables: with them every command gets a savepoint. By the seed.
    pub virtual_tables: bool,
    /// No statement changes the schema.
    pub quiet: bool,
    /// What reads the table of [`Generator::begin_quiet`].
    pub plan_texts: Vec<String>,
    /// The only kind of adverse commands to be made.
    pub only: Option<Kind>,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        let virtual_tables = seed % 2 == 1;
        let mut generator = Generator {
            random: Random::new(seed),
            opening: Vec::new(),
            waiting: Vec::new(),
            virtual_tables,
            quiet: false,
            plan_texts: Vec::new(),
            only: Kind::only(),
        };
        let mut opening = vec![
            "CREATE TABLE log(what, at DEFAULT CURRENT_TIMESTAMP, r DEFAULT (random()), \
             u DEFAULT (uuid7()), n DEFAULT (datetime('now', 'subsec')))"
                .to_string(),
        ];
        opening.extend((0..TABLES).map(|i| generator.create_table(i)));
        if virtual_tables {
            opening.extend((0..VIRTUAL).flat_map(|i| generator.create_virtual(i)));
        }
        opening.extend((0..TABLES).map(|i| generator.create_view(i)));
        opening.extend((0..4 * TABLES).map(|_| generator.create_trigger()));
        opening.extend((0..2 * TABLES).map(|_| generator.create_index()));
        opening.reverse();
        generator.opening = opening;
        generator
    }

    /// The next command.
    pub fn command(&mut self) -> Command {
        if let Some(sql) = self.opening.pop() {
            return Command::of(vec![sql.into()]);
        }
        if let Some(command) = self.waiting.pop() {
            return command;
        }
        if self.quiet {
            match self.random.below(60) {
                0..12 if self.only != Some(Kind::Options) => return self.plan_dependent(),
                12..15 if self.only != Some(Kind::Plans) => return self.options(),
                _ => {}
            }
        } else if let Some(command) = self.adverse() {
            return command;
        }
        let statements = if self.random.one_in(4) { 2 + self.random.below(5) } else { 1 };
        let mut command: Vec<Statement> = (0..statements).map(|_| self.statement()).collect();
        if statements > 1 && self.random.one_in(8) {
            command.insert(0, "PRAGMA defer_foreign_keys = ON".into());
        }
        Command::of(command)
    }

    fn statement(&mut self) -> Statement {
        let mut params = Vec::new();
        let sql = match self.random.below(100) {
            0..32 => self.insert(&mut params),
            32..48 => self.update(&mut params),
            48..58 => self.delete(&mut params),
            58..66 if self.virtual_tables => self.full_text(),
            66..73 if self.virtual_tables => self.boxes(),
            58..73 => self.insert(&mut params),
            73..80 => self.through_a_view(),
            80..84 => self.insert_many(),
            84..86 => self.select(),
            86..96 if self.quiet => self.insert(&mut params),
            86..96 => self.schema(),
            96..98 => self.shrink(),
            _ => self.refused(),
        };
        Statement::new(sql, params)
    }

    // ---- parts ---------------------------------------------------------------------------------

    fn table(&mut self) -> String {
        format!("t{}", self.random.below(TABLES))
    }

    fn literal(&mut self) -> String {
        match self.random.below(12) {
            0 => "NULL".into(),
            1 => format!("'{}'", self.random.pick(&["", "a", "b", "A", "zebra", "7", "1e3", "ß"])),
            2 => format!("x'{:04x}'", self.random.below(65536)),
            3 => format!("{}.{}", self.random.below(20), self.random.below(100)),
            4 => self.random.pick(&["-1", "9223372036854775807", "1e300", "-0.0"]).into(),
            _ => self.random.below(30).to_string(),
        }
    }

    fn value(&mut self) -> Value {
        match self.random.below(6) {
            0 => Value::Null,
            1 => Value::from(self.random.pick(&["a", "b", "zebra", "12", "ß", "one two three"])),
            2 => Value::Blob(vec![7; self.random.below(300)]),
            3 => Value::Real(self.random.below(1000) as f64 / 8.0),
            _ => Value::Integer(self.random.below(30) as i64),
        }
    }

    /// A literal, a parameter, or something that plain SQLite answers differently on each node.
    fn expression(&mut self, params: &mut Vec<Value>) -> String {
        match self.random.below(24) {
            0..7 => self.literal(),
            7..10 => {
                params.push(self.value());
                "?".into()
            }
            10..20 => self.volatile(),
            20 => format!("(SELECT count(*) FROM {})", self.table()),
            21 => format!("(SELECT k FROM {} ORDER BY random() LIMIT 1)", self.table()),
            // Without an order on purpose: the same engine takes the same one.
            22 => format!("(SELECT a FROM {} LIMIT 1)", self.table()),
            _ => format!("(SELECT group_concat(b) FROM (SELECT b FROM {} LIMIT 5))", self.table()),
        }
    }

    fn volatile(&mut self) -> String {
        const VOLATILE: &[&str] = &[
            "random() % 40",
            "abs(random() % 30)",
            "hex(randomblob(4))",
            "randomblob(20)",
            "CURRENT_TIMESTAMP",
            "CURRENT_DATE || CURRENT_TIME",
            "datetime('now', 'subsec')",
            "datetime('now', '+1 month', 'weekday 0')",
            "julianday('now')",
            "unixepoch() % 100",
            "strftime('%Y %j %H:%M:%f', 'now')",
            "timediff('now', '2001-02-03')",
            "changes()",
            "last_insert_rowid() % 50",
            "uuid()",
            "uuid7()",
            "round(sqrt(abs(random() % 1000)), 3)",
            "exp(random() % 5) * sin(random() % 7)",
            "log(2, 1 + abs(random() % 100))",
            "json_object('at', CURRENT_TIMESTAMP, 'r', random() % 9)",
            "printf('%.4f', julianday())",
            "CASE random() % 2 WHEN 0 THEN 'even' ELSE random() END",
        ];
        self.random.pick(VOLATILE).into()
    }

    fn condition(&mut self, params: &mut Vec<Value>) -> String {
        let column = self.random.pick(&["k", "a", "b", "c", "g"]);
        match self.random.below(8) {
            0 => {
                params.push(self.value());
                format!("{column} > ?")
            }
            1 => {
                params.push(self.value());
                format!("{column} = ?")
            }
            2 => {
                format!("{column} IN ({}, {}, {})", self.literal(), self.literal(), self.literal())
            }
            3 => format!("{column} IS NOT {}", self.literal()),
            4 => format!("abs(random()) % 5 = 0 AND {column} IS NOT NULL"),
            5 => format!("{column} BETWEEN {} AND {}", self.literal(), self.literal()),
            6 => format!("k IN (SELECT {column} FROM {} LIMIT 3)", self.table()),
            _ => {
                format!("typeof({column}) = 'integer' AND {column} % 7 = {}", self.random.below(7))
            }
        }
    }

    fn conflict(&mut self) -> &'static str {
        const OR: &[&str] =
            &["", "", "", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ABORT ", "OR ROLLBACK "];
        self.random.pick(OR)
    }

    // ---- rows ----------------------------------------------------------------------------------

    fn insert(&mut self, params: &mut Vec<Value>) -> String {
        let (or, table) = (self.conflict(), self.table());
        let with_key = !self.random.one_in(3);
        let rows: Vec<String> = (0..1 + self.random.below(4))
            .map(|_| {
                let mut row: Vec<String> = (0..3).map(|_| self.expression(params)).collect();
                if with_key {
                    row.insert(0, format!("{}", self.random.below(60)));
                }
                format!("({})", row.join(", "))
            })
            .collect();
        let columns = if with_key { "k, a, b, c" } else { "a, b, c" };
        let mut sql = format!("INSERT {or}INTO {table}({columns}) VALUES {}", rows.join(", "));
        match self.random.below(8) {
            0 => sql += " ON CONFLICT DO NOTHING",
            1 => sql += " ON CONFLICT(k) DO UPDATE SET a = excluded.a, b = random() % 9",
            2 => sql += " ON CONFLICT DO UPDATE SET c = CURRENT_TIMESTAMP WHERE random() % 2",
            _ => {}
        }
        if self.random.one_in(3) {
            sql += " RETURNING k, a, g, random()";
        }
        sql
    }

    fn insert_many(&mut self) -> String {
        let (or, from, to) = (self.conflict(), self.table(), self.table());
        match self.random.below(4) {
            0 => format!(
                "INSERT {or}INTO {to}(a, b, c) SELECT a, random() % 20, g FROM {from} \
                 ORDER BY random() LIMIT {}",
                1 + self.random.below(8)
            ),
            1 => format!(
                "INSERT {or}INTO {to}(a, b, c) SELECT b, c, count(*) FROM {from} GROUP BY 1 LIMIT 6"
            ),
            2 => format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 + abs(random() % 3) FROM n \
                 WHERE i < {}) INSERT {or}INTO {to}(a, b, c) \
                 SELECT i, hex(randomblob(i)), julianday() FROM n",
                self.random.below(40)
            ),
            _ => format!("REPLACE INTO {to}(k, a) SELECT k, a FROM {from} LIMIT 7"),
        }
    }

    fn update(&mut self, params: &mut Vec<Value>) -> String {
        let (or, table, other) = (self.conflict(), self.table(), self.table());
        if self.random.one_in(6) {
            return format!(
                "UPDATE {or}{table} SET a = o.b, c = {} FROM {other} AS o WHERE o.k = {table}.k",
                self.volatile()
            );
        }
        let column = self.random.pick(&["a", "b", "c", "a", "b", "c", "k"]);
        let new = match column {
            "k" => format!("k + {}", self.random.below(9)),
            _ => self.expression(params),
        };
        let mut sql =
            format!("UPDATE {or}{table} SET {column} = {new} WHERE {}", self.condition(params));
        if self.random.one_in(4) {
            sql += " RETURNING *";
        }
        sql
    }

    fn delete(&mut self, params: &mut Vec<Value>) -> String {
        let table = self.table();
        let returning = if self.random.one_in(4) { " RETURNING k, g" } else { "" };
        format!("DELETE FROM {table} WHERE {}{returning}", self.condition(params))
    }

    /// Keeps the database small, so that comparing is cheap.
    fn shrink(&mut self) -> String {
        match self.random.below(4) {
            0 => "DELETE FROM log WHERE rowid < (SELECT max(rowid) - 300 FROM log)".into(),
            1 => format!("DELETE FROM f{} WHERE rowid % 3 <> 0", self.random.below(VIRTUAL)),
            _ => {
                let table = self.table();
                format!("DELETE FROM {table} WHERE (SELECT count(*) FROM {table}) > 150 AND k % 3")
            }
        }
    }

    fn select(&mut self) -> String {
        let table = self.table();
        format!("SELECT k, a, {} FROM {table} LIMIT 5", self.volatile())
    }

    fn through_a_view(&mut self) -> String {
        let view = format!("v{}", self.random.below(TABLES));
        match self.random.below(3) {
            0 => {
                format!("INSERT INTO {view}(k, a) VALUES ({}, {})", self.literal(), self.volatile())
            }
            1 => format!("UPDATE {view} SET a = {} WHERE k % 5 = 1", self.volatile()),
            _ => format!("DELETE FROM {view} WHERE k % 11 = {}", self.random.below(11)),
        }
    }

    pub fn words(&mut self) -> String {
        const WORDS: &[&str] =
            &["one", "two", "three", "raft", "log", "term", "leader", "ß", "Été"];
        let words: Vec<&str> =
            (0..1 + self.random.below(8)).map(|_| self.random.pick(WORDS)).collect();
        words.join(" ")
    }

    fn full_text(&mut self) -> String {
        let (table, words) = (format!("f{}", self.random.below(VIRTUAL)), self.words());
        let word = self.words().split(' ').next().unwrap_or("one").to_string();
        match self.random.below(12) {
            0..5 => format!("INSERT INTO {table}(x, y) VALUES ('{words}', {})", self.volatile()),
            5 => format!("INSERT INTO {table}(x, y) SELECT a, b FROM {} LIMIT 9", self.table()),
            6 => format!("UPDATE {table} SET y = {} WHERE {table} MATCH '{word}'", self.volatile()),
            7 => format!("DELETE FROM {table} WHERE {table} MATCH '{word}' AND random() % 2"),
            8 => format!("INSERT INTO {table}({table}) VALUES ('optimize')"),
            9 => format!(
                "INSERT INTO {table}({table}, rank) VALUES ('merge', {})",
                self.random.below(20)
            ),
            10 => {
                let option = self.random.pick(&["automerge", "usermerge", "crisismerge"]);
                format!(
                    "INSERT INTO {table}({table}, rank) VALUES ('{option}', {})",
                    2 + self.random.below(4)
                )
            }
            _ => format!(
                "INSERT INTO log(what) SELECT highlight({table}, 0, '<', '>') FROM {table}('{word}') LIMIT 3"
            ),
        }
    }

    fn boxes(&mut self) -> String {
        let table = format!("r{}", self.random.below(VIRTUAL));
        let x = self.random.below(100);
        match self.random.below(5) {
            0 | 1 => {
                format!("INSERT INTO {table} VALUES (NULL, {x}, {x} + abs(random() % 9), 0, {x})")
            }
            2 => {
                format!("UPDATE {table} SET x1 = x1 + abs(random() % 5) WHERE x0 < {x} AND y1 > 3")
            }
            3 => format!("DELETE FROM {table} WHERE x0 > {x} AND x1 < {x} + 20"),
            _ => format!("INSERT INTO log(what) SELECT id FROM {table} WHERE x0 < {x} LIMIT 3"),
        }
    }

    /// What every node has to refuse in the same way.
    fn refused(&mut self) -> String {
        const REFUSED: &[&str] = &[
            "INSERT INTO log(what) VALUES (datetime('now', 'localtime'))",
            "INSERT INTO log(what) VALUES (total_changes())",
            "INSERT INTO log(what) VALUES (sqlite_version())",
            "INSERT INTO log(rowid, what) VALUES (9223372036854775807, 'last')",
            "CREATE TEMP TABLE x(a)",
            "INSERT INTO nowhere VALUES (1)",
            "SELEC 1",
            "INSERT INTO log(what) VALUES (abs(-9223372036854775808))",
            "INSERT INTO log(what) VALUES (?)",
            "SAVEPOINT x",
        ];
        self.random.pick(REFUSED).into()
    }

    // ---- schema --------------------------------------------------------------------------------

    fn schema(&mut self) -> String {
        let i = self.random.below(TABLES);
        match self.random.below(20) {
            0 if self.random.one_in(2) => {
                // It comes back at once, in another form, or half of all statements would fail.
                let create = self.create_table(i);
                self.opening.push(create);
                format!("DROP TABLE IF EXISTS t{i}")
            }
            0..4 => self.create_table(i),
            4 => format!("DROP TRIGGER IF EXISTS g{}", self.random.below(24)),
            5..7 => self.create_trigger(),
            7 => format!("DROP INDEX IF EXISTS i{}", self.random.below(16)),
            8..10 => self.create_index(),
            10 => format!("DROP VIEW IF EXISTS v{i}"),
            11..13 => self.create_view(i),
            13 => self
                .random
                .pick(&[
                    "ANALYZE",
                    "ANALYZE main",
                    "DROP TABLE IF EXISTS sqlite_stat1",
                    "DROP TABLE IF EXISTS sqlite_stat4",
                    "INSERT INTO log(what) SELECT tbl || coalesce(idx, '') || stat FROM sqlite_stat1",
                ])
                .to_string(),
            14 => format!("ANALYZE t{i}"),
            15 => format!("REINDEX t{i}"),
            16 => format!("ALTER TABLE t{i} ADD COLUMN z{} DEFAULT 7", self.random.below(3)),
            17 => format!("ALTER TABLE t{i} DROP COLUMN z{}", self.random.below(3)),
            18 => format!("ALTER TABLE t{i} RENAME COLUMN z{} TO z9", self.random.below(3)),
            _ => format!("CREATE TABLE IF NOT EXISTS c{i} AS SELECT *, random() FROM t{i} LIMIT 9"),
        }
    }

    fn create_table(&mut self, i: usize) -> String {
        let strict = self.random.one_in(4);
        let without_rowid = self.random.one_in(4);
        let of = |random: &mut Random| -> &'static str {
            if strict {
                "ANY"
            } else {
                random.pick(&["", "INT", "TEXT", "REAL", "NUMERIC", "BLOB"])
            }
        };
        let key = match (without_rowid, self.random.below(3)) {
            (true, 0) => "k INTEGER NOT NULL PRIMARY KEY DESC",
            (true, _) => "k INTEGER PRIMARY KEY",
            (false, 0) => "k INTEGER PRIMARY KEY AUTOINCREMENT",
            (false, _) => "k INTEGER PRIMARY KEY",
        };
        let mut lines = vec![key.to_string()];
        for column in ["a", "b", "c"] {
            let mut line = format!("{column} {}", of(&mut self.random));
            match self.random.below(6) {
                0 => line += &format!(" DEFAULT ({})", self.volatile()),
                1 => line += " DEFAULT CURRENT_TIMESTAMP",
                2 => {
                    line += self.random.pick(&[
                        " UNIQUE",
                        " UNIQUE ON CONFLICT REPLACE",
                        " NOT NULL DEFAULT 3",
                    ])
                }
                3 => {
                    line += self
                        .random
                        .pick(&[" CHECK (random() % 9)", " CHECK (typeof(1) = 'integer')"])
                }
                4 if i > 0 => {
                    let parent = self.random.below(i);
                    let action = self.random.pick(&[
                        "CASCADE",
                        "SET NULL",
                        "SET DEFAULT",
                        "RESTRICT",
                        "NO ACTION",
                    ]);
                    let update = self.random.pick(&["CASCADE", "SET NULL", "NO ACTION"]);
                    let deferred = self.random.pick(&["", " DEFERRABLE INITIALLY DEFERRED"]);
                    line += &format!(
                        " REFERENCES t{parent}(k) ON DELETE {action} ON UPDATE {update}{deferred}"
                    );
                }
                _ => line += self.random.pick(&["", " COLLATE NOCASE", ""]),
            }
            lines.push(line);
        }
        const GENERATED: &[&str] = &[
            "a || '-' || b",
            "length(b) + k",
            "sqrt(abs(k))",
            "coalesce(a, b, c)",
            "date('2001-02-03', k || ' days')",
            "hex(c)",
        ];
        let stored = self.random.pick(&["STORED", "VIRTUAL"]);
        lines.push(format!(
            "g {} AS ({}) {stored}",
            of(&mut self.random),
            self.random.pick(GENERATED)
        ));
        let options = match (strict, without_rowid) {
            (true, true) => " STRICT, WITHOUT ROWID",
            (true, false) => " STRICT",
            (false, true) => " WITHOUT ROWID",
            (false, false) => "",
        };
        format!("CREATE TABLE IF NOT EXISTS t{i}({}){options}", lines.join(", "))
    }

    pub fn create_virtual(&mut self, i: usize) -> Vec<String> {
        let options =
            self.random.pick(&["", ", prefix = '2 3'", ", detail = none", ", tokenize = 'porter'"]);
        vec![
            format!("CREATE VIRTUAL TABLE f{i} USING fts5(x, y{options})"),
            format!(
                "CREATE VIRTUAL TABLE r{i} USING {}(id, x0, x1, y0, y1)",
                self.random.pick(&["rtree", "rtree_i32"])
            ),
        ]
    }

    fn create_index(&mut self) -> String {
        let (name, table) = (self.random.below(16), self.table());
        let unique = if self.random.one_in(6) { "UNIQUE " } else { "" };
        let what = self.random.pick(&[
            "a",
            "b, a",
            "c DESC",
            "g",
            "a, b, c",
            "lower(b)",
            "abs(a) + 1",
            "a) WHERE (b IS NOT NULL",
            "b) WHERE (a > 5",
            "floor(a)",
            "substr(c, 1, 3), a",
        ]);
        format!("CREATE {unique}INDEX IF NOT EXISTS i{name} ON {table}({what})")
    }

    fn create_view(&mut self, i: usize) -> String {
        let other = self.table();
        match self.random.below(3) {
            0 => format!("CREATE VIEW IF NOT EXISTS v{i} AS SELECT k, a, random() AS r FROM t{i}"),
            1 => format!(
                "CREATE VIEW IF NOT EXISTS v{i} AS SELECT x.k, y.a FROM t{i} x JOIN {other} y ON x.k = y.k"
            ),
            _ => format!(
                "CREATE VIEW IF NOT EXISTS v{i} AS SELECT max(k) AS k, a FROM t{i} GROUP BY a"
            ),
        }
    }

    fn create_trigger(&mut self) -> String {
        let name = self.random.below(24);
        let (i, other) = (self.random.below(TABLES), self.table());
        let event = self.random.pick(&["INSERT", "UPDATE", "DELETE"]);
        if self.random.one_in(3) {
            let action = match event {
                "INSERT" => {
                    format!("INSERT OR IGNORE INTO t{i}(k, a) VALUES (new.k, {})", self.volatile())
                }
                "UPDATE" => format!(
                    "UPDATE OR IGNORE t{i} SET a = new.a, b = {} WHERE k = old.k",
                    self.volatile()
                ),
                _ => format!(
                    "DELETE FROM t{i} WHERE k = old.k; INSERT INTO log(what) VALUES (old.a)"
                ),
            };
            return format!(
                "CREATE TRIGGER IF NOT EXISTS g{name} INSTEAD OF {event} ON v{i} BEGIN {action}; END"
            );
        }
        let row = if event == "DELETE" { "old" } else { "new" };
        let when = self.random.pick(&["BEFORE", "AFTER"]);
        let action = match self.random.below(7) {
            0 | 1 => format!("INSERT INTO log(what) VALUES ({row}.a)"),
            2 => format!(
                "INSERT INTO log(what, r) VALUES (changes(), last_insert_rowid() + {})",
                self.volatile()
            ),
            3 => format!(
                "UPDATE OR IGNORE {other} SET b = {} WHERE k = {row}.k % 13",
                self.volatile()
            ),
            4 => {
                format!("INSERT OR IGNORE INTO {other}(a, c) VALUES ({row}.k, {})", self.volatile())
            }
            5 => format!("DELETE FROM {other} WHERE k = {row}.k + 1"),
            _ => {
                let raise = self.random.pick(&[
                    "IGNORE",
                    "ABORT, 'no'",
                    "FAIL, 'stop'",
                    "ROLLBACK, 'back'",
                ]);
                format!("SELECT RAISE({raise}) WHERE {row}.k % 17 = {}", self.random.below(17))
            }
        };
        let of = self.table();
        format!(
            "CREATE TRIGGER IF NOT EXISTS g{name} {when} {event} ON {of} WHEN random() % 4 BEGIN {action}; END"
        )
    }
}

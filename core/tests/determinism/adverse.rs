//! Shapes of statements that once made replicas differ, or stopped all of them. Each kind stands
//! for faults that were found by reading or by other fuzzers; QUORUMLITE_FUZZ_ONLY names one, so
//! that a run shows whether it finds that kind.

use quorumlite::{Statement, Value};

use crate::generator::{Command, Generator};

/// How many of the columns of one name there are before SQLite draws a suffix.
const EQUAL_NAMES: usize = 6;

/// Rows of the table `plan`: enough for an index to be worth it, or not.
const PLAN_ROWS: usize = 4000;

/// Texts that read it in one quiet time: few, so that none leaves the statement caches.
const PLAN_TEXTS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What the planner makes of the time: see [`Generator::begin_quiet`].
    Plans,
    /// Many columns of equal names, whose suffixes SQLite draws at random.
    Names,
    /// Triggers under a DROP that deletes from children.
    Cascade,
    /// Tables that are named like a virtual table's own; indexes and triggers on those.
    Shadow,
    /// Options of a full-text index, in commands that fail as well.
    Options,
    /// Nested expressions, chains of views, triggers and common table expressions.
    Deep,
    /// Texts of many statements, long lists.
    Long,
    /// One instruction that compares long texts.
    Patterns,
    /// Large values and large aggregates.
    Large,
    /// What never ends.
    Endless,
    /// Modules that are refused.
    Refused,
    /// None of these: the grammar of `generator.rs` alone.
    Plain,
}

/// How often each of them comes, in parts of [`PARTS`].
const FREQUENCIES: &[(Kind, usize)] = &[
    (Kind::Names, 200),
    (Kind::Cascade, 200),
    (Kind::Shadow, 300),
    (Kind::Options, 100),
    (Kind::Deep, 200),
    (Kind::Long, 30),
    (Kind::Patterns, 25),
    (Kind::Large, 25),
    (Kind::Endless, 2),
    (Kind::Refused, 30),
];
const PARTS: usize = 12_000;

impl Kind {
    /// The only kind to be made, if the environment names one.
    pub fn only() -> Option<Kind> {
        let name = std::env::var("QUORUMLITE_FUZZ_ONLY").ok()?;
        let kinds = FREQUENCIES.iter().map(|(kind, _)| *kind).chain([Kind::Plans, Kind::Plain]);
        let mut kinds = kinds.filter(|kind| format!("{kind:?}").eq_ignore_ascii_case(&name));
        Some(kinds.next().expect("QUORUMLITE_FUZZ_ONLY names no kind"))
    }
}

fn batch(sql: impl IntoIterator<Item = impl Into<String>>) -> Command {
    Command::of(sql.into_iter().map(|sql| Statement::from(sql.into())).collect())
}

fn one(sql: impl Into<String>) -> Command {
    batch([sql.into()])
}

impl Generator {
    /// Now and then a command of one of the kinds.
    pub fn adverse(&mut self) -> Option<Command> {
        let mut part = self.random.below(PARTS);
        if let Some(kind) = self.only {
            let made = part < PARTS / 10 && !matches!(kind, Kind::Plans | Kind::Plain);
            return made.then(|| self.of_kind(kind));
        }
        for (kind, parts) in FREQUENCIES {
            if part < *parts {
                return Some(self.of_kind(*kind));
            }
            part -= parts;
        }
        None
    }

    fn of_kind(&mut self, kind: Kind) -> Command {
        match kind {
            Kind::Plans | Kind::Plain => one(self.plan_text()),
            Kind::Names => self.equal_names(),
            Kind::Cascade => self.cascade(),
            Kind::Shadow => self.shadow(),
            Kind::Options => self.options(),
            Kind::Deep => self.deep(),
            Kind::Long => self.long(),
            Kind::Patterns => self.patterns(),
            Kind::Large => self.large(),
            Kind::Endless => self.endless(),
            Kind::Refused => self.refused_modules(),
        }
    }

    // ---- plans ---------------------------------------------------------------------------------

    /// Fills `plan` with times of which ever more are past within `seconds`, and analyzes it. Until
    /// [`Generator::end_quiet`] no statement changes the schema, so that what was compiled stays in
    /// the caches of the nodes that are not started anew.
    pub fn begin_quiet(&mut self, seconds: f64) -> Command {
        self.quiet = true;
        self.plan_texts = (0..PLAN_TEXTS).map(|_| self.plan_text()).collect();
        let step = seconds / PLAN_ROWS as f64;
        // Of the values of k, 0 is the most frequent, and each has half as many rows as the one
        // before it: against each of them an index on the time wins at another moment.
        batch([
            "CREATE TABLE IF NOT EXISTS plan(id INTEGER PRIMARY KEY, ts REAL, iso TEXT, k INT, v)"
                .to_string(),
            "CREATE INDEX IF NOT EXISTS plan_ts ON plan(ts)".into(),
            "CREATE INDEX IF NOT EXISTS plan_iso ON plan(iso)".into(),
            "CREATE INDEX IF NOT EXISTS plan_k ON plan(k)".into(),
            "CREATE TABLE IF NOT EXISTS plan_out(id INTEGER PRIMARY KEY, v)".into(),
            "DELETE FROM plan".into(),
            "DELETE FROM plan_out".into(),
            format!(
                "INSERT INTO plan(ts, iso, k, v) WITH RECURSIVE n(i) AS \
                 (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PLAN_ROWS}) \
                 SELECT t, datetime(t, 'unixepoch', 'subsec'), \
                 CASE WHEN i % 2 THEN 0 WHEN i % 4 THEN 1 WHEN i % 8 THEN 2 WHEN i % 16 THEN 3 \
                 WHEN i % 32 THEN 4 ELSE 5 END, i \
                 FROM (SELECT i, unixepoch('now', 'subsec') + (i * 7919 % {PLAN_ROWS}) * {step} AS t FROM n)"
            ),
            "ANALYZE plan".into(),
        ])
    }

    pub fn end_quiet(&mut self) {
        self.quiet = false;
    }

    /// A text that reads `plan`.
    fn plan_text(&mut self) -> String {
        let k = self.random.below(6);
        let time = self.random.pick(&[
            "ts <= unixepoch('now', 'subsec')",
            "ts > unixepoch('now', 'subsec')",
            "iso <= datetime('now', 'subsec')",
            "iso BETWEEN '2000' AND strftime('%Y-%m-%d %H:%M:%f', 'now')",
        ]);
        match self.random.below(4) {
            0 => format!("UPDATE plan SET v = -v WHERE {time} AND k = {k} RETURNING id"),
            1 => {
                format!(
                    "INSERT INTO plan_out(v) SELECT id FROM plan WHERE {time} AND k = {k} LIMIT 9"
                )
            }
            _ => format!(
                "INSERT INTO plan_out(v) SELECT v FROM plan WHERE {time} AND k = {k} LIMIT 40"
            ),
        }
    }

    /// One of the few texts of this quiet time: they are compiled already, but on a node that was
    /// started since.
    pub fn plan_dependent(&mut self) -> Command {
        if self.plan_texts.is_empty() {
            return one(self.plan_text());
        }
        let texts: Vec<&str> = self.plan_texts.iter().map(String::as_str).collect();
        one(self.random.pick(&texts))
    }

    // ---- names ---------------------------------------------------------------------------------

    fn equal_names(&mut self) -> Command {
        let (i, n) = (self.random.below(6), EQUAL_NAMES + self.random.below(4));
        let tables = (0..n).map(|j| format!("names AS j{j}")).collect::<Vec<_>>();
        let join = tables.join(self.random.pick(&[", ", " JOIN ", " LEFT JOIN "]));
        let columns = vec!["a"; n].join(", ");
        let select = match self.random.below(3) {
            0 => format!("SELECT * FROM {join}"),
            1 => format!("SELECT {columns} FROM names"),
            _ => format!("SELECT * FROM (SELECT * FROM {join})"),
        };
        let what = self.random.pick(&["TABLE", "VIEW"]);
        let create = format!("CREATE {what} equal{i} AS {select}");
        let table = "CREATE TABLE IF NOT EXISTS names(a, b)".to_string();
        match self.random.below(5) {
            0 => batch([
                table,
                create,
                format!(
                    "INSERT INTO log(what) SELECT group_concat(name) FROM pragma_table_info('equal{i}')"
                ),
            ]),
            1 => batch([
                table,
                format!("CREATE TABLE equal{i} AS WITH w AS ({select}) SELECT * FROM w"),
            ]),
            2 => one(format!("DROP VIEW IF EXISTS equal{i}")),
            3 => one(format!("DROP TABLE IF EXISTS equal{i}")),
            _ => batch([table, create]),
        }
    }

    // ---- what DROP may do ----------------------------------------------------------------------

    fn cascade(&mut self) -> Command {
        let action = match self.random.below(4) {
            0 => "INSERT INTO log(what) SELECT sum(rootpage * rowid) FROM sqlite_schema",
            1 => "UPDATE sqlite_stat1 SET stat = '1 1'",
            2 => "DELETE FROM sqlite_stat1",
            _ => "INSERT INTO log(what) SELECT count(*) FROM sqlite_schema",
        };
        let drop = self.random.pick(&["DROP TABLE ancestor", "DROP TABLE IF EXISTS ancestor"]);
        let mut sql = vec![
            "CREATE TABLE ancestor(k INTEGER PRIMARY KEY)".to_string(),
            "CREATE TABLE heir(k REFERENCES ancestor ON DELETE CASCADE)".into(),
            format!("CREATE TRIGGER heir_gone AFTER DELETE ON heir BEGIN {action}; END"),
            "INSERT INTO ancestor VALUES (1), (2)".into(),
            "INSERT INTO heir VALUES (1), (2)".into(),
            drop.into(),
            "DROP TABLE heir".into(),
        ];
        if self.random.one_in(2) {
            sql.insert(0, "ANALYZE t0".into());
        }
        batch(sql)
    }

    // ---- beside virtual tables -----------------------------------------------------------------

    fn shadow(&mut self) -> Command {
        if !self.virtual_tables {
            return self.fresh_shadows();
        }
        let i = self.random.below(crate::generator::VIRTUAL);
        let table = self.random.pick(&[
            "f_data",
            "f_content",
            "f_docsize",
            "f_idx",
            "f_config",
            "r_node",
            "r_rowid",
            "r_parent",
        ]);
        let (letter, rest) = table.split_at(1);
        let own = format!("{letter}{i}{rest}");
        let key = match rest {
            "_node" => "nodeno",
            "_rowid" => "rowid",
            "_idx" => "segid",
            "_config" => "k",
            "_parent" => "nodeno",
            _ => "id",
        };
        let words = self.words();
        match self.random.below(12) {
            0 => one(format!("CREATE TABLE IF NOT EXISTS f{i}_stat(id INTEGER PRIMARY KEY, n)")),
            1 => {
                let id = self.random.below(4);
                one(format!("INSERT OR REPLACE INTO f{i}_stat VALUES ({id}, 2)"))
            }
            2 => one(format!("DROP TABLE IF EXISTS f{i}_stat")),
            3 => {
                let bound = 5 * self.random.below(30);
                one(format!(
                    "CREATE INDEX shadow{i} ON {own}(CASE WHEN {key} > {bound} THEN json('x') END)"
                ))
            }
            4 => one(format!("CREATE UNIQUE INDEX unique{i} ON {own}(length(block))")),
            5 => one(format!(
                "CREATE TRIGGER shadow_trigger{i} AFTER INSERT ON {own} BEGIN \
                 SELECT RAISE(ABORT, 'no') WHERE new.{key} % 9 = 5; END"
            )),
            6 => one(format!(
                "CREATE TRIGGER shadow_log{i} BEFORE DELETE ON {own} BEGIN \
                 INSERT INTO log(what) VALUES (old.{key}); END"
            )),
            7 => one(format!("CREATE TABLE IF NOT EXISTS fk{i}(x REFERENCES {own}({key}))")),
            8 => one(format!(
                "ALTER TABLE {own} {}",
                self.random.pick(&["ADD COLUMN z", "RENAME TO z"])
            )),
            9 => one(format!("{} {own}", self.random.pick(&["REINDEX", "ANALYZE", "DROP TABLE"]))),
            10 => one(format!("INSERT INTO f{i}(x, y) VALUES ('{words}', '{words}')")),
            _ => one(format!("INSERT INTO log(what) SELECT count(*) FROM {own}")),
        }
    }

    /// The same without other virtual tables: made and dropped in one command.
    fn fresh_shadows(&mut self) -> Command {
        let mut sql = vec!["CREATE VIRTUAL TABLE doc USING fts5(body)".to_string()];
        match self.random.below(3) {
            0 => {
                sql.push("CREATE TABLE doc_stat(id INTEGER PRIMARY KEY, n)".into());
                sql.push("INSERT INTO doc_stat VALUES (1, 1), (2, 2)".into());
                sql.push("DROP TABLE doc_stat".into());
            }
            1 => sql.push("CREATE INDEX doc_index ON doc_data(json(id))".into()),
            _ => sql.push("INSERT INTO doc_stat VALUES (2, 2)".into()),
        }
        sql.push("INSERT INTO doc VALUES ('one two')".into());
        sql.push("DROP TABLE doc".into());
        batch(sql)
    }

    /// They are kept in memory, which no rollback reaches. What they decide is written too.
    pub fn options(&mut self) -> Command {
        if !self.virtual_tables {
            return self.plan_dependent();
        }
        let i = self.random.below(crate::generator::VIRTUAL);
        let n = self.random.below(3);
        let (option, value) = match self.random.below(9) {
            0..3 => ("rank", format!("'bm25({n}.5, 2.0)'")),
            3 | 4 => ("secure-delete", (n % 2).to_string()),
            5 => ("insttoken", (n % 2).to_string()),
            6 => ("hashsize", (1 + 500 * n).to_string()),
            7 => ("pgsz", (64 << n).to_string()),
            _ => ("deletemerge", (10 * n).to_string()),
        };
        let set = format!("INSERT INTO f{i}(f{i}, rank) VALUES ('{option}', {value})");
        let word = self.words().split(' ').next().unwrap_or("one").to_string();
        let look = format!(
            "INSERT INTO log(what) SELECT group_concat(rowid) || sum(rank) FROM \
             (SELECT rowid, rank FROM f{i}('{word}') ORDER BY rank LIMIT 5)"
        );
        self.waiting.push(one(look));
        match self.random.below(20) {
            0..8 => batch([set, "SELECT json('x')".into()]),
            8..12 => {
                batch([set, "INSERT OR ROLLBACK INTO log(rowid) SELECT rowid FROM log".into()])
            }
            // Rarely: what is in the file is read again after a rollback.
            12 => one(set),
            13 | 14 if !self.quiet => {
                let mut sql = vec![format!("DROP TABLE IF EXISTS f{i}")];
                sql.push(self.create_virtual(i).swap_remove(0));
                sql.extend((0..20).map(|_| {
                    let words = self.words();
                    format!("INSERT INTO f{i}(x, y) VALUES ('{words}', 'one {words}')")
                }));
                batch(sql)
            }
            _ => one(format!("DELETE FROM f{i} WHERE rowid % 4 = {n}")),
        }
    }

    // ---- deep and long -------------------------------------------------------------------------

    fn size(&mut self) -> usize {
        [3, 8, 20, 60, 126, 250, 500, 900, 1001][self.random.below(9)]
    }

    fn deep(&mut self) -> Command {
        let n = self.size();
        let nested = |before: &str, core: &str, after: &str| {
            format!("{}{core}{}", before.repeat(n), after.repeat(n))
        };
        match self.random.below(12) {
            0 => one(format!("INSERT INTO log(what) VALUES ({})", nested("(", "random()", ")"))),
            1 => one(format!("INSERT INTO log(what) VALUES ({})", nested("abs(", "7", ")"))),
            2 => one(format!(
                "INSERT INTO log(what) SELECT {}",
                nested("CASE WHEN random() % 2 THEN ", "1", " END")
            )),
            3 => one(format!("INSERT INTO log(what) SELECT {}", nested("(SELECT ", "1", ")"))),
            4 => {
                one(format!("INSERT INTO log(what) SELECT {}", vec!["random() % 3"; n].join(" + ")))
            }
            5 => one(format!("INSERT INTO log(what) {}", vec!["SELECT 1"; n].join(" UNION ALL "))),
            6 => one(format!(
                "INSERT INTO log(what) SELECT count(*) FROM {}",
                vec!["names"; n.min(70)].join(", ")
            )),
            7 | 8 => self.chain_of_views(),
            9 => self.chain_of_triggers(),
            10 => {
                let n = n.min(200);
                let parts: Vec<String> = (1..=n)
                    .map(|i| format!("q{i}(x) AS (SELECT x + random() % 2 FROM q{})", i - 1))
                    .collect();
                one(format!(
                    "WITH q0(x) AS (SELECT 1), {} INSERT INTO log(what) SELECT x FROM q{n}",
                    parts.join(", ")
                ))
            }
            _ => {
                let json = nested("[", "1", "]");
                one(format!("INSERT INTO log(what) SELECT count(*) FROM json_tree('{json}')"))
            }
        }
    }

    /// Each of them names the one before it, up to three times.
    fn chain_of_views(&mut self) -> Command {
        let n = [3, 5, 9, 12, 20, 30][self.random.below(6)];
        let from = self.random.pick(&[
            "chain# x",
            "chain# x, chain# y",
            "chain# x JOIN chain# y USING (a)",
        ]);
        let mut sql: Vec<String> =
            (0..=30).rev().map(|i| format!("DROP VIEW IF EXISTS chain{i}")).collect();
        sql.push("CREATE VIEW chain0 AS SELECT 1 AS a".into());
        for i in 0..n {
            let from = from.replace('#', &i.to_string());
            sql.push(format!("CREATE VIEW chain{} AS SELECT x.a FROM {from}", i + 1));
        }
        if self.random.one_in(2) {
            sql.push(format!("INSERT INTO log(what) SELECT a FROM chain{n} LIMIT 3"));
            return batch(sql);
        }
        self.waiting.push(one(format!("INSERT INTO log(what) SELECT a FROM chain{n} LIMIT 3")));
        batch(sql)
    }

    /// Each row makes rows in the next table; the last ones may be refused.
    fn chain_of_triggers(&mut self) -> Command {
        let n = 2 + self.random.below(7);
        let mut sql: Vec<String> =
            (0..10).map(|i| format!("DROP TABLE IF EXISTS step{i}")).collect();
        sql.extend((0..=n).map(|i| format!("CREATE TABLE step{i}(x)")));
        let twice = if self.random.one_in(2) { 1 } else { 2 };
        for i in 0..n {
            let insert = format!("INSERT INTO step{} VALUES (new.x + random() % 5);", i + 1);
            sql.push(format!(
                "CREATE TRIGGER stepping{i} AFTER INSERT ON step{i} BEGIN {} END",
                insert.repeat(twice)
            ));
        }
        let raise =
            self.random.pick(&["IGNORE", "ABORT, 'no'", "FAIL, 'stop'", "ROLLBACK, 'back'"]);
        sql.push(format!(
            "CREATE TRIGGER last_step BEFORE INSERT ON step{n} BEGIN \
             SELECT RAISE({raise}) WHERE new.x % 3 = 0; END"
        ));
        self.waiting.push(one("INSERT INTO step0 VALUES (1), (2)"));
        batch(sql)
    }

    fn long(&mut self) -> Command {
        let n = [100, 1000, 8000, 20_000][self.random.below(4)];
        match self.random.below(6) {
            0 => one("INSERT INTO log(what) VALUES (1);".repeat(n)),
            1 => one(format!("{}SELECT 1", ";".repeat(n))),
            2 => one(format!("{}SELECT 1", "/**/ ".repeat(n))),
            3 => one(format!("INSERT INTO log(what) VALUES {}", vec!["(1)"; n].join(", "))),
            4 => one(format!("DELETE FROM log WHERE what IN ({})", vec!["'x'"; n].join(", "))),
            _ => Command::of(vec![Statement::new(
                format!("INSERT INTO log(what) VALUES (max({}))", vec!["?"; n.min(127)].join(", ")),
                vec![Value::Integer(7); n.min(127)],
            )]),
        }
    }

    /// Those that were too much for the stack of a thread, and those that take long.
    fn patterns(&mut self) -> Command {
        let n = [100, 1000, 5000, 24_999][self.random.below(4)];
        let (text, pattern, operator) = match self.random.below(4) {
            0 => ("a".repeat(n + 1), "%a".repeat(n), "LIKE"),
            1 => ("a".repeat(n + 1), "*a".repeat(n), "GLOB"),
            2 => ("a".repeat(n), "%_".repeat(n / 2) + "b", "LIKE"),
            _ => ("ab".repeat(n), "*[!x]".repeat(n / 5), "GLOB"),
        };
        let sql = match self.random.below(3) {
            0 => format!("INSERT INTO log(what) SELECT 1 WHERE ? {operator} ?"),
            1 => format!("DELETE FROM log WHERE what {operator} ? AND ? = 'x'"),
            _ => format!("INSERT INTO log(what) SELECT ? {operator} ?"),
        };
        Command::of(vec![Statement::new(sql, [Value::Text(text), Value::Text(pattern)])])
    }

    fn large(&mut self) -> Command {
        let n = [1000, 100_000, 3_000_000, 9_000_000][self.random.below(4)];
        let rows = [2, 20, 140][self.random.below(3)];
        let values = format!(
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             SELECT i, printf('%.{n}c', 'x') AS v FROM n)"
        );
        let aggregate = self.random.pick(&[
            "group_concat(v)",
            "json_group_array(v)",
            "json_group_object(i, v)",
            "concat_ws(v, v, v, v, v)",
            "replace(v, 'x', 'yy')",
            "max(v || i)",
            "hex(v)",
        ]);
        one(format!("INSERT INTO log(what) SELECT length({aggregate}) FROM {values}"))
    }

    fn endless(&mut self) -> Command {
        one(self.random.pick(&[
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
             INSERT INTO log(what) SELECT i FROM n WHERE i < 0",
            "INSERT INTO log(what) SELECT count(*) FROM log a, log b, log c, log d, log e",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
             DELETE FROM log WHERE what IN (SELECT -i FROM n)",
        ]))
    }

    fn refused_modules(&mut self) -> Command {
        let module =
            self.random.pick(&["fts3", "fts4", "FTS4", "fts4aux", "fts3tokenize", "dbstat"]);
        let mut command = batch([
            "CREATE TABLE tale_stat(id INTEGER PRIMARY KEY, value BLOB)".to_string(),
            "INSERT INTO tale_stat VALUES (2, 2)".into(),
            format!("CREATE VIRTUAL TABLE tale USING {module}(a)"),
        ]);
        command.refused = true;
        command
    }
}

//! Statements changed until little of their sense is left, token by token or letter by letter.

use crate::nest;
use crate::random::Random;

/// Blanks, words, numbers, texts and single characters; nothing is lost.
fn tokens(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let length = match first {
            '\'' | '"' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            c if c.is_whitespace() => rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        found.push(token.to_string());
        rest = after;
    }
    found
}

const ODD: &[&str] = &[
    "''",
    "\"\"",
    "[]",
    "``",
    "\"a\"\"b\"",
    "[a b]",
    "x''",
    "x'0'",
    "x'ff'",
    "NULL",
    "*",
    "(",
    ")",
    ",",
    ";",
    "--",
    "/*",
    "*/",
    "?",
    "?1",
    "?32766",
    "?32767",
    "?0",
    ":a",
    "@a",
    "$a::b(c)",
    "$a(')",
    ":a(\")",
    "@a([)",
    "$a(/*)",
    "$a(;)",
    "$a(",
    "#1",
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e999",
    "1e-999",
    ".5",
    "5.",
    "0x8000000000000000",
    "0xfffffffffffffffff",
    "1_0",
    "1__0",
    "\u{feff}",
    "\u{0}",
    "\u{a0}",
    "ß",
    "𝄞",
    "'\u{0}'",
    "CAST(x'ff' AS TEXT)",
    "CAST(x'00ff00' AS TEXT)",
    "CURRENT_TIME",
    "rowid",
    "_rowid_",
    "oid",
    "main.a",
    "temp.a",
    "sqlite_schema",
    "pragma_table_info(CAST(x'ff' AS TEXT))",
    "_quorumlite_meta",
    "new.x",
    "old.x",
    "excluded.x",
    "RAISE(ABORT, 'x')",
    "RAISE(IGNORE)",
    "INDEXED BY ai",
    "NOT INDEXED",
    "COLLATE NOCASE",
    "COLLATE nothing",
    "COLLATE \"\"",
    "OVER ()",
    "FILTER (WHERE 1)",
    "RETURNING *",
    "LIMIT -1",
    "LIMIT 'x'",
    "ORDER BY 1",
    "ORDER BY 32767",
    "UNION SELECT 1",
    "GROUP BY 1",
    "DISTINCT",
    "NATURAL",
    "USING (x)",
    "ON CONFLICT DO NOTHING",
    "OR ROLLBACK",
    "OR FAIL",
    "ISNULL",
    "NOTNULL",
    "ESCAPE ''",
    "ESCAPE 'ab'",
    "BETWEEN",
    "GLOB '*'",
    "MATCH 'x'",
    "REGEXP 'x'",
    "->>",
    "||",
    "<<",
    ">>",
    "<>",
    "==",
    "~",
    "%",
    "/ 0",
    "EXPLAIN",
    "EXPLAIN QUERY PLAN",
    "WITH RECURSIVE",
    "AS MATERIALIZED",
    "IF NOT EXISTS",
    "TEMP",
    "STRICT",
    "WITHOUT ROWID",
    "GENERATED ALWAYS AS (x) STORED",
    "AUTOINCREMENT",
    "PRIMARY KEY",
    "CHECK (x)",
    "REFERENCES a(x) ON DELETE CASCADE",
    "DEFAULT (random())",
    "json_each(x)",
    "json_tree('[1]')",
    "generate_series(1, 3)",
    "sqlite_stat1",
    "fts5vocab",
    "VALUES (1)",
    "zeroblob(1000000)",
    "randomblob(9)",
    "likely(1)",
    "load_extension('x')",
    "fts3_tokenizer('simple', x'41')",
    "sqlite_offset(x)",
    "total_changes()",
    "last_insert_rowid()",
    "group_concat(x ORDER BY y)",
    "percentile(x, 50)",
    "char(1)",
    "unistr('\\u0000')",
    "subtype(x)",
    "f",
    "t",
    "DATABASE",
    "CAST(1 AS)",
];

/// A text made of `sql`, with `other` at hand to splice from.
pub fn mutate(random: &mut Random, sql: &str, other: &str) -> String {
    let mut parts = tokens(sql);
    let most = if random.one_in(6) { 12 } else { 3 };
    for _ in 0..1 + random.below(most) {
        if parts.is_empty() {
            parts.push("SELECT".into());
        }
        let at = random.below(parts.len());
        let span = 1 + random.below(6.min(parts.len() - at));
        match random.below(17) {
            0 | 1 => {
                parts.drain(at..at + span);
            }
            2 => {
                let copy = parts[at..at + span].to_vec();
                for _ in 0..1 + random.below(3) {
                    parts.splice(at..at, copy.iter().cloned());
                }
            }
            3 => {
                let to = random.below(parts.len());
                parts.swap(at, to);
            }
            4..7 => {
                let from = tokens(other);
                if !from.is_empty() {
                    let start = random.below(from.len());
                    let end = start + 1 + random.below((from.len() - start).min(20));
                    let keep = if random.one_in(2) { at } else { at + span };
                    parts.splice(at..keep, from[start..end].iter().cloned());
                }
            }
            7..10 => parts.insert(at, format!(" {} ", random.pick(ODD))),
            10 | 11 => parts[at] = random.pick(ODD).to_string(),
            12 => {
                let size = 1 + random.below(40);
                parts[at] = nest::expression(random, size);
            }
            13 => parts[at] = format!("({})", parts[at..at + span].concat()),
            14 => {
                let inner = parts[at].clone();
                parts[at] = format!("(SELECT {inner} FROM ({sql}))");
            }
            15 => {
                let mut letters: Vec<char> = parts.concat().chars().collect();
                if !letters.is_empty() {
                    let at = random.below(letters.len());
                    match random.below(4) {
                        0 => {
                            letters.remove(at);
                        }
                        1 => letters.truncate(at),
                        2 => letters[at] = char::from(random.below(128) as u8),
                        _ => letters.insert(at, char::from(random.below(128) as u8)),
                    }
                }
                parts = tokens(&letters.into_iter().collect::<String>());
            }
            _ => {
                let comment = random.pick(&["/**/", "-- x\n", "/* ' */", "\u{feff}", "\t", "/*"]);
                parts.insert(at, comment.to_string());
            }
        }
    }
    match random.below(30) {
        0 => parts.insert(0, "EXPLAIN ".into()),
        1 => parts.push(format!("; {other}")),
        2 => {
            parts.insert(0, format!("CREATE VIEW IF NOT EXISTS m{} AS ", random.below(9)));
        }
        3 => {
            parts.insert(0, format!("CREATE TABLE IF NOT EXISTS n{} AS ", random.below(9)));
        }
        4 => {
            let (i, event) = (random.below(9), random.pick(&["INSERT", "UPDATE", "DELETE"]));
            parts.insert(0, format!("CREATE TRIGGER IF NOT EXISTS h{i} AFTER {event} ON a BEGIN "));
            parts.push("; END".into());
        }
        5 => {
            parts.insert(0, "INSERT INTO a(x) SELECT (".into());
            parts.push(")".into());
        }
        _ => {}
    }
    parts.concat()
}

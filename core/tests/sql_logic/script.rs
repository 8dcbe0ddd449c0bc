//! Files of SQLite's own sqllogictest (<https://www.sqlite.org/sqllogictest/>), with the rules of
//! its original runner.

use std::collections::HashMap;

use md5::{Digest, Md5};
use quorumlite::Value;

use crate::Outcome;
use crate::database::Database;
use crate::split;

/// The engine that `skipif` and `onlyif` speak of.
const ENGINE: &str = "sqlite";

/// Runs every record of `text`; a difference is reported with the record's line.
pub async fn run(db: &mut Database, file: &str, text: &str, outcome: &mut Outcome) {
    let mut state = State { threshold: 8, labels: HashMap::new() };
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim_end()))
        .filter(|(_, line)| !line.starts_with('#'))
        .peekable();
    while lines.peek().is_some() {
        let record: Vec<(usize, &str)> =
            lines.by_ref().take_while(|(_, line)| !line.is_empty()).collect();
        let Some(record) = applicable(&record) else { continue };
        let Some((&(line, head), body)) = record.split_first() else { continue };
        let words: Vec<&str> = head.split_whitespace().collect();
        let result = match words[..] {
            ["halt"] => break,
            ["hash-threshold", n] => {
                state.threshold = n.parse().expect("a number");
                continue;
            }
            ["statement", expected] => {
                outcome.statements += 1;
                statement(db, expected, body).await
            }
            ["query", types, ..] => {
                outcome.queries += 1;
                state.query(db, types, &words[2..], body).await
            }
            _ => panic!("{file}:{line}: {head:?}"),
        };
        outcome.case(file, &line.to_string(), result);
    }
}

/// The record without its conditions; nothing where they exclude this engine.
fn applicable<'a, 'b>(record: &'a [(usize, &'b str)]) -> Option<&'a [(usize, &'b str)]> {
    let mut rest = record;
    while let Some(((_, line), after)) = rest.split_first() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("skipif"), Some(engine)) if engine == ENGINE => return None,
            (Some("onlyif"), Some(engine)) if engine != ENGINE => return None,
            (Some("skipif" | "onlyif"), _) => rest = after,
            _ => break,
        }
    }
    Some(rest)
}

/// The SQL of a record, and what is expected below `----`.
fn parts<'a>(body: &[(usize, &'a str)]) -> (String, Vec<&'a str>) {
    let mut lines = body.iter().map(|(_, line)| *line);
    let sql: Vec<&str> = lines.by_ref().take_while(|line| *line != "----").collect();
    (sql.join("\n"), lines.collect())
}

async fn statement(
    db: &mut Database,
    expected: &str,
    body: &[(usize, &str)],
) -> Result<(), String> {
    let mut failed = None;
    for sql in split::statements(&parts(body).0) {
        if let Err(error) = db.execute(&sql).await {
            failed = Some(error);
            break;
        }
    }
    match (expected, failed) {
        ("ok", Some(error)) => Err(format!("{}: {error}", error.code())),
        ("error", Some(error)) if error.code().starts_with("FORBIDDEN") => {
            Err(format!("{}: {error}", error.code()))
        }
        ("error", None) => Err("succeeded".into()),
        _ => Ok(()),
    }
}

struct State {
    /// Results with more values than this are compared by their hash.
    threshold: usize,
    labels: HashMap<String, String>,
}

impl State {
    async fn query(
        &mut self,
        db: &mut Database,
        types: &str,
        words: &[&str],
        body: &[(usize, &str)],
    ) -> Result<(), String> {
        let (sql, expected) = parts(body);
        let rows = match db.query(sql.trim_end_matches(';')).await {
            Ok(rows) => rows.into_values(),
            // The original runner ends a query that fails while it runs, and counts its rows.
            Err(error) if error.message() == "integer overflow" => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", error.code())),
        };
        let mut lines = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.len() != types.len() {
                return Err(format!("{} columns", row.len()));
            }
            let mut line = Vec::with_capacity(row.len());
            for (value, letter) in row.iter().zip(types.chars()) {
                line.push(render(db, value, letter).await);
            }
            lines.push(line);
        }
        let sort = words.first().copied().unwrap_or("nosort");
        if sort == "rowsort" {
            lines.sort();
        }
        let mut values = lines.concat();
        if sort == "valuesort" {
            values.sort();
        }
        let mut md5 = Md5::new();
        for value in &values {
            md5.update(value);
            md5.update(b"\n");
        }
        let hash: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(label) = words.get(1) {
            let label: String = label.chars().take(20).collect();
            let first = self.labels.entry(label.clone()).or_insert_with(|| hash.clone());
            if *first != hash {
                return Err(format!("label {label} had another result before"));
            }
        }
        let got: Vec<String> = if self.threshold > 0 && values.len() > self.threshold {
            vec![format!("{} values hashing to {hash}", values.len())]
        } else {
            values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
        };
        if got == expected {
            return Ok(());
        }
        Err(format!("got {got:?}, expected {expected:?}"))
    }
}

/// One value as its column's type letter wants it. What the original runner leaves to SQLite's own
/// conversions is left to them here.
async fn render(db: &mut Database, value: &Value, letter: char) -> Vec<u8> {
    let bytes = match (letter, value) {
        (_, Value::Null) => return b"NULL".to_vec(),
        ('I', Value::Integer(v)) => (*v as i32).to_string().into_bytes(),
        ('I', _) => {
            let whole = db.convert("CAST(? AS INTEGER)", value).await;
            (whole.as_i64().expect("an integer") as i32).to_string().into_bytes()
        }
        ('R', _) => text(&db.convert("printf('%.3f', CAST(? AS REAL))", value).await),
        ('T', Value::Blob(v)) => v.clone(),
        ('T', _) => text(&db.convert("CAST(? AS TEXT)", value).await),
        _ => panic!("column type {letter}"),
    };
    // A C string ends at the first zero.
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
    if bytes.is_empty() {
        return b"(empty)".to_vec();
    }
    let printable = |b: &u8| if letter == 'T' && !(0x20..=0x7e).contains(b) { b'@' } else { *b };
    bytes.iter().map(printable).collect()
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().expect("text").as_bytes().to_vec()
}

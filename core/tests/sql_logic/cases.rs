//! Cases in JSON lines: SQL, and the rows or the error that plain SQLite gives.

use quorumlite::{Error, Rows, Value};
use serde_json::Value as Json;

use crate::Outcome;
use crate::database::Database;
use crate::split;

/// Runs every case of `text`, each on an empty database.
pub async fn run(db: &mut Database, file: &str, text: &str, outcome: &mut Outcome) {
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Json = serde_json::from_str(line).expect("a case in JSON");
        let name = case["name"].as_str().expect("a name");
        db.clear().await;
        let result = run_case(db, &case, outcome).await;
        outcome.case(file, name, result);
    }
}

async fn run_case(db: &mut Database, case: &Json, outcome: &mut Outcome) -> Result<(), String> {
    let strings = |key: &str| -> Vec<&str> {
        let list = case[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Json::as_str).collect()
    };
    let mut rows = Vec::new();
    let mut failed = None;
    let setup = strings("setup");
    let scripts = setup.iter().copied().chain(case["sql"].as_str()).enumerate();
    'scripts: for (i, script) in scripts {
        for sql in split::statements(script) {
            match run_statement(db, &sql, outcome).await {
                Ok(more) if i == setup.len() => {
                    for row in more.iter() {
                        let mut line = Vec::new();
                        for value in row.values() {
                            line.push(render(db, value).await);
                        }
                        rows.push(line.join("|"));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    failed = Some(error);
                    break 'scripts;
                }
            }
        }
    }
    let expected_error = case["expect_error"].as_str();
    match (failed, expected_error) {
        (None, None) if rows == strings("expect_rows") => Ok(()),
        (None, None) => Err(format!("got {rows:?}, expected {:?}", strings("expect_rows"))),
        (None, Some(expected)) => Err(format!("succeeded instead of {expected:?}")),
        (Some(error), Some(expected)) if says(&error, expected) => Ok(()),
        (Some(error), expected) => {
            Err(format!("{}: {error}; expected {:?}", error.code(), expected.unwrap_or("rows")))
        }
    }
}

/// Whether the error carries what SQLite says.
fn says(error: &Error, expected: &str) -> bool {
    let expected = expected.strip_prefix("Parse error: ").unwrap_or(expected);
    !error.code().starts_with("FORBIDDEN") && error.message().contains(expected)
}

/// Reads go through `query`, all else through `execute`.
async fn run_statement(db: &mut Database, sql: &str, outcome: &mut Outcome) -> Result<Rows, Error> {
    if is_default(sql) {
        return Ok(Rows::default());
    }
    if !matches!(&*split::keyword(sql), "SELECT" | "VALUES" | "EXPLAIN" | "WITH" | "PRAGMA") {
        outcome.statements += 1;
        return db.execute(sql).await;
    }
    outcome.queries += 1;
    match db.query(sql).await {
        // A WITH or a PRAGMA that writes.
        Err(e) if matches!(e.code(), "FORBIDDEN_WRITE_IN_QUERY" | "FORBIDDEN_PRAGMA") => {
            db.execute(sql).await
        }
        result => result,
    }
}

/// Foreign keys are always on, and no statement says so: see foreign-keys in COMPAT.md.
fn is_default(sql: &str) -> bool {
    let sql: String = sql.split_whitespace().collect::<String>().to_ascii_lowercase();
    matches!(&*sql, "pragmaforeign_keys=on" | "pragmaforeign_keys=1" | "pragmaforeign_keys=true")
}

async fn render(db: &mut Database, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(v) => v.to_string(),
        Value::Text(v) => v.clone(),
        Value::Blob(v) => String::from_utf8_lossy(v).into_owned(),
        Value::Real(_) => {
            let text = db.convert("CAST(? AS TEXT)", value).await;
            text.as_str().unwrap_or_default().to_string()
        }
    }
}

//! The format of the conformance cases, as `conformance/README.md` describes it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use quorumlite::{ExecuteResult, Params, Rows, Statement, Value};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    #[serde(rename = "why")]
    _why: Option<String>,
    #[serde(default)]
    skip: BTreeMap<String, String>,
    #[serde(rename = "since")]
    _since: Option<String>,
    #[serde(default, rename = "uses")]
    _uses: Vec<String>,
    #[serde(default)]
    setup: Vec<String>,
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    execute: Option<String>,
    query: Option<String>,
    execute_batch: Option<Vec<RawStatement>>,
    params: Option<RawParams>,
    columns: Option<Vec<String>>,
    rows: Option<Vec<Vec<RawValue>>>,
    rows_affected: Option<u64>,
    last_insert_rowid: Option<i64>,
    results: Option<Vec<RawOutcome>>,
    error: Option<ExpectedError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatement {
    sql: String,
    params: Option<RawParams>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawOutcome {
    columns: Option<Vec<String>>,
    rows: Option<Vec<Vec<RawValue>>>,
    rows_affected: Option<u64>,
    last_insert_rowid: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawParams {
    Positional(Vec<RawValue>),
    Named(BTreeMap<String, RawValue>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawValue {
    Once(String),
    Repeated(Repeated),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeated {
    repeat: String,
    times: usize,
}

/// The kind and the code of an error.
#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ExpectedError {
    pub kind: String,
    pub code: String,
}

/// One case; [`Case::steps`] fills in the prefix.
pub struct Case {
    pub file: String,
    raw: RawCase,
}

/// Which call a step makes, and of what.
pub enum Call {
    Execute(Statement),
    Query(Statement),
    Batch(Vec<Statement>),
}

/// One call with what must come of it.
pub struct Step {
    pub call: Call,
    pub outcomes: Vec<Outcome>,
    pub error: Option<ExpectedError>,
}

/// What one statement must give; absent parts are not compared.
#[derive(Default)]
pub struct Outcome {
    columns: Option<Vec<String>>,
    rows: Option<Vec<Vec<Value>>>,
    rows_affected: Option<u64>,
    last_insert_rowid: Option<i64>,
}

/// All cases, in the order of the files' names.
pub fn load(directory: &Path) -> Result<Vec<Case>, String> {
    let entries = std::fs::read_dir(directory).map_err(|e| format!("{directory:?}: {e}"))?;
    let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    let mut cases = Vec::new();
    let mut names = HashSet::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
        let parsed: RawFile = toml::from_str(&text).map_err(|e| format!("{file}: {e}"))?;
        for raw in parsed.case {
            if !names.insert(raw.name.clone()) {
                return Err(format!("{file}: the name {} is used twice", raw.name));
            }
            let case = Case { file: file.clone(), raw };
            case.steps("p_").map_err(|e| format!("{file}: {}: {e}", case.name()))?;
            cases.push(case);
        }
    }
    if cases.is_empty() { Err(format!("no cases in {directory:?}")) } else { Ok(cases) }
}

impl Case {
    pub fn name(&self) -> &str {
        &self.raw.name
    }

    /// Why the Rust runner leaves the case out, if it does.
    pub fn skipped(&self) -> Option<&str> {
        self.raw.skip.get("rust").map(String::as_str)
    }

    /// The set-up and the steps with `{p}` replaced by `prefix`.
    pub fn steps(&self, prefix: &str) -> Result<Vec<Step>, String> {
        let setup = self.raw.setup.iter().map(|sql| {
            Ok(Step {
                call: Call::Execute(statement(sql, &None, prefix)?),
                outcomes: vec![Outcome::default()],
                error: None,
            })
        });
        setup.chain(self.raw.steps.iter().map(|raw| step(raw, prefix))).collect()
    }
}

impl Step {
    /// The SQL, for reports.
    pub fn sql(&self) -> String {
        match &self.call {
            Call::Execute(s) => format!("execute: {}", s.sql),
            Call::Query(s) => format!("query: {}", s.sql),
            Call::Batch(list) => {
                let sql: Vec<_> = list.iter().map(|s| s.sql.as_str()).collect();
                format!("execute_batch: {}", sql.join("; "))
            }
        }
    }
}

impl Outcome {
    /// Says how a write's result differs, if it does.
    pub fn difference(&self, result: &ExecuteResult) -> Option<String> {
        let affected = self.rows_affected.unwrap_or(result.rows_affected);
        if affected != result.rows_affected {
            return Some(format!("rows_affected {} instead of {affected}", result.rows_affected));
        }
        let rowid = self.last_insert_rowid.unwrap_or(result.last_insert_rowid);
        if rowid != result.last_insert_rowid {
            return Some(format!(
                "last_insert_rowid {} instead of {rowid}",
                result.last_insert_rowid
            ));
        }
        self.rows_difference(&result.rows)
    }

    /// Says how rows differ, if they do.
    pub fn rows_difference(&self, rows: &Rows) -> Option<String> {
        if let Some(columns) = &self.columns
            && columns[..] != rows.columns()[..]
        {
            return Some(format!("columns {:?} instead of {columns:?}", rows.columns()));
        }
        let expected = self.rows.as_ref()?;
        if expected.len() != rows.len() {
            return Some(format!("{} rows instead of {}", rows.len(), expected.len()));
        }
        expected.iter().enumerate().find_map(|(i, want)| {
            let got = rows.get(i).map(|row| row.values().to_vec()).unwrap_or_default();
            let equal = want.len() == got.len() && want.iter().zip(&got).all(|(a, b)| same(a, b));
            (!equal).then(|| format!("row {i} is {} instead of {}", short(&got), short(want)))
        })
    }
}

/// Equal types and contents; reals by their bits, so that -0.0 is not 0.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

fn short(values: &[Value]) -> String {
    let text = format!("{values:?}");
    if text.chars().count() <= 400 { text } else { text.chars().take(400).collect::<String>() }
}

fn step(raw: &RawStep, prefix: &str) -> Result<Step, String> {
    let outcome = RawOutcomeRef {
        columns: &raw.columns,
        rows: &raw.rows,
        rows_affected: raw.rows_affected,
        last_insert_rowid: raw.last_insert_rowid,
    };
    let counts = raw.rows_affected.is_some() || raw.last_insert_rowid.is_some();
    let expects = counts || raw.columns.is_some() || raw.rows.is_some();
    let (call, outcomes) = match (&raw.execute, &raw.query, &raw.execute_batch) {
        (Some(sql), None, None) if raw.results.is_none() => {
            (Call::Execute(statement(sql, &raw.params, prefix)?), vec![outcome.decode(prefix)?])
        }
        (None, Some(sql), None) if raw.results.is_none() && !counts => {
            (Call::Query(statement(sql, &raw.params, prefix)?), vec![outcome.decode(prefix)?])
        }
        (None, None, Some(list)) if raw.params.is_none() && !expects => {
            let statements: Result<Vec<_>, _> =
                list.iter().map(|s| statement(&s.sql, &s.params, prefix)).collect();
            let outcomes: Vec<_> = match &raw.results {
                Some(results) if results.len() == list.len() => {
                    results.iter().map(|r| r.decode(prefix)).collect::<Result<_, _>>()?
                }
                Some(results) => {
                    return Err(format!("{} results, {} statements", results.len(), list.len()));
                }
                None => list.iter().map(|_| Outcome::default()).collect(),
            };
            (Call::Batch(statements?), outcomes)
        }
        _ => return Err("a step has one verb and the keys that belong to it".into()),
    };
    if raw.error.is_some() && (expects || raw.results.is_some()) {
        return Err("a step expects an error or a result, not both".into());
    }
    Ok(Step { call, outcomes, error: raw.error.clone() })
}

/// An outcome by reference: a step spells its parts out, a batch has tables of them.
struct RawOutcomeRef<'a> {
    columns: &'a Option<Vec<String>>,
    rows: &'a Option<Vec<Vec<RawValue>>>,
    rows_affected: Option<u64>,
    last_insert_rowid: Option<i64>,
}

impl RawOutcome {
    fn decode(&self, prefix: &str) -> Result<Outcome, String> {
        RawOutcomeRef {
            columns: &self.columns,
            rows: &self.rows,
            rows_affected: self.rows_affected,
            last_insert_rowid: self.last_insert_rowid,
        }
        .decode(prefix)
    }
}

impl RawOutcomeRef<'_> {
    fn decode(&self, prefix: &str) -> Result<Outcome, String> {
        let columns = self.columns.as_ref();
        let rows = self.rows.as_ref().map(|rows| {
            rows.iter()
                .map(|row| row.iter().map(|v| value(v, prefix)).collect())
                .collect::<Result<Vec<Vec<Value>>, String>>()
        });
        Ok(Outcome {
            columns: columns.map(|list| list.iter().map(|c| c.replace("{p}", prefix)).collect()),
            rows: rows.transpose()?,
            rows_affected: self.rows_affected,
            last_insert_rowid: self.last_insert_rowid,
        })
    }
}

fn statement(sql: &str, params: &Option<RawParams>, prefix: &str) -> Result<Statement, String> {
    let params = match params {
        None => Params::default(),
        Some(RawParams::Positional(values)) => {
            Params::Positional(values.iter().map(|v| value(v, prefix)).collect::<Result<_, _>>()?)
        }
        Some(RawParams::Named(values)) => Params::Named(
            values
                .iter()
                .map(|(name, v)| Ok((name.clone(), value(v, prefix)?)))
                .collect::<Result<_, String>>()?,
        ),
    };
    Ok(Statement::new(sql.replace("{p}", prefix), params))
}

fn value(raw: &RawValue, prefix: &str) -> Result<Value, String> {
    let (text, times) = match raw {
        RawValue::Once(text) => (text, 1),
        RawValue::Repeated(r) if r.repeat.starts_with("t:") || r.repeat.starts_with("x:") => {
            (&r.repeat, r.times)
        }
        RawValue::Repeated(r) => return Err(format!("cannot repeat {:?}", r.repeat)),
    };
    let text = text.replace("{p}", prefix);
    let malformed = || format!("not a value: {text:?}");
    Ok(match text.split_once(':') {
        None if text == "null" => Value::Null,
        Some(("i", digits)) => Value::Integer(digits.parse().map_err(|_| malformed())?),
        Some(("r", number)) => Value::Real(number.parse().map_err(|_| malformed())?),
        Some(("t", content)) => Value::Text(content.repeat(times)),
        Some(("x", digits)) => Value::Blob(bytes(digits).ok_or_else(malformed)?.repeat(times)),
        _ => return Err(malformed()),
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !lower || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

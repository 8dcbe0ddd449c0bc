//! [`Call`]: what is asked of a node, as a line of JSON between the processes and in reports.

use quorumlite::{Params, Statement, Value};
use serde_json::{Value as Json, json};

/// Which of the node's calls is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Execute,
    Batch,
    Query,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub kind: Kind,
    pub statements: Vec<Statement>,
}

impl Call {
    pub fn new(kind: Kind, sql: impl Into<String>) -> Call {
        Call { kind, statements: vec![Statement::new(sql.into(), ())] }
    }

    pub fn to_line(&self) -> String {
        let kind = match self.kind {
            Kind::Execute => "execute",
            Kind::Batch => "batch",
            Kind::Query => "query",
        };
        let statements: Vec<Json> = self
            .statements
            .iter()
            .map(|s| {
                let params = match &s.params {
                    Params::Positional(values) => values.iter().map(value_to_json).collect(),
                    Params::Named(_) => Vec::new(),
                };
                json!({ "sql": s.sql, "params": params })
            })
            .collect();
        json!({ "kind": kind, "statements": statements }).to_string()
    }

    pub fn from_line(line: &str) -> Call {
        let json: Json = serde_json::from_str(line).expect("a call in JSON");
        let kind = match json["kind"].as_str() {
            Some("execute") => Kind::Execute,
            Some("batch") => Kind::Batch,
            Some("query") => Kind::Query,
            other => panic!("no kind of call: {other:?}"),
        };
        let list = |json: &Json| json.as_array().expect("a list").clone();
        let statements = list(&json["statements"])
            .iter()
            .map(|s| {
                let params: Vec<Value> = list(&s["params"]).iter().map(value_from_json).collect();
                Statement::new(s["sql"].as_str().expect("SQL"), params)
            })
            .collect();
        Call { kind, statements }
    }
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(v) => json!({ "i": v }),
        Value::Real(v) => json!({ "r": v }),
        Value::Text(v) => json!({ "t": v }),
        Value::Blob(v) => json!({ "b": v }),
    }
}

fn value_from_json(json: &Json) -> Value {
    if let Some(v) = json["i"].as_i64() {
        return Value::Integer(v);
    }
    if let Some(v) = json["r"].as_f64() {
        return Value::Real(v);
    }
    if let Some(v) = json["t"].as_str() {
        return Value::Text(v.to_string());
    }
    match json["b"].as_array() {
        Some(bytes) => {
            Value::Blob(bytes.iter().filter_map(|b| b.as_u64()).map(|b| b as u8).collect())
        }
        None => Value::Null,
    }
}

#[test]
fn a_call_survives_its_line() {
    let params = [Value::Null, Value::Integer(-1), Value::Real(0.5), Value::from("a\n\"")];
    let mut call = Call::new(Kind::Batch, "SELECT '\0', ?");
    call.statements.push(Statement::new("x", params.to_vec()));
    call.statements.push(Statement::new("y", [Value::Blob(vec![0, 255])]));
    let line = call.to_line();
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(Call::from_line(&line).to_line(), line);
    assert_eq!(Call::from_line(&line).statements[1].params, Params::Positional(params.to_vec()));
}

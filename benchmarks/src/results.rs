//! [`Results`]: what was measured, round by round, with medians and ratios.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// All measurements of a run.
#[derive(Debug, Default)]
pub struct Results {
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    round: usize,
    /// What was measured: system, measure, callers and so on. Equal in every round.
    what: Value,
    /// What came out: numbers, or `failed` with a reason.
    values: Map<String, Value>,
}

impl Results {
    /// Adds what one round measured.
    pub fn add(&mut self, round: usize, what: Value, values: Value) {
        let values = match values {
            Value::Object(values) => values,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        let shown: Vec<_> = values.iter().map(|(name, v)| format!("{name} {}", short(v))).collect();
        eprintln!("  {} {}", label(&what), shown.join("  "));
        self.records.push(Record { round, what, values });
    }

    /// Adds to every record of the round its ratio to the yardstick's, where that has the same number
    /// of rows in a transaction.
    pub fn relate(&mut self, round: usize, measure: &str, yardstick: &str) {
        let comparable = |r: &Record, what: &Value| {
            r.round == round && r.what["measure"] == measure && r.what["rows"] == what["rows"]
        };
        for at in 0..self.records.len() {
            let what = self.records[at].what.clone();
            if !comparable(&self.records[at], &what) {
                continue;
            }
            for name in ["per_second", "p50_us"] {
                let of_yardstick: Vec<f64> = (self.records.iter())
                    .filter(|r| comparable(r, &what) && r.what["system"] == yardstick)
                    .filter_map(|r| r.values.get(name)?.as_f64())
                    .collect();
                let values = &mut self.records[at].values;
                let value = values.get(name).and_then(Value::as_f64);
                if let (Some(value), false) = (value, of_yardstick.is_empty()) {
                    let mean = of_yardstick.iter().sum::<f64>() / of_yardstick.len() as f64;
                    let name = name.trim_end_matches("_us");
                    values.insert(format!("{name}_ratio"), json!(value / mean));
                }
            }
        }
    }

    /// The median of each value over the rounds.
    pub fn medians(&self) -> Vec<Value> {
        let mut order = Vec::new();
        let mut grouped: BTreeMap<String, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
        let mut failures: BTreeMap<String, &Value> = BTreeMap::new();
        for record in &self.records {
            let key = record.what.to_string();
            if !grouped.contains_key(&key) {
                order.push((key.clone(), &record.what));
            }
            let group = grouped.entry(key.clone()).or_default();
            for (name, value) in &record.values {
                match value {
                    Value::String(_) => drop(failures.insert(key.clone(), value)),
                    // A percentile of no operations is null.
                    number => group.entry(name).or_default().extend(number.as_f64()),
                }
            }
        }
        let median_of = |(key, what): &(String, &Value)| {
            let mut all = (*what).clone();
            for (name, mut numbers) in grouped.get(key).cloned().unwrap_or_default() {
                all[name] = json!(median(&mut numbers));
            }
            if let Some(reason) = failures.get(key) {
                all["failed"] = (*reason).clone();
            }
            all
        };
        order.iter().map(median_of).collect()
    }

    /// Every measurement, for those who want to see how they vary.
    pub fn rounds(&self) -> Vec<Value> {
        let flat = |record: &Record| {
            let mut all = record.what.clone();
            all["round"] = json!(record.round);
            for (name, value) in &record.values {
                all[name] = value.clone();
            }
            all
        };
        self.records.iter().map(flat).collect()
    }

    /// The medians as a table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for median in self.medians() {
            let Value::Object(all) = &median else { continue };
            let hidden = |name: &str| ["operations", "whole_seconds"].contains(&name);
            let (mut what, mut values) = (String::new(), String::new());
            for (name, value) in all {
                match value {
                    Value::Number(n) if n.is_f64() && !hidden(name) => {
                        values += &format!("  {name} {:>9}", short(value));
                    }
                    Value::Number(_) if !hidden(name) => what += &format!(" {name}={value}"),
                    Value::String(s) if name == "failed" => values += &format!("  FAILED: {s}"),
                    Value::String(s) => what += &format!(" {s}"),
                    _ => {}
                }
            }
            text += &format!("{:<58}{values}\n", what.trim_start());
        }
        text
    }
}

fn label(what: &Value) -> String {
    let Value::Object(what) = what else { return String::new() };
    let words = what.iter().map(|(name, value)| match value {
        Value::String(s) => s.clone(),
        other => format!("{name}={other}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn short(value: &Value) -> String {
    match value.as_f64() {
        Some(n) if n.abs() >= 100.0 => format!("{n:.0}"),
        Some(n) => format!("{n:.2}"),
        None => value.to_string(),
    }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => numbers[n / 2],
        n => (numbers[n / 2 - 1] + numbers[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round_and_the_median_is_taken_last() {
        let mut results = Results::default();
        for (round, yardstick, ours) in [(0, 10.0, 20.0), (1, 100.0, 500.0), (2, 10.0, 30.0)] {
            let what = |system| json!({"measure": "write", "system": system});
            results.add(round, what("yard"), json!({"per_second": yardstick}));
            results.add(round, what("ours"), json!({"per_second": ours}));
            results.relate(round, "write", "yard");
        }
        let medians = results.medians();
        assert_eq!(medians[1]["per_second_ratio"], 3.0, "of 2, 5 and 3");
        assert_eq!(medians[1]["per_second"], 30.0);
    }
}

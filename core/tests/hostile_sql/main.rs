//! Generated and mutated SQL through a node: nothing crashes it, hangs it, stops it, or makes a
//! second node differ that applies the same log.
//!
//! The nodes live in another process. When that ends, hangs or complains, the calls that led there
//! are run again in fresh directories, fewer and fewer of them, until only those are left that it
//! takes.
//!
//! QUORUMLITE_FUZZ_SQL_SECONDS says for how long (default 12, with the same statements each time),
//! QUORUMLITE_FUZZ_SQL_SEED repeats a run, QUORUMLITE_FUZZ_SQL_CALLS names a file of calls, one a
//! line as they are printed, that is run instead.

mod call;
mod child;
mod generator;
mod minimize;
mod mutate;
mod nest;
mod random;
mod seeds;
#[path = "../sql_logic/split.rs"]
mod split;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use call::{Call, Kind};
use child::{Answer, Process, READ_DEADLINE, READ_SLACK, WRITE_DEADLINE};
use generator::Generator;

/// Calls that one pair of nodes gets.
const EPOCH: usize = 300;
/// Between two comparisons of the nodes.
const CHECK: usize = 60;
/// Different failures that a run collects before it ends.
const FAILURES: usize = 12;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What is wrong with an answer; a word that tells failures apart comes first.
fn complaint(call: Option<&Call>, answer: &Answer) -> Option<String> {
    let slow = |bound: Duration| {
        (answer.milliseconds > bound.as_millis() as u64)
            .then(|| format!("Slow {} ms: {} {}", answer.milliseconds, answer.kind, answer.rest))
    };
    let allowed: &[&str] = match call.map(|call| call.kind) {
        // A read may take longer than it was given.
        Some(Kind::Query) => &["Ok", "Sql", "Constraint", "Forbidden", "Busy", "Timeout"],
        Some(_) => &["Ok", "Sql", "Constraint", "Forbidden", "Busy"],
        None => &["Ok", "Open"],
    };
    if !allowed.contains(&&*answer.kind) {
        return Some(format!("{} {}", answer.kind, answer.rest));
    }
    slow(match call.map(|call| call.kind) {
        Some(Kind::Query) => READ_DEADLINE + READ_SLACK,
        _ => WRITE_DEADLINE,
    })
}

/// Runs `calls` on fresh nodes and looks at them afterwards; gives the first complaint, and how many
/// calls were made.
fn replay(calls: &[Call]) -> (Option<String>, usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut process, answer) = Process::start(dir.path());
    if let Some(text) = complaint(None, &answer) {
        return (Some(text), 0);
    }
    for (i, call) in calls.iter().enumerate() {
        let answer = process.ask(&call.to_line());
        if let Some(text) = complaint(Some(call), &answer) {
            return (Some(text), i + 1);
        }
    }
    (afterwards(process, dir.path()), calls.len())
}

/// Compares the nodes, opens the second one anew, then both.
fn afterwards(mut process: Process, dir: &std::path::Path) -> Option<String> {
    for line in ["check", "reopen", "check"] {
        if let Some(text) = complaint(None, &process.ask(line)) {
            return Some(format!("{text} ({line})"));
        }
    }
    drop(process);
    let (mut process, answer) = Process::start(dir);
    complaint(None, &answer)
        .or_else(|| complaint(None, &process.ask("check")))
        .map(|text| format!("{text} (started again)"))
}

struct Run {
    seed: u64,
    calls: usize,
    outcomes: BTreeMap<String, usize>,
    /// By the first words of the complaint.
    failures: BTreeMap<String, String>,
}

impl Run {
    /// One pair of nodes, from its beginning to its end or to a failure.
    fn epoch(&mut self, generator: &mut Generator, end: Instant) {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut process, answer) = Process::start(dir.path());
        assert!(complaint(None, &answer).is_none(), "fresh nodes do not open: {answer:?}");
        let mut history: Vec<Call> = Vec::new();
        for call in generator.opening() {
            history.push(call);
        }
        let opening = history.len();
        let mut i = 0;
        while i < EPOCH && (Instant::now() < end || i < opening) {
            if i >= opening {
                history.push(generator.next());
            }
            let call = &history[i];
            i += 1;
            self.calls += 1;
            let answer = process.ask(&call.to_line());
            let word = answer.rest.split(' ').next().unwrap_or_default();
            *self.outcomes.entry(format!("{} {word}", answer.kind)).or_default() += 1;
            let mut found = complaint(Some(call), &answer);
            if found.is_none() && i % CHECK == 0 {
                let lines =
                    if i % (2 * CHECK) == 0 { &["reopen", "check"][..] } else { &["check"] };
                found = lines.iter().find_map(|line| complaint(None, &process.ask(line)));
            }
            if let Some(text) = found {
                return self.failed(&history, &text);
            }
        }
        if let Some(text) = afterwards(process, dir.path()) {
            self.failed(&history, &text);
        }
    }

    fn failed(&mut self, history: &[Call], text: &str) {
        let sort = minimize::sort(text);
        println!("seed {}, call {}: {text}", self.seed, self.calls);
        if self.failures.contains_key(&sort) {
            return;
        }
        let (calls, text) = minimize::minimize(history, text);
        let mut report = format!("{text}\nafter these calls:\n");
        for call in &calls {
            report += &call.to_line();
            report.push('\n');
        }
        println!("{report}");
        if let Some(folder) = std::env::var_os("QUORUMLITE_FUZZ_SQL_FINDINGS") {
            let name = format!("{}-{}.jsonl", self.seed, self.calls);
            std::fs::write(std::path::Path::new(&folder).join(name), &report).expect("a file");
        }
        self.failures.insert(sort, report);
    }
}

#[test]
fn no_sql_crashes_hangs_stops_or_divides_nodes() {
    if let Some(file) = std::env::var_os("QUORUMLITE_FUZZ_SQL_CALLS") {
        let text = std::fs::read_to_string(file).expect("a file of calls");
        let calls: Vec<Call> =
            text.lines().filter(|line| line.starts_with('{')).map(Call::from_line).collect();
        let (complaint, made) = replay(&calls);
        assert!(complaint.is_none(), "after {made} calls: {complaint:?}");
        return;
    }
    let seconds = setting("QUORUMLITE_FUZZ_SQL_SECONDS");
    let mut drawn = 1u64.to_le_bytes();
    if seconds.is_some() {
        getrandom::fill(&mut drawn).expect("a seed");
        drawn[6..].fill(0);
    }
    let seed = setting("QUORUMLITE_FUZZ_SQL_SEED").unwrap_or(u64::from_le_bytes(drawn));
    println!("QUORUMLITE_FUZZ_SQL_SEED={seed}");
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(12));
    let mut generator = Generator::new(seed);
    let mut run = Run { seed, calls: 0, outcomes: BTreeMap::new(), failures: BTreeMap::new() };
    while Instant::now() < end && run.failures.len() < FAILURES {
        run.epoch(&mut generator, end);
    }
    println!("{} calls; {:?}", run.calls, run.outcomes);
    let failures: Vec<String> = run.failures.into_values().collect();
    assert!(failures.is_empty(), "seed {seed}\n{}", failures.join("\n\n"));
    // Statements that all fail to parse would not reach the compiler.
    let succeeded = run.outcomes.get("Ok ").copied().unwrap_or_default();
    assert!(succeeded * 8 > run.calls, "too few statements succeed: {:?}", run.outcomes);
}

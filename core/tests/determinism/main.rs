//! A differential fuzzer: generated schemas and statements through a cluster whose nodes live in
//! different time zones, are killed, join by snapshot and apply in batches of different sizes; all
//! of them hold the same content throughout.
//!
//! QUORUMLITE_FUZZ_SECONDS says for how long (default 60), QUORUMLITE_FUZZ_STATEMENTS ends it after
//! so many statements, and QUORUMLITE_FUZZ_SEED repeats the statements of an earlier run, which
//! printed its seed. QUORUMLITE_FUZZ_ONLY leaves only one kind of the commands of `adverse.rs`.

mod adverse;
mod child;
mod generator;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adverse::Kind;
use child::Process;
use generator::{Command, Generator, Random};
use quorumlite::{Config, Consistency, ErrorKind, Node, Role};
use support::{PATIENCE, eventually, free_address, member};

/// Callers that write at the same time, so that entries hold several commands.
const CALLERS: usize = 8;

/// How long is written between two comparisons.
const ROUND: Duration = Duration::from_secs(2);

/// A log so short that a node which joins later needs a snapshot.
pub fn small_log(config: Config) -> Config {
    config.max_log_bytes(1 << 20)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// All tables with all their rows, one a line, but for what lies elsewhere on each node.
pub async fn dump(node: &Node) -> String {
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
        WHERE name NOT LIKE '~_quorumlite~_%' ESCAPE '~' ORDER BY rowid";
    let schema = support::query(node, schema, Consistency::None).await.expect("the schema");
    let mut lines = String::new();
    for row in schema.iter() {
        lines += &format!("schema {:?}\n", row.values());
        let (Some("table"), Some(name)) = (row[0].as_str(), row[1].as_str()) else { continue };
        // Not every table has rowids, and not every virtual table can be read as a whole.
        for columns in ["rowid, *", "*"] {
            let sql = format!("SELECT {columns} FROM \"{name}\"");
            let Ok(rows) = support::query(node, &sql, Consistency::None).await else { continue };
            for row in rows.iter() {
                lines += &format!("{name} {:?}\n", row.values());
            }
            break;
        }
    }
    lines
}

/// A command for a message: some are as long as a statement may be.
fn shortened(command: &Command) -> String {
    let text = format!("{:?}", command.statements);
    text.chars().take(4000).collect()
}

struct Fuzzer {
    nodes: Vec<Node>,
    child: Option<Process>,
    generator: Arc<Mutex<Generator>>,
    seed: u64,
    statements: Arc<AtomicUsize>,
    succeeded: Arc<AtomicUsize>,
    outcomes: Arc<Mutex<BTreeMap<String, usize>>>,
    /// What happened since the last comparison, for a report.
    history: Arc<Mutex<Vec<String>>>,
    dir: tempfile::TempDir,
}

impl Fuzzer {
    /// Lets `CALLERS` write until `end` or until `limit` statements were sent.
    async fn write_until(&self, end: Instant, limit: usize) {
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let node = self.nodes[caller % self.nodes.len()].clone();
            let generator = self.generator.clone();
            let (statements, succeeded) = (self.statements.clone(), self.succeeded.clone());
            let (outcomes, history, seed) =
                (self.outcomes.clone(), self.history.clone(), self.seed);
            callers.spawn(async move {
                while Instant::now() < end && statements.load(Ordering::Relaxed) < limit {
                    let command = generator.lock().expect("no panic").command();
                    let size = command.statements.len();
                    let count = statements.fetch_add(size, Ordering::Relaxed);
                    let said = shortened(&command);
                    let result = node.execute_batch(command.statements.clone()).await;
                    let at = match &result {
                        Ok(results) => format!("{:?}", results.last().map(|r| r.index)),
                        Err(e) => e.to_string(),
                    };
                    history.lock().expect("no panic").push(format!("{at}: {said}"));
                    let outcome = match result {
                        Ok(_) => {
                            assert!(!command.refused, "seed {seed}, statement {count}: {said}");
                            succeeded.fetch_add(size, Ordering::Relaxed);
                            "ok".to_string()
                        }
                        Err(e) => {
                            let of_the_statement = matches!(
                                e.kind(),
                                ErrorKind::Sql
                                    | ErrorKind::Constraint
                                    | ErrorKind::Forbidden
                                    | ErrorKind::Busy
                            );
                            assert!(
                                of_the_statement,
                                "seed {seed}, statement {count}: {said}\n{e:?}"
                            );
                            e.code().to_string()
                        }
                    };
                    *outcomes.lock().expect("no panic").entry(outcome).or_default() += 1;
                }
            });
        }
        while let Some(result) = callers.join_next().await {
            result.expect("a caller");
        }
    }

    /// Compares all nodes at one index. Nobody writes meanwhile.
    async fn compare(&mut self) {
        let hashes = eventually("all nodes at one index", || async {
            let mut hashes = Vec::new();
            for node in &self.nodes {
                support::query(node, "SELECT 1", Consistency::Linearizable).await.ok()?;
                let Ok(hash) = tokio::time::timeout(PATIENCE, node.content_hash()).await else {
                    // Nothing ends the thread that hashes, for which a runtime would wait.
                    eprintln!("seed {}: hashing the content does not end", self.seed);
                    std::process::exit(101);
                };
                let hash = hash.expect("a hash");
                hashes.push((hash.index, hash.hash));
            }
            let at = hashes[0].0;
            hashes.iter().all(|(index, _)| *index == at).then_some(hashes)
        })
        .await;
        if let Some(child) = &mut self.child {
            let answer = tokio::task::block_in_place(|| child.ask("hash", "hash "));
            let (index, hash) = answer.split_once(' ').expect("index and hash");
            // A new leader's blank entry moves the index, and not the content.
            assert!(index.parse::<u64>().expect("a number") >= hashes[0].0);
            if hash != hashes[0].1 {
                self.explain("n3").await;
            }
        }
        if hashes.iter().any(|(_, hash)| *hash != hashes[0].1) {
            self.explain("a node of this process").await;
        }
        self.history.lock().expect("no panic").clear();
    }

    /// Fails with the first lines that differ.
    async fn explain(&mut self, who: &str) -> ! {
        let expected = dump(&self.nodes[0]).await;
        let mut others = Vec::new();
        for (name, node) in ["n2", "n4"].iter().zip(&self.nodes[1..]) {
            others.push((name, dump(node).await));
        }
        if let Some(child) = &mut self.child {
            let path = self.dir.path().join("dump");
            child.ask(&format!("dump {}", path.display()), "dumped");
            others.push((&"n3", std::fs::read_to_string(path).expect("a dump")));
        }
        let mut text = String::new();
        for (name, other) in &others {
            for (one, two) in expected.lines().zip(other.lines()).filter(|(a, b)| a != b).take(5) {
                text += &format!("n1 against {name}:\n  {one}\n  {two}\n");
            }
            text += &format!("{} and {} lines\n", expected.lines().count(), other.lines().count());
        }
        let path = std::env::temp_dir().join(format!("quorumlite-determinism-{}", self.seed));
        let history = self.history.lock().expect("no panic").join("\n");
        if std::fs::write(&path, history).is_ok() {
            text += &format!("the commands since the last comparison: {}\n", path.display());
        }
        panic!(
            "seed {}, after {} statements: {who} differs\n{text}",
            self.seed,
            self.statements.load(Ordering::Relaxed)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stay_equal_whatever_is_written() {
    // `make test` runs the same statements each time, `make fuzz-determinism` new ones.
    let seconds = setting("QUORUMLITE_FUZZ_SECONDS");
    let mut drawn = 1u64.to_le_bytes();
    if seconds.is_some() {
        getrandom::fill(&mut drawn).expect("a seed");
        drawn[6..].fill(0);
    }
    let seed = setting("QUORUMLITE_FUZZ_SEED").unwrap_or(u64::from_le_bytes(drawn));
    let time = Duration::from_secs(seconds.unwrap_or(60));
    let limit = setting("QUORUMLITE_FUZZ_STATEMENTS").unwrap_or(u64::MAX) as usize;
    println!("QUORUMLITE_FUZZ_SEED={seed}");

    let dir = tempfile::tempdir().expect("a directory");
    let addresses: Vec<String> = (0..4).map(|_| free_address()).collect();
    let first = small_log(member(dir.path(), "n1", &addresses[0], &[]));
    // One node applies each entry in a transaction of its own.
    let second = small_log(member(dir.path(), "n2", &addresses[1], &[&addresses[0]]));
    let second = second.transaction_entries(1);
    let open_second = || async { Node::open(second.clone()).await.expect("a node opens") };
    let nodes = vec![Node::open(first).await.expect("a node opens"), open_second().await];
    let start_child = |zone: &str| {
        tokio::task::block_in_place(|| {
            Process::start(dir.path(), "n3", &addresses[2], &addresses[0], zone)
        })
    };
    let child = start_child("JST-9");
    let mut fuzzer = Fuzzer {
        nodes,
        child: Some(child),
        generator: Arc::new(Mutex::new(Generator::new(seed))),
        seed,
        statements: Arc::default(),
        succeeded: Arc::default(),
        outcomes: Arc::default(),
        history: Arc::default(),
        dir: tempfile::tempdir().expect("a directory"),
    };
    let mut chance = Random::new(seed ^ 1);
    let (begin, mut restarts, mut comparisons) = (Instant::now(), 0, 0);
    let sent = |fuzzer: &Fuzzer| fuzzer.statements.load(Ordering::Relaxed);
    let done = |fuzzer: &Fuzzer| begin.elapsed() >= time || sent(fuzzer) >= limit;
    loop {
        // In a quiet round the node that is started again is the only one to compile anything.
        let quiet = match Kind::only() {
            None | Some(Kind::Plain) => chance.below(5) < 2,
            Some(kind) => matches!(kind, Kind::Plans | Kind::Options),
        };
        if quiet {
            let seconds = ROUND.as_secs_f64() * 0.6;
            let fill = fuzzer.generator.lock().expect("no panic").begin_quiet(seconds);
            fuzzer.nodes[0].execute_batch(fill.statements).await.expect("the table for plans");
        }
        fuzzer.write_until(Instant::now() + ROUND.mul_f64(0.5), limit).await;
        if quiet || chance.one_in(2) {
            // It misses some entries, and then applies them in batches of its own.
            if let Some(child) = fuzzer.child.take() {
                child.kill();
            }
            restarts += 1;
            let pause = ROUND.mul_f64(chance.below(50) as f64 / 100.0);
            fuzzer.write_until(Instant::now() + pause, limit).await;
            let zone = chance.pick(&["JST-9", "EST5EDT,M3.2.0,M11.1.0", "NPT-5:45"]);
            fuzzer.child = Some(start_child(zone));
        }
        if chance.one_in(4) {
            // It compiles everything anew, and reads what else it knows from the file.
            fuzzer.nodes[1].close().await.expect("a node closes");
            fuzzer.nodes[1] = open_second().await;
        }
        fuzzer.write_until(Instant::now() + ROUND.mul_f64(0.5), limit).await;
        fuzzer.generator.lock().expect("no panic").end_quiet();
        fuzzer.compare().await;
        comparisons += 1;
        let half = begin.elapsed() >= time / 2 || sent(&fuzzer) >= limit / 2;
        if half && fuzzer.nodes.len() == 2 {
            join_by_snapshot(&mut fuzzer, dir.path(), &addresses).await;
        }
        if done(&fuzzer) && fuzzer.nodes.len() > 2 {
            break;
        }
    }
    fuzzer.compare().await;
    let outcomes = fuzzer.outcomes.lock().expect("no panic").clone();
    let (statements, succeeded) = (sent(&fuzzer), fuzzer.succeeded.load(Ordering::Relaxed));
    println!(
        "{statements} statements, {succeeded} of them in commands that succeeded, \
         {comparisons} comparisons, {restarts} restarts; commands by outcome: {outcomes:?}"
    );
    // A generator whose statements all fail would prove nothing.
    assert!(succeeded * 4 > statements, "too few statements succeed: {outcomes:?}");
    for node in &fuzzer.nodes {
        node.close().await.expect("a node closes");
    }
}

/// Adds a node that the log cannot serve any more.
async fn join_by_snapshot(fuzzer: &mut Fuzzer, dir: &std::path::Path, addresses: &[String]) {
    let purged =
        |fuzzer: &Fuzzer| fuzzer.nodes.iter().any(|n| n.status().is_ok_and(|s| s.purged_index > 1));
    let mut filler = 0;
    while !purged(fuzzer) {
        filler += 1;
        assert!(filler < 2000, "the log is never purged");
        let text = "x".repeat(20_000);
        let insert = ("INSERT INTO log(what) VALUES (length(?))", quorumlite::params![text]);
        fuzzer.nodes[0].execute_batch([insert]).await.expect("a write");
    }
    let config = small_log(member(dir, "n4", &addresses[3], &[&addresses[0]])).role(Role::Learner);
    let node = Node::open(config).await.expect("the fourth node joins");
    fuzzer.nodes.push(node);
    fuzzer.compare().await;
    println!(
        "n4 joined by snapshot after {} statements",
        fuzzer.statements.load(Ordering::Relaxed)
    );
}

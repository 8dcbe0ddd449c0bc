//! Quorumlite beside plain SQLite, hiqlite and rqlite: prints a table and writes JSON.
//!
//! Every database runs in a process of its own ([`child`]); the nodes of a cluster are in one process
//! and talk over loopback. `--help` lists the options.

mod child;
mod member;
mod plain;
mod results;
mod rqlite;
mod run;
mod systems;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use load::{Arguments, Result, Subject};
use serde_json::{Value, json};

use member::Members;
use plain::Plain;
use results::Results;
use rqlite::Rqlite;
use run::Run;
use systems::{Kind, SYSTEMS};

const HELP: &str = "\
quorumlite-benchmarks [options]
  --rounds N       rounds of every measurement; the medians count (3)
  --seconds S      the window of one measurement (1.0)
  --parts LIST     of writes,batches,reads,memory,catch-up,snapshot,restart (all)
  --systems LIST   of those that the first line of a run names (all that are there)
  --callers LIST   callers that write at the same time (1,16,64,256)
  --sizes LIST     sizes in MB of a database that is killed (10,500)
  --large          adds 5000 to these, for Quorumlite alone: takes minutes and 6 GB
  --hiqlite FILE   the program made in benchmarks/hiqlite; hiqlite is left out without it
  --dir DIR        where the databases are made (the system's directory for temporary files, which
                   must be on a disk)
  --json FILE      where the results go (results.json)";

const PARTS: [&str; 7] =
    ["writes", "batches", "reads", "memory", "catch-up", "snapshot", "restart"];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let outcome = match words.peek().map(String::as_str) {
        Some("--help") => {
            println!("{HELP}");
            Ok(())
        }
        Some("subject") => subject(words.skip(1)),
        _ => compare(words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Compares: the parent of all databases.
fn compare(words: impl Iterator<Item = String>) -> Result<()> {
    let known = [
        "rounds", "seconds", "parts", "systems", "callers", "sizes", "large", "hiqlite", "dir",
        "json",
    ];
    let arguments = Arguments::parse(words, &known)?;
    let hiqlite = arguments.text("hiqlite").map(PathBuf::from);
    let mut missing = Vec::new();
    let chosen: Vec<String> = arguments.list("systems")?;
    if let Some(name) = chosen.iter().find(|name| !SYSTEMS.iter().any(|s| s.name == **name)) {
        return Err(format!("--systems: {name:?} is none").into());
    }
    let has_rqlited = runs("rqlited", "-version");
    let mut systems = Vec::new();
    for system in SYSTEMS.iter().filter(|s| chosen.is_empty() || chosen.iter().any(|c| c == s.name))
    {
        match system.kind {
            Kind::Hiqlite if hiqlite.is_none() => {
                missing.push((system.name, "--hiqlite not given"))
            }
            Kind::Rqlite if !has_rqlited => missing.push((system.name, "rqlited not found")),
            _ => systems.push(system.clone()),
        }
    }
    let mut parts: BTreeSet<String> = arguments.list("parts")?.into_iter().collect();
    if let Some(part) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("--parts: {part:?} is none of {}", PARTS.join(", ")).into());
    }
    if parts.is_empty() {
        parts = PARTS.map(str::to_owned).into();
    }
    let or =
        |given: Vec<u64>, default: &[u64]| if given.is_empty() { default.to_vec() } else { given };
    let sizes = or(arguments.list("sizes")?, &[10, 500]);
    let callers = or(arguments.list("callers")?, &[1, 16, 64, 256]);
    let parent = arguments.get("dir", std::env::temp_dir())?;
    std::fs::create_dir_all(&parent)?;
    let root = tempfile::tempdir_in(&parent)?;
    let mut run = Run {
        root: root.path().to_owned(),
        hiqlite: hiqlite.unwrap_or_default(),
        systems,
        parts,
        rounds: arguments.get("rounds", 3_usize)?.max(1),
        seconds: arguments.get("seconds", 1.0_f64)?.clamp(0.05, 600.0),
        callers: callers.into_iter().map(|n| n.clamp(1, 4096) as usize).collect(),
        sizes: sizes.into_iter().map(|mb| mb * 1_000_000).collect(),
        large: arguments.has("large"),
        results: Results::default(),
    };
    let names: Vec<_> = run.systems.iter().map(|s| s.name).collect();
    eprintln!("compared with rusqlite-full: {}", names.join(", "));
    for (name, why) in &missing {
        eprintln!("{name}: {why}");
    }
    let machine = machine();
    let begin = Instant::now();
    run.all()?;
    let before: Vec<_> = SYSTEMS.iter().filter(|s| !s.durable).map(|s| s.name).collect();
    let not_found: Vec<_> = missing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let json = [
        ("machine", machine),
        ("rounds", json!(run.rounds)),
        ("seconds", json!(run.seconds)),
        ("took_seconds", json!(begin.elapsed().as_secs())),
        ("answers_before_fsync", json!(before)),
        ("not_found", json!(not_found)),
        ("medians", json!(run.results.medians())),
        ("all", json!(run.results.rounds())),
    ];
    let file = arguments.get("json", String::from("results.json"))?;
    std::fs::write(&file, lines(&json))?;
    println!("{}", run.results.table());
    for (name, why) in &missing {
        println!("{name}: {why}");
    }
    println!("{} rounds in {:.0} s; written to {file}", run.rounds, begin.elapsed().as_secs_f64());
    Ok(())
}

/// JSON with one measurement a line, so that a difference between two runs can be read.
fn lines(entries: &[(&str, Value)]) -> String {
    let entry = |(name, value): &(&str, Value)| match value {
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let items: Vec<_> = items.iter().map(|item| format!("    {item}")).collect();
            format!("  {name:?}: [\n{}\n  ]", items.join(",\n"))
        }
        value => format!("  {name:?}: {value}"),
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}

fn runs(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// What a reader of the figures has to know of the machine.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": cpu.map_or("unknown", |(_, name)| name),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_at_start": read("/proc/loadavg").split(' ').next().and_then(|l| l.parse::<f64>().ok()),
        "unix_time": seconds.map_or(0, |d| d.as_secs()),
    })
}

/// Runs one database: the child.
fn subject(words: impl Iterator<Item = String>) -> Result<()> {
    let known = ["kind", "dir", "nodes", "sync", "ports", "fresh", "expect"];
    let arguments = Arguments::parse(words, &known)?;
    let dir = arguments.get("dir", PathBuf::from("."))?;
    let ports: Vec<u16> = arguments.list("ports")?;
    let fresh = arguments.has("fresh");
    let expect: i64 = arguments.get("expect", 0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        match arguments.text("kind") {
            Some("plain") => {
                let synchronous = arguments.text("sync").unwrap_or("full");
                serve(Plain::open(Path::new(&dir), synchronous)?, expect).await
            }
            Some("quorumlite") => serve(Members::open(dir, &ports, fresh).await?, expect).await,
            Some("rqlite") => serve(Rqlite::open(&dir, &ports).await?, expect).await,
            other => Err(format!("--kind: {other:?} is none").into()),
        }
    });
    // Whatever still runs is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(subject: impl Subject, expect: i64) -> Result<()> {
    let max_id = subject.max_id().await?;
    if max_id < expect {
        return Err(format!("LOST: {expect} rows were acknowledged and {max_id} are there").into());
    }
    load::serve(subject, json!({"max_id": max_id})).await
}

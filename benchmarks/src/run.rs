//! [`Run`]: the rounds, part by part.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use load::{ROW_BYTES, Result};
use serde_json::{Value, json};

use crate::child::{Process, disk_bytes, settled_disk_bytes};
use crate::results::Results;
use crate::systems::{Kind, Place, System, YARDSTICK};

/// How long a command may take beyond the time that it was given.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long filling may take.
const LONG_PATIENCE: Duration = Duration::from_secs(1800);
/// Rows of the table that reads pick from.
const READ_ROWS: usize = 50_000;
/// Callers that write while a process is killed, and for how long they do.
const STORM: (usize, Duration) = (16, Duration::from_millis(500));
/// Bytes of the largest database that is killed.
const LARGE: u64 = 5_000_000_000;
/// Bytes of the database that is sent whole, and how long writes are measured without that.
const SNAPSHOT: u64 = 500_000_000;
const SNAPSHOT_SECONDS: f64 = 3.0;
/// Bytes that a follower misses: one amount that the log still has, one that it has no more.
const BEHIND: [u64; 2] = [20_000_000, 150_000_000];

/// What to measure.
pub struct Run {
    /// Where the databases are made.
    pub root: PathBuf,
    /// The program in `benchmarks/hiqlite`.
    pub hiqlite: PathBuf,
    /// What is compared with the yardstick.
    pub systems: Vec<System>,
    /// Parts: `writes`, `batches`, `reads`, `memory`, `catch-up`, `snapshot`, `restart`.
    pub parts: BTreeSet<String>,
    /// How many rounds.
    pub rounds: usize,
    /// The window of one measurement.
    pub seconds: f64,
    /// Numbers of callers for writes.
    pub callers: Vec<usize>,
    /// Sizes of a database that is killed, in bytes.
    pub sizes: Vec<u64>,
    /// Whether Quorumlite is killed with [`LARGE`], too: the others take too long with that.
    pub large: bool,
    /// What came out.
    pub results: Results,
}

impl Run {
    fn wants(&self, part: &str) -> bool {
        self.parts.contains(part)
    }

    /// Measures everything.
    pub fn all(&mut self) -> Result<()> {
        let by_load = ["writes", "batches", "reads", "memory", "catch-up"];
        if by_load.iter().any(|part| self.wants(part)) {
            for round in 0..self.rounds {
                eprintln!("round {} of {}", round + 1, self.rounds);
                // Once before the others and once after, since the machine's speed drifts.
                self.load(round, &YARDSTICK);
                for system in self.systems.clone() {
                    self.load(round, &system);
                }
                self.load(round, &YARDSTICK);
                for measure in ["write", "batch", "read"] {
                    self.results.relate(round, measure, YARDSTICK.name);
                }
            }
        }
        if self.wants("snapshot") {
            self.snapshot();
        }
        if self.wants("restart") {
            for bytes in self.sizes.clone() {
                eprintln!("restart with {} MB", bytes / 1_000_000);
                self.restart(bytes, &[Kind::Quorumlite, Kind::Hiqlite])?;
            }
            if self.large {
                eprintln!("restart with {} MB", LARGE / 1_000_000);
                self.restart(LARGE, &[Kind::Quorumlite])?;
            }
        }
        Ok(())
    }

    /// All parts for which a database is started once.
    fn load(&mut self, round: usize, system: &System) {
        if let Err(e) = self.try_load(round, system) {
            let what = json!({"measure": "start", "system": system.name});
            self.results.add(round, what, json!({"failed": e.to_string()}));
        }
    }

    fn try_load(&mut self, round: usize, system: &System) -> Result<()> {
        let place = Place::new(system, &self.root, "load")?;
        let mut process =
            Process::start(system.command(&place, &self.hiqlite, None)?, PATIENCE * 3)?;
        if self.wants("memory") && system.kind != Kind::Rqlite {
            std::thread::sleep(Duration::from_secs(1));
            if let Some((resident, anonymous)) = process.memory() {
                let what = json!({"measure": "memory", "system": system.name});
                let values = json!({"resident_mib": resident, "anonymous_mib": anonymous});
                self.results.add(round, what, values);
            }
        }
        if self.wants("reads") {
            let fill = json!({
                "do": "fill", "bytes": READ_ROWS * ROW_BYTES, "row_bytes": ROW_BYTES,
            });
            process.ask(&fill, LONG_PATIENCE)?;
            for level in system.levels {
                for callers in [1, 16] {
                    // Plain connections belong to one thread.
                    if system.kind != Kind::Plain || callers == 1 {
                        self.read(round, system, &mut process, level, callers, 0);
                    }
                }
            }
            if system.kind == Kind::Quorumlite && system.nodes > 1 {
                self.read(round, system, &mut process, "linearizable", 1, 1);
            }
        }
        if self.wants("writes") {
            for callers in self.callers.clone() {
                if system.kind != Kind::Plain || callers == 1 {
                    self.write(round, system, &mut process, callers, 0);
                }
            }
            if system.kind == Kind::Quorumlite && system.nodes > 1 {
                self.write(round, system, &mut process, 64, 1);
            }
        }
        if self.wants("batches") {
            for rows in [10, 100, 1000] {
                let what = json!({"measure": "batch", "system": system.name, "rows": rows});
                let command = json!({"do": "batch", "rows": rows, "callers": 1});
                self.timed(round, what, command, &mut process);
            }
        }
        // hiqlite waits ten seconds before it stops: once must do.
        let often = system.kind == Kind::Quorumlite || round == 0;
        let has_followers = system.nodes > 1 && system.kind != Kind::Rqlite;
        if self.wants("catch-up") && has_followers && often {
            for bytes in BEHIND {
                let what = json!({"measure": "catch-up", "system": system.name, "bytes": bytes});
                let values = catch_up(&mut process, bytes);
                let failed = values.is_err();
                self.results.add(round, what, values.unwrap_or_else(failure));
                if failed {
                    break;
                }
            }
        }
        process.end(PATIENCE);
        Ok(std::fs::remove_dir_all(&place.dir)?)
    }

    fn write(
        &mut self,
        round: usize,
        of: &System,
        process: &mut Process,
        callers: usize,
        node: usize,
    ) {
        let mut what = json!({"measure": "write", "system": of.name, "callers": callers});
        if node > 0 {
            what["through"] = "follower".into();
        }
        let command = json!({"do": "write", "callers": callers, "node": node});
        self.timed(round, what, command, process);
    }

    fn read(
        &mut self,
        round: usize,
        of: &System,
        process: &mut Process,
        level: &str,
        callers: usize,
        node: usize,
    ) {
        let mut what =
            json!({"measure": "read", "system": of.name, "level": level, "callers": callers});
        if node > 0 {
            what["through"] = "follower".into();
        }
        let command = json!({"do": "read", "level": level, "callers": callers, "node": node});
        self.timed(round, what, command, process);
    }

    /// One measurement of the usual length; a failure is a result, too.
    fn timed(&mut self, round: usize, what: Value, mut command: Value, process: &mut Process) {
        // Reads vary less than what waits for the disk.
        let share = if what["measure"] == "read" { 0.4 } else { 1.0 };
        command["seconds"] = json!(self.seconds * share);
        let values = process.ask(&command, PATIENCE).unwrap_or_else(failure);
        self.results.add(round, what, values);
    }

    /// Replaces a member of a large cluster by an empty one while it is written to.
    fn snapshot(&mut self) {
        let measured = |s: &&System| s.nodes > 1 && s.kind == Kind::Quorumlite;
        for system in self.systems.clone().iter().filter(measured) {
            eprintln!("snapshot of {} MB", SNAPSHOT / 1_000_000);
            if let Err(e) = self.try_snapshot(system) {
                let what = json!({"measure": "snapshot", "system": system.name});
                self.results.add(0, what, failure(e));
            }
        }
    }

    fn try_snapshot(&mut self, system: &System) -> Result<()> {
        let place = Place::new(system, &self.root, "snapshot")?;
        let command = system.command(&place, &self.hiqlite, None)?;
        let mut process = Process::start(command, PATIENCE)?;
        process.ask(&json!({"do": "fill", "bytes": SNAPSHOT}), LONG_PATIENCE)?;
        let sender = place.dir.join("n0");
        for round in 0..self.rounds {
            let settled = settled_disk_bytes(&sender, PATIENCE);
            let mut command = json!({
                "do": "write", "callers": STORM.0, "seconds": SNAPSHOT_SECONDS,
            });
            let alone = process.ask(&command, PATIENCE)?;
            command["replace"] = json!(2);
            let before = process.ask(&json!({"do": "size"}), PATIENCE)?;
            let (during, peak) = peak_of(&sender, || process.ask(&command, LONG_PATIENCE));
            let mut values = during?;
            let after = process.ask(&json!({"do": "size"}), PATIENCE)?;
            let bytes = |of: &Value| of["database_bytes"].as_f64().unwrap_or(f64::NAN);
            values["alone_p50_us"] = alone["p50_us"].clone();
            values["alone_p99_us"] = alone["p99_us"].clone();
            values["alone_per_second"] = alone["per_second"].clone();
            for share in ["p50", "p99"] {
                let of = |from: &Value| from[format!("{share}_us")].as_f64().unwrap_or(f64::NAN);
                values[format!("{share}_ratio")] = json!(of(&values) / of(&alone));
            }
            // What the database itself has grown by meanwhile is not the snapshot's.
            let growth = (bytes(&after) - bytes(&before)) / 1e6;
            values["sender_peak_mb"] = json!((peak as f64 - settled as f64) / 1e6 - growth);
            values["database_mb"] = json!(bytes(&before) / 1e6);
            let what = json!({
                "measure": "snapshot", "system": system.name, "bytes": SNAPSHOT,
                "callers": STORM.0,
            });
            self.results.add(round, what, values);
        }
        process.end(PATIENCE);
        Ok(std::fs::remove_dir_all(&place.dir)?)
    }

    /// Fills each database once, looks at the disk, then kills it in every round while it is written
    /// to, and starts it again.
    fn restart(&mut self, bytes: u64, kinds: &[Kind]) -> Result<()> {
        let mut filled = Vec::new();
        let measured = |s: &&System| s.nodes == 1 && kinds.contains(&s.kind);
        for system in self.systems.clone().iter().filter(measured) {
            let place = Place::new(system, &self.root, "restart")?;
            let command = system.command(&place, &self.hiqlite, None)?;
            let what = json!({"measure": "disk", "system": system.name, "bytes": bytes});
            let made = Process::start(command, PATIENCE).and_then(|mut process| {
                let took = process.ask(&json!({"do": "fill", "bytes": bytes}), LONG_PATIENCE)?;
                let disk = settled_disk_bytes(&place.dir, PATIENCE);
                let size = process.ask(&json!({"do": "size"}), PATIENCE)?;
                let database = size["database_bytes"].as_f64().unwrap_or(f64::NAN);
                let mut values = json!({
                    "fill_seconds": took["seconds"], "database_mb": database / 1e6,
                    "disk_mb": disk as f64 / 1e6, "disk_ratio": disk as f64 / database,
                });
                if let Some((resident, anonymous)) = process.memory() {
                    values["resident_mib"] = json!(resident);
                    values["anonymous_mib"] = json!(anonymous);
                }
                Ok((process, values))
            });
            match made {
                Ok((process, values)) => {
                    self.results.add(0, what, values);
                    filled.push((system.clone(), place, Some(process)));
                }
                Err(e) => self.results.add(0, what, failure(e)),
            }
        }
        for round in 0..self.rounds {
            for (system, place, slot) in &mut filled {
                let Some(mut process) = slot.take() else { continue };
                let what = json!({"measure": "restart", "system": system.name, "bytes": bytes});
                let restarted = kill(&mut process).and_then(|acknowledged| {
                    let command = system.command(place, &self.hiqlite, Some(acknowledged))?;
                    Process::start(command, PATIENCE * 3)
                });
                let values = match restarted {
                    Ok(process) => {
                        let mut values = json!({"seconds": process.started.as_secs_f64()});
                        for name in ["first_answer_seconds", "first_answer_missed"] {
                            if process.ready[name].is_number() {
                                values[name] = process.ready[name].clone();
                            }
                        }
                        *slot = Some(process);
                        values
                    }
                    Err(e) => failure(e),
                };
                self.results.add(round, what, values);
            }
        }
        for (_, place, process) in filled {
            drop(process);
            std::fs::remove_dir_all(&place.dir)?;
        }
        Ok(())
    }
}

/// The most bytes that a directory takes while `act` runs.
fn peak_of<T>(dir: &Path, act: impl FnOnce() -> T) -> (T, u64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = disk_bytes(dir);
            while !over.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(20));
                peak = peak.max(disk_bytes(dir));
            }
            peak
        });
        let result = act();
        over.store(true, Ordering::Release);
        (result, peak.join().unwrap_or_default())
    })
}

fn failure(e: load::Error) -> Value {
    json!({"failed": e.to_string()})
}

/// Kills a database in the middle of writes, and says how many rows it had acknowledged.
fn kill(process: &mut Process) -> Result<i64> {
    let before = process.ask(&json!({"do": "max_id"}), PATIENCE)?;
    let before = before["max_id"].as_i64().ok_or("no number of rows")?;
    process.ask(&json!({"do": "storm", "callers": STORM.0}), PATIENCE)?;
    std::thread::sleep(STORM.1);
    let said = process.kill();
    let acknowledged = said.iter().filter_map(|line| line["acknowledged"].as_i64()).max();
    Ok(before + acknowledged.ok_or("nothing was written")?)
}

/// Stops a follower, writes, and starts it again: how long until it has everything.
fn catch_up(process: &mut Process, bytes: u64) -> Result<Value> {
    let begin = Instant::now();
    process.ask(&json!({"do": "stop", "node": 2}), PATIENCE)?;
    process.ask(&json!({"do": "fill", "bytes": bytes}), LONG_PATIENCE)?;
    let caught_up = process.ask(&json!({"do": "start", "node": 2}), PATIENCE * 3)?;
    let seconds = caught_up["seconds"].as_f64().unwrap_or(f64::NAN);
    Ok(json!({
        "seconds": seconds, "mb_per_second": bytes as f64 / 1e6 / seconds,
        "whole_seconds": begin.elapsed().as_secs_f64(),
    }))
}

//! [`serve()`]: the commands that a database under test obeys.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    Caller, Error, INSERT, ROW_BYTES, Random, Result, Subject, closed_loop, closed_loop_during, row,
};

/// Rows and bytes a row of one transaction while filling.
const FILL_ROWS: usize = 250;

/// Says that the database is ready, then obeys one command a line until the input ends.
///
/// # Errors
/// Where standard input or output fail.
pub async fn serve<S: Subject>(subject: S, mut ready: Value) -> Result<()> {
    ready["ready"] = true.into();
    say(&ready)?;
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let reply = match serde_json::from_str(&line).map_err(Error::from) {
            Ok(command) => obey(&subject, &command).await,
            Err(e) => Err(e),
        };
        say(&reply.unwrap_or_else(|e| json!({"error": e.to_string()})))?;
    }
    Ok(())
}

fn say(reply: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")?;
    Ok(out.flush()?)
}

async fn obey<S: Subject>(subject: &S, command: &Value) -> Result<Value> {
    let number = |name: &str, default: u64| command[name].as_u64().unwrap_or(default);
    let node = number("node", 0) as usize;
    let callers = number("callers", 1) as usize;
    let duration = Duration::from_secs_f64(command["seconds"].as_f64().unwrap_or(1.0));
    match command["do"].as_str().unwrap_or_default() {
        "write" => {
            let act = |mut caller: S::Caller, turn| async move {
                caller.write(row(ROW_BYTES, turn)).await?;
                Result::Ok(caller)
            };
            let callers = all(subject, node, callers).await?;
            Ok(match command["replace"].as_u64() {
                None => closed_loop(callers, duration, act).await?.report(1),
                Some(replaced) => {
                    let started = Instant::now();
                    let replaced = subject.replace(replaced as usize);
                    let mut report = closed_loop_during(callers, replaced, act).await?.report(1);
                    report["seconds"] = json!(started.elapsed().as_secs_f64());
                    report
                }
            })
        }
        "batch" => {
            let rows = number("rows", 100) as usize;
            let act = move |mut caller: S::Caller, turn| async move {
                caller.batch(some_rows(rows, ROW_BYTES, turn)).await?;
                Result::Ok(caller)
            };
            let callers = all(subject, node, callers).await?;
            Ok(closed_loop(callers, duration, act).await?.report(rows))
        }
        "read" => {
            let level: Arc<str> = command["level"].as_str().unwrap_or("none").into();
            let rows = subject.max_id().await?.max(1) as u64;
            let act = move |mut caller: S::Caller, turn| {
                let level = level.clone();
                async move {
                    let id = Random::new(turn).next() % rows + 1;
                    caller.read(&level, id as i64).await?;
                    Result::Ok(caller)
                }
            };
            let callers = all(subject, node, callers).await?;
            Ok(closed_loop(callers, duration, act).await?.report(1))
        }
        "fill" => fill(subject, number("bytes", 0), number("row_bytes", 1000) as usize).await,
        "size" => Ok(json!({"database_bytes": subject.database_bytes().await?})),
        "max_id" => Ok(json!({"max_id": subject.max_id().await?})),
        "stop" => subject.stop(node).await.map(|()| json!({})),
        "start" => {
            let started = Instant::now();
            subject.start(node).await?;
            Ok(json!({"seconds": started.elapsed().as_secs_f64()}))
        }
        "storm" => storm(subject, callers).await,
        other => Err(format!("{other:?}: no such command ({INSERT} and so on)").into()),
    }
}

async fn all<S: Subject>(subject: &S, node: usize, callers: usize) -> Result<Vec<S::Caller>> {
    let mut all = Vec::with_capacity(callers);
    for _ in 0..callers {
        all.push(subject.caller(node).await?);
    }
    Ok(all)
}

fn some_rows(rows: usize, bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    (0..rows as u64).map(|i| row(bytes, seed.wrapping_mul(rows as u64).wrapping_add(i))).collect()
}

/// Writes until the rows hold so many bytes more.
async fn fill<S: Subject>(subject: &S, bytes: u64, row_bytes: usize) -> Result<Value> {
    let started = Instant::now();
    let mut caller = subject.caller(0).await?;
    let mut left = bytes.div_ceil(row_bytes as u64);
    let mut seed = 0;
    while left > 0 {
        let rows = (FILL_ROWS as u64).min(left);
        caller.batch(some_rows(rows as usize, row_bytes, seed)).await?;
        left -= rows;
        seed += 1;
    }
    Ok(json!({"seconds": started.elapsed().as_secs_f64()}))
}

/// Writes until the process is killed, and says of every acknowledged row how many there are.
async fn storm<S: Subject>(subject: &S, callers: usize) -> Result<Value> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    for mut caller in all(subject, 0, callers).await? {
        let acknowledged = acknowledged.clone();
        tokio::spawn(async move {
            let mut turn = 0;
            while caller.write(row(ROW_BYTES, turn)).await.is_ok() {
                turn += 1;
                let now = acknowledged.fetch_add(1, Ordering::AcqRel) + 1;
                if say(&json!({"acknowledged": now})).is_err() {
                    return;
                }
            }
        });
    }
    Ok(json!({}))
}

//! [`Process`]: a database under test in a process of its own, and what can be seen from outside.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use load::{Error, Result};
use serde_json::Value;

/// A running database.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    replies: Receiver<Value>,
    /// From its start until it was ready.
    pub started: Duration,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Process {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Where it cannot be started, ends, or is not ready after `patience`.
    pub fn start(mut command: Command, patience: Duration) -> Result<Process> {
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let input = child.stdin.take();
        let (sender, replies) = channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                    // A database may print lines of its own.
                    let Ok(reply) = serde_json::from_str(&line) else { continue };
                    if sender.send(reply).is_err() {
                        return;
                    }
                }
            });
        }
        let errors = child.stderr.take();
        let mut process =
            Process { child, input, replies, started: Duration::ZERO, ready: Value::Null };
        let last_words = errors.map(|errors| {
            std::thread::spawn(move || {
                // Read to the end, or the process would wait; the beginning says what went wrong.
                let lines = BufReader::new(errors).lines().map_while(std::result::Result::ok);
                let lines = lines.filter(|line| !line.trim().is_empty());
                lines.enumerate().fold(String::new(), |said, (number, line)| match number {
                    0 => line,
                    1..5 => format!("{said} {line}"),
                    _ => said,
                })
            })
        });
        match process.reply(patience) {
            Ok(ready) => process.ready = ready,
            Err(e) => {
                process.kill();
                let said = last_words.and_then(|thread| thread.join().ok());
                return Err(format!("{e}; it said: {}", said.unwrap_or_default()).into());
            }
        }
        process.started = begin.elapsed();
        Ok(process)
    }

    /// Gives a command and waits for what comes of it.
    ///
    /// # Errors
    /// What the database reports, or that it ended or took too long.
    pub fn ask(&mut self, command: &Value, patience: Duration) -> Result<Value> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        writeln!(input, "{command}")?;
        input.flush()?;
        self.reply(patience)
    }

    fn reply(&self, patience: Duration) -> Result<Value> {
        let reply = self.replies.recv_timeout(patience).map_err(|e| match e {
            RecvTimeoutError::Timeout => format!("no answer after {patience:?}"),
            RecvTimeoutError::Disconnected => "the process ended".into(),
        })?;
        match reply["error"].as_str() {
            Some(error) => Err(Error::from(error.to_owned())),
            None => Ok(reply),
        }
    }

    /// SIGKILL. Gives back what it had said and nobody had read yet.
    pub fn kill(&mut self) -> Vec<Value> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.replies.iter().collect()
    }

    /// Closes its input and waits until it has ended, which it does by itself.
    pub fn end(mut self, patience: Duration) {
        self.input = None;
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory in MiB: all that is resident, and what of it is not a file's.
    pub fn memory(&self) -> Option<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib / 1024.0)
        };
        Some((mib("VmRSS:")?, mib("RssAnon:")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The bytes that a directory takes on disk.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => disk_bytes(&entry.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Waits until a directory keeps its size, and gives it.
pub fn settled_disk_bytes(dir: &Path, patience: Duration) -> u64 {
    let begin = Instant::now();
    let (mut size, mut since) = (disk_bytes(dir), Instant::now());
    while since.elapsed() < Duration::from_secs(2) && begin.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(200));
        let now = disk_bytes(dir);
        if now != size {
            (size, since) = (now, Instant::now());
        }
    }
    size
}

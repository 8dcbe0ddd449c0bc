//! The process that runs the statements: it may crash, and then the parent knows which one did it.
//!
//! It is this test executable itself, started with an environment variable that turns
//! [`child_nodes`] into a cluster of two nodes, which obeys lines on its standard input. The second
//! node applies each entry in a transaction of its own, and is opened anew now and then.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, Node, ReadOptions, Role, WriteOptions};

use crate::call::{Call, Kind};
use crate::support;

const CHILD: &str = "QUORUMLITE_HOSTILE_SQL_CHILD";

/// Deadlines of the calls. A write may wait for nothing but its own applying, and that is bounded.
pub const READ_DEADLINE: Duration = Duration::from_secs(2);
pub const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How much later than at its deadline a read may come back, on a machine that does other things.
pub const READ_SLACK: Duration = Duration::from_secs(8);
/// How long the parent waits for an answer before it calls the child hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test of its own: see the module's documentation.
#[test]
fn child_nodes() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    // One write: standard output is line-buffered, and a panic may come from any thread.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        println!("\npanic {text}");
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(obey(Path::new(&dir)));
}

fn second(dir: &Path, addresses: &[&str]) -> Config {
    support::member(dir, "n2", addresses[1], &[addresses[0]])
        .role(Role::Learner)
        .transaction_entries(1)
}

async fn obey(dir: &Path) {
    // The addresses are kept, since the nodes may be started again.
    let file = dir.join("addresses");
    if !file.exists() {
        let text = format!("{}\n{}", support::free_address(), support::free_address());
        std::fs::write(&file, text).expect("the addresses");
    }
    let text = std::fs::read_to_string(&file).expect("the addresses");
    let addresses: Vec<&str> = text.lines().collect();
    let first = match Node::open(support::member(dir, "n1", addresses[0], &[])).await {
        Ok(node) => node,
        Err(e) => return println!("\nanswer 0 {:?} {} {e}", e.kind(), e.code()),
    };
    let mut other = match Node::open(second(dir, &addresses)).await {
        Ok(node) => node,
        Err(e) => return println!("\nanswer 0 {:?} {} {e}", e.kind(), e.code()),
    };
    println!("\nanswer 0 Open");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let begin = Instant::now();
        let answer = match &*line {
            "check" => check(&first, &other).await,
            "reopen" => {
                other.close().await.expect("a node closes");
                match Node::open(second(dir, &addresses)).await {
                    Ok(node) => {
                        other = node;
                        "Ok".to_string()
                    }
                    Err(e) => format!("{:?} {} {e}", e.kind(), e.code()),
                }
            }
            "end" => break,
            call => run(&first, &Call::from_line(call)).await,
        };
        println!("\nanswer {} {}", begin.elapsed().as_millis(), answer.replace('\n', " "));
    }
    other.close().await.expect("a node closes");
    first.close().await.expect("a node closes");
    println!("\nanswer 0 Closed");
}

async fn run(node: &Node, call: &Call) -> String {
    let write = WriteOptions { timeout: Some(WRITE_DEADLINE) };
    let result = match call.kind {
        Kind::Execute => node.execute_with(call.statements[0].clone(), write).await.map(drop),
        Kind::Batch => node.execute_batch_with(call.statements.clone(), write).await.map(drop),
        Kind::Query => {
            let options = ReadOptions { timeout: Some(READ_DEADLINE), ..ReadOptions::default() };
            node.query_with(call.statements[0].clone(), options).await.map(drop)
        }
    };
    match result {
        Ok(()) => "Ok".to_string(),
        Err(e) => format!("{:?} {} {}", e.kind(), e.code(), shorten(e.message())),
    }
}

fn shorten(message: &str) -> String {
    message.chars().take(300).collect()
}

/// Whether both nodes write and read, and have the same content.
async fn check(first: &Node, second: &Node) -> String {
    let alive = "SELECT 1";
    for node in [first, second] {
        if let Err(e) = node.execute(alive, ()).await {
            return format!("{:?} {} a write afterwards: {e}", e.kind(), e.code());
        }
        if let Err(e) = support::query(node, alive, Consistency::Linearizable).await {
            return format!("{:?} {} a read afterwards: {e}", e.kind(), e.code());
        }
    }
    let deadline = Instant::now() + PATIENCE / 2;
    loop {
        let (one, two) = match (first.content_hash().await, second.content_hash().await) {
            (Ok(one), Ok(two)) => (one, two),
            (Err(e), _) | (_, Err(e)) => {
                return format!("{:?} {} hashing: {e}", e.kind(), e.code());
            }
        };
        if one.index == two.index {
            return if one.hash == two.hash { "Ok".into() } else { "Differs DIFFERS".into() };
        }
        if Instant::now() > deadline {
            return format!("Behind BEHIND at {} and {}", one.index, two.index);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the child said, or did not say.
#[derive(Debug, Clone)]
pub struct Answer {
    pub milliseconds: u64,
    /// A kind of error, or one of this test's own words.
    pub kind: String,
    pub rest: String,
}

/// A running child, seen from the parent.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    panic: Option<String>,
}

impl Process {
    /// Starts the nodes in `dir`, and gives what opening them said.
    pub fn start(dir: &Path) -> (Process, Answer) {
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child::child_nodes", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child process");
        let stdin = child.stdin.take().expect("its input");
        let stdout = child.stdout.take().expect("its output");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut process = Process { child, stdin, lines, panic: None };
        let answer = process.answer();
        (process, answer)
    }

    pub fn ask(&mut self, line: &str) -> Answer {
        // A child that has gone is noticed when it does not answer.
        let _ = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let own = |kind: &str, rest: String| Answer { milliseconds: 0, kind: kind.into(), rest };
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(text) = line.strip_prefix("panic ") {
                        self.panic.get_or_insert_with(|| text.to_string());
                    }
                    let Some(answer) = line.strip_prefix("answer ") else { continue };
                    if let Some(text) = self.panic.take() {
                        return own("Panic", text);
                    }
                    let mut words = answer.splitn(3, ' ');
                    let milliseconds = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
                    let kind = words.next().unwrap_or_default().to_string();
                    let rest = words.next().unwrap_or_default().to_string();
                    return Answer { milliseconds, kind, rest };
                }
                Err(RecvTimeoutError::Timeout) => return own("Hung", String::new()),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().expect("its end");
                    return own("Crashed", status.to_string());
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing may outlive a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The node in another process, which lives in another time zone and is killed now and then.
//!
//! It is this test executable itself, started with an environment variable that turns
//! [`child_node`] into a node which obeys lines on its standard input.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use quorumlite::{Consistency, Node};

use crate::support::{self, PATIENCE};

const CHILD: &str = "QUORUMLITE_DETERMINISM_CHILD";

/// Not a test of its own: see the module's documentation.
#[test]
fn child_node() {
    let Ok(setup) = std::env::var(CHILD) else { return };
    let setup: Vec<&str> = setup.split('|').collect();
    let [dir, id, listen, join] = setup[..] else { panic!("bad setup") };
    let config = crate::small_log(support::member(Path::new(dir), id, listen, &[join]));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let node = Node::open(config).await.expect("the child opens");
        println!("\nopen");
        for line in std::io::stdin().lock().lines() {
            match line.expect("a line").split_whitespace().collect::<Vec<_>>()[..] {
                ["hash"] => {
                    support::query(&node, "SELECT 1", Consistency::Linearizable)
                        .await
                        .expect("a read");
                    let hash = node.content_hash().await.expect("a hash");
                    println!("hash {} {}", hash.index, hash.hash);
                }
                ["dump", path] => {
                    std::fs::write(path, crate::dump(&node).await).expect("a dump");
                    println!("dumped");
                }
                _ => break,
            }
        }
        node.close().await.expect("the child closes");
    });
}

/// A running child, seen from the parent.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a node and waits until it is open.
    pub fn start(dir: &Path, id: &str, listen: &str, join: &str, zone: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child::child_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{}|{id}|{listen}|{join}", dir.display()))
            .env("TZ", zone)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
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
        let process = Process { child, stdin, lines };
        process.wait("open");
        process
    }

    /// Sends a command and gives what follows `answer` on the line of the answer.
    pub fn ask(&mut self, command: &str, answer: &str) -> String {
        writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush()).expect("a listener");
        self.wait(answer)
    }

    fn wait(&self, answer: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("a line from the child");
            if let Some(rest) = line.strip_prefix(answer) {
                return rest.trim().to_string();
            }
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing may outlive a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

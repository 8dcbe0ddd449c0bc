//! Three real processes, writers on all of them, and a leader that is killed again and again: every
//! acknowledged write is there exactly once, on every node.
//!
//! The processes are this test executable itself, started with an environment variable that turns
//! [`child_node`] into a node which obeys lines on its standard input.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorumlite::{Consistency, Node, params};
use support::{PATIENCE, eventually_sync, free_address, member};

/// How often the leader is killed; `QUORUMLITE_KILLS` asks for more.
const KILLS: usize = 20;

// ---- the child ---------------------------------------------------------------------------------

const CHILD: &str = "QUORUMLITE_TEST_CHILD";

/// Not a test of its own: see the module's documentation.
#[test]
fn child_node() {
    let Ok(setup) = std::env::var(CHILD) else { return };
    let setup: Vec<&str> = setup.split('|').collect();
    let [dir, id, listen, join, first] = setup[..] else { panic!("bad setup") };
    let join: Vec<&str> = join.split(',').filter(|a| !a.is_empty()).collect();
    // A small log: it is purged, and nodes that come back receive snapshots, while leaders die.
    let config = member(std::path::Path::new(dir), id, listen, &join).max_log_bytes(1024 * 1024);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let first: i64 = first.parse().expect("a number");
    runtime.block_on(async {
        let node = Node::open(config).await.expect("the child opens");
        let ledger = "CREATE TABLE IF NOT EXISTS ledger(node TEXT, seq INTEGER, ballast BLOB)";
        node.execute(ledger, ()).await.expect("the ledger");
        println!("\nopen");
        let id = id.to_owned();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writer = tokio::spawn(write(node.clone(), id, first, stopped));
        let mut writer = Some(writer);
        let (lines, mut commands) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        while let Some(command) = commands.recv().await {
            match command.split_whitespace().collect::<Vec<_>>()[..] {
                ["status"] => {
                    let s = node.status().expect("status");
                    println!("status {} {}", s.state, s.leader_id.unwrap_or_else(|| "-".into()));
                }
                ["stop"] => {
                    stop.send_replace(true);
                    if let Some(writer) = writer.take() {
                        writer.await.expect("the writer ends");
                    }
                    println!("stopped");
                }
                ["hash"] => {
                    support::query(&node, "SELECT 1", Consistency::Linearizable)
                        .await
                        .expect("read");
                    let hash = node.content_hash().await.expect("a hash");
                    println!("hash {} {}", hash.index, hash.hash);
                }
                ["dump"] => {
                    let sql = "SELECT node, seq, count(*) FROM ledger GROUP BY 1, 2";
                    let rows = support::query(&node, sql, Consistency::None).await.expect("a dump");
                    for row in rows.iter() {
                        let [node, seq, count] = row.values() else { continue };
                        println!(
                            "row {} {} {}",
                            node.as_str().expect("a node"),
                            seq.as_i64().expect("a sequence"),
                            count.as_i64().expect("a count")
                        );
                    }
                    println!("dumped");
                }
                _ => break,
            }
        }
        node.close().await.expect("the child closes");
    });
}

async fn write(node: Node, id: String, first: i64, stopped: tokio::sync::watch::Receiver<bool>) {
    let mut seq = first;
    while !*stopped.borrow() {
        let sql = "INSERT INTO ledger VALUES (?, ?, ?)";
        let ballast = vec![seq as u8; 1000];
        match node.execute(sql, params![id.as_str(), seq, ballast]).await {
            Ok(_) => println!("ack {seq}"),
            Err(e) => println!("unknown {seq} {}", e.code()),
        }
        seq += 1;
    }
}

// ---- the parent --------------------------------------------------------------------------------

#[derive(Default)]
struct Seen {
    open: bool,
    stopped: bool,
    dumped: bool,
    acked: BTreeSet<i64>,
    last: i64,
    status: Option<(String, String)>,
    hash: Option<(u64, String)>,
    rows: BTreeMap<(String, i64), i64>,
    ended: bool,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    seen: Arc<Mutex<Seen>>,
}

impl Process {
    fn start(dir: &std::path::Path, id: &str, listen: &str, join: &str, first: i64) -> Process {
        let setup = format!("{}|{id}|{listen}|{join}|{first}", dir.display());
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, setup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let stdin = child.stdin.take().expect("its input");
        let stdout = child.stdout.take().expect("its output");
        let seen = Arc::new(Mutex::new(Seen { last: first - 1, ..Default::default() }));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.lock().expect("no panic").line(&line);
            }
            shared.lock().expect("no panic").ended = true;
        });
        Process { child, stdin, seen }
    }

    fn say(&mut self, command: &str) {
        // A child that was just killed does not listen any more.
        let _ = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
    }

    fn wait<T>(&self, what: &str, mut condition: impl FnMut(&mut Seen) -> Option<T>) -> T {
        eventually_sync(what, || {
            let mut seen = self.seen.lock().expect("no panic");
            let value = condition(&mut seen);
            assert!(value.is_some() || !seen.ended, "the child ended: {what}");
            value
        })
    }

    fn acks(&self) -> usize {
        self.seen.lock().expect("no panic").acked.len()
    }
}

impl Seen {
    fn line(&mut self, line: &str) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["open"] => self.open = true,
            ["stopped"] => self.stopped = true,
            ["dumped"] => self.dumped = true,
            ["ack", seq] => {
                self.last = seq.parse().expect("a number");
                self.acked.insert(self.last);
            }
            ["unknown", seq, _] => self.last = seq.parse().expect("a number"),
            ["status", state, leader] => self.status = Some((state.into(), leader.into())),
            ["hash", index, hash] => {
                self.hash = Some((index.parse().expect("a number"), hash.into()));
            }
            ["row", node, seq, count] => {
                let key = (node.to_owned(), seq.parse().expect("a number"));
                self.rows.insert(key, count.parse().expect("a number"));
            }
            _ => {}
        }
    }
}

struct Trio {
    dir: tempfile::TempDir,
    addresses: [String; 3],
    processes: HashMap<usize, Process>,
    /// Acknowledged sequences of processes that were killed.
    acked: [BTreeSet<i64>; 3],
}

impl Trio {
    fn start(&mut self, i: usize, first: i64) {
        // Every restart names the others: joining again is harmless.
        let join: Vec<&str> = match i {
            0 if first == 1 => vec![],
            _ => self.addresses.iter().map(String::as_str).collect(),
        };
        let id = format!("n{}", i + 1);
        let process =
            Process::start(self.dir.path(), &id, &self.addresses[i], &join.join(","), first);
        self.processes.insert(i, process);
    }

    /// The process that leads, by its own account.
    fn leader(&mut self) -> usize {
        eventually_sync("a leader", || {
            for (i, process) in &mut self.processes {
                process.seen.lock().expect("no panic").status = None;
                process.say("status");
                let (state, _) = process.wait("a status", |seen| seen.status.clone());
                if state == "leader" {
                    return Some(*i);
                }
            }
            None
        })
    }

    fn wait_for_progress(&mut self, writes: usize) {
        let before: HashMap<usize, usize> =
            self.processes.iter().map(|(i, p)| (*i, p.acks())).collect();
        eventually_sync("writes on every living node", || {
            self.processes.iter().all(|(i, p)| p.acks() >= before[i] + writes).then_some(())
        });
    }
}

#[test]
fn acknowledged_writes_survive_a_leader_that_is_killed_again_and_again() {
    let kills =
        std::env::var("QUORUMLITE_KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(KILLS);
    let mut trio = Trio {
        dir: tempfile::tempdir().expect("a directory"),
        addresses: [free_address(), free_address(), free_address()],
        processes: HashMap::new(),
        acked: Default::default(),
    };
    for i in 0..3 {
        trio.start(i, 1);
        trio.processes[&i].wait("the node opens", |seen| seen.open.then_some(()));
    }
    for round in 0..kills {
        trio.wait_for_progress(10);
        let leader = trio.leader();
        let mut victim = trio.processes.remove(&leader).expect("the leader's process");
        victim.child.kill().expect("SIGKILL");
        victim.child.wait().expect("the child ends");
        victim.wait_ended();
        let seen = victim.seen.lock().expect("no panic");
        trio.acked[leader].extend(&seen.acked);
        // The write that was under way may or may not have been applied; it is not repeated.
        let next = seen.last + 2;
        drop(seen);
        trio.wait_for_progress(10);
        trio.start(leader, next);
        trio.processes[&leader].wait("the killed node opens", |seen| seen.open.then_some(()));
        println!("kill {} of {kills}: n{} came back", round + 1, leader + 1);
    }
    trio.wait_for_progress(10);
    for process in trio.processes.values_mut() {
        process.say("stop");
        process.wait("the writer stops", |seen| seen.stopped.then_some(()));
    }
    let mut hashes = Vec::new();
    let mut dumps = Vec::new();
    for process in trio.processes.values_mut() {
        process.say("hash");
        hashes.push(process.wait("a hash", |seen| seen.hash.clone()));
        process.say("dump");
        process.wait("a dump", |seen| seen.dumped.then_some(()));
        dumps.push(process.seen.lock().expect("no panic").rows.clone());
    }
    for (i, process) in &trio.processes {
        trio.acked[*i].extend(&process.seen.lock().expect("no panic").acked);
    }
    let total: usize = trio.acked.iter().map(BTreeSet::len).sum();
    println!("{total} acknowledged writes, {} rows", dumps[0].len());
    for dump in &dumps {
        for (key, count) in dump {
            assert_eq!(*count, 1, "{key:?} was applied {count} times");
        }
        for (i, acked) in trio.acked.iter().enumerate() {
            for seq in acked {
                let key = (format!("n{}", i + 1), *seq);
                assert!(dump.contains_key(&key), "acknowledged {key:?} is lost");
            }
        }
    }
    assert!(dumps.iter().all(|d| *d == dumps[0]), "the ledgers differ");
    assert!(hashes.iter().all(|h| h.1 == hashes[0].1), "the hashes differ: {hashes:?}");
    for process in trio.processes.values_mut() {
        process.say("exit");
        let ended = eventually_sync("a clean exit", || process.child.try_wait().expect("a child"));
        assert!(ended.success());
    }
}

impl Process {
    fn wait_ended(&self) {
        eventually_sync("the end of a child's output", || {
            self.seen.lock().expect("no panic").ended.then_some(())
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing may outlive a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const _: () = assert!(PATIENCE.as_secs() > Duration::from_secs(30).as_secs());

//! A committed command that ends every replica, again at each start: the nodes open without it, and a
//! decision of the cluster takes it back.
//!
//! The nodes are processes: this test executable itself, told by an environment variable to open a
//! node and to do what its standard input says. `quorumlite_fault`, which only debug builds have, and
//! only where `QUORUMLITE_TEST_FAULTS` is set, is the command that cannot be applied.

#![cfg(debug_assertions)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, Error, Node, Statement, WriteOptions};
use support::{PATIENCE, eventually_sync, free_address, member};

const CHILD: &str = "QUORUMLITE_WAY_OUT_CHILD";
const FAULTS: &str = "QUORUMLITE_TEST_FAULTS";
const ABORT: &str = "INSERT INTO t VALUES (quorumlite_fault('abort'))";

// ---- the child ---------------------------------------------------------------------------------

/// Not a test of its own: see the module's documentation.
#[test]
fn child_node() {
    let Ok(setup) = std::env::var(CHILD) else { return };
    let setup: Vec<&str> = setup.split('|').collect();
    let [dir, id, listen, join] = setup[..] else { panic!("bad setup") };
    let join: Vec<&str> = join.split(',').filter(|a| !a.is_empty()).collect();
    let config = match listen {
        "" => Config::new(Path::new(dir).join(id)).node_id(id),
        listen => member(Path::new(dir), id, listen, &join),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let node = match Node::open(config.timeout(Duration::from_secs(20))).await {
            Ok(node) => node,
            Err(e) => return println!("\nfailed {} {e}", e.code()),
        };
        println!("\nopen");
        let (lines, mut said) = tokio::sync::mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        while let Some(line) = said.recv().await {
            let answer = obey(&node, &line).await.unwrap_or_else(|e| format!("error {}", e.code()));
            println!("\nanswer {answer}");
            if line == "close" {
                break;
            }
        }
    });
}

async fn obey(node: &Node, line: &str) -> Result<String, Error> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let index = || rest.parse().expect("an index");
    match verb {
        "execute" => {
            let options = WriteOptions { timeout: Some(Duration::from_secs(20)) };
            let done = node.execute_with(Statement::from(rest), options).await?;
            Ok(done.index.to_string())
        }
        "void" => node.void_command(index(), false, None).await.map(|()| String::new()),
        "force" => node.void_command(index(), true, None).await.map(|()| String::new()),
        "retry" => node.retry_apply(None).await.map(|()| String::new()),
        "halted" => Ok(match node.status()?.halted {
            None => "no".to_owned(),
            Some(h) => format!("{} {} {}", h.index, h.attempts, h.reason),
        }),
        "state" => Ok(node.status()?.state.to_owned()),
        "applied" => Ok(node.status()?.applied_index.to_string()),
        "hash" => node.content_hash().await.map(|h| format!("{} {}", h.index, h.hash)),
        "close" => node.close().await.map(|()| String::new()),
        level => {
            let level: Consistency = level.parse()?;
            let rows = support::query(node, rest, level).await?;
            Ok(support::integer(&rows).to_string())
        }
    }
}

// ---- the parent --------------------------------------------------------------------------------

struct Setup<'a> {
    dir: &'a Path,
    id: &'a str,
    listen: &'a str,
    join: &'a str,
    faults: &'a str,
}

/// What a process has said, or that it has ended.
#[derive(Debug, PartialEq)]
enum Said {
    Open,
    Failed(String),
    Answer(String),
    Ended,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<Said>,
}

impl Process {
    fn start(setup: &Setup<'_>) -> Process {
        let Setup { dir, id, listen, join, faults } = setup;
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{}|{id}|{listen}|{join}", dir.display()))
            .env(FAULTS, faults)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let stdin = child.stdin.take().expect("its input");
        let stdout = child.stdout.take().expect("its output");
        let (tx, said) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
                let _ = match word {
                    "open" => tx.send(Said::Open),
                    "failed" => tx.send(Said::Failed(rest.to_owned())),
                    "answer" => tx.send(Said::Answer(rest.to_owned())),
                    _ => Ok(()),
                };
            }
            let _ = tx.send(Said::Ended);
        });
        Process { child, stdin, said }
    }

    fn next(&self) -> Said {
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => panic!("a child says nothing"),
            Err(RecvTimeoutError::Disconnected) => Said::Ended,
        }
    }

    fn send(&mut self, line: &str) {
        // A process that has ended is noticed by its silence.
        let _ = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
    }

    /// What the process answers, or that it has ended instead.
    fn try_ask(&mut self, line: &str) -> Option<String> {
        self.send(line);
        match self.next() {
            Said::Answer(answer) => Some(answer),
            Said::Ended => None,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|| panic!("{line} ended the process"))
    }

    /// As [`Process::ask`], but without an answer within two seconds the test fails.
    fn ask_quickly(&mut self, line: &str) -> String {
        let begun = Instant::now();
        let answer = self.ask(line);
        assert!(begun.elapsed() < Duration::from_secs(2), "{line} took {:?}", begun.elapsed());
        answer
    }

    fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the child ends");
    }

    fn close(mut self) {
        self.ask("close");
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

/// Three nodes, each a process or none.
struct Cluster {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    faults: [&'static str; 3],
    processes: Vec<Option<Process>>,
}

const IDS: [&str; 3] = ["n1", "n2", "n3"];

impl Cluster {
    /// With a table `t` that holds one row.
    fn start(faults: [&'static str; 3]) -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let mut cluster = Cluster { dir, addresses, faults, processes: vec![None, None, None] };
        for i in 0..3 {
            assert_eq!(cluster.launch(i), Said::Open);
        }
        cluster.node(0).ask("execute CREATE TABLE t(v)");
        cluster.node(1).ask("execute INSERT INTO t VALUES (7)");
        cluster
    }

    fn launch(&mut self, i: usize) -> Said {
        let join = if i == 0 { "" } else { &self.addresses[0] };
        let process = Process::start(&Setup {
            dir: self.dir.path(),
            id: IDS[i],
            listen: &self.addresses[i],
            join,
            faults: self.faults[i],
        });
        let said = process.next();
        self.processes[i] = Some(process);
        said
    }

    fn node(&mut self, i: usize) -> &mut Process {
        self.processes[i].as_mut().expect("a running process")
    }

    /// Starts whatever has ended, until the nodes `which` have halted; how often each died.
    fn restart_until_halted(&mut self, which: &[usize]) -> Vec<u32> {
        let mut deaths = vec![0; 3];
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "not halted: {deaths:?}");
            for &i in which {
                let alive = self.processes[i].as_mut().and_then(|p| p.try_ask("halted"));
                if alive.is_none() {
                    deaths[i] += 1;
                    self.launch(i);
                }
            }
            let halted = |p: &mut Process| p.try_ask("halted").is_some_and(|h| h != "no");
            if which.iter().all(|&i| self.processes[i].as_mut().is_some_and(halted)) {
                return deaths;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn equal_content(&mut self) {
        eventually_sync("equal content", || {
            let hashes: Vec<_> = (0..3).map(|i| self.node(i).ask("hash")).collect();
            let index = |h: &str| h.split_once(' ').expect("two words").0.to_owned();
            if hashes.iter().all(|h| index(h) == index(&hashes[0])) {
                assert!(hashes.iter().all(|h| *h == hashes[0]), "replicas differ: {hashes:?}");
                return Some(());
            }
            None
        });
    }
}

fn index_of(halted: &str) -> u64 {
    halted.split(' ').next().and_then(|i| i.parse().ok()).expect("an index")
}

/// A node that fails on a write that it has proposed does not know what the others make of it. Who asked
/// through another node is answered by the next leader, and nothing is applied twice.
#[test]
fn a_write_that_its_leader_cannot_apply_may_be_applied_by_the_others() {
    let write = "execute INSERT INTO t VALUES (quorumlite_fault('nomem'))";
    for asked in [0, 1] {
        let mut cluster = Cluster::start(["nomem", "none", "none"]);
        assert_eq!(cluster.node(0).ask("state"), "leader");
        let answer = cluster.node(asked).ask(write);
        if asked == 0 {
            assert_eq!(answer, "error STOPPED_MAYBE_APPLIED");
        } else {
            assert!(answer.parse::<u64>().is_ok(), "{answer}");
        }
        // It knows of what it has not proposed.
        let later = cluster.node(0).ask("execute INSERT INTO t VALUES (1)");
        assert_eq!(later, "error SQLITE_NOMEM");
        for i in 1..3 {
            assert_eq!(cluster.node(i).ask("linearizable SELECT count(*) FROM t"), "2");
        }
    }
}

#[test]
fn a_command_that_ends_every_replica_is_voided_by_the_cluster() {
    let mut cluster = Cluster::start(["abort"; 3]);
    cluster.node(1).send(&format!("execute {ABORT}"));
    let deaths = cluster.restart_until_halted(&[0, 1, 2]);
    assert!(deaths.iter().all(|d| *d <= 2), "{deaths:?}");

    let halted: Vec<_> = (0..3).map(|i| cluster.node(i).ask("halted")).collect();
    let index = index_of(&halted[0]);
    assert!(
        halted.iter().all(|h| h.starts_with(&format!("{index} 2 the process ended"))),
        "{halted:?}"
    );
    for i in 0..3 {
        assert_eq!(cluster.node(i).ask_quickly("none SELECT count(*) FROM t"), "1");
        assert_eq!(cluster.node(i).ask_quickly("session SELECT v FROM t"), "7");
    }
    // Once there is a leader again, what needs the entry fails at once.
    eventually_sync("a leader", || (0..3).find(|i| cluster.node(*i).ask("state") == "leader"));
    for i in 0..3 {
        let answer = cluster.node(i).ask_quickly("execute INSERT INTO t VALUES (8)");
        assert_eq!(answer, "error APPLY_HALTED");
        let answer = cluster.node(i).ask_quickly("linearizable SELECT count(*) FROM t");
        assert_eq!(answer, "error APPLY_HALTED");
        let answer = cluster.node(i).ask_quickly("strong SELECT count(*) FROM t");
        assert_eq!(answer, "error APPLY_HALTED");
    }
    assert_eq!(cluster.node(0).ask("void 1"), "error CONFIG_VOID");
    assert_eq!(cluster.node(0).ask("void 1000000"), "error CONFIG_VOID");

    assert_eq!(cluster.node(2).ask(&format!("void {index}")), "");
    for i in 0..3 {
        assert!(!cluster.node(i).ask("execute INSERT INTO t VALUES (9)").starts_with("error"));
        eventually_sync("it goes on", || (cluster.node(i).ask("halted") == "no").then_some(()));
    }
    assert_eq!(cluster.node(0).ask("linearizable SELECT count(*) FROM t"), "4");
    assert_eq!(cluster.node(1).ask(&format!("void {index}")), "", "asked for again");
    cluster.equal_content();

    // Nor does it come back: not after a restart, and not to one who joins and gets the whole log.
    for i in 0..3 {
        cluster.processes[i].take().expect("a process").kill();
    }
    for i in 0..3 {
        assert_eq!(cluster.launch(i), Said::Open);
    }
    cluster.processes[2].take().expect("a process").close();
    std::fs::remove_dir_all(cluster.dir.path().join("n3")).expect("an empty directory");
    assert_eq!(cluster.launch(2), Said::Open);
    cluster.node(2).ask("execute INSERT INTO t VALUES (10)");
    cluster.equal_content();
}

#[test]
fn a_node_alone_opens_halted_and_voids_or_retries() {
    for way in ["void", "retry"] {
        let dir = tempfile::tempdir().expect("a directory");
        let setup = |faults| Setup { dir: dir.path(), id: "n1", listen: "", join: "", faults };
        let mut node = Process::start(&setup("abort"));
        assert_eq!(node.next(), Said::Open);
        node.ask("execute CREATE TABLE t(v)");
        assert_eq!(node.try_ask(&format!("execute {ABORT}")), None);
        // Applied again at the start, and again the end of the process.
        assert_eq!(Process::start(&setup("abort")).next(), Said::Ended);

        let report = quorumlite::check(dir.path().join("n1")).expect("a report");
        assert!(
            report.ok && report.findings.iter().any(|f| f.code == "APPLY_HALTED"),
            "{report:?}"
        );
        let mut node = Process::start(&setup("abort"));
        assert_eq!(node.next(), Said::Open);
        let halted = node.ask("halted");
        assert_eq!(node.ask_quickly("session SELECT count(*) FROM t"), "0");
        assert_eq!(node.ask_quickly("linearizable SELECT count(*) FROM t"), "error APPLY_HALTED");
        assert_eq!(node.ask_quickly("execute INSERT INTO t VALUES (1)"), "error APPLY_HALTED");
        node.close();

        // It stays so.
        let mut node = Process::start(&setup(if way == "void" { "abort" } else { "" }));
        assert_eq!(node.next(), Said::Open);
        assert_eq!(node.ask("halted"), halted);
        let index = index_of(&halted);
        let rows = match way {
            "void" => {
                assert_eq!(node.ask(&format!("void {index}")), "");
                "1"
            }
            _ => {
                assert_eq!(node.ask("retry"), "");
                "2"
            }
        };
        assert_eq!(node.ask("halted"), "no");
        node.ask("execute INSERT INTO t VALUES (1)");
        assert_eq!(node.ask("linearizable SELECT count(*) FROM t"), rows);
        assert_eq!(node.ask("retry"), "", "nothing to retry is no error");
        node.close();
        let report = quorumlite::check(dir.path().join("n1")).expect("a report");
        assert!(report.findings.is_empty(), "{report:?}");
    }
}

#[test]
fn a_retry_that_ends_the_process_again_halts_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup { dir: dir.path(), id: "n1", listen: "", join: "", faults: "abort" };
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    node.ask("execute CREATE TABLE t(v)");
    assert_eq!(node.try_ask(&format!("execute {ABORT}")), None);
    assert_eq!(Process::start(&setup).next(), Said::Ended);
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    assert_eq!(node.try_ask("retry"), None);
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    assert!(node.ask("halted").contains(" 3 the process ended"));
}

#[test]
fn an_error_that_stops_the_node_halts_it_at_the_second_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup { dir: dir.path(), id: "n1", listen: "", join: "", faults: "nomem" };
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    node.ask("execute CREATE TABLE t(v)");
    let answer = node.ask("execute INSERT INTO t VALUES (quorumlite_fault('nomem'))");
    assert_eq!(answer, "error STOPPED_MAYBE_APPLIED");
    assert_eq!(node.ask("state"), "stopped");
    node.kill();
    let failed = Process::start(&setup).next();
    assert!(matches!(&failed, Said::Failed(why) if why.contains("SQLITE_NOMEM")), "{failed:?}");
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    let halted = node.ask("halted");
    assert!(halted.contains(" 2 SQLITE_NOMEM: "), "{halted}");
    assert_eq!(node.ask("session SELECT count(*) FROM t"), "0");
    assert_eq!(node.ask(&format!("void {}", index_of(&halted))), "");
    node.ask("execute INSERT INTO t VALUES (1)");
    node.close();
}

/// Three of them do not halt; the fourth would.
#[test]
fn a_node_that_is_killed_during_a_long_command_goes_on_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup { dir: dir.path(), id: "n1", listen: "", join: "", faults: "sleep" };
    let mut node = Process::start(&setup);
    assert_eq!(node.next(), Said::Open);
    node.ask("execute CREATE TABLE t(v)");
    node.send("execute INSERT INTO t VALUES (quorumlite_fault('sleep'))");
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(1800));
        node.kill();
        node = Process::start(&setup);
    }
    assert_eq!(node.next(), Said::Open);
    assert_eq!(node.ask("halted"), "no");
    assert_eq!(node.ask("linearizable SELECT count(*) FROM t"), "1");
    node.close();
}

#[test]
fn a_command_that_one_member_has_applied_is_not_voided_and_it_leads() {
    let mut cluster = Cluster::start(["abort", "abort", ""]);
    cluster.node(2).send(&format!("execute {ABORT}"));
    cluster.restart_until_halted(&[0, 1]);
    assert!(matches!(cluster.node(2).next(), Said::Answer(_)));
    let index = index_of(&cluster.node(0).ask("halted"));
    eventually_sync("the node that can lead does", || {
        (cluster.node(2).ask("state") == "leader").then_some(())
    });
    for i in 0..3 {
        assert_eq!(cluster.node(i).ask(&format!("void {index}")), "error CONFIG_VOID");
        cluster.node(i).ask("execute INSERT INTO t VALUES (8)");
    }
    assert_eq!(cluster.node(2).ask("linearizable SELECT count(*) FROM t"), "5");
    // Where the reason is mended, the others follow.
    for i in 0..2 {
        cluster.processes[i].take().expect("a process").close();
        cluster.faults[i] = "";
        assert_eq!(cluster.launch(i), Said::Open);
        assert_eq!(cluster.node(i).ask("retry"), "");
        assert_eq!(cluster.node(i).ask("halted"), "no");
    }
    cluster.equal_content();
}

#[test]
fn a_member_that_has_applied_what_is_voided_stops() {
    let mut cluster = Cluster::start(["abort", "abort", ""]);
    cluster.node(2).send(&format!("execute {ABORT}"));
    cluster.restart_until_halted(&[0, 1]);
    assert!(matches!(cluster.node(2).next(), Said::Answer(_)));
    let index = index_of(&cluster.node(0).ask("halted"));
    // Nobody can ask it any more.
    cluster.processes[2].take().expect("a process").kill();
    assert_eq!(cluster.node(0).ask(&format!("void {index}")), "");
    cluster.node(1).ask("execute INSERT INTO t VALUES (8)");

    let said = cluster.launch(2);
    let corruption = match said {
        Said::Failed(why) => why,
        Said::Open => eventually_sync("it stops", || {
            let answer = cluster.node(2).ask("execute INSERT INTO t VALUES (9)");
            answer.strip_prefix("error ").map(str::to_owned)
        }),
        other => panic!("{other:?}"),
    };
    assert!(corruption.contains("CORRUPTION_VOIDED"), "{corruption}");
    // It joins again with an empty directory.
    cluster.processes[2] = None;
    std::fs::remove_dir_all(cluster.dir.path().join("n3")).expect("an empty directory");
    assert_eq!(cluster.launch(2), Said::Open);
    cluster.node(2).ask("execute INSERT INTO t VALUES (9)");
    cluster.equal_content();
}

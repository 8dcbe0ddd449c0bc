//! Processes that are killed at any moment, again and again: a node on its own, and clusters of
//! which any number of members die together. Whatever was acknowledged is there afterwards, once.
//!
//! The processes are this test executable itself, started with an environment variable that makes
//! [`child_node`] open a node and write. `QUORUMLITE_RANDOM_KILLS=5000` kills so many processes in
//! each of the two tests (some minutes for the first, about an hour for the second);
//! `QUORUMLITE_KILL_SEED` repeats the choices.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use quorumlite::{Config, Consistency, Node, params};
use support::{eventually_sync, free_address, integer, member, query};

const CHILD: &str = "QUORUMLITE_KILLS_CHILD";
/// How many processes are killed where no more are asked for.
const KILLS: usize = 40;
/// Sequences that are looked at with one read.
const TOGETHER: usize = 20_000;
/// Writers of one process.
const WRITERS: usize = 3;
/// The longest that a process lives, counted from when it is open.
const LIFE: Duration = Duration::from_millis(120);

// ---- the child ---------------------------------------------------------------------------------

/// Not a test of its own: see the module's documentation. Its arguments: directory, node id,
/// address (empty: alone), address to join, the first sequence.
#[test]
fn child_node() {
    let Ok(setup) = std::env::var(CHILD) else { return };
    let setup: Vec<&str> = setup.split('|').collect();
    let [dir, id, listen, join, first] = setup[..] else { panic!("bad setup") };
    let first: i64 = first.parse().expect("a number");
    let join: Vec<&str> = join.split(',').filter(|a| !a.is_empty()).collect();
    let config = match listen {
        "" => Config::new(Path::new(dir).join(id)).node_id(id),
        listen => member(Path::new(dir), id, listen, &join),
    };
    // A small log: purges, checkpoints and snapshots happen all the time.
    let config = config.max_log_bytes(1024 * 1024).timeout(Duration::from_secs(60));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let node = Node::open(config).await.expect("the child opens");
        let ledger = "CREATE TABLE IF NOT EXISTS ledger(writer TEXT, seq INTEGER, ballast BLOB)";
        node.execute(ledger, ()).await.expect("the ledger");
        println!("\nopen");
        let mut writers = Vec::new();
        for w in 0..WRITERS {
            writers.push(tokio::spawn(write(node.clone(), format!("{id}-{w}"), first)));
        }
        for writer in writers {
            writer.await.expect("the writer lives as long as its process");
        }
    });
}

async fn write(node: Node, writer: String, first: i64) {
    for seq in first.. {
        println!("try {writer} {seq}");
        let ballast = vec![seq as u8; if seq % 50 == 7 { 100_000 } else { 300 }];
        let sql = "INSERT INTO ledger VALUES (?, ?, ?)";
        match node.execute(sql, params![writer.as_str(), seq, ballast]).await {
            Ok(_) => println!("ack {writer} {seq}"),
            // Not repeated: it may have been applied.
            Err(e) => println!("unknown {writer} {seq} {}", e.code()),
        }
    }
}

// ---- the parent --------------------------------------------------------------------------------

/// What the children have said, by writer and sequence; shared by all lives of one node.
#[derive(Default)]
struct Said {
    acked: BTreeMap<(String, i64), ()>,
    highest: i64,
    open: bool,
    ended: bool,
}

struct Process {
    child: Child,
    said: Arc<Mutex<Said>>,
}

impl Process {
    fn start(setup: &str, said: Arc<Mutex<Said>>) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, setup)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let stdout = child.stdout.take().expect("its output");
        {
            let mut said = said.lock().expect("no panic");
            (said.open, said.ended) = (false, false);
        }
        let shared = said.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.lock().expect("no panic").line(&line);
            }
            shared.lock().expect("no panic").ended = true;
        });
        Process { child, said }
    }

    /// Whether it is open, or has ended instead.
    fn wait_open(&self) {
        eventually_sync("a child opens", || {
            let said = self.said.lock().expect("no panic");
            assert!(!said.ended, "the child ended before it was open");
            said.open.then_some(())
        });
    }

    /// SIGKILL; returns when all that it had said is read.
    fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the child ends");
        eventually_sync("the end of a child's output", || {
            self.said.lock().expect("no panic").ended.then_some(())
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

impl Said {
    fn line(&mut self, line: &str) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["open"] => self.open = true,
            ["try", _, seq] => self.highest = self.highest.max(seq.parse().expect("a number")),
            ["ack", writer, seq] => {
                self.acked.insert((writer.to_owned(), seq.parse().expect("a number")), ());
            }
            _ => {}
        }
    }
}

/// Checks that each acknowledged row is there, and none twice.
async fn verify(node: &Node, acked: &BTreeMap<(String, i64), ()>) -> usize {
    let sql = "SELECT coalesce(max(seq), 0) FROM ledger";
    let highest = query(node, sql, Consistency::Linearizable).await.expect("the ledger");
    let highest = integer(&highest);
    let mut found = BTreeMap::new();
    // Thousands of kills leave more than one result can hold.
    for from in (0..=highest).step_by(TOGETHER) {
        let sql = format!(
            "SELECT writer, seq, count(*) FROM ledger WHERE seq BETWEEN {from} AND {} GROUP BY 1, 2",
            from + TOGETHER as i64 - 1
        );
        let rows = query(node, &sql, Consistency::None).await.expect("the ledger");
        for row in rows.iter() {
            let [writer, seq, count] = row.values() else { panic!("three columns") };
            let writer = writer.as_str().expect("a name").to_owned();
            let key = (writer, seq.as_i64().expect("a number"));
            assert_eq!(count.as_i64(), Some(1), "{key:?} was applied more than once");
            found.insert(key, ());
        }
    }
    for key in acked.keys() {
        assert!(found.contains_key(key), "acknowledged {key:?} is lost");
    }
    found.len()
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value:?} is no number")))
}

/// Random numbers from a printed seed (SplitMix64).
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = number("QUORUMLITE_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("QUORUMLITE_KILL_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn life(&mut self) -> Duration {
        Duration::from_micros(self.below(LIFE.as_micros() as u64))
    }
}

fn kills() -> usize {
    number("QUORUMLITE_RANDOM_KILLS").map_or(KILLS, |kills| kills as usize)
}

/// How often what is there is compared with what was acknowledged, in kills.
const CHECK_EVERY: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_at_any_moment_loses_nothing() {
    let (kills, mut random) = (kills(), Random::new());
    let dir = tempfile::tempdir().expect("a directory");
    let said = Arc::new(Mutex::new(Said::default()));
    let started = Instant::now();
    for kill in 1..=kills {
        let first = said.lock().expect("no panic").highest + 1;
        let setup = format!("{}|n1|||{first}", dir.path().display());
        let process = Process::start(&setup, said.clone());
        // One in eight dies while it opens.
        if random.below(8) > 0 {
            process.wait_open();
        }
        thread::sleep(random.life());
        process.kill();
        if kill % CHECK_EVERY == 0 || kill == kills {
            let report = quorumlite::check(dir.path().join("n1")).expect("a report");
            assert!(report.ok, "{report:?}");
            let node = Node::open(Config::new(dir.path().join("n1"))).await.expect("it opens");
            let acked = said.lock().expect("no panic").acked.clone();
            let rows = verify(&node, &acked).await;
            node.close().await.expect("closed");
            println!(
                "{kill} of {kills} killed in {:?}: {} acknowledged, {rows} rows",
                started.elapsed(),
                acked.len()
            );
        }
    }
    assert!(!said.lock().expect("no panic").acked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_killed_together_at_any_moment_lose_nothing() {
    let (kills, mut random) = (kills(), Random::new());
    let dir = tempfile::tempdir().expect("a directory");
    let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
    let said: Vec<_> = (0..3).map(|_| Arc::new(Mutex::new(Said::default()))).collect();
    let start = |i: usize| {
        let first = said[i].lock().expect("no panic").highest + 1;
        let join = if i == 0 { "" } else { &addresses[0] };
        let (dir, address) = (dir.path().display(), &addresses[i]);
        let setup = format!("{dir}|n{}|{address}|{join}|{first}", i + 1);
        Process::start(&setup, said[i].clone())
    };
    let mut living: Vec<Option<Process>> = Vec::new();
    for i in 0..3 {
        let process = start(i);
        process.wait_open();
        living.push(Some(process));
    }
    let started = Instant::now();
    let (mut killed, mut next_check) = (0, CHECK_EVERY.min(kills));
    while killed < kills {
        thread::sleep(random.life());
        // Any of the seven ways to choose at least one.
        let victims = random.below(7) + 1;
        for (i, member) in living.iter_mut().enumerate() {
            if victims & (1 << i) != 0
                && let Some(process) = member.take()
            {
                process.kill();
                killed += 1;
            }
        }
        for (i, member) in living.iter_mut().enumerate() {
            member.get_or_insert_with(|| start(i));
        }
        for process in living.iter().flatten() {
            process.wait_open();
        }
        if killed >= next_check.min(kills) {
            next_check = killed + CHECK_EVERY;
            living.iter_mut().for_each(|member| member.take().into_iter().for_each(Process::kill));
            let opening = (0..3).map(|i| {
                let report = quorumlite::check(dir.path().join(format!("n{}", i + 1)));
                assert!(report.as_ref().is_ok_and(|report| report.ok), "{report:?}");
                let join: &[&str] = if i == 0 { &[] } else { &[&addresses[0]] };
                Node::open(member(dir.path(), &format!("n{}", i + 1), &addresses[i], join))
            });
            let nodes = futures_util::future::try_join_all(opening).await.expect("all open");
            let acked: BTreeMap<_, _> =
                said.iter().flat_map(|said| said.lock().expect("no panic").acked.clone()).collect();
            let mut rows = 0;
            for node in &nodes {
                rows = verify(node, &acked).await;
            }
            support::equal_content(&nodes.iter().collect::<Vec<_>>()).await;
            for node in &nodes {
                node.close().await.expect("closed");
            }
            println!(
                "{killed} of {kills} killed in {:?}: {} acknowledged, {rows} rows",
                started.elapsed(),
                acked.len()
            );
            for (i, member) in living.iter_mut().enumerate() {
                if killed < kills {
                    *member = Some(start(i));
                }
            }
            living.iter().flatten().for_each(Process::wait_open);
        }
    }
    assert!(said.iter().any(|said| !said.lock().expect("no panic").acked.is_empty()));
}

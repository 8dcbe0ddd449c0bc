//! A learner whose process the system suspends for longer than anybody waits, as a phone does with an
//! application in the background: the others do not notice, and when it goes on it catches up, by the
//! log or by a snapshot, without being opened again.
//!
//! The learner is this test executable itself, started with an environment variable that turns
//! [`child_node`] into one which obeys lines on its standard input. `QUORUMLITE_SUSPEND_SECONDS=180`
//! suspends it for so long.

#![cfg(unix)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use quorumlite::{Consistency, ErrorKind, Node, Role, params};
use support::{Cluster, PATIENCE, equal_content, free_address, integer, member, query};
use tokio::task::{JoinHandle, block_in_place};

const CHILD: &str = "QUORUMLITE_LEARNER_CHILD";
/// Where no other time is asked for. The longest that a node waits for anything is the deadline of a
/// call, 10 s unless an option says more; a peer that is silent for 5 s is disconnected.
const SUSPENDED: Duration = Duration::from_secs(25);
/// Each writer writes this often.
const PACE: Duration = Duration::from_millis(20);
/// Three writers make at most 150 of these a second.
const LATER_WRITES: i64 = 450;
const INSERT: &str = "INSERT INTO t(writer, seq, ballast) VALUES (?, ?, ?)";

// ---- the learner -------------------------------------------------------------------------------

/// Not a test of its own: see the module's documentation.
#[test]
fn child_node() {
    let Ok(setup) = std::env::var(CHILD) else { return };
    let setup: Vec<&str> = setup.split('|').collect();
    let [dir, listen, join, log_bytes] = setup[..] else { panic!("bad setup") };
    let config = member(Path::new(dir), "phone", listen, &[join])
        .role(Role::Learner)
        .max_log_bytes(log_bytes.parse().expect("a number of bytes"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let node = runtime.block_on(Node::open(config)).expect("the learner opens");
    println!("\nphone: open");
    // It is always in the middle of a write, also when it is suspended.
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = Some(runtime.spawn(write_on(node.clone(), stop.clone())));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = runtime.block_on(async {
            match line.as_str() {
                "count" => {
                    let sql = "SELECT count(*) FROM t WHERE writer <> 'phone'";
                    integer(&query(&node, sql, Consistency::Linearizable).await.expect("a read"))
                        .to_string()
                }
                "index" => node.status().expect("a status").last_log_index.to_string(),
                "stop writing" => {
                    stop.store(true, Ordering::Relaxed);
                    let writes = writer.take().expect("it writes").await.expect("its writes");
                    format!("{} {}", writes.0, writes.1)
                }
                "hash" => {
                    query(&node, "SELECT 1", Consistency::Linearizable).await.expect("a read");
                    let hash = node.content_hash().await.expect("a hash");
                    format!("{} {}", hash.index, hash.hash)
                }
                other => panic!("unknown: {other}"),
            }
        });
        println!("phone: {answer}");
    }
    runtime.block_on(node.close()).expect("the learner closes");
}

/// Writes through the leader until it is stopped; returns how many writes were acknowledged, and of
/// how many that is not known.
async fn write_on(node: Node, stop: Arc<AtomicBool>) -> (i64, i64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let seq = acknowledged + unknown;
        match node.execute(INSERT, params!["phone", seq, ""]).await {
            Ok(_) => acknowledged += 1,
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{e:?}");
                unknown += 1;
            }
        }
        tokio::time::sleep(PACE).await;
    }
    (acknowledged, unknown)
}

struct Phone {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Phone {
    fn start(cluster: &Cluster, log_bytes: u64) -> Phone {
        let (dir, join) = (cluster.dir.path().display(), &cluster.addresses[1]);
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["child_node", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{dir}|{}|{join}|{log_bytes}", free_address()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("its output");
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("phone: ") {
                    let _ = said.send(line.to_owned());
                }
            }
        });
        let phone = Phone { child, stdin, lines };
        assert_eq!(phone.line(), "open");
        phone
    }

    fn line(&self) -> String {
        block_in_place(|| self.lines.recv_timeout(PATIENCE)).expect("the learner answers")
    }

    fn ask(&mut self, what: &str) -> String {
        let stdin = self.stdin.as_mut().expect("its input");
        writeln!(stdin, "{what}").expect("the learner lives");
        self.line()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(done.expect("a command kill").success());
    }

    /// Ends it as its own program would.
    fn close(mut self) {
        self.stdin = None;
        let status = block_in_place(|| self.child.wait()).expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        // After a failure; what has ended already is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- the others --------------------------------------------------------------------------------

/// What the voters do meanwhile.
struct Others {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    writers: Vec<JoinHandle<Duration>>,
    watcher: JoinHandle<BTreeSet<(Option<String>, u64)>>,
}

impl Others {
    fn start(nodes: &[Node], ballast: usize) -> Others {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicI64::new(0));
        let writers = nodes
            .iter()
            .map(|n| tokio::spawn(write(n.clone(), ballast, stop.clone(), acknowledged.clone())))
            .collect();
        let watcher = tokio::spawn(watch(nodes.to_vec(), stop.clone()));
        Others { stop, acknowledged, writers, watcher }
    }

    /// The writes that were acknowledged, the longest that one took, and who led in which terms.
    async fn stop(self) -> (i64, Duration, BTreeSet<(Option<String>, u64)>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for writer in self.writers {
            longest = longest.max(writer.await.expect("no write fails"));
        }
        let led = self.watcher.await.expect("the watcher");
        (self.acknowledged.load(Ordering::Relaxed), longest, led)
    }
}

/// Writes until it is stopped; none may fail. Returns the longest that one took.
async fn write(
    node: Node,
    ballast: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
) -> Duration {
    let id = node.status().expect("a status").node_id;
    let mut longest = Duration::ZERO;
    for seq in 0i64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let ballast = vec![seq as u8; ballast];
        node.execute(INSERT, params![id.as_str(), seq, ballast]).await.expect("a write");
        longest = longest.max(began.elapsed());
        acknowledged.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
    longest
}

/// Every leader and term that any of the nodes has seen.
async fn watch(nodes: Vec<Node>, stop: Arc<AtomicBool>) -> BTreeSet<(Option<String>, u64)> {
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for status in nodes.iter().map(|n| n.status().expect("a status")) {
            seen.insert((status.leader_id, status.term));
        }
        tokio::time::sleep(PACE).await;
    }
    seen
}

fn suspension() -> Duration {
    let asked = std::env::var("QUORUMLITE_SUSPEND_SECONDS").ok();
    asked.map_or(SUSPENDED, |s| Duration::from_secs(s.parse().expect("a number of seconds")))
}

/// Suspends a learner while all others write `ballast` bytes a row, with logs of `log_bytes`.
/// `purged` says whether what the learner misses is to be purged from the log meanwhile.
async fn suspend(name: &str, log_bytes: u64, ballast: usize, purged: bool) {
    let cluster = match purged {
        true => Cluster::start_with(|config| config.max_log_bytes(SMALL_LOG)).await,
        false => Cluster::start().await,
    };
    let create = "CREATE TABLE t(writer TEXT, seq INTEGER, ballast BLOB, PRIMARY KEY(writer, seq))";
    cluster.nodes[0].execute(create, ()).await.expect("a table");
    let leader = &cluster.nodes[cluster.leader().await];
    let mut phone = Phone::start(&cluster, log_bytes);
    let others = Others::start(&cluster.nodes, ballast);
    let seen: u64 = phone.ask("index").parse().expect("an index");

    phone.signal("STOP");
    let began = Instant::now();
    tokio::time::sleep(suspension()).await;
    if purged {
        support::eventually("a purged log", || async {
            // Far enough that it cannot have been received before the stop, after `seen` was asked.
            leader.status().is_ok_and(|s| s.purged_index > seen + 100).then_some(())
        })
        .await;
    }
    let missed = leader.status().expect("a status").commit_index - seen;
    let acknowledged = others.acknowledged.load(Ordering::Relaxed);
    let was_away = began.elapsed();
    phone.signal("CONT");
    let resumed = Instant::now();
    // All that was written before, by the first read: it need not be told, nor tried again.
    let counted: i64 = phone.ask("count").parse().expect("a count");
    let caught_up = resumed.elapsed();
    assert!(counted >= acknowledged, "{counted} of {acknowledged}");
    if !purged {
        assert!(
            leader.status().expect("a status").purged_index <= seen,
            "the log was to be enough"
        );
    }
    // And it follows what comes then: longer than the longest election timeout, in which a late
    // disturbance would show.
    let later = others.acknowledged.load(Ordering::Relaxed) + LATER_WRITES;
    support::eventually("later writes", || async {
        (others.acknowledged.load(Ordering::Relaxed) >= later).then_some(())
    })
    .await;
    let counted: i64 = phone.ask("count").parse().expect("a count");
    assert!(counted >= later, "{counted} of {later}");

    let answer = phone.ask("stop writing");
    let (by_phone, unknown) = answer.split_once(' ').expect("two numbers");
    let (by_phone, unknown): (i64, i64) = (by_phone.parse().unwrap(), unknown.parse().unwrap());
    let (acknowledged, longest, led) = others.stop().await;
    assert_eq!(led.len(), 1, "it disturbed the others: {led:?}");
    let count = |writers: &'static str| {
        let sql = format!("SELECT count(*) FROM t WHERE writer {writers} 'phone'");
        async move { integer(&query(leader, &sql, Consistency::Linearizable).await.unwrap()) }
    };
    assert_eq!(count("<>").await, acknowledged);
    // Only what it waited for when it was suspended may have an unknown end.
    assert!((by_phone..=by_phone + unknown).contains(&count("=").await) && unknown <= 1);
    let equal = equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    assert_eq!(phone.ask("hash"), format!("{} {}", equal.index, equal.hash));
    println!(
        "{name}: suspended for {was_away:.1?}, {missed} entries missed; all of them read {caught_up:.2?} \
         after it went on; {acknowledged} writes of the others, none failed, the longest took \
         {longest:.0?}; {by_phone} of its own, {unknown} unknown; led: {led:?}"
    );
    phone.close();
    cluster.close().await;
}

const SMALL_LOG: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_learner_catches_up_by_the_log() {
    suspend("by the log", 64 * 1024 * 1024, 10, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_learner_catches_up_by_a_snapshot() {
    suspend("by a snapshot", SMALL_LOG, 4_000, true).await;
}

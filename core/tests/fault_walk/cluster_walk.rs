//! Three nodes whose power fails together, at each sync point of a life with joins, a snapshot that
//! is sent and installed, a purged log, a restart, and a member that is removed.
//!
//! At each point every directory is made a cluster of its own (`recover_lost_quorum`) and opened: an
//! acknowledged row must be on as many of them as a majority needs. At some of the points (all with
//! `QUORUMLITE_FAULT_ROUNDS`) the cluster itself is started again, which takes an election each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorumlite::{Config, Consistency, ErrorKind, Node, Value, params};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::calls::Watch;
use crate::ledger::{self, Ledger, Reached};
use crate::model::{Disk, Loss, Mark, Op, Random};
use crate::power_cut::{Tally, after};
use crate::support::{Cluster, equal_content, eventually, free_address, integer, member, query};
use crate::{number, seed, temporary};

/// States that are opened at the same time.
const TOGETHER: usize = 4;
/// Points at which the cluster as a whole is started again, where no more are asked for.
const RESTARTS: usize = 12;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn config(root: &Path, i: usize, addresses: &[String]) -> Config {
    let join: &[&str] = if i == 0 { &[] } else { &[&addresses[0]] };
    member(root, NAMES[i], &addresses[i], join)
        .max_log_bytes(1024 * 1024)
        .timeout(Duration::from_secs(30))
}

async fn script(root: &Path, watch: &Watch, addresses: &[String]) -> Vec<Vec<Value>> {
    let open = |i: usize| async move {
        let node = Node::open(config(root, i, addresses)).await;
        node.unwrap_or_else(|e| panic!("{} opens: {e:?}", NAMES[i]))
    };
    let mut ledger = Ledger::after(watch, 0);
    let first = open(0).await;
    ledger.create(&first).await.expect("written");
    ledger.small(&first, 3).await.expect("written");
    let second = open(1).await;
    watch.mark(Mark::Copies(2));
    ledger.batch(&second).await.expect("written");
    ledger.large(&first, 1).await.expect("written");
    ledger.fill_log(&first).await.expect("written");
    // The log does not reach back to the beginning: it gets a snapshot.
    let third = open(2).await;
    ledger.small(&third, 3).await.expect("written");
    second.close().await.expect("closed");
    ledger.small(&first, 3).await.expect("written");
    let second = open(1).await;
    ledger.small(&second, 2).await.expect("written");
    watch.mark(Mark::Removing);
    second.remove_member("n3", None).await.expect("removed");
    ledger.small(&second, 3).await.expect("written");
    eventually("all is applied", || async {
        let applied = |node: &Node| node.status().expect("a status").applied_index;
        (applied(&first) == applied(&second)).then_some(())
    })
    .await;
    let story = ledger::rows(&first, Consistency::None).await.expect("read");
    for node in [&first, &second, &third] {
        node.close().await.expect("closed");
    }
    story
}

/// The directories in which a node had begun to live.
fn begun(root: &Path) -> Vec<usize> {
    (0..NAMES.len()).filter(|i| root.join(NAMES[*i]).join("node").exists()).collect()
}

/// Opens each directory alone.
async fn survive_apart(
    root: tempfile::TempDir,
    state: String,
    reached: Reached,
    story: Arc<Vec<Vec<Value>>>,
    tally: Arc<Tally>,
) {
    let mut copies = 0;
    for i in begun(root.path()) {
        let dir = root.path().join(NAMES[i]);
        let state = format!("{}, {state}", NAMES[i]);
        match quorumlite::check(&dir) {
            Ok(report) if report.ok => {}
            Ok(report) => tally.fail(&state, format!("the check says {:?}", report.findings)),
            Err(e) => tally.fail(&state, format!("the check fails: {e}")),
        }
        match quorumlite::recover_lost_quorum(&dir) {
            Ok(_) => {}
            // It had not joined yet.
            Err(e) if e.code() == "CONFIG_RECOVERY" => continue,
            Err(e) if e.kind() == ErrorKind::Corruption => {
                tally.refused.lock().expect("no panic").push(format!("{state}: {e}"));
                continue;
            }
            Err(e) => {
                tally.fail(&state, format!("it is not recovered: {e:?}"));
                continue;
            }
        }
        let node = match Node::open(ledger::config(&dir)).await {
            Ok(node) => node,
            Err(e) => {
                tally.fail(&state, format!("it does not open: {e:?}"));
                continue;
            }
        };
        // What a single copy lacks is counted below.
        let any = Reached { acknowledged: 0, ..reached };
        match ledger::verify(&node, Consistency::Session, any, Some(&story)).await {
            Ok(count) => copies += u8::from(count >= reached.acknowledged),
            Err(what) => tally.fail(&state, what),
        }
        node.close().await.expect("closed");
        tally.opened.fetch_add(1, Ordering::Relaxed);
    }
    if reached.acknowledged > 0 && copies < reached.copies {
        let acknowledged = reached.acknowledged;
        tally.fail(&state, format!("row {acknowledged} was acknowledged, {copies} copies have it"));
    }
}

/// Starts the cluster again as a whole.
async fn survive_together(
    root: &Path,
    addresses: &[String],
    state: &str,
    reached: Reached,
    story: &[Vec<Value>],
    tally: &Tally,
) {
    let opening = begun(root).into_iter().map(|i| Node::open(config(root, i, addresses)));
    let mut nodes = Vec::new();
    for opened in futures_util::future::join_all(opening).await {
        match opened {
            Ok(node) => nodes.push(node),
            Err(e) => tally.fail(state, format!("a node does not open: {e:?}")),
        }
    }
    // The one that is removed, or is about to be, may not be told any more.
    let members: Vec<&Node> = match reached.removing {
        true => nodes.iter().take(2).collect(),
        false => nodes.iter().collect(),
    };
    for node in &members {
        match ledger::verify(node, Consistency::Linearizable, reached, Some(story)).await {
            Ok(_) => {
                tally.opened.fetch_add(1, Ordering::Relaxed);
            }
            Err(what) => {
                tally.fail(state, format!("{}: {what}", node.status().expect("open").node_id))
            }
        }
    }
    let sound = tally.failures.lock().expect("no panic").is_empty();
    if sound && !members.is_empty() {
        equal_content(&members).await;
    }
    for node in &nodes {
        node.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_nothing_wherever_its_power_fails() {
    let seed = seed();
    let dir = temporary();
    let watch = Watch::new(dir.path());
    let addresses: Vec<String> = NAMES.iter().map(|_| free_address()).collect();
    let story = Arc::new(script(dir.path(), &watch, &addresses).await);
    let (begin, ops) = watch.recorded();
    drop(watch);
    let whole = after(&begin, &ops);
    assert_eq!(whole.difference(dir.path()), None, "something was done that was not recorded");

    let mut random = Random(seed);
    let tally = Arc::new(Tally::default());
    let room = Arc::new(Semaphore::new(TOGETHER));
    let mut apart = JoinSet::new();
    let points = ops.iter().filter(|op| op.is_sync_point()).count();
    let together = number("QUORUMLITE_FAULT_ROUNDS").map_or(points.div_ceil(RESTARTS), |_| 1);
    let mut disk: Disk = begin;
    let mut reached = Reached::default();
    let (mut point, mut restarts) = (0, 0);
    for (at, op) in ops.iter().enumerate() {
        if op.is_sync_point() || matches!(op, Op::Mark(Mark::Acknowledged(_))) {
            point += usize::from(op.is_sync_point());
            for loss in [Loss::All, Loss::Random] {
                let root = temporary();
                disk.after_power_cut(loss, &mut random, root.path());
                let name = format!("{loss:?} at operation {at} of {}", ops.len());
                let permit = room.clone().acquire_owned().await.expect("open");
                let surviving = survive_apart(root, name, reached, story.clone(), tally.clone());
                apart.spawn(async move {
                    surviving.await;
                    drop(permit);
                });
            }
            if op.is_sync_point() && point % together == 0 {
                let root = temporary();
                disk.after_power_cut(Loss::Random, &mut random, root.path());
                let name = format!("all three, at operation {at} of {}", ops.len());
                survive_together(root.path(), &addresses, &name, reached, &story, &tally).await;
                restarts += 1;
            }
        }
        disk.perform(op);
        reached.note(op);
    }
    apart.join_all().await;
    println!("{points} sync points, {} operations, {restarts} restarts of the cluster", ops.len());
    assert!(points > 150, "the script has only {points} sync points");
    tally.conclude();
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_may_be_interrupted_anywhere() {
    let seed = seed();
    let cluster = Cluster::start().await;
    cluster.nodes[0].execute("CREATE TABLE t(x)", ()).await.expect("written");
    for i in 0..20 {
        cluster.nodes[2].execute("INSERT INTO t VALUES (?)", params![i]).await.expect("written");
    }
    let old = cluster.nodes[2].status().expect("a status").cluster_id;
    let kept = cluster.data_dir(2);
    for node in &cluster.nodes {
        node.close().await.expect("closed");
    }
    let root = temporary();
    copy_directory(&kept, &root.path().join("n3"));
    let watch = Watch::new(root.path());
    quorumlite::recover_lost_quorum(root.path().join("n3")).expect("recovered");
    let (mut disk, ops) = watch.recorded();
    drop(watch);
    let mut random = Random(seed);
    let (mut untouched, mut marked, mut done) = (0, 0, 0);
    for at in 0..=ops.len() {
        for loss in [Loss::All, Loss::LastWriteTorn, Loss::Random, Loss::None] {
            let root = temporary();
            disk.after_power_cut(loss, &mut random, root.path());
            let dir = root.path().join("n3");
            let state = format!("{loss:?} at operation {at} of {}", ops.len());
            let report = quorumlite::check(&dir).expect("a report");
            let codes: Vec<_> = report.findings.iter().map(|f| f.code.as_str()).collect();
            assert!(report.ok || codes == ["CONFIG_RECOVERY"], "{state}: {report:?}");
            match (report.ok, report.members.len()) {
                (true, 3) => untouched += 1,
                (true, 1) => done += 1,
                (false, _) => marked += 1,
                other => panic!("{state}: {other:?}"),
            }
            // Never alone under the old name.
            assert!(report.members.len() == 3 || report.cluster_id != old, "{state}");
            let opened = Node::open(Config::new(&dir)).await;
            let expected = match (report.ok, report.members.len()) {
                (false, _) => Some("CONFIG_RECOVERY"),
                (true, 3) => Some("CONFIG_NEEDS_LISTEN"),
                _ => None,
            };
            assert_eq!(opened.as_ref().err().map(|e| e.code()), expected, "{state}");
            let node = match opened {
                Ok(node) => node,
                Err(_) => {
                    quorumlite::recover_lost_quorum(&dir)
                        .unwrap_or_else(|e| panic!("{state}: {e:?}"));
                    Node::open(Config::new(&dir)).await.unwrap_or_else(|e| panic!("{state}: {e:?}"))
                }
            };
            let rows = query(&node, "SELECT count(*) FROM t", Consistency::Session).await;
            assert_eq!(integer(&rows.expect("read")), 20, "{state}");
            node.close().await.expect("closed");
        }
        if let Some(op) = ops.get(at) {
            disk.perform(op);
        }
    }
    println!("{untouched} as before, {marked} to be repeated, {done} done");
    assert!(untouched > 0 && marked > 0 && done > 0);
}

//! A node on its own whose power fails at each sync point of its life.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quorumlite::{Consistency, ErrorKind, Node, Value};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::calls::Watch;
use crate::ledger::{self, Ledger, Reached};
use crate::model::{Disk, Loss, Mark, Op, Random};
use crate::support::eventually;
use crate::{number, seed, temporary};

/// States that are opened at the same time.
const TOGETHER: usize = 4;
/// Between two writes, too, the power fails, once in so many of them.
const WRITES: u64 = 12;

/// Everything that a node on its own does to its disk.
async fn script(dir: &Path, watch: &Watch) -> Vec<Vec<Value>> {
    let mut ledger = Ledger::after(watch, 0);
    let node = Node::open(ledger::config(dir)).await.expect("the node opens");
    ledger.create(&node).await.expect("written");
    ledger.small(&node, 6).await.expect("written");
    ledger.batch(&node).await.expect("written");
    node.execute("INSERT INTO ledger(seq) VALUES (1)", ()).await.expect_err("a row of that number");
    node.close().await.expect("closed");
    let node = Node::open(ledger::config(dir)).await.expect("the node opens again");
    ledger.small(&node, 3).await.expect("written");
    ledger.fill_log(&node).await.expect("written");
    ledger.small(&node, 3).await.expect("written");
    node.close().await.expect("closed");
    // What is durable is counted anew from here: this time a checkpoint makes it so.
    let node = Node::open(ledger::config(dir)).await.expect("the node opens again");
    ledger.large(&node, 4).await.expect("written");
    eventually("a checkpoint", || async {
        (node.status().expect("a status").durable_index > 0).then_some(())
    })
    .await;
    ledger.batch(&node).await.expect("written");
    ledger.small(&node, 3).await.expect("written");
    let story = ledger::rows(&node, Consistency::None).await.expect("read");
    node.close().await.expect("closed");
    story
}

/// What became of the states.
#[derive(Default)]
pub struct Tally {
    pub opened: AtomicUsize,
    /// Directories that refused with `Corruption`.
    pub refused: Mutex<Vec<String>>,
    pub failures: Mutex<Vec<String>>,
}

impl Tally {
    pub fn fail(&self, state: &str, what: impl std::fmt::Display) {
        self.failures.lock().expect("no panic").push(format!("{state}: {what}"));
    }

    /// Prints what became of them, and fails the test where something is wrong.
    pub fn conclude(&self) {
        let refused = self.refused.lock().expect("no panic");
        let failures = self.failures.lock().expect("no panic");
        let opened = self.opened.load(Ordering::Relaxed);
        println!("{opened} opened, {} refused, {} wrong", refused.len(), failures.len());
        let shown: Vec<_> = failures.iter().take(10).collect();
        assert!(failures.is_empty(), "{shown:#?}");
        assert!(refused.is_empty(), "nothing was damaged, and yet: {refused:#?}");
        assert!(opened > 0);
    }
}

/// Opens a directory after an accident, checks it, goes on writing. Where `again` is given, the
/// power also fails at some moment of all this, and then once more all must be well.
async fn survive(
    dir: tempfile::TempDir,
    state: String,
    reached: Reached,
    story: Arc<Vec<Vec<Value>>>,
    again: Option<u64>,
    tally: Arc<Tally>,
) {
    let watch = Watch::new(dir.path());
    watch.mark(Mark::Submitted(reached.submitted));
    watch.mark(Mark::Acknowledged(reached.acknowledged));
    let Some(count) = reopen(dir.path(), &state, reached, Some(&story), &watch, &tally).await
    else {
        return;
    };
    let (mut disk, ops) = watch.recorded();
    drop(watch);
    let Some(seed) = again else { return };
    let mut random = Random(seed);
    let syncs: Vec<usize> = (0..ops.len()).filter(|at| ops[*at].is_sync_point()).collect();
    let Some(at) = syncs.get(random.below(syncs.len().max(1) as u64) as usize) else { return };
    let (done, _) = ops.split_at(at + random.below(2) as usize);
    done.iter().for_each(|op| disk.perform(op));
    let second = temporary();
    disk.after_power_cut(Loss::Random, &mut random, second.path());
    let reached = Reached::of(done);
    // What was there once may not go either, but nobody had been told.
    let state = format!("{state}, and again at operation {at} of the recovery ({count} rows)");
    let watch = Watch::new(second.path());
    reopen(second.path(), &state, reached, None, &watch, &tally).await;
}

/// Opens a directory after an accident, checks it and writes one row more.
async fn reopen(
    dir: &Path,
    state: &str,
    reached: Reached,
    story: Option<&[Vec<Value>]>,
    watch: &Watch,
    tally: &Tally,
) -> Option<i64> {
    if dir.join("quorumlite.lock").exists() {
        match quorumlite::check(dir) {
            Ok(report) if report.ok => {}
            Ok(report) => tally.fail(state, format!("the check says {:?}", report.findings)),
            Err(e) => tally.fail(state, format!("the check fails: {e}")),
        }
    }
    let node = match Node::open(ledger::config(dir)).await {
        Ok(node) => node,
        Err(e) if e.kind() == ErrorKind::Corruption => {
            tally.refused.lock().expect("no panic").push(format!("{state}: {e}"));
            return None;
        }
        Err(e) => {
            tally.fail(state, format!("it does not open: {e:?}"));
            return None;
        }
    };
    let count = match ledger::verify(&node, Consistency::Session, reached, story).await {
        Ok(count) => count,
        Err(what) => {
            tally.fail(state, what);
            return None;
        }
    };
    let mut ledger = Ledger::after(watch, count);
    let written = match count {
        0 => ledger.create(&node).await,
        _ => ledger.small(&node, 1).await,
    };
    if let Err(e) = written {
        tally.fail(state, format!("it cannot be written to any more: {e:?}"));
    }
    node.close().await.expect("closed");
    tally.opened.fetch_add(1, Ordering::Relaxed);
    Some(count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_wherever_the_power_fails() {
    let seed = seed();
    let rounds = number("QUORUMLITE_FAULT_ROUNDS").unwrap_or(1);
    let dir = temporary();
    let watch = Watch::new(dir.path());
    let story = Arc::new(script(dir.path(), &watch).await);
    let (mut disk, ops) = watch.recorded();
    drop(watch);
    let mut whole = disk.clone();
    ops.iter().for_each(|op| whole.perform(op));
    assert_eq!(whole.difference(dir.path()), None, "something was done that was not recorded");

    let mut random = Random(seed);
    let tally = Arc::new(Tally::default());
    let room = Arc::new(Semaphore::new(TOGETHER));
    let mut running = JoinSet::new();
    let mut reached = Reached::default();
    let (mut points, mut states) = (0, 0);
    for (at, op) in ops.iter().enumerate() {
        points += usize::from(op.is_sync_point());
        let tried = match op {
            _ if at + 1 == ops.len() => losses(rounds),
            Op::Sync(_) | Op::SyncDir(_) => losses(rounds),
            Op::Create(..) | Op::Rename(..) | Op::Remove(_) | Op::SetLen(..) => {
                vec![Loss::LastWriteTorn, Loss::Random]
            }
            Op::Write(..) if random.below(WRITES) < rounds => vec![Loss::Random],
            _ => Vec::new(),
        };
        for loss in tried {
            let state = temporary();
            disk.after_power_cut(loss, &mut random, state.path());
            let name = format!("{loss:?} at operation {at} of {}", ops.len());
            let permit = room.clone().acquire_owned().await.expect("open");
            let again = (loss == Loss::Random).then(|| random.next());
            let surviving = survive(state, name, reached, story.clone(), again, tally.clone());
            running.spawn(async move {
                surviving.await;
                drop(permit);
            });
            states += 1;
        }
        disk.perform(op);
        reached.note(op);
    }
    running.join_all().await;
    println!(
        "{points} sync points, {} operations, {states} power cuts, those with random losses with \
         another one while the node recovers",
        ops.len()
    );
    assert!(points > 80, "the script has only {points} sync points");
    tally.conclude();
}

/// What is tried at each point, just before the sync: what it makes durable is what the next point
/// keeps in any case.
fn losses(rounds: u64) -> Vec<Loss> {
    // A killed process leaves what was handed to the system: `crash_recovery.rs` kills real ones.
    let fixed = [Loss::All, Loss::LastWriteTorn];
    fixed.into_iter().chain((0..rounds).map(|_| Loss::Random)).collect()
}

/// The disk of a recording after all of `ops`.
pub fn after(begin: &Disk, ops: &[Op]) -> Disk {
    let mut disk = begin.clone();
    ops.iter().for_each(|op| disk.perform(op));
    disk
}

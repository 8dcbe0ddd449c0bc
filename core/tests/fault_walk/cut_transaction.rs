//! A transaction that is cut short at the beginning of SQLite's write-ahead log: all before it is in
//! the database file, so recovery finds nothing that counts, and what is written next goes over the
//! remains. It must be in the log whole, where every other connection reads it, after each write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorumlite::{Consistency, Node};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::calls::Watch;
use crate::ledger::{self, Ledger, Reached};
use crate::model::{Disk, FileId, Loss, Mark, Op, Random};
use crate::power_cut::{Tally, after};
use crate::support::eventually;
use crate::temporary;

/// States that are opened at the same time.
const TOGETHER: usize = 4;
/// The bytes of the row whose transaction is cut.
const CUT_ROW: usize = 150_000;
/// The header of the write-ahead log, and a frame of it.
const HEADER: u64 = 32;
const FRAME: usize = 24 + 4096;
/// Writes after recovery: together they go further than the remains.
const WRITES: usize = 24;

/// Ends right after a transaction that is the first in the write-ahead log.
async fn script(dir: &Path, watch: &Watch) {
    let mut ledger = Ledger::after(watch, 0);
    let node = Node::open(ledger::config(dir)).await.expect("the node opens");
    ledger.create(&node).await.expect("written");
    ledger.small(&node, 2).await.expect("written");
    // A checkpoint comes once the log is large; it covers all of it where nothing was written since.
    for _ in 0..5 {
        ledger.large(&node, 1).await.expect("written");
    }
    eventually("a checkpoint of everything", || async {
        let status = node.status().expect("a status");
        (status.durable_index == status.last_log_index).then_some(())
    })
    .await;
    ledger.with_payload(&node, 1, CUT_ROW).await.expect("written");
    node.close().await.expect("closed");
}

/// The file of the write-ahead log, and where in `ops` its last transaction from the beginning is
/// written.
fn last_from_the_beginning(ops: &[Op]) -> (FileId, usize) {
    let name = PathBuf::from("state/quorumlite.replica-wal");
    let created = ops.iter().rev().find_map(|op| match op {
        Op::Create(path, id) if *path == name => Some(*id),
        _ => None,
    });
    let wal = created.expect("a write-ahead log");
    let at = ops.iter().rposition(|op| matches!(op, Op::Write(id, HEADER, _) if *id == wal));
    (wal, at.expect("a transaction from the beginning"))
}

/// The disk when `frames` of the transaction at `ops[at]` were written.
fn cut(begin: &Disk, ops: &[Op], wal: FileId, at: usize, frames: usize) -> Disk {
    let mut disk = after(begin, &ops[..at]);
    let mut left = frames * FRAME;
    for op in &ops[at..] {
        let Op::Write(id, offset, bytes) = op else { continue };
        if *id != wal || left == 0 {
            continue;
        }
        let written = left.min(bytes.len());
        disk.perform(&Op::Write(wal, *offset, bytes[..written].into()));
        left -= written;
    }
    assert_eq!(left, 0, "the transaction has fewer than {frames} frames");
    disk
}

/// Opens what was left, and reads everything through another connection after each write.
async fn go_over(dir: tempfile::TempDir, state: String, reached: Reached, tally: Arc<Tally>) {
    let watch = Watch::new(dir.path());
    let checked = |node: Node, reached: Reached, state: String| async move {
        let found = ledger::verify(&node, Consistency::None, reached, None).await;
        (node, found.map_err(|what| format!("{state}: {what}")))
    };
    let node = Node::open(ledger::config(dir.path())).await.expect("it opens");
    let (node, found) = checked(node, reached, state.clone()).await;
    let count = match found {
        Ok(count) => count,
        Err(what) => return tally.fail(&what, "after opening"),
    };
    let mut ledger = Ledger::after(&watch, count);
    for write in 0..WRITES {
        if let Err(e) = ledger.small(&node, 1).await {
            return tally.fail(&state, format!("write {write}: {e:?}"));
        }
        let all = Reached { submitted: ledger.last, acknowledged: ledger.last, ..reached };
        if let Err(what) = ledger::verify(&node, Consistency::None, all, None).await {
            return tally.fail(&state, format!("after write {write}: {what}"));
        }
    }
    // What a killed process leaves at this moment.
    let (disk, ops) = watch.recorded();
    let killed = temporary();
    after(&disk, &ops).after_power_cut(Loss::None, &mut Random(0), killed.path());
    let last = ledger.last;
    node.close().await.expect("closed");
    let all = Reached { submitted: last, acknowledged: last, ..reached };
    let node = Node::open(ledger::config(killed.path())).await.expect("it opens");
    match ledger::verify(&node, Consistency::Session, all, None).await {
        Ok(_) => {
            tally.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Err(what) => tally.fail(&state, format!("killed after all: {what}")),
    }
    node.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_transaction_that_was_cut_is_whole() {
    let dir = temporary();
    let watch = Watch::new(dir.path());
    script(dir.path(), &watch).await;
    let (begin, ops) = watch.recorded();
    drop(watch);
    let (wal, at) = last_from_the_beginning(&ops);
    let mut reached = Reached::of(&ops[..at]);
    // The cut transaction's row is in the Raft log already.
    reached.submitted = reached.submitted.max(Reached::of(&ops).submitted);
    assert!(
        ops[..at]
            .iter()
            .any(|op| matches!(op, Op::Mark(Mark::Submitted(n)) if *n == reached.submitted)),
        "the transaction at the beginning is that of the last row"
    );

    let tally = Arc::new(Tally::default());
    let room = Arc::new(Semaphore::new(TOGETHER));
    let mut running = JoinSet::new();
    let frames = CUT_ROW / 4096;
    for left in 1..=frames {
        let state = temporary();
        cut(&begin, &ops, wal, at, left).after_power_cut(Loss::None, &mut Random(0), state.path());
        let permit = room.clone().acquire_owned().await.expect("open");
        let going = go_over(state, format!("{left} frames left"), reached, tally.clone());
        running.spawn(async move {
            going.await;
            drop(permit);
        });
    }
    running.join_all().await;
    println!("a transaction cut after each of {frames} frames");
    tally.conclude();
}

//! A member of a cluster whose disk fails: the others go on, the member says why it stopped, and
//! after a power cut and on a healthy disk it has what the others have.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quorumlite::{Consistency, Error, ErrorKind, Node};
use tokio::task::JoinSet;

use crate::calls::{Fault, Watch};
use crate::failing_disk::may_be_silent;
use crate::ledger::{self, Ledger, Reached};
use crate::model::{Loss, Random};
use crate::power_cut::after;
use crate::support::{Cluster, equal_content, eventually};
use crate::{number, seed};

/// The writes that are made, at most, until the failure shows: a disk that gets full bears many.
const WRITES: usize = 400;

/// Which member's disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
}

type MakeFault = fn(usize) -> Fault;

/// The kinds of failure, and the numbers of the calls at which they begin.
const FAULTS: [(MakeFault, [usize; 3]); 3] =
    [(Fault::Sync, [1, 4, 23]), (Fault::Io, [2, 9, 60]), (Fault::Space, [1, 8, 45])];

fn state(node: &Node) -> &'static str {
    node.status().map_or("closed", |status| status.state)
}

/// Writes of all sizes to a member whose disk is well, until the other one has stopped.
async fn write_until(
    survivor: &Node,
    ledger: &mut Ledger<'_>,
    ended: impl Fn() -> bool,
) -> Result<(), Error> {
    for turn in 0..WRITES {
        if ended() {
            return Ok(());
        }
        match turn % 6 {
            0..3 => ledger.small(survivor, 1).await?,
            3 => ledger.batch(survivor).await?,
            4 => ledger.with_payload(survivor, 1, 150_000).await?,
            _ => ledger.large(survivor, 1).await?,
        }
    }
    panic!("{WRITES} writes, and the disk has not failed");
}

/// One failure and what follows. Returns whether the member was told of it.
async fn fail_and_heal(
    cluster: &mut Cluster,
    victim: Victim,
    fault: Fault,
    last: i64,
    random: &mut Random,
) -> (bool, i64) {
    let leader = cluster.leader().await;
    let at = match victim {
        Victim::Leader => leader,
        Victim::Follower => (leader + 1) % 3,
    };
    let what = format!("{victim:?}, {fault:?}");
    // Everything that it opens from here on is watched.
    cluster.nodes[at].close().await.expect("closed");
    let dir = cluster.data_dir(at);
    let watch = Watch::new(&dir);
    cluster.nodes[at] = cluster.open(at).await.expect("it opens on a healthy disk");
    if victim == Victim::Leader {
        lead(cluster, at).await;
    }
    watch.arm(fault);

    let mut ledger = Ledger::after(&watch, last);
    let failing = &cluster.nodes[at];
    let silent = || watch.failed().is_some_and(|(doing, path)| may_be_silent(fault, doing, &path));
    let survivor = &cluster.nodes[(at + 1) % 3];
    let ended = || state(failing) == "stopped" || silent();
    let written = write_until(survivor, &mut ledger, ended).await;
    written.unwrap_or_else(|e| panic!("{what}: the others do not go on: {e:?}"));
    let told = !silent();
    if told {
        let refused = failing.execute("INSERT INTO total VALUES (0, 0)", ()).await;
        let refused = refused.expect_err("a stopped node writes nothing");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{what}: {refused:?}");
        assert!(!refused.retryable() && refused.code() != "NODE_STOPPED", "{what}: {refused:?}");
    }
    ledger.small(survivor, 2).await.unwrap_or_else(|e| panic!("{what}: without it: {e:?}"));
    let last = ledger.last;
    failing.close().await.expect("closed");

    let (disk, ops) = watch.recorded();
    drop(watch);
    let loss = if random.below(2) == 0 { Loss::All } else { Loss::Random };
    empty(&dir);
    after(&disk, &ops).after_power_cut(loss, random, &dir);
    cluster.nodes[at] =
        cluster.open(at).await.unwrap_or_else(|e| panic!("{what}, {loss:?} lost: {e:?}"));
    let reached = Reached { submitted: last, acknowledged: last, ..Reached::default() };
    for node in &cluster.nodes {
        let count = ledger::verify(node, Consistency::Linearizable, reached, None).await;
        assert_eq!(count, Ok(last), "{what}, {loss:?} lost");
    }
    equal_content(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    (told, last)
}

/// Makes the member `at` lead.
async fn lead(cluster: &Cluster, at: usize) {
    let id = format!("n{}", at + 1);
    eventually("it leads", || async {
        if state(&cluster.nodes[at]) == "leader" {
            return Some(());
        }
        // Refused while it has not caught up.
        let _ = cluster.nodes[cluster.leader().await].transfer_leadership(&id, None).await;
        None
    })
    .await;
}

fn empty(dir: &Path) {
    std::fs::remove_dir_all(dir).expect("removed");
    std::fs::create_dir(dir).expect("made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_without_a_member_whose_disk_fails() {
    let seed = seed();
    let rounds = 1 + number("QUORUMLITE_FAULT_ROUNDS").unwrap_or(0);
    let (told, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut running = JoinSet::new();
    for victim in [Victim::Leader, Victim::Follower] {
        for (fault, numbers) in FAULTS {
            let (told, silent) = (told.clone(), silent.clone());
            running.spawn(async move {
                let mut random = Random(seed);
                let mut cluster = Cluster::start_with(|c| c.max_log_bytes(1024 * 1024)).await;
                let nowhere = tempfile::tempdir().expect("a directory");
                let watch = Watch::new(nowhere.path());
                let mut ledger = Ledger::after(&watch, 0);
                ledger.create(&cluster.nodes[0]).await.expect("written");
                let mut last = ledger.last;
                for round in 0..rounds {
                    for number in numbers {
                        let number = match round {
                            0 => number,
                            _ => 1 + random.below(3 * number as u64) as usize,
                        };
                        let fault = fault(number);
                        let (heard, end) =
                            fail_and_heal(&mut cluster, victim, fault, last, &mut random).await;
                        last = end;
                        if heard { &told } else { &silent }.fetch_add(1, Ordering::Relaxed);
                    }
                }
                cluster.close().await;
            });
        }
    }
    running.join_all().await;
    let (told, silent) = (told.load(Ordering::Relaxed), silent.load(Ordering::Relaxed));
    println!("a disk failed under a member {} times, {silent} times silently", told + silent);
    assert!(told > silent);
}

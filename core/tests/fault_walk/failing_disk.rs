//! A disk that fails while a node runs: a sync that fails, calls that fail, no space. The node says
//! so and stops; what it had acknowledged is there when it is opened on a healthy disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use quorumlite::{Error, ErrorKind, Node};

use crate::calls::{Fault, Watch};
use crate::ledger::{self, Ledger, Reached};
use crate::model::{Loss, Random};
use crate::power_cut::{Tally, after};
use crate::support::eventually;
use crate::{number, seed, temporary};

/// Runs until something fails. Says what, and whether the node is then stopped.
async fn script(dir: &Path, watch: &Watch) -> Result<(), Error> {
    let mut ledger = Ledger::after(watch, 0);
    watch.doing(OPENING);
    let node = Node::open(ledger::config(dir)).await?;
    watch.doing(RUNNING);
    let result = writes(&node, &mut ledger, watch).await;
    if let Err(e) = &result
        && e.code() != "SQLITE_CONSTRAINT_PRIMARYKEY"
    {
        eventually("the node stops after a failure", || async {
            (node.status().expect("a status").state == "stopped").then_some(())
        })
        .await;
        // It stays so, and keeps saying why.
        let again = node.execute("INSERT INTO total VALUES (0, 0)", ()).await;
        let again = again.expect_err("a stopped node writes nothing");
        assert!(!again.retryable(), "{again:?}");
    }
    watch.doing(CLOSING);
    node.close().await?;
    result?;
    watch.doing(OPENING);
    let node = Node::open(ledger::config(dir)).await?;
    watch.doing(RUNNING);
    let result = async {
        ledger.small(&node, 2).await?;
        wait_for_checkpoint(&node, watch, 0).await;
        ledger.small(&node, 2).await
    };
    let result = result.await;
    watch.doing(CLOSING);
    node.close().await?;
    result
}

const OPENING: &str = "opening";
const RUNNING: &str = "running";
const CLOSING: &str = "closing";

/// Whether the application need not be told that `fault` struck `path` while the node was `doing`
/// something. Everything else must be told; that nothing is lost is checked in any case.
pub fn may_be_silent(fault: Fault, doing: &str, path: &Path) -> bool {
    // The last writes to the log say how far it is committed and that it was closed: recovery does
    // without. What was acknowledged was synced before, and what was not gets an error of its own.
    let end_of_log = doing == CLOSING && path.starts_with("log");
    // SQLite syncs the folder of its files before it first syncs one of them, and takes no notice of
    // the result. The names are durable by then: we sync them when they appear.
    let by_sqlite = matches!(fault, Fault::Sync(_)) && path == Path::new("state");
    end_of_log || by_sqlite
}

async fn writes(node: &Node, ledger: &mut Ledger<'_>, watch: &Watch) -> Result<(), Error> {
    ledger.create(node).await?;
    ledger.small(node, 4).await?;
    ledger.batch(node).await?;
    ledger.with_payload(node, 8, 150_000).await?;
    // Purged, unless a failed call has stopped the node or kept it from purging.
    eventually("the log is purged, or something has failed", || async {
        let status = node.status().expect("a status");
        (status.purged_index > 0 || watch.injected() > 0).then_some(())
    })
    .await;
    let before = node.status()?.applied_index;
    ledger.large(node, 5).await?;
    wait_for_checkpoint(node, watch, before).await;
    ledger.small(node, 3).await
}

/// Waits until a checkpoint has come further than `index`; where something has failed it may never.
async fn wait_for_checkpoint(node: &Node, watch: &Watch, index: u64) {
    eventually("a checkpoint, or something has failed", || async {
        let status = node.status().expect("a status");
        (status.durable_index > index || watch.injected() > 0).then_some(())
    })
    .await;
}

/// Fails at each call in turn, as `fault` makes it of the call's number.
async fn walk(name: &str, seed: u64, numbers: Vec<usize>, fault: fn(usize) -> Fault) {
    let tally = Tally::default();
    let mut codes = BTreeMap::<String, usize>::new();
    let mut silent = BTreeMap::<String, usize>::new();
    let mut random = Random(seed);
    let walked = numbers.len();
    let mut hit = 0;
    for n in numbers {
        let dir = temporary();
        let watch = Watch::failing(dir.path(), Some(fault(n)));
        let result = script(dir.path(), &watch).await;
        hit += usize::from(watch.injected() > 0);
        let code = match &result {
            Ok(()) => "none".to_owned(),
            Err(e) => format!("{} {}", e.kind(), e.code()),
        };
        *codes.entry(code).or_default() += 1;
        let state = format!("{name} {n} ({result:?})");
        if let (Ok(()), Some((doing, path))) = (&result, watch.failed()) {
            *silent.entry(format!("{doing}: {}", path.display())).or_default() += 1;
            if !may_be_silent(fault(n), doing, &path) {
                tally.fail(&state, format!("no error, though {path:?} failed while {doing}"));
            }
        }
        if let Err(e) = &result {
            let clear = matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Config);
            if !clear || e.retryable() || e.message().is_empty() {
                tally.fail(&state, "the error is not clear");
            }
        }
        let (disk, ops) = watch.recorded();
        drop(watch);
        let disk = after(&disk, &ops);
        let reached = Reached::of(&ops);
        for loss in [Loss::None, Loss::All, Loss::Random] {
            let healed = temporary();
            disk.after_power_cut(loss, &mut random, healed.path());
            let state = format!("{state}, then {loss:?} lost");
            match Node::open(ledger::config(healed.path())).await {
                Ok(node) => {
                    let consistency = quorumlite::Consistency::Session;
                    match ledger::verify(&node, consistency, reached, None).await {
                        Ok(_) => {
                            tally.opened.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(what) => tally.fail(&state, what),
                    }
                    node.close().await.expect("closed");
                }
                Err(e) => tally.fail(&state, format!("it does not open: {e:?}")),
            }
        }
    }
    println!("{name}: failed at {hit} of {walked} places; errors: {codes:?}; silent: {silent:?}");
    assert!(hit > walked / 2, "the script ends before most of the faults");
    tally.conclude();
}

/// How many calls and syncs the script makes on a healthy disk.
async fn counts() -> (usize, usize) {
    let dir = temporary();
    let watch = Watch::new(dir.path());
    script(dir.path(), &watch).await.expect("a healthy disk");
    watch.counts()
}

/// Numbers up to `end`: all of them, or so many, evenly spread, as there is time for.
fn chosen(seed: u64, end: usize) -> Vec<usize> {
    let at_most = 24 + 200 * number("QUORUMLITE_FAULT_ROUNDS").unwrap_or(0) as usize;
    let every = end.div_ceil(at_most);
    (1 + seed as usize % every..=end).step_by(every).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node_and_loses_nothing() {
    let seed = seed();
    let (_, syncs) = counts().await;
    walk("sync", seed, chosen(seed, syncs), Fault::Sync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_output_error_stops_the_node_and_loses_nothing() {
    let seed = seed();
    let (calls, _) = counts().await;
    walk("call", seed, chosen(seed, calls), Fault::Io).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_node_and_loses_nothing() {
    let seed = seed();
    let (calls, _) = counts().await;
    walk("space", seed, chosen(seed, calls), Fault::Space).await;
}

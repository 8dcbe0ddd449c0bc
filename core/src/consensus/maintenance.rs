//! [`Maintenance`]: what a node does on its own, off the apply path: checkpoints, purging the log
//! behind a durable barrier, following the members' addresses, stopping Raft when storage failed.

use std::io;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::network::Addresses;
use super::types::Raft;
use crate::error::Error;
use crate::log::Log;
use crate::sqlite::Database;

/// How often sizes are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// When a write-ahead log of SQLite has grown by this, it is checkpointed without disturbing
/// anybody...
const PASSIVE_BYTES: u64 = 4 * 1024 * 1024;
/// ...and one of this size under the reader gate, which also truncates it; so is one beyond
/// [`PASSIVE_BYTES`] once the writes have stopped.
const TRUNCATE_BYTES: u64 = 16 * 1024 * 1024;
/// Where reads keep it from being truncated until it is this large, they are interrupted.
const INTERRUPT_BYTES: u64 = 128 * 1024 * 1024;
/// How long after a truncation that reads prevented the next one is tried while nothing is written.
const TRUNCATE_AGAIN: Duration = Duration::from_secs(5);

/// How long the reader gate waits for the reads that are running.
const GATE_WAIT: Duration = Duration::from_millis(100);

/// The background task of one node.
pub(crate) struct Maintenance {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct MaintenanceTask {
    raft: Raft,
    log: Log,
    database: Database,
    failure: watch::Receiver<Option<Error>>,
    addresses: Addresses,
    max_log_bytes: u64,
    stop: watch::Receiver<bool>,
}

/// What was found when a checkpoint was last considered.
#[derive(Default)]
struct LastCheckpoint {
    /// How far the write-ahead log had grown at the last checkpoint.
    wal: u64,
    /// The applied index a moment ago.
    applied: u64,
    /// When reads prevented the last truncation.
    prevented: Option<Instant>,
}

impl Maintenance {
    pub(crate) fn start(
        raft: Raft,
        log: Log,
        database: Database,
        failure: watch::Receiver<Option<Error>>,
        addresses: Addresses,
        max_log_bytes: u64,
    ) -> Maintenance {
        let (stop, stopped) = watch::channel(false);
        let task = MaintenanceTask {
            raft,
            log,
            database,
            failure,
            addresses,
            max_log_bytes,
            stop: stopped,
        };
        Maintenance { stop, task: Mutex::new(Some(tokio::spawn(task.run()))) }
    }

    /// Stops the task and waits for it.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(e) = task.await
        {
            tracing::error!(error = %e, "the maintenance task panicked");
        }
    }
}

impl MaintenanceTask {
    async fn run(mut self) {
        // Not all metrics: those change several times with every write.
        let mut metrics = self.raft.server_metrics();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = LastCheckpoint::default();
        loop {
            tokio::select! {
                biased;
                _ = self.stop.changed() => return,
                changed = self.failure.changed() => {
                    if changed.is_ok() && self.failure.borrow_and_update().is_some() {
                        self.stop_raft().await;
                    }
                    return self.wait_for_stop().await;
                }
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return self.wait_for_stop().await;
                    }
                    let now = metrics.borrow_and_update();
                    self.addresses.update(now.membership_config.membership().nodes());
                }
                _ = ticks.tick() => {
                    if let Some(file) = self.database.removed_file() {
                        let text = format!("{} was removed", file.display());
                        self.log.give_up(&io::Error::new(io::ErrorKind::NotFound, text));
                    }
                    if self.log.error().is_some() || self.database.failure().is_some() {
                        self.stop_raft().await;
                        return self.wait_for_stop().await;
                    }
                    self.checkpoint(&mut last).await;
                    self.purge().await;
                }
            }
        }
    }

    async fn wait_for_stop(&mut self) {
        let _ = self.stop.wait_for(|stop| *stop).await;
    }

    /// A node whose storage failed must neither vote nor acknowledge anything any more.
    async fn stop_raft(&self) {
        tracing::error!("storage failed: this node leaves the cluster until it is opened again");
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop cleanly");
        }
    }

    async fn checkpoint(&self, last: &mut LastCheckpoint) {
        let wal = self.database.wal_bytes();
        let applied = self.database.applied_index();
        let at_rest = std::mem::replace(&mut last.applied, applied) == applied
            && last.prevented.is_none_or(|at| at.elapsed() >= TRUNCATE_AGAIN);
        last.wal = last.wal.min(wal);
        let grown = wal >= last.wal + PASSIVE_BYTES;
        let truncate = grown && wal >= TRUNCATE_BYTES || at_rest && wal >= PASSIVE_BYTES;
        if !grown && !truncate {
            return;
        }
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || {
            if wal >= INTERRUPT_BYTES {
                database.checkpoint_interrupting(GATE_WAIT)
            } else if truncate {
                database.checkpoint_truncate(GATE_WAIT)
            } else {
                database.checkpoint().map(|_| true)
            }
        });
        match done.await {
            Ok(Ok(done)) => last.prevented = (!done).then(Instant::now),
            Ok(Err(e)) => tracing::warn!(error = %e, "a checkpoint failed"),
            Err(e) => tracing::error!(error = %e, "a checkpoint panicked"),
        }
        last.wal = wal;
    }

    /// Purges the log once it is too large: first the state machine makes what it has applied
    /// durable, then everything before that may go, except for what lagging followers may need.
    async fn purge(&self) {
        if self.log.size_bytes() <= self.max_log_bytes {
            return;
        }
        let Some(keep_from) = self.log.index_to_keep(self.max_log_bytes / 2) else { return };
        let Some(mut upto) = keep_from.checked_sub(1) else { return };
        if let Some(image) = self.database.image_position() {
            upto = upto.min(image.index);
        }
        let (durable, purged) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
            (index(metrics.snapshot), index(metrics.purged))
        };
        let trigger = self.raft.trigger();
        let purge = match durable.min(upto) {
            may_go if may_go > purged => trigger.purge_log(may_go).await,
            _ => Ok(()),
        };
        let record = if durable < upto { trigger.snapshot().await } else { Ok(()) };
        if let Err(e) = purge.and(record) {
            tracing::debug!(error = %e, "the log was not purged");
        }
    }
}

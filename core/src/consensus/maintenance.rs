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

/// How often sizes are looked at...
const INTERVAL: Duration = Duration::from_millis(200);
/// ...and how often at most, while a checkpoint is due soon: many small ones hold the syncs of the
/// log up for less than a few large ones.
const SHORT_INTERVAL: Duration = Duration::from_millis(10);
/// When a write-ahead log of SQLite has grown by this, it is checkpointed without disturbing
/// anybody...
const PASSIVE_BYTES: u64 = 4 * 1024 * 1024;
/// ...and once it is filled this far under the reader gate, so that it is filled from its beginning
/// again.
const RESTART_BYTES: u64 = 12 * 1024 * 1024;
/// A file longer than this is truncated then, and one beyond [`PASSIVE_BYTES`] once the writes have
/// stopped.
const KEPT_BYTES: u64 = 20 * 1024 * 1024;
/// What one frame takes: a page and its header.
const FRAME_BYTES: u64 = 4096 + 24;
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
    /// How far the write-ahead log was filled then, in bytes.
    wal: u64,
    /// How far it was filled a moment ago, and when that was.
    seen: Option<(u64, Instant)>,
    /// The applied index, and since when it is that.
    applied: Option<(u64, Instant)>,
    /// When reads prevented the last truncation.
    prevented: Option<Instant>,
}

impl LastCheckpoint {
    /// Whether nothing was written for a while.
    fn at_rest(&mut self, applied: u64) -> bool {
        match self.applied {
            Some((same, since)) if same == applied => since.elapsed() >= INTERVAL,
            _ => {
                self.applied = Some((applied, Instant::now()));
                false
            }
        }
    }

    /// Notes that the log is filled up to `wal` now, and says how long it takes to grow by one
    /// checkpoint's worth, if it goes on as it does.
    fn pace(&mut self, wal: u64) -> Duration {
        let now = Instant::now();
        let Some((seen, at)) = self.seen.replace((wal, now)) else { return INTERVAL };
        // Less than before: it is filled from its beginning again.
        let grown = wal.checked_sub(seen).unwrap_or(wal);
        if grown == 0 {
            return INTERVAL;
        }
        (now - at).mul_f64(PASSIVE_BYTES as f64 / grown as f64)
    }

    /// When the next checkpoint is due at that pace.
    fn due(&self, wal: u64, pace: Duration) -> Duration {
        let missing = (self.wal + PASSIVE_BYTES).saturating_sub(wal);
        pace.mul_f64(missing as f64 / PASSIVE_BYTES as f64).clamp(SHORT_INTERVAL, INTERVAL)
    }
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
        let mut last = LastCheckpoint::default();
        let mut look = tokio::time::Instant::now();
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
                () = tokio::time::sleep_until(look) => {
                    if let Some(file) = self.database.removed_file() {
                        let text = format!("{} was removed", file.display());
                        self.log.give_up(&io::Error::new(io::ErrorKind::NotFound, text));
                    }
                    if self.log.error().is_some() || self.database.failure().is_some() {
                        self.stop_raft().await;
                        return self.wait_for_stop().await;
                    }
                    let due = self.checkpoint(&mut last).await;
                    self.purge().await;
                    look = tokio::time::Instant::now() + due;
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

    /// Makes a checkpoint where one is due, and says when to look again.
    async fn checkpoint(&self, last: &mut LastCheckpoint) -> Duration {
        let at_rest = last.at_rest(self.database.applied_index())
            && last.prevented.is_none_or(|at| at.elapsed() >= TRUNCATE_AGAIN);
        let file = self.database.wal_bytes();
        let wal = if file < PASSIVE_BYTES {
            file
        } else {
            match self.database.wal_frames() {
                Ok(Some(frames)) => u64::from(frames) * FRAME_BYTES,
                // The log is being synced at this moment.
                Ok(None) => return SHORT_INTERVAL,
                // A checkpoint meets the same, and then stops this node.
                Err(_) => file,
            }
        };
        last.wal = last.wal.min(wal);
        let pace = last.pace(wal);
        let grown = wal >= last.wal + PASSIVE_BYTES;
        let left = at_rest && file >= PASSIVE_BYTES;
        if !grown && !left {
            return last.due(wal, pace);
        }
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || {
            if wal >= INTERRUPT_BYTES {
                database.checkpoint_interrupting(GATE_WAIT)
            } else if at_rest || wal >= RESTART_BYTES && file > KEPT_BYTES {
                database.checkpoint_truncate(GATE_WAIT)
            } else if wal >= RESTART_BYTES {
                database.checkpoint_restart(GATE_WAIT)
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
        last.due(wal, pace)
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
        if let Some(halted) = self.database.halted() {
            upto = upto.min(halted.index - 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that was filled up to `wal` a tenth of a second ago.
    fn seen(wal: u64) -> LastCheckpoint {
        let at = Instant::now() - Duration::from_millis(100);
        LastCheckpoint { wal, seen: Some((wal, at)), ..Default::default() }
    }

    #[test]
    fn the_faster_the_log_grows_the_sooner_it_is_looked_at() {
        let after = |grown: u64| {
            let mut last = seen(PASSIVE_BYTES);
            let pace = last.pace(PASSIVE_BYTES + grown);
            last.due(PASSIVE_BYTES + grown, pace)
        };
        assert_eq!(after(0), INTERVAL);
        assert_eq!(after(1), INTERVAL);
        // Half of it took the tenth of a second, or somewhat more by now; so will the rest.
        let half = after(PASSIVE_BYTES / 2);
        assert!(half >= Duration::from_millis(100) && half <= INTERVAL, "{half:?}");
        assert!(after(PASSIVE_BYTES * 9 / 10) < half);
        assert_eq!(after(PASSIVE_BYTES), SHORT_INTERVAL);
        assert_eq!(after(u64::MAX / 2), SHORT_INTERVAL);
    }

    #[test]
    fn a_log_that_is_filled_from_its_beginning_again_grows_by_what_it_holds() {
        let mut last = seen(3 * PASSIVE_BYTES);
        last.wal = 0;
        let pace = last.pace(PASSIVE_BYTES);
        assert!(pace >= Duration::from_millis(100) && pace < Duration::from_secs(10), "{pace:?}");
    }

    #[test]
    fn a_pause_between_two_writes_is_no_rest() {
        let mut last = LastCheckpoint::default();
        assert!(!last.at_rest(7));
        assert!(!last.at_rest(7), "not for long enough");
        last.applied = Some((7, Instant::now() - INTERVAL));
        assert!(last.at_rest(7));
        assert!(!last.at_rest(8));
    }
}

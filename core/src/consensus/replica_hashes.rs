//! [`ReplicaHashes`]: the content hashes that this replica made at indexes that the log chose, so that
//! the replicas can be compared.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::sqlite::Database;

/// Hashes that are kept for the others to ask for.
const KEPT: usize = 8;
/// How long the apply thread waits for the hash to begin. Where that takes longer, the hash is of a
/// later index and is not kept: that check is left out.
const BEGIN_WAIT: Duration = Duration::from_secs(1);

/// The latest hashes; clones are one.
#[derive(Clone)]
pub(crate) struct ReplicaHashes {
    hashes: Arc<Mutex<VecDeque<(u64, String)>>>,
    latest: Arc<watch::Sender<u64>>,
}

impl Default for ReplicaHashes {
    fn default() -> Self {
        ReplicaHashes { hashes: Arc::default(), latest: Arc::new(watch::Sender::new(0)) }
    }
}

impl ReplicaHashes {
    /// The hash at `index`, if it was made.
    pub(crate) fn get(&self, index: u64) -> Option<String> {
        self.hashes.lock().iter().find(|(i, _)| *i == index).map(|(_, hash)| hash.clone())
    }

    /// Follows the index of the latest hash.
    pub(crate) fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Hashes what is committed now, which is `index`, on a thread of its own. Returns as soon as
    /// what is hashed is fixed.
    pub(super) fn make(&self, database: &Database, index: u64) {
        let (begun, begins) = sync_channel::<()>(1);
        let (database, this) = (database.clone(), self.clone());
        let work = move || match database.content_hash_from(move || drop(begun)) {
            Ok((hash, at)) if at == index => this.keep(index, hash),
            Ok((_, at)) => tracing::info!(index, at, "a replica check was left out: it began late"),
            Err(e) => tracing::info!(index, error = %e, "a replica check was left out"),
        };
        let thread = std::thread::Builder::new().name("quorumlite-hash".into()).spawn(work);
        match thread {
            // The sender's end is the signal.
            Ok(_) => drop(begins.recv_timeout(BEGIN_WAIT)),
            Err(e) => tracing::warn!(error = %e, "a replica check was left out"),
        }
    }

    fn keep(&self, index: u64, hash: String) {
        let mut hashes = self.hashes.lock();
        hashes.push_back((index, hash));
        if hashes.len() > KEPT {
            hashes.pop_front();
        }
        drop(hashes);
        self.latest.send_replace(index);
    }
}

//! [`PeersReads`]: the reads that other nodes have asked for and that are not answered yet, so that
//! they can be ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cancel::Cancel;

/// How many cancellations are remembered that came before their reads: they travel on another
/// connection.
const EARLY: usize = 1024;

/// The running reads of other nodes, by the number that their sender gave them.
#[derive(Default)]
pub(super) struct PeersReads {
    closing: Cancel,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    running: HashMap<u64, Cancel>,
    /// The oldest first.
    early: VecDeque<u64>,
}

/// Ends a read that is dropped before its answer.
pub(super) struct Registered {
    all: Arc<PeersReads>,
    read: u64,
    cancel: Cancel,
}

impl PeersReads {
    /// Begins read `read`, or one that cannot be ended by its number where that is 0.
    pub(super) fn begin(self: &Arc<Self>, read: u64) -> (Cancel, Registered) {
        let cancel = Cancel::child([&self.closing]);
        if read != 0 {
            let mut reads = self.reads.lock();
            reads.running.insert(read, cancel.clone());
            let early = reads.early.contains(&read);
            drop(reads);
            if early {
                cancel.cancel();
            }
        }
        (cancel.clone(), Registered { all: self.clone(), read, cancel })
    }

    /// Ends read `read`, if it runs or is still on its way.
    pub(super) fn cancel(&self, read: u64) {
        let mut reads = self.reads.lock();
        let running = reads.running.get(&read).cloned();
        if running.is_none() && read != 0 {
            if reads.early.len() >= EARLY {
                reads.early.pop_front();
            }
            reads.early.push_back(read);
        }
        drop(reads);
        if let Some(cancel) = running {
            cancel.cancel();
        }
    }

    /// How many run.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.reads.lock().running.len()
    }

    /// Ends all, now and later.
    pub(super) fn close(&self) {
        self.closing.close();
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut reads = self.all.reads.lock();
        // It may have been sent again, over a new connection, before this one was given up.
        if reads.running.get(&self.read).is_some_and(|running| running.is(&self.cancel)) {
            reads.running.remove(&self.read);
        }
        drop(reads);
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_may_come_before_its_read() {
        let all = Arc::new(PeersReads::default());
        all.cancel(7);
        let (late, _late) = all.begin(7);
        assert!(late.is_cancelled());
        let (other, registered) = all.begin(8);
        assert!(!other.is_cancelled());
        all.cancel(8);
        assert!(other.is_cancelled());
        drop(registered);
        assert_eq!(all.running(), 1);
        // Only so many are remembered, the newest.
        (100..100 + 2 * EARLY as u64).for_each(|read| all.cancel(read));
        assert!(all.reads.lock().early.len() <= EARLY);
        assert!(all.begin(99 + 2 * EARLY as u64).0.is_cancelled());
    }

    #[test]
    fn a_read_that_was_sent_again_can_be_ended() {
        let all = Arc::new(PeersReads::default());
        let (first, first_registered) = all.begin(7);
        let (second, _second) = all.begin(7);
        drop(first_registered);
        assert!(first.is_cancelled() && !second.is_cancelled());
        all.cancel(7);
        assert!(second.is_cancelled());
        let (unnamed, _unnamed) = all.begin(0);
        all.cancel(0);
        assert!(!unnamed.is_cancelled());
        all.close();
        assert_eq!(unnamed.why().unwrap().code(), "CLOSED");
    }
}

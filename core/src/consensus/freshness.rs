//! [`Freshness`]: how old the data of this node is.
//!
//! Data is as fresh as the last moment at which everything that was committed, as this node knew it,
//! was applied here. To have been in touch with a leader is not enough: a node that applies what
//! was committed hours ago hears its leader all the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use parking_lot::Mutex;

use super::types::{self, LogId, Metrics, TypeConfig};

/// Moments closer to each other than this are kept as one...
const RESOLUTION: Duration = Duration::from_millis(10);
/// ...and those closer than twice that, once there are so many, and so on. The data is then called
/// older than it is, never younger.
const MOMENTS: usize = 1024;

/// The moments at which this node knew how far the cluster had come.
#[derive(Default)]
pub(crate) struct Freshness(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The last moment at which everything that was committed is applied here.
    fresh: Option<Instant>,
    /// Moments whose committed index is not known to be applied; both rise.
    moments: VecDeque<(u64, Instant)>,
    /// How often [`RESOLUTION`] was doubled.
    doubled: u32,
    /// As leader: when a quorum followed it last.
    quorum: Option<Quorum>,
}

#[derive(Clone, Copy)]
enum Quorum {
    At(Instant),
    /// It is the only voter.
    Always,
}

impl Freshness {
    /// At `at` nothing beyond `committed` was committed in the cluster.
    pub(crate) fn heard(&self, committed: u64, at: Instant) {
        let mut known = self.0.lock();
        let Known { fresh, moments, doubled, .. } = &mut *known;
        if fresh.is_some_and(|fresh| at <= fresh) {
            return;
        }
        if let Some((last, moment)) = moments.back_mut() {
            if at <= *moment {
                return;
            }
            if committed <= *last {
                // Still no more than that: it is enough to have applied `last`.
                *moment = at;
                return;
            }
        }
        if let [.., (_, before), last] = moments.make_contiguous()
            && last.1.duration_since(*before) < RESOLUTION * (1 << *doubled)
        {
            *last = (committed, at);
            return;
        }
        moments.push_back((committed, at));
        if moments.len() == 1 {
            *doubled = 0;
        }
        // Doubled so often it is more than a day.
        if moments.len() > MOMENTS && *doubled < 24 {
            *doubled += 1;
            let mut keep = false;
            moments.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The last moment at which everything that was committed then is part of `applied`. None: not
    /// since this node was opened.
    pub(crate) fn at(&self, applied: u64) -> Option<Instant> {
        let mut known = self.0.lock();
        while let Some((committed, at)) = known.moments.front().copied()
            && committed <= applied
        {
            known.fresh = Some(at);
            known.moments.pop_front();
        }
        known.fresh
    }

    /// Takes over what the leader's metrics say: a quorum followed it at a moment, and what was
    /// committed then it knows. Not before it has committed an entry of its own term: until then
    /// more may be committed than it knows.
    pub(crate) fn lead(&self, metrics: &Metrics) {
        let now = Instant::now();
        let quorum = match &metrics.last_quorum_acked {
            _ if metrics.state != ServerState::Leader => None,
            _ if metrics.membership_config.voter_ids().eq([metrics.id.clone()]) => {
                Some(Quorum::Always)
            }
            acked => acked.and_then(|at| now.checked_sub(at.elapsed())).map(Quorum::At),
        };
        self.0.lock().quorum = quorum;
        if let (Some(quorum), Some(committed)) = (quorum, &metrics.local_committed)
            && types::term_of(committed) == metrics.current_term
        {
            let at = match quorum {
                Quorum::At(at) => at,
                Quorum::Always => now,
            };
            self.heard(committed.index, at);
        }
    }

    /// As leader: how long ago a quorum followed it, for those who hear from it.
    pub(crate) fn quorum_age(&self) -> Duration {
        match self.0.lock().quorum {
            Some(Quorum::Always) => Duration::ZERO,
            Some(Quorum::At(at)) => at.elapsed(),
            None => Duration::MAX,
        }
    }

    /// Takes over what a leader of `term` said that it had committed, and how long before that a
    /// quorum had followed it: a leader that was replaced does not know what is committed since.
    pub(crate) fn follow(&self, term: u64, leader_commit: Option<&LogId>, quorum_age: Duration) {
        if let Some(committed) = leader_commit
            && types::term_of(committed) == term
            && let Some(at) = Instant::now().checked_sub(quorum_age)
        {
            self.heard(committed.index, at);
        }
    }
}

/// Follows the metrics of a node while it leads, until Raft has stopped.
pub(crate) async fn watch(
    freshness: std::sync::Arc<Freshness>,
    mut metrics: WatchReceiverOf<TypeConfig, Metrics>,
) {
    while metrics.changed().await.is_ok() {
        freshness.lead(&metrics.borrow_watched());
        // They change several times with every write.
        tokio::time::sleep(RESOLUTION * 2).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_as_fresh_as_the_last_moment_that_is_wholly_applied() {
        let freshness = Freshness::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(freshness.at(100), None);
        freshness.heard(10, after(0));
        freshness.heard(20, after(100));
        freshness.heard(30, after(200));
        assert_eq!(freshness.at(9), None);
        assert_eq!(freshness.at(19), Some(after(0)));
        // It hears its leader for hours, and applies nothing.
        for i in 3..100_000 {
            freshness.heard(10 * i, after(100 * i));
        }
        assert_eq!(freshness.at(19), Some(after(0)));
        let seen = freshness.at(500_005).expect("some moment");
        assert!(seen <= after(5_000_000) && seen > after(4_900_000), "{:?}", seen - start);
        assert_eq!(freshness.at(u64::MAX), Some(after(100 * 99_999)));
        // The same index, later: still everything.
        freshness.heard(999_990, after(20_000_000));
        assert_eq!(freshness.at(999_990), Some(after(20_000_000)));
    }

    #[test]
    fn many_moments_that_follow_closely_are_few() {
        let freshness = Freshness::default();
        let start = Instant::now();
        for i in 0..100_000_u64 {
            freshness.heard(i + 1, start + Duration::from_micros(i * 100));
        }
        assert!(freshness.0.lock().moments.len() <= MOMENTS);
        // 5 s of the 10: within the resolution and the thinning.
        let seen = freshness.at(50_000).expect("some moment") - start;
        assert!(seen <= Duration::from_secs(5) && seen > Duration::from_secs(4), "{seen:?}");
    }
}

//! [`Clock`]: what a leader stamps commands with. Applying sees to it that their time never goes back
//! by itself, so this one need not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So far a clock may be ahead of those of the others, and a recorded time of the clock.
const TOLERANCE: Duration = Duration::from_secs(600);

/// This node's wall clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// Microseconds that it is pretended to be ahead: for tests.
    ahead_us: i64,
    /// How far it is ahead of what most members say, where that is too far.
    excess_us: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn ahead_by(microseconds: Option<i64>) -> Clock {
        Clock { ahead_us: microseconds.unwrap_or(0), excess_us: Arc::default() }
    }

    /// Microseconds since 1970 (UTC).
    pub(crate) fn now_us(&self) -> i64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_micros()).ok())
            .unwrap_or(0);
        now.saturating_add(self.ahead_us)
    }

    /// What a command is stamped with: this clock, or what most members say where it is far ahead.
    pub(crate) fn stamp_us(&self) -> i64 {
        self.now_us().saturating_sub(self.excess_us.load(Ordering::Relaxed))
    }

    /// Compares with the others: how far each of their clocks is ahead of this one, in microseconds.
    pub(crate) fn compare(&self, mut others: Vec<i64>) {
        others.push(0);
        others.sort_unstable();
        // With an even number the one that is further ahead: half of them are no majority.
        let median = others.get(others.len() / 2).copied().unwrap_or(0);
        let too_far = median.saturating_neg() > TOLERANCE.as_micros() as i64;
        let excess = if too_far { median.saturating_neg() } else { 0 };
        if (self.excess_us.swap(excess, Ordering::Relaxed) == 0) == too_far {
            tracing::warn!(excess, "this node's clock compared with those of most members");
        }
    }

    /// What to say where the time of the last command is far ahead of this clock.
    pub(crate) fn warning(&self, recorded_us: i64) -> Option<String> {
        let excess = self.excess_us.load(Ordering::Relaxed);
        if excess > 0 {
            return Some(format!(
                "this node's clock is {} s ahead of those of most members, whose time it uses when it \
                 leads: mend it",
                excess / 1_000_000
            ));
        }
        let ahead = u64::try_from(recorded_us.saturating_sub(self.now_us())).unwrap_or(0);
        let ahead = Duration::from_micros(ahead);
        (ahead > TOLERANCE).then(|| {
            format!(
                "the time of the last command is {} s ahead of this node's clock: until then \
                 CURRENT_TIMESTAMP stands still. If this clock is right, a leader's was wrong: \
                 reset_clock() lets the time go back",
                ahead.as_secs()
            )
        })
    }
}

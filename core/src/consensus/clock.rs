//! [`Clock`]: what a leader stamps commands with. Applying sees to it that their time never goes back
//! by itself, so this one need not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From here on a recorded time that is ahead of the clock is worth a warning.
const TOLERANCE: Duration = Duration::from_secs(600);

/// This node's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// Microseconds that it is pretended to be ahead: for tests.
    ahead_us: i64,
}

impl Clock {
    pub(crate) fn ahead_by(microseconds: Option<i64>) -> Clock {
        Clock { ahead_us: microseconds.unwrap_or(0) }
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

    /// What to say where the time of the last command is far ahead of this clock.
    pub(crate) fn warning(&self, recorded_us: i64) -> Option<String> {
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

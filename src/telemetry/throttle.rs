//! Limits log lines about frequent events.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// The period in which one line is written.
const PERIOD: Duration = Duration::from_secs(10);

/// Allows one line every ten seconds, and counts the suppressed ones.
#[derive(Debug, Default)]
pub struct LogThrottle {
    last: Option<Instant>,
    omitted: u64,
}

impl LogThrottle {
    /// Whether a line may be written at `now`. Returns the number of lines suppressed since the
    /// last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            self.omitted += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.omitted))
    }
}

/// A [`LogThrottle`] shared by several connections.
#[derive(Debug, Default)]
pub struct SharedLogThrottle(Mutex<LogThrottle>);

impl SharedLogThrottle {
    /// See [`LogThrottle::allow`].
    pub fn allow(&self, now: Instant) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn one_line_passes_every_ten_seconds_and_says_how_many_did_not() {
        let (mut throttle, start) = (LogThrottle::default(), clock::now());
        let allowed: Vec<(u64, u64)> = (0..35)
            .filter_map(|second| Some((second, throttle.allow(start + Duration::from_secs(second))?)))
            .collect();
        assert_eq!(allowed, [(0, 0), (10, 9), (20, 9), (30, 9)]);
    }
}

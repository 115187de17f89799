//! The number of requests that ended in the last minute, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Instant;

/// Seconds in the ring: a minute, the current second and a margin.
const SECONDS: usize = 64;
const COUNT_BITS: u32 = 32;

/// A ring of seconds; each entry contains its second and its count.
#[derive(Debug)]
pub(super) struct LastMinute {
    started: Instant,
    places: [AtomicU64; SECONDS],
}

impl LastMinute {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, places: [const { AtomicU64::new(0) }; SECONDS] }
    }

    /// Counts one request.
    pub(super) fn count(&self, now: Instant) {
        let second = self.second(now);
        let counted =
            |held: u64| Some(if held >> COUNT_BITS == second { held + 1 } else { second << COUNT_BITS | 1 });
        // Never fails: the closure always returns `Some`.
        self.places[place(second)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).ok();
    }

    /// The count of the 60 seconds up to `now`.
    pub(super) fn total(&self, now: Instant) -> u64 {
        let current = self.second(now);
        let held = self.places.iter().map(|place| place.load(Ordering::Relaxed));
        held.filter(|held| current.saturating_sub(held >> COUNT_BITS) < 60)
            .map(|held| held & u64::from(u32::MAX))
            .sum()
    }

    /// Seconds since the start.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn forgets_after_a_minute() {
        let start = clock::now();
        let recent = LastMinute::new(start);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        recent.count(at(0));
        recent.count(at(0));
        recent.count(at(59));
        assert_eq!(recent.total(at(59)), 3);
        assert_eq!(recent.total(at(60)), 1);
        recent.count(at(64));
        assert_eq!(recent.total(at(64)), 2, "a place that is used again starts at 0");
        assert_eq!(recent.total(at(200)), 0);
    }
}

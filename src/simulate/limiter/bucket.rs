//! A continuously refilled token bucket (GCRA), stored as a used amount that drains.

use std::time::Duration;

use crate::clock::Instant;

use super::{Depth, Enforce, Level, Refusal, nanoseconds};

/// A token bucket. The used amount is in units of `cost × window in nanoseconds`; each nanosecond
/// drains exactly `limit` units, so no rounding occurs.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: u64,
    window: u128,
    depth: Depth,
    used: u128,
    at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(limit: u64, window: Duration, depth: Depth) -> Self {
        Self { limit, window: window.as_nanos(), depth, used: 0, at: None }
    }

    /// The used part of the limit, rounded up. In a bucket shallower than the limit, the missing
    /// depth counts as used.
    fn used(&self) -> u64 {
        let beyond_depth = self.scale(self.limit).saturating_sub(self.capacity());
        whole((self.used + beyond_depth).div_ceil(self.window))
    }

    fn drain(&mut self, now: Instant) {
        let since = *self.at.get_or_insert(now);
        if now > since {
            let drained = (now - since).as_nanos() * u128::from(self.limit);
            self.used = self.used.saturating_sub(drained);
            self.at = Some(now);
        }
    }

    fn capacity(&self) -> u128 {
        let full = self.scale(self.limit);
        match self.depth {
            Depth::Window => full,
            Depth::Of(time) => (time.as_nanos() * u128::from(self.limit)).max(self.window).min(full),
        }
    }

    fn scale(&self, cost: u64) -> u128 {
        u128::from(cost) * self.window
    }
}

impl Enforce for Bucket {
    fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        self.drain(now);
        let capacity = self.capacity();
        let scaled = self.scale(cost);
        if self.used + scaled <= capacity || self.used == 0 {
            return Ok(());
        }
        let used = match self.depth {
            // As in the API, the wait is computed from the rounded number in the refusal.
            Depth::Window => self.used.div_ceil(self.window) * self.window,
            // Exact: no refusal of such a bucket was recorded, and the depth may be a fraction.
            Depth::Of(_) => self.used,
        };
        let allowed = capacity.saturating_sub(scaled);
        let wait = nanoseconds((used - allowed.min(used)).div_ceil(u128::from(self.limit.max(1))));
        Err(Refusal { limit: self.limit, used: self.used(), requested: cost, wait, too_large: false })
    }

    fn add(&mut self, cost: u64, now: Instant) {
        self.drain(now);
        self.used += self.scale(cost);
    }

    fn level(&mut self, now: Instant) -> Level {
        self.drain(now);
        let remaining = whole(self.capacity().saturating_sub(self.used) / self.window);
        let reset = nanoseconds(self.used.div_ceil(u128::from(self.limit.max(1))));
        Level { limit: self.limit, used: self.limit.saturating_sub(remaining), remaining, reset }
    }

    fn set_limit(&mut self, limit: u64, now: Instant) {
        self.drain(now);
        self.limit = limit;
    }
}

fn whole(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

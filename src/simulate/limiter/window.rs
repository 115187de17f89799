//! A fixed window counter.

use std::time::Duration;

use crate::clock::Instant;

use super::{Enforce, Level, Refusal, nanoseconds};

#[derive(Clone, Debug)]
pub(super) struct FixedWindow {
    limit: u64,
    window: Duration,
    used: u64,
    start: Option<Instant>,
}

impl FixedWindow {
    pub(super) fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, used: 0, start: None }
    }

    /// Advances to the window that contains `now`. Returns the time until its end.
    fn left(&mut self, now: Instant) -> Duration {
        let start = *self.start.get_or_insert(now);
        let into = now.saturating_duration_since(start);
        if into < self.window {
            return self.window.saturating_sub(into);
        }
        self.used = 0;
        let past = nanoseconds(into.as_nanos() % self.window.as_nanos());
        self.start = Some(now - past);
        self.window.saturating_sub(past)
    }
}

impl Enforce for FixedWindow {
    fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        let left = self.left(now);
        if self.used.saturating_add(cost) <= self.limit {
            return Ok(());
        }
        Err(Refusal { limit: self.limit, used: self.used, requested: cost, wait: left, too_large: false })
    }

    fn add(&mut self, cost: u64, now: Instant) {
        self.left(now);
        self.used = self.used.saturating_add(cost);
    }

    fn level(&mut self, now: Instant) -> Level {
        let left = self.left(now);
        let remaining = self.limit.saturating_sub(self.used);
        let reset = if self.used == 0 { Duration::ZERO } else { left };
        Level { limit: self.limit, used: self.limit - remaining, remaining, reset }
    }

    fn set_limit(&mut self, limit: u64, _now: Instant) {
        self.limit = limit;
    }
}

//! A sliding log of the costs admitted in the last window.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

use super::{Enforce, Level, Refusal};

/// The maximum number of entries (24 bytes each). Further costs are added to the newest entry and
/// expire a little late, so the limit gets stricter but never looser.
const MAX_ENTRIES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct SlidingLog {
    limit: u64,
    window: Duration,
    used: u64,
    entries: VecDeque<(Instant, u64)>,
}

impl SlidingLog {
    pub(super) fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, used: 0, entries: VecDeque::new() }
    }

    /// Removes expired entries. A window includes its start and excludes its end.
    fn expire(&mut self, now: Instant) {
        while let Some(&(at, spent)) = self.entries.front() {
            if now.saturating_duration_since(at) < self.window {
                return;
            }
            self.used = self.used.saturating_sub(spent);
            self.entries.pop_front();
        }
    }
}

impl Enforce for SlidingLog {
    fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        self.expire(now);
        let mut excess = self.used.saturating_add(cost).saturating_sub(self.limit);
        if excess == 0 {
            return Ok(());
        }
        let mut wait = Duration::ZERO;
        for &(at, spent) in &self.entries {
            wait = (at + self.window).saturating_duration_since(now);
            excess = excess.saturating_sub(spent);
            if excess == 0 {
                break;
            }
        }
        Err(Refusal { limit: self.limit, used: self.used, requested: cost, wait, too_large: false })
    }

    fn add(&mut self, cost: u64, now: Instant) {
        self.expire(now);
        if cost == 0 {
            return;
        }
        self.used = self.used.saturating_add(cost);
        let crowded = self.entries.len() >= MAX_ENTRIES;
        match self.entries.back_mut() {
            Some((at, spent)) if crowded || *at >= now => {
                *at = now.max(*at);
                *spent = spent.saturating_add(cost);
            }
            Some(_) | None => self.entries.push_back((now, cost)),
        }
    }

    fn level(&mut self, now: Instant) -> Level {
        self.expire(now);
        let remaining = self.limit.saturating_sub(self.used);
        let reset = self
            .entries
            .back()
            .map_or(Duration::ZERO, |&(at, _)| (at + self.window).saturating_duration_since(now));
        Level { limit: self.limit, used: self.limit - remaining, remaining, reset }
    }

    fn set_limit(&mut self, limit: u64, _now: Instant) {
        self.limit = limit;
    }
}

//! The upstream's limiter as pure machines: time is an argument, and nothing waits.
//!
//! One [`Limiter`] guards one limit in one of four shapes; [`Joint`] guards several at once, all or
//! nothing. The arithmetic is exact: levels are integers in units of `cost × nanosecond`, so that
//! no admission, wait or header depends on how often somebody looked.
//!
//! What is known of the real limiter (measured on its headers and refusals): it is a continuously
//! refilled bucket as deep as the limit. `remaining` is rounded down and `reset` is the exact time
//! until the bucket is full again. A refusal's `Used` is a whole number, and its wait is `(Used +
//! Requested − Limit) × window ÷ Limit` of that whole number.

mod bucket;
mod joint;
mod log;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::clock::Instant;

use bucket::Bucket;
use log::SlidingLog;
use window::FixedWindow;

pub use joint::{Dimension, Joint, JointRefusal, Price, Unit};

/// How much a bucket can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As much as the limit itself: a whole window's worth can be taken at once.
    Window,
    /// What refills in this time, at least one unit and at most the limit. A cost above the depth,
    /// up to the limit, is admitted when the bucket is full and leaves it in debt.
    Of(Duration),
}

/// The rule by which a limit is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A bucket refilled continuously at limit ÷ window: what the API does, with [`Depth::Window`].
    ///
    /// A shallower one reports what is left in it as `remaining`, and the full limit as `limit`.
    Bucket(Depth),
    /// A bucket of this depth whose headers describe one as deep as the window, while its refusals
    /// tell the truth: "60,000 a minute may be enforced as 1,000 a second".
    LyingBucket(Depth),
    /// A counter that starts again at 0 with each window; the first window begins with the first
    /// request.
    FixedWindow,
    /// At most the limit in any span as long as the window.
    SlidingLog,
}

/// What the headers of an answer tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The limit per window.
    pub limit: u64,
    /// The limit less what remains.
    pub used: u64,
    /// What could be taken now, rounded down.
    pub remaining: u64,
    /// Until nothing is used, exact to the nanosecond (rounded up).
    pub reset: Duration,
}

/// What a refusal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit per window.
    pub limit: u64,
    /// What was used when the request came, rounded up.
    pub used: u64,
    /// What the request asked for.
    pub requested: u64,
    /// Until it would pass if nobody else came; zero when it never can.
    pub wait: Duration,
    /// The request is larger than the limit and can never pass.
    pub too_large: bool,
}

/// One limit, enforced in one shape.
///
/// A `now` that is earlier than the last one counts as the last one.
#[derive(Clone, Debug)]
pub struct Limiter {
    machine: Machine,
    /// What the headers describe, where that is not the machine.
    told: Option<Bucket>,
}

#[derive(Clone, Debug)]
enum Machine {
    Bucket(Bucket),
    FixedWindow(FixedWindow),
    SlidingLog(SlidingLog),
}

impl Limiter {
    /// A limiter with nothing used.
    ///
    /// A limit of 0 refuses every cost above 0 as too large. A window shorter than a nanosecond
    /// counts as one.
    pub fn new(limit: u64, window: Duration, shape: Shape) -> Self {
        let window = window.max(Duration::from_nanos(1));
        let (machine, told) = match shape {
            Shape::Bucket(depth) => (Machine::Bucket(Bucket::new(limit, window, depth)), None),
            Shape::LyingBucket(depth) => (
                Machine::Bucket(Bucket::new(limit, window, depth)),
                Some(Bucket::new(limit, window, Depth::Window)),
            ),
            Shape::FixedWindow => (Machine::FixedWindow(FixedWindow::new(limit, window)), None),
            Shape::SlidingLog => (Machine::SlidingLog(SlidingLog::new(limit, window)), None),
        };
        Self { machine, told }
    }

    /// The limit per window.
    pub fn limit(&self) -> u64 {
        match &self.machine {
            Machine::Bucket(bucket) => bucket.limit(),
            Machine::FixedWindow(window) => window.limit(),
            Machine::SlidingLog(log) => log.limit(),
        }
    }

    /// Takes `cost` if it fits now. A refusal takes nothing.
    pub fn try_take(&mut self, cost: u64, now: Instant) -> Result<Level, Refusal> {
        self.check(cost, now)?;
        self.add(cost, now);
        Ok(self.level(now))
    }

    /// Says whether `cost` would fit now, and takes nothing.
    pub fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        if cost > self.limit() {
            let used = self.used(now);
            return Err(Refusal {
                limit: self.limit(),
                used,
                requested: cost,
                wait: Duration::ZERO,
                too_large: true,
            });
        }
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket.check(cost, now),
            Machine::FixedWindow(window) => window.check(cost, now),
            Machine::SlidingLog(log) => log.check(cost, now),
        }
    }

    /// Takes as much of `cost` as there is room for, as another consumer of the same limit would,
    /// and returns how much that was.
    pub fn force(&mut self, cost: u64, now: Instant) -> u64 {
        let room = match &mut self.machine {
            Machine::Bucket(bucket) => bucket.room(now),
            Machine::FixedWindow(window) => window.limit().saturating_sub(window.used(now)),
            Machine::SlidingLog(log) => log.limit().saturating_sub(log.used(now)),
        };
        let taken = cost.min(room);
        self.add(taken, now);
        taken
    }

    /// What the headers tell now.
    pub fn level(&mut self, now: Instant) -> Level {
        if let Some(told) = &mut self.told {
            return told.level(now);
        }
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket.level(now),
            Machine::FixedWindow(window) => window.level(now),
            Machine::SlidingLog(log) => log.level(now),
        }
    }

    /// Changes the limit. What is used stays used, even where that is more than the new limit.
    pub fn set_limit(&mut self, limit: u64, now: Instant) {
        if let Some(told) = &mut self.told {
            told.set_limit(limit, now);
        }
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket.set_limit(limit, now),
            Machine::FixedWindow(window) => window.set_limit(limit),
            Machine::SlidingLog(log) => log.set_limit(limit),
        }
    }

    fn used(&mut self, now: Instant) -> u64 {
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket.used(now),
            Machine::FixedWindow(window) => window.used(now),
            Machine::SlidingLog(log) => log.used(now),
        }
    }

    fn add(&mut self, cost: u64, now: Instant) {
        if let Some(told) = &mut self.told {
            told.add(cost, now);
        }
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket.add(cost, now),
            Machine::FixedWindow(window) => window.add(cost, now),
            Machine::SlidingLog(log) => log.add(cost, now),
        }
    }
}

/// Nanoseconds as a duration, at most the longest there is.
fn nanoseconds(count: u128) -> Duration {
    const PER_SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(count / PER_SECOND).unwrap_or(u64::MAX);
    let rest = u32::try_from(count % PER_SECOND).unwrap_or_default();
    Duration::new(seconds, rest)
}

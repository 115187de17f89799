//! The upstream's rate limiter. Time is an argument, and no function waits.
//!
//! A [`Limiter`] enforces one limit in one of four shapes; a [`Joint`] enforces several atomically.
//! The arithmetic is exact: levels are integers in units of `cost × nanosecond`, so that no result
//! depends on how often the level is read.
//!
//! The real limiter, by its headers and refusals, is a continuously refilled bucket as deep as the
//! limit. `remaining` is rounded down, and `reset` is the exact time until the bucket is full. A
//! refusal's `Used` is a whole number, and its wait is `(Used + Requested − Limit) × window ÷
//! Limit`.

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

/// The capacity of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The limit: the amount of a whole window can be taken at once.
    Window,
    /// The amount that refills in this time, at least one unit and at most the limit. A cost
    /// between the depth and the limit is admitted by a full bucket, and leaves it in debt.
    Of(Duration),
}

/// The rule by which a limit is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A bucket refilled continuously at limit ÷ window. The API's has [`Depth::Window`].
    ///
    /// A shallower bucket reports its content as `remaining`, and the full limit as `limit`.
    Bucket(Depth),
    /// A bucket of this depth whose headers describe one as deep as the limit. Its refusals have
    /// the real wait: "60,000 a minute may be enforced as 1,000 a second".
    LyingBucket(Depth),
    /// A counter that resets with each window. The first window begins with the first request.
    FixedWindow,
    /// At most the limit in any interval of the window's length.
    SlidingLog,
}

/// The level that a response's headers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The limit per window.
    pub limit: u64,
    /// The limit minus the remaining amount.
    pub used: u64,
    /// The amount that can be taken now, rounded down.
    pub remaining: u64,
    /// The time until the used amount is 0, rounded up to a nanosecond.
    pub reset: Duration,
}

/// The values in a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit per window.
    pub limit: u64,
    /// The used amount when the request arrived, rounded up.
    pub used: u64,
    /// The cost of the request.
    pub requested: u64,
    /// The time until the request would be admitted, without other requests. Zero if `too_large`.
    pub wait: Duration,
    /// Whether the cost is larger than the limit, so that it is never admitted.
    pub too_large: bool,
}

/// One limit, enforced in one shape.
///
/// A `now` that is earlier than the last one counts as the last one.
#[derive(Clone, Debug)]
pub struct Limiter {
    limit: u64,
    machine: Machine,
    /// The bucket that the headers describe, if it differs from the real one.
    reported: Option<Bucket>,
}

#[derive(Clone, Debug)]
enum Machine {
    Bucket(Bucket),
    FixedWindow(FixedWindow),
    SlidingLog(SlidingLog),
}

/// The operations of each shape.
trait Enforce {
    /// Checks whether a cost, at most the limit, would be admitted now. Charges nothing.
    fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal>;

    /// Charges a cost without a check.
    fn add(&mut self, cost: u64, now: Instant);

    fn level(&mut self, now: Instant) -> Level;

    fn set_limit(&mut self, limit: u64, now: Instant);
}

impl Limiter {
    /// Creates an unused limiter.
    ///
    /// A limit of 0 refuses every cost above 0 as too large. A window shorter than a nanosecond
    /// counts as one.
    pub fn new(limit: u64, window: Duration, shape: Shape) -> Self {
        let window = window.max(Duration::from_nanos(1));
        let machine = match shape {
            Shape::Bucket(depth) | Shape::LyingBucket(depth) => {
                Machine::Bucket(Bucket::new(limit, window, depth))
            }
            Shape::FixedWindow => Machine::FixedWindow(FixedWindow::new(limit, window)),
            Shape::SlidingLog => Machine::SlidingLog(SlidingLog::new(limit, window)),
        };
        let lies = matches!(shape, Shape::LyingBucket(_));
        Self { limit, machine, reported: lies.then(|| Bucket::new(limit, window, Depth::Window)) }
    }

    /// The limit per window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Charges `cost` if it is admitted now. A refusal charges nothing.
    pub fn try_take(&mut self, cost: u64, now: Instant) -> Result<Level, Refusal> {
        self.check(cost, now)?;
        self.add(cost, now);
        Ok(self.level(now))
    }

    /// Checks whether `cost` would be admitted now. Charges nothing.
    pub fn check(&mut self, cost: u64, now: Instant) -> Result<(), Refusal> {
        if cost > self.limit {
            let (limit, used) = (self.limit, self.machine().level(now).used);
            return Err(Refusal { limit, used, requested: cost, wait: Duration::ZERO, too_large: true });
        }
        self.machine().check(cost, now)
    }

    /// Charges as much of `cost` as is left, for another consumer of the same limit, and returns
    /// the charged amount.
    pub fn force(&mut self, cost: u64, now: Instant) -> u64 {
        let taken = cost.min(self.machine().level(now).remaining);
        self.add(taken, now);
        taken
    }

    /// The level that the headers report now.
    pub fn level(&mut self, now: Instant) -> Level {
        match &mut self.reported {
            Some(reported) => reported.level(now),
            None => self.machine().level(now),
        }
    }

    /// Changes the limit. Keeps the used amount, even above the new limit.
    pub fn set_limit(&mut self, limit: u64, now: Instant) {
        self.limit = limit;
        if let Some(reported) = &mut self.reported {
            reported.set_limit(limit, now);
        }
        self.machine().set_limit(limit, now);
    }

    fn add(&mut self, cost: u64, now: Instant) {
        if let Some(reported) = &mut self.reported {
            reported.add(cost, now);
        }
        self.machine().add(cost, now);
    }

    fn machine(&mut self) -> &mut dyn Enforce {
        match &mut self.machine {
            Machine::Bucket(bucket) => bucket,
            Machine::FixedWindow(window) => window,
            Machine::SlidingLog(log) => log,
        }
    }
}

/// Converts nanoseconds to a duration, saturating.
fn nanoseconds(count: u128) -> Duration {
    const PER_SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(count / PER_SECOND).unwrap_or(u64::MAX);
    let rest = u32::try_from(count % PER_SECOND).unwrap_or_default();
    Duration::new(seconds, rest)
}

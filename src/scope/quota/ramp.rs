//! The pace of a scope of which nothing is known: it starts gently, and follows refusals alone.

use std::time::Duration;

use crate::scope::moment::{Moment, duration};

use super::bucket::Bucket;

/// The first rate, in requests a second, and the first bound on requests in flight.
const FIRST_RATE: f64 = 10.0;
const FIRST_IN_FLIGHT: u32 = 10;
/// Both double with each such span without a refusal.
const STEP: Duration = Duration::from_secs(1);
/// From this rate on the scope counts as unlimited.
const UNLIMITED: f64 = 100_000.0;
/// What is left of the measured rate after a refusal.
const DECREASE: f64 = 0.5;
/// After a refusal the rate grows by this part of itself in each span.
const INCREASE: (f64, Duration) = (0.03, Duration::from_secs(10));
/// Never slower than this, in requests a second.
const SLOWEST: f64 = 1.0 / 30.0;

/// The pace without any knowledge of limits.
#[derive(Debug)]
pub(crate) struct Ramp {
    pacer: Bucket,
    rate: f64,
    in_flight: u32,
    /// The last change, up or down.
    changed: Moment,
    /// Whether an answer came since then.
    answered: bool,
    refused: bool,
    accepted: f64,
    began: Option<Moment>,
}

impl Ramp {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            pacer: Bucket::new(FIRST_RATE, FIRST_RATE),
            rate: FIRST_RATE,
            in_flight: FIRST_IN_FLIGHT,
            changed: now,
            answered: false,
            refused: false,
            accepted: 0.0,
            began: None,
        }
    }

    /// How long until another request may go; `None` where one in flight must end first.
    pub(crate) fn wait(&self, in_flight: u32, now: Moment) -> Option<Duration> {
        if self.rate >= UNLIMITED {
            return Some(Duration::ZERO);
        }
        (self.refused || in_flight < self.in_flight).then(|| self.pacer.wait(1, now))
    }

    pub(crate) fn take(&mut self, now: Moment) {
        self.began.get_or_insert(now);
        self.pacer.take(1, now);
    }

    pub(crate) fn give_back(&self, now: Moment) {
        self.pacer.credit(1.0, now);
    }

    /// An attempt was answered without a refusal.
    pub(crate) fn accepted(&mut self, now: Moment) {
        self.answered = true;
        self.accepted += 1.0;
        self.grow(now);
    }

    /// An attempt was refused without numbers.
    pub(crate) fn refused(&mut self, now: Moment) {
        let since = self.began.unwrap_or(now);
        let measured = self.accepted / now.seconds_since(since).max(1.0);
        // Refusals of what was sent before the last decrease say nothing new.
        if !self.refused || now.since(self.changed) > STEP * 2 {
            self.rate = (measured.min(self.rate) * DECREASE).max(SLOWEST);
            self.refused = true;
            self.changed = now;
            self.began = Some(now);
            self.accepted = 0.0;
            self.reshape(now);
        }
    }

    /// The bound on requests in flight, where one holds.
    pub(crate) fn bound(&self) -> Option<u32> {
        (self.rate < UNLIMITED && !self.refused).then_some(self.in_flight)
    }

    pub(crate) fn rate(&self) -> Option<f64> {
        (self.rate < UNLIMITED).then_some(self.rate)
    }

    pub(crate) fn predict(&self, ahead: f64, now: Moment) -> f64 {
        if self.rate >= UNLIMITED {
            return 0.0;
        }
        let burst = self.pacer.burst();
        (self.pacer.used(now) + ahead + 1.0 - burst) / self.rate
    }

    fn grow(&mut self, now: Moment) {
        let (factor, span) = if self.refused { (1.0 + INCREASE.0, INCREASE.1) } else { (2.0, STEP) };
        if self.rate < UNLIMITED && self.answered && now.since(self.changed) >= span {
            self.rate *= factor;
            self.in_flight = self.in_flight.saturating_mul(2);
            self.changed = now;
            self.answered = false;
            self.reshape(now);
        }
    }

    fn reshape(&mut self, now: Moment) {
        let burst = if self.refused { (self.rate * 0.5).max(1.0) } else { self.rate };
        self.pacer.reshape(self.rate, burst, now);
    }
}

/// A pause after a refusal that named no time: growing, with jitter.
pub(crate) fn pause(count: u32, rng: &mut fastrand::Rng) -> Duration {
    let base = 0.5 * f64::from(2_u32.saturating_pow(count.min(5)));
    duration(base * (0.75 + 0.5 * rng.f64()))
}

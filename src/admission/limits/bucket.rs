//! One bucket: governor's GCRA arithmetic over a clock and a state of ours.
//!
//! governor checks and takes; what it has no word for (credit, debit, set, peek, another rate) is
//! done on its state, the theoretical arrival time (TAT), which is kept in absolute nanoseconds. A
//! limiter is made for each question: it is two numbers then, where one that is kept would be five
//! words and a state of its own on the heap.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::admission::moment::Moment;

/// The longest time that a bucket may take to refill. governor multiplies time per cell with the
/// burst without a check.
const LONGEST_REFILL: u64 = 1 << 61;

/// A bucket in cells (requests or tokens): `used` drains at `rate` a second, and a cost passes when
/// it fits below the burst.
///
/// A cost above the burst passes when the bucket is empty, and leaves it in debt.
#[derive(Clone)]
pub(crate) struct Bucket {
    tat: u64,
    nanos_per_cell: u64,
    burst: NonZeroU32,
    /// What it was last shaped to, as asked for: mostly it is asked for the same again.
    asked: (f64, f64),
}

type Limiter<'a> = RateLimiter<NotKeyed, Tat<'a>, Bridge<'a>, NoOpMiddleware<Nanos>>;

/// The state as governor holds it.
struct Tat<'a>(&'a Cell<u64>);

/// The clock that governor reads: the moment of the call, set by us.
struct Bridge<'a>(&'a Cell<u64>);

impl Clock for Bridge<'_> {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.get())
    }
}

impl StateStore for Tat<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(Nanos::from(self.0.get())))?;
        self.0.set(next.as_u64());
        Ok(outcome)
    }
}

impl Bucket {
    /// An empty (fully available) bucket.
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        let (nanos_per_cell, of_burst) = parameters(rate, burst);
        Self { tat: 0, nanos_per_cell, burst: of_burst, asked: (rate, burst) }
    }

    /// Changes rate and burst; what is used stays used.
    pub(crate) fn reshape(&mut self, rate: f64, burst: f64, now: Moment) {
        let same = |one: f64, other: f64| one.to_bits() == other.to_bits();
        if !same(rate, self.asked.0) || !same(burst, self.asked.1) {
            self.reshape_anew(rate, burst, now);
        }
    }

    fn reshape_anew(&mut self, rate: f64, burst: f64, now: Moment) {
        self.asked = (rate, burst);
        let (nanos_per_cell, burst) = parameters(rate, burst);
        self.burst = burst;
        if nanos_per_cell != self.nanos_per_cell {
            let used = self.used(now);
            self.nanos_per_cell = nanos_per_cell;
            self.set_used(used, now);
        }
    }

    /// How long until `cells` fit.
    pub(crate) fn wait(&self, cells: u64, now: Moment) -> Duration {
        let Some(cells) = self.clamped(cells) else { return Duration::ZERO };
        match self.check(cells, now) {
            Ok(_) => Duration::ZERO,
            Err(wait) => wait,
        }
    }

    /// Takes `cells`, whether they fit or not: who waits is decided before, over all dimensions at
    /// once.
    pub(crate) fn take(&mut self, cells: u64, now: Moment) {
        let mut beyond = cells;
        if let Some(within) = self.clamped(cells)
            && let Ok(tat) = self.check(within, now)
        {
            self.tat = tat;
            beyond -= u64::from(within.get());
        }
        if beyond > 0 {
            self.debit(beyond as f64, now);
        }
    }

    /// The TAT after `cells`, or how long until they fit.
    fn check(&self, cells: NonZeroU32, now: Moment) -> Result<u64, Duration> {
        let (tat, clock) = (Cell::new(self.tat), Cell::new(0));
        // The limiter counts from the moment it is made: at 0, so that the TAT is absolute.
        let limiter = Limiter::new(self.quota(), Tat(&tat), Bridge(&clock));
        clock.set(now.as_nanos());
        match limiter.check_n(cells) {
            // More than the burst is what `clamped` excludes.
            Ok(Ok(())) | Err(_) => Ok(tat.get()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(Nanos::from(now.as_nanos()))),
        }
    }

    fn quota(&self) -> Quota {
        Quota::with_period(Duration::from_nanos(self.nanos_per_cell))
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(self.burst)
    }

    /// Adds to what is used.
    pub(crate) fn debit(&mut self, cells: f64, now: Moment) {
        if cells > 0.0 {
            self.set_used(self.used(now) + cells, now);
        }
    }

    /// Takes back from what is used.
    pub(crate) fn credit(&mut self, cells: f64, now: Moment) {
        if cells > 0.0 {
            self.set_used((self.used(now) - cells).max(0.0), now);
        }
    }

    /// What is used, in cells; above the burst where the bucket is in debt.
    pub(crate) fn used(&self, now: Moment) -> f64 {
        self.tat.saturating_sub(now.as_nanos()) as f64 / self.nanos_per_cell as f64
    }

    /// Sets what is used.
    pub(crate) fn set_used(&mut self, cells: f64, now: Moment) {
        let ahead = nanos(cells * self.nanos_per_cell as f64, LONGEST_REFILL);
        self.tat = now.as_nanos().saturating_add(ahead);
    }

    /// The burst in cells.
    pub(crate) fn burst(&self) -> f64 {
        f64::from(self.burst.get())
    }

    /// Cells a second.
    pub(crate) fn rate(&self) -> f64 {
        1e9 / self.nanos_per_cell as f64
    }

    fn clamped(&self, cells: u64) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX).min(self.burst.get()))
    }
}

/// Time per cell, rounded up so that it never runs fast, and a burst whose product with it fits.
fn parameters(rate: f64, burst: f64) -> (u64, NonZeroU32) {
    let nanos_per_cell = if rate > 0.0 { nanos((1e9 / rate).ceil(), LONGEST_REFILL) } else { LONGEST_REFILL };
    let nanos_per_cell = nanos_per_cell.max(1);
    let most = u32::try_from(LONGEST_REFILL / nanos_per_cell).unwrap_or(u32::MAX);
    let burst = u32::try_from(nanos(burst, u64::MAX)).unwrap_or(u32::MAX).min(most);
    (nanos_per_cell, NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
}

/// A count of nanoseconds from a float: 0 for what is negative or not a number, at most `most`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates, and sends what is not a number to 0"
)]
fn nanos(value: f64, most: u64) -> u64 {
    (value as u64).min(most)
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Bucket")
            .field("rate", &self.rate())
            .field("burst", &self.burst)
            .field("tat", &self.tat)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::START.plus_seconds(seconds)
    }

    #[test]
    fn takes_a_burst_then_the_rate() {
        let mut bucket = Bucket::new(10.0, 5.0);
        let now = at(3.0);
        for _ in 0..5 {
            assert_eq!(bucket.wait(1, now), Duration::ZERO);
            bucket.take(1, now);
        }
        assert_eq!(bucket.wait(1, now), Duration::from_millis(100));
        assert_eq!(bucket.wait(2, now), Duration::from_millis(200));
        assert_eq!(bucket.wait(0, now), Duration::ZERO);
    }

    #[test]
    fn an_oversize_cost_waits_for_an_empty_bucket_and_leaves_a_debt() {
        let mut bucket = Bucket::new(10.0, 5.0);
        bucket.take(1, at(0.0));
        assert_eq!(bucket.wait(50, at(0.0)), Duration::from_millis(100));
        bucket.take(50, at(0.1));
        assert!((bucket.used(at(0.1)) - 50.0).abs() < 1e-6);
        assert_eq!(bucket.wait(5, at(0.1)), Duration::from_secs(5));
    }

    #[test]
    fn reshaping_keeps_what_is_used() {
        let mut bucket = Bucket::new(10.0, 600.0);
        bucket.set_used(300.0, at(7.0));
        bucket.reshape(1.0, 60.0, at(7.0));
        assert!((bucket.used(at(7.0)) - 300.0).abs() < 1e-6);
        bucket.credit(290.0, at(7.0));
        assert!((bucket.used(at(9.0)) - 8.0).abs() < 1e-6);
    }

    #[test]
    fn absurd_parameters_neither_wrap_nor_divide_by_zero() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30, 1e-30] {
            for burst in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30] {
                let mut bucket = Bucket::new(rate, burst);
                bucket.take(u64::MAX, at(1.0));
                bucket.debit(1e300, at(1.0));
                bucket.credit(f64::INFINITY, at(1.0));
                assert!(bucket.wait(u64::MAX, at(1.0)) < Duration::from_secs(u64::MAX >> 30));
                assert!(bucket.used(at(1.0)).is_finite());
            }
        }
    }

    proptest! {
        /// Over any schedule of waits and takes, no span holds more than burst + rate × span.
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 0.5_f64..5000.0,
            burst in 1_u32..1000,
            steps in proptest::collection::vec((1_u64..50, 0.0_f64..2.0), 1..100),
        ) {
            let mut bucket = Bucket::new(rate, f64::from(burst));
            let mut now = at(0.0);
            let mut taken = 0.0;
            let mut largest = 0.0_f64;
            for (cells, pause) in steps {
                now = now.plus_seconds(pause).plus(Duration::ZERO);
                let wait = bucket.wait(cells, now);
                now = now.plus(wait);
                prop_assert_eq!(bucket.wait(cells, now), Duration::ZERO);
                bucket.take(cells, now);
                taken += cells as f64;
                largest = largest.max(cells as f64);
                let allowed = f64::from(burst).max(largest) + rate * now.seconds_since(Moment::START);
                prop_assert!(taken <= allowed * (1.0 + 1e-9) + 1e-3, "{} > {}", taken, allowed);
            }
        }
    }
}

//! What the headers give away about the limiter: how long its window is, and whether it is a true bucket.

use std::time::Duration;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;
const MONTH: f64 = 30.0 * DAY;
/// The windows that limits are stated for, in seconds.
const WINDOWS: [f64; 4] = [MINUTE, HOUR, DAY, MONTH];
/// How far a derived window may be from a stated one. Headers are whole units and milliseconds.
const TOLERANCE: f64 = 0.1;
/// A shorter reset is mostly rounding.
const SHORTEST_RESET: Duration = Duration::from_millis(10);
/// Snapshots that must agree before the shape is believed.
const ENOUGH: usize = 3;
/// Snapshots remembered.
const MEMORY: usize = 8;
/// How much the used amounts of agreeing snapshots must differ: a fixed window's derived value changes by more than this
/// when its used amount does, so it cannot agree with itself by chance.
const SPREAD: f64 = 1.5;

/// Evidence from snapshots of one dimension.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    /// (used, derived window in seconds), newest last.
    seen: Vec<(f64, f64)>,
    bucket: Option<f64>,
    longest_reset: f64,
    against: u32,
}

impl Shape {
    /// Weighs one snapshot.
    pub(crate) fn observe(&mut self, limit: u64, remaining: u64, reset: Option<Duration>) {
        let used = limit.saturating_sub(remaining) as f64;
        let Some(reset) = reset.filter(|reset| *reset >= SHORTEST_RESET && used > 0.0) else { return };
        self.longest_reset = self.longest_reset.max(reset.as_secs_f64());
        let derived = reset.as_secs_f64() * limit as f64 / used;
        // `remaining` is rounded to a whole unit: with few used, the true value lies between used − 1 and used.
        let rounding = 1.0 / used;
        if self.seen.len() == MEMORY {
            self.seen.remove(0);
        }
        self.seen.push((used, derived));
        match self.bucket {
            Some(window) if near(derived, window, rounding) => self.against = 0,
            Some(_) => {
                self.against += 1;
                if self.against >= 3 {
                    self.bucket = None;
                    self.against = 0;
                    self.seen.clear();
                }
            }
            None => self.bucket = self.agreed(),
        }
    }

    /// The window of a true bucket, in seconds, once the snapshots prove that it is one.
    pub(crate) fn bucket(&self) -> Option<f64> {
        self.bucket
    }

    /// The shortest stated window that the resets allow, in seconds: no reset is longer than its window.
    pub(crate) fn at_least(&self) -> f64 {
        WINDOWS.into_iter().find(|window| self.longest_reset <= window * (1.0 + TOLERANCE)).unwrap_or(MONTH)
    }

    /// Forgets everything, as when the limit becomes another one's.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn agreed(&self) -> Option<f64> {
        WINDOWS.into_iter().find(|&window| {
            let agreeing = || self.seen.iter().filter(|&&(used, derived)| near(derived, window, 1.0 / used));
            let least = agreeing().map(|seen| seen.0).fold(f64::INFINITY, f64::min);
            let most = agreeing().map(|seen| seen.0).fold(0.0, f64::max);
            let count = agreeing().count();
            count >= ENOUGH && count * 4 >= self.seen.len() * 3 && most >= least * SPREAD
        })
    }
}

/// Whether a derived window is near a stated one, on a log scale; `rounding` loosens it downward, for a derived value
/// can only be too small by rounding.
fn near(derived: f64, window: f64, rounding: f64) -> bool {
    let low = window * (1.0 - TOLERANCE - rounding.min(0.5));
    (low..=window * (1.0 + TOLERANCE)).contains(&derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(shape: &mut Shape, limit: u64, used: u64, reset: f64) {
        shape.observe(limit, limit - used, Some(Duration::from_secs_f64(reset)));
    }

    #[test]
    fn three_agreeing_snapshots_prove_a_bucket() {
        for window in WINDOWS {
            let mut shape = Shape::default();
            for used in [10_u64, 20, 30] {
                assert_eq!(shape.bucket(), None);
                feed(&mut shape, 10_000, used, used as f64 * window / 10_000.0);
            }
            assert_eq!(shape.bucket(), Some(window));
        }
    }

    #[test]
    fn a_fixed_window_is_never_believed() {
        for rate in [5.0, 8.0, 9.8, 10.0, 10.2] {
            let mut shape = Shape::default();
            for step in 1..5400_u32 {
                let into = f64::from(step % 600) / 10.0;
                let used = ((rate * into) as u64).clamp(1, 600);
                feed(&mut shape, 600, used, 60.0 - into);
                assert_eq!(shape.bucket(), None, "rate {rate}, step {step}");
            }
            assert_eq!(shape.at_least(), MINUTE);
        }
    }

    #[test]
    fn a_reset_longer_than_a_minute_excludes_the_minute() {
        let mut shape = Shape::default();
        feed(&mut shape, 100, 2, 864.0);
        assert_eq!(shape.at_least(), HOUR);
        feed(&mut shape, 100, 50, 43_200.0);
        assert_eq!(shape.at_least(), DAY);
    }

    #[test]
    fn contradictions_withdraw_the_belief() {
        let mut shape = Shape::default();
        for used in [10_u64, 20, 30] {
            feed(&mut shape, 600, used, used as f64 / 10.0);
        }
        assert_eq!(shape.bucket(), Some(MINUTE));
        for used in [40_u64, 50, 60] {
            feed(&mut shape, 600, used, 55.0);
        }
        assert_eq!(shape.bucket(), None);
    }
}

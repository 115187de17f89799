//! How far predictions of waits are to be trusted: their lower bound, by how they turned out.

use std::time::Duration;

use crate::admission::moment::Moment;

/// The part of the requests that may go sooner than the lower bound says.
const EARLY: f64 = 0.05;
/// How far one outcome moves the bound. A bound that is too high by a tenth is mended within ten
/// outcomes.
const STEP: f64 = 0.01;
/// The first bound, as a part of the prediction, and the least: what waits in vain makes all
/// predictions behind it too long, and a bound that followed those down would let in still more of
/// it.
const FIRST: f64 = 0.9;
const LEAST: f64 = 0.8;
/// Shorter waits are decided by single turns and say nothing.
const SHORT: Duration = Duration::from_millis(500);

/// A running quantile of waited ÷ predicted, by stochastic approximation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forecast {
    low: f64,
}

impl Default for Forecast {
    fn default() -> Self {
        Self { low: FIRST }
    }
}

impl Forecast {
    /// The least wait that is likely where `predicted` was predicted.
    pub(super) fn lower_bound(self, predicted: Duration) -> Duration {
        predicted.mul_f64(self.low)
    }

    /// A request that was predicted to wait this long had its turn.
    pub(super) fn happened(&mut self, predicted: f32, since: Moment, now: Moment) {
        if f64::from(predicted) < SHORT.as_secs_f64() {
            return;
        }
        let ratio = now.seconds_since(since) / f64::from(predicted);
        let step = if ratio < self.low { EARLY - 1.0 } else { EARLY };
        self.low = (self.low + step * STEP).clamp(LEAST, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_goes_before_the_lower_bound() {
        let mut forecast = Forecast::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut early = 0;
        for step in 0..20_000 {
            let waited = 10.0 * (0.8 + 0.5 * rng.f64());
            let bound = forecast.lower_bound(Duration::from_secs(10));
            early += u32::from(step >= 10_000 && waited < bound.as_secs_f64());
            forecast.happened(10.0, Moment::START, Moment::START.plus_seconds(waited));
        }
        assert!((200..800).contains(&early), "{early} of 10,000");
        assert!((0.8..0.86).contains(&forecast.low), "{}", forecast.low);
    }
}

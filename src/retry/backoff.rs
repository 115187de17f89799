//! The delay before another attempt.

use std::time::Duration;

/// Exponential backoff with full jitter between a floor and a ceiling. A server's hint is a
/// minimum, with jitter above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling before the first retry.
    pub base: Duration,
    /// The highest ceiling.
    pub cap: Duration,
    /// The shortest delay: full jitter alone could draw zero, and an immediate retry would meet the
    /// same fault.
    pub floor: Duration,
}

/// Bounds of the jitter above a hint, which is half of the hint: callers with the same hint must
/// not wake together, and should not wait much longer than told.
const MIN_SPREAD: Duration = Duration::from_millis(250);
const MAX_SPREAD: Duration = Duration::from_secs(1);

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(8),
            floor: Duration::from_millis(50),
        }
    }
}

impl Backoff {
    /// The delay before retry number `retry`, counted from 0.
    ///
    /// It never panics: contradictory durations are clamped. Without a hint it lies within
    /// `floor..=ceiling(retry)`. With one it is at least the hint, and exceeds it by at most a
    /// second or that delay.
    pub fn delay(&self, retry: u32, hint: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let own = between(self.floor, self.ceiling(retry), rng);
        match hint {
            None => own,
            Some(hint) => {
                let spread = (hint / 2).clamp(MIN_SPREAD, MAX_SPREAD);
                own.max(between(hint, hint.saturating_add(spread), rng))
            }
        }
    }

    /// The longest delay without a hint: `base · 2^retry`, at most `cap`, at least `floor`.
    pub fn ceiling(&self, retry: u32) -> Duration {
        // The cap is reached long before 2^31.
        self.base.saturating_mul(1 << retry.min(31)).min(self.cap).max(self.floor)
    }
}

/// A duration drawn uniformly from `low..=high`.
fn between(low: Duration, high: Duration, rng: &mut fastrand::Rng) -> Duration {
    let span = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX);
    low.saturating_add(Duration::from_nanos(rng.u64(0..=span)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0_u64..60_000).prop_map(Duration::from_millis),
            any::<(u64, u32)>().prop_map(|(seconds, nanos)| Duration::new(seconds / 8, nanos)),
            Just(Duration::ZERO),
            Just(Duration::MAX),
        ]
    }

    proptest! {
        #[test]
        fn delays_are_bounded_for_any_durations(
            base in durations(), cap in durations(), floor in durations(), retry in any::<u32>(),
            hint in prop::option::of(durations()), seed in any::<u64>(),
        ) {
            let backoff = Backoff { base, cap, floor };
            let delay = backoff.delay(retry, hint, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(delay >= floor.max(hint.unwrap_or_default()));
            let most = hint.map_or(Duration::ZERO, |hint| hint.saturating_add(MAX_SPREAD));
            prop_assert!(delay <= backoff.ceiling(retry).max(most));
        }

        #[test]
        fn the_ceiling_rises_to_the_cap(retry in 0_u32..40) {
            let backoff = Backoff::default();
            prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(retry + 1));
            prop_assert!(backoff.ceiling(retry) <= backoff.cap);
        }
    }

    #[test]
    fn jitter_is_full() {
        let backoff = Backoff::default();
        let mut rng = fastrand::Rng::with_seed(7);
        let delays: Vec<Duration> = (0..1000).map(|_| backoff.delay(3, None, &mut rng)).collect();
        let mean = delays.iter().sum::<Duration>() / 1000;
        assert!((1900..2200).contains(&mean.as_millis()), "{mean:?}");
        assert!(delays.iter().any(|delay| delay.as_millis() < 200));
        assert!(delays.iter().any(|delay| delay.as_millis() > 3800));
    }

    #[test]
    fn twenty_callers_told_the_same_time_do_not_wake_together() {
        for hint in [Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(20)] {
            let mut rng = fastrand::Rng::with_seed(11);
            let mut delays: Vec<Duration> =
                (0..20).map(|_| Backoff::default().delay(0, Some(hint), &mut rng)).collect();
            delays.sort_unstable();
            assert!(delays.iter().all(|delay| *delay >= hint));
            assert!(delays[19] > delays[0] + Duration::from_millis(150), "{delays:?}");
            assert!(delays.windows(5).all(|five| five[4] > five[0] + Duration::from_millis(5)), "{delays:?}");
        }
    }
}

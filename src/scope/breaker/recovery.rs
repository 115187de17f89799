//! How an upstream that failed is asked again, and how fast it is used again.

use std::time::Duration;

use crate::scope::moment::Moment;
use crate::scope::settings::BreakerSettings;

/// The release starts at this part of the rate before the outage, at least so many a second, and doubles each second.
const RELEASE: (f64, f64) = (0.1, 4.0);

/// Full exponential backoff with a quarter of jitter to either side.
pub(super) fn backoff(probes: u32, settings: &BreakerSettings, rng: &mut fastrand::Rng) -> Duration {
    ceiling(probes, settings).mul_f64(0.75 + 0.25 * rng.f64())
}

/// The longest wait before a probe after so many.
pub(super) fn ceiling(probes: u32, settings: &BreakerSettings) -> Duration {
    let longest = settings.probe_longest.max(settings.probe_first);
    settings.probe_first.saturating_mul(1 << probes.min(16)).min(longest)
}

pub(super) fn release_rate(began: Moment, before: f64, now: Moment) -> f64 {
    let first = (before * RELEASE.0).max(RELEASE.1);
    first * now.seconds_since(began).min(40.0).exp2()
}

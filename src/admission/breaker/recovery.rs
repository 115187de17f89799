//! How an upstream that failed is asked again, and how fast it is used again.

use std::time::Duration;

use crate::admission::moment::Moment;
use crate::admission::settings::BreakerSettings;

/// The release starts at this part of the rate before the outage, at least so many a second, and doubles each second.
const RELEASE: (f64, f64) = (0.1, 4.0);

/// The outage may last longer by this part of itself for want of a probe.
const LATE: f64 = 0.25;

/// Exponential backoff with a quarter of jitter below it.
pub(super) fn backoff(
    probes: u32,
    lasted: Duration,
    settings: &BreakerSettings,
    rng: &mut fastrand::Rng,
) -> Duration {
    ceiling(probes, lasted, settings).mul_f64(0.75 + 0.25 * rng.f64())
}

/// The longest wait before a probe after so many, in an outage that has lasted so long.
pub(super) fn ceiling(probes: u32, lasted: Duration, settings: &BreakerSettings) -> Duration {
    let first = settings.probe_first;
    let longest = lasted.mul_f64(LATE).min(settings.probe_longest).max(first);
    first.saturating_mul(1 << probes.min(16)).min(longest)
}

pub(super) fn release_rate(began: Moment, before: f64, now: Moment) -> f64 {
    let first = (before * RELEASE.0).max(RELEASE.1);
    first * now.seconds_since(began).min(40.0).exp2()
}

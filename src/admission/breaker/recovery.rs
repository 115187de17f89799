//! How an upstream that failed is probed, and at which rate it is used again.

use std::time::Duration;

use crate::admission::moment::Moment;
use crate::admission::settings::BreakerSettings;

/// After an outage of up to a second the ramp-up starts at the rate before it: the upstream has
/// lost no more than what was in flight, and a slower start would make the outage longer than it
/// was. A longer outage starts at as much less as it was longer, for caches are cold and others
/// come back at the same time.
const FULL_START: f64 = 1.0;
/// The least part of the rate before the outage that a ramp-up starts at.
const LEAST_START: f64 = 0.1;
/// The least rate that a ramp-up starts at, in attempts a second.
const LEAST_RATE: f64 = 4.0;
/// From this many times the rate before the outage on, a ramp-up may be over.
const RECOVERED: f64 = 2.0;
/// A ramp-up that requests still wait for is over at this many times the rate that the limits give:
/// ten doublings, ten seconds after it reached that rate.
const PROVEN: f64 = 1024.0;
/// What waits at the end of a ramp-up goes at once: no more than this many seconds' worth of its
/// rate.
const BURST: f64 = 0.25;

/// The outage may last longer by this part of itself because no probe was under way.
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

/// The longest wait before a probe after `probes` probes, in an outage that has lasted for
/// `lasted`.
pub(super) fn ceiling(probes: u32, lasted: Duration, settings: &BreakerSettings) -> Duration {
    let first = settings.probe_first;
    let longest = lasted.mul_f64(LATE).min(settings.probe_longest).max(first);
    first.saturating_mul(1 << probes.min(16)).min(longest)
}

/// A rate that rises after an outage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    began: Moment,
    /// Attempts a second before the outage.
    pub(super) before: f64,
    /// Attempts a second at its start.
    first: f64,
}

impl Ramp {
    /// The ramp after an outage that lasted for `lasted`.
    pub(super) fn after(before: f64, lasted: Duration, now: Moment) -> Self {
        Self { began: now, before, first: (before * start(lasted)).max(LEAST_RATE) }
    }

    /// Attempts a second now: it doubles each second.
    pub(super) fn rate(&self, now: Moment) -> f64 {
        self.first * now.seconds_since(self.began).min(40.0).exp2()
    }

    /// Whether it is over: the rate before the outage is passed, and either what waits is a small
    /// burst at this rate, or the upstream has gone on for seconds at all that the limits give.
    /// Until then attempts go at that pace, and not as the burst that the limits may allow.
    pub(super) fn is_over(&self, waiting: usize, pace: Option<f64>, now: Moment) -> bool {
        let rate = self.rate(now);
        let all_go = rate.min(pace.unwrap_or(f64::INFINITY)) * BURST >= waiting as f64;
        rate > self.before * RECOVERED && (all_go || pace.is_some_and(|pace| rate >= pace * PROVEN))
    }
}

/// The part of the rate before an outage of this length that its ramp-up starts at.
fn start(lasted: Duration) -> f64 {
    (FULL_START / lasted.as_secs_f64().max(FULL_START)).max(LEAST_START)
}

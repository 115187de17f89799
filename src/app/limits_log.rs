//! Logs each scope's limits when they change, and once an hour. An operator sees when a limit
//! changed, and `weir what-if` reads under which limits the requests of the access log were sent.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::{ScopeStatus, Scopes, Slot};
use crate::clock::{self, Instant};

use super::Log;

/// The interval at which the scopes are checked.
const PERIOD: Duration = Duration::from_secs(5);
/// The interval at which unchanged limits are logged again, so that each file of a rotated log
/// contains them.
const REPEAT: Duration = Duration::from_hours(1);
/// The least relative change that is logged: an inferred limit changes all the time.
const CHANGE: f64 = 0.05;

/// The limits of one scope, as last logged.
struct Logged {
    limits: [Option<f64>; 4],
    at: Instant,
}

impl Logged {
    fn is_outdated(&self, limits: &[Option<f64>; 4], now: Instant) -> bool {
        let moved = |old: Option<f64>, new: Option<f64>| match (old, new) {
            (Some(old), Some(new)) => (new - old).abs() > CHANGE * old,
            (old, new) => old.is_some() != new.is_some(),
        };
        now.saturating_duration_since(self.at) >= REPEAT
            || self.limits.iter().zip(limits).any(|(old, new)| moved(*old, *new))
    }
}

/// Starts to log the scopes' limits, if there is a log. `sample` is the fraction of requests in the
/// access log.
pub(super) fn begin(log: Option<&Log>, scopes: &Scopes, sample: f64) {
    if log.is_some() {
        clock::spawn(watch(scopes.clone(), sample));
    }
}

/// Logs the scopes' limits; never returns.
async fn watch(scopes: Scopes, sample: f64) {
    let mut logged = HashMap::<Box<str>, Logged>::new();
    let mut next = clock::now();
    loop {
        next += PERIOD;
        clock::sleep_until(next).await;
        let now = clock::now();
        let all = scopes.snapshot();
        logged.retain(|name, _| all.iter().any(|scope| scope.name == *name));
        for scope in &all {
            let limits = Slot::ALL.map(|slot| limit(scope, slot));
            let is_used = scope.admitted.0 > 0.0 || scope.in_flight > 0;
            let is_known = limits.iter().any(Option::is_some);
            if is_used && is_known && logged.get(&scope.name).is_none_or(|old| old.is_outdated(&limits, now))
            {
                write(scope, limits, sample);
                logged.insert(scope.name.clone(), Logged { limits, at: now });
            }
        }
    }
}

fn limit(scope: &ScopeStatus, slot: Slot) -> Option<f64> {
    scope.dimensions.iter().find(|limit| limit.slot == slot).map(|limit| limit.limit)
}

fn write(scope: &ScopeStatus, limits: [Option<f64>; 4], sample: f64) {
    let [requests_per_minute, tokens_per_minute, requests_per_day, tokens_per_day] = limits;
    let sources: Vec<&str> = scope.dimensions.iter().map(|limit| limit.source.as_str()).collect();
    tracing::info!(
        target: crate::telemetry::LIMITS_LOG,
        scope = &*scope.name,
        requests_per_minute,
        tokens_per_minute,
        requests_per_day,
        tokens_per_day,
        in_flight = scope.limits.in_flight,
        source = sources.join(" "),
        share = scope.limits.share * scope.part,
        charge_ratio = scope.charge_ratio,
        sample,
        "limits in force"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moved_by_a_twentieth_appeared_or_is_an_hour_old_is_logged_again() {
        let now = clock::now();
        let logged = Logged { limits: [Some(1_000.0), None, None, None], at: now };
        for (limits, later, again) in [
            ([Some(1_000.0), None, None, None], 0, false),
            ([Some(1_040.0), None, None, None], 0, false),
            ([Some(940.0), None, None, None], 0, true),
            ([Some(1_000.0), Some(5.0), None, None], 0, true),
            ([None; 4], 0, true),
            ([Some(1_000.0), None, None, None], 3_600, true),
        ] {
            let now = now + Duration::from_secs(later);
            assert_eq!(logged.is_outdated(&limits, now), again, "{limits:?} {later}");
        }
    }
}

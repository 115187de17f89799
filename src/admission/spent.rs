//! The quota breaker: once an upstream says that money is spent, it is asked rarely whether that still holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::moment::Moment;
use super::refusal::SpentQuota;

/// The quota breaker of one credential, shared by its scopes.
#[derive(Debug, Default)]
pub(crate) struct QuotaBreaker {
    /// Read before the lock: a closed breaker costs one load.
    open: AtomicBool,
    probes: AtomicU64,
    state: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    since: Moment,
    next_probe: Moment,
    answer: Arc<SpentQuota>,
}

/// Whether a request may go as far as money is concerned.
#[derive(Debug)]
pub(crate) enum Funds {
    /// It may.
    Pass,
    /// It may, as the one that asks whether the quota is back.
    Probe,
    /// It may not: the upstream's own words.
    Spent(Arc<SpentQuota>),
}

impl QuotaBreaker {
    pub(crate) fn check(&self, interval: Duration, now: Moment) -> Funds {
        if !self.open.load(Relaxed) {
            return Funds::Pass;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.as_mut() {
            None => Funds::Pass,
            Some(open) if now >= open.next_probe => {
                // Taken whether the probe gets an answer or not: at most one an interval.
                open.next_probe = now.plus(interval);
                self.probes.fetch_add(1, Relaxed);
                Funds::Probe
            }
            Some(open) => Funds::Spent(Arc::clone(&open.answer)),
        }
    }

    /// The upstream said that the quota is spent.
    pub(crate) fn trip(&self, answer: SpentQuota, interval: Duration, now: Moment) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = state.as_ref().map_or(now, |open| open.since);
        let next_probe = state.as_ref().map_or_else(|| now.plus(interval), |open| open.next_probe);
        *state = Some(Open { since, next_probe, answer: Arc::new(answer) });
        self.open.store(true, Relaxed);
    }

    /// An attempt that began at `began` was charged: the quota is back, unless it was spent since.
    pub(crate) fn charged(&self, began: Moment) {
        if !self.open.load(Relaxed) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref().is_some_and(|open| began > open.since) {
            *state = None;
            self.open.store(false, Relaxed);
        }
    }

    /// Since when it is open.
    pub(crate) fn since(&self) -> Option<Moment> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|open| open.since)
    }

    /// While it is open: the upstream's code, or its type, and when the next probe may go.
    pub(crate) fn told(&self) -> Option<(Box<str>, Moment)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.as_ref()?;
        let word = open.answer.code.as_deref().or(open.answer.kind.as_deref());
        Some((word.unwrap_or("insufficient_quota").into(), open.next_probe))
    }

    /// Probes made.
    pub(crate) fn probes(&self) -> u64 {
        self.probes.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_calls_cost_one_probe_a_minute() {
        let breaker = QuotaBreaker::default();
        let interval = Duration::from_mins(1);
        let answer = SpentQuota {
            status: 429,
            kind: None,
            code: Some("insufficient_quota".into()),
            message: "".into(),
        };
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        breaker.trip(answer.clone(), interval, at(0.0));
        let mut probes = 0;
        for call in 0..3000 {
            match breaker.check(interval, at(f64::from(call) * 0.1)) {
                Funds::Probe => {
                    probes += 1;
                    breaker.trip(answer.clone(), interval, at(f64::from(call) * 0.1 + 0.05));
                }
                Funds::Spent(told) => assert_eq!(*told, answer),
                Funds::Pass => panic!("it is open"),
            }
        }
        assert_eq!(probes, 4);
        breaker.charged(at(0.0));
        assert!(breaker.since().is_some(), "what began before it opened proves nothing");
        breaker.charged(at(301.0));
        assert!(matches!(breaker.check(interval, at(302.0)), Funds::Pass));
    }
}

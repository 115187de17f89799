//! One caller's requests in one lane, and how fast they are served.

use std::collections::BTreeSet;

use crate::admission::moment::Moment;
use crate::caller::{CallerId, Lane};

use super::UNIT;

/// No place.
pub(super) const NONE: u32 = u32::MAX;
/// A row's service is measured over at least so long, in seconds.
pub(super) const MEASURED: f64 = 4.0;
/// Measurements that differ by less are of a steady service.
const STEADY: f64 = 0.4;

/// One caller's requests in one lane, oldest first.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) caller: CallerId,
    pub(super) lane: Lane,
    pub(super) weight: u32,
    pub(super) counter: u64,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// Queued or parked.
    pub(super) waiting: usize,
    pub(super) bytes: usize,
    /// Its place in `backlogs` while anything is queued.
    pub(super) backlog: u32,
    /// How fast it has been served while something waited.
    pub(super) service: Service,
}

/// A row's measured service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    /// Since when this measurement runs, and what was served in it.
    pub(super) since: Option<Moment>,
    pub(super) tokens: u64,
    /// Tokens a second, once a measurement was complete.
    pub(super) rate: Option<f64>,
    /// Whether the last two measurements agreed.
    pub(super) steady: bool,
}

impl Service {
    pub(super) fn served(&mut self, tokens: u64, now: Moment) {
        let since = *self.since.get_or_insert(now);
        self.tokens += tokens;
        let seconds = now.seconds_since(since);
        if seconds >= 2.0 * MEASURED {
            // Nothing was served for long: it was held, by an outage or a pause. That says nothing of how it is served now.
            *self = Self { since: Some(now), ..Self::default() };
        } else if seconds >= MEASURED {
            let rate = self.tokens as f64 / seconds;
            self.steady = self.rate.is_some_and(|last| (rate / last - 1.0).abs() < STEADY);
            self.rate = Some(self.rate.map_or(rate, |last| f64::midpoint(last, rate)));
            (self.since, self.tokens) = (Some(now), 0);
        }
    }
}

#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) counter: u64,
    pub(super) weight: u32,
    pub(super) row: u32,
    pub(super) tokens: u64,
    pub(super) requests: u64,
    pub(super) lane: Lane,
    pub(super) sums: Sums,
}

/// What a prediction reads of a backlog, ready for it: one reads a thousand of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) counter: f64,
    /// Tokens served as the counter advances by one.
    pub(super) per_count: f64,
    pub(super) tokens: f64,
    /// Half of the mean request.
    pub(super) half_mean: f64,
    /// Requests in a token.
    pub(super) per_token: f64,
}

impl Backlog {
    /// Brings the sums up to date after a change.
    pub(super) fn sum_up(&mut self) {
        let (tokens, requests) = (self.tokens as f64, self.requests as f64);
        self.sums = Sums {
            counter: self.counter as f64,
            per_count: f64::from(self.weight) / UNIT as f64,
            tokens,
            half_mean: tokens / requests.max(1.0) / 2.0,
            per_token: requests / tokens.max(1.0),
        };
    }
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) order: BTreeSet<(u64, u32)>,
    /// The counter of the last one served.
    pub(super) reached: u64,
    /// The lane's own counter.
    pub(super) counter: u64,
    /// What is queued in it.
    pub(super) tokens: u64,
    pub(super) requests: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_no_measure_of_what_comes() {
        let mut service = Service::default();
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for tenth in 0..200 {
            service.served(10, at(f64::from(tenth) * 0.1));
        }
        assert!(service.steady);
        assert!((service.rate.unwrap() - 100.0).abs() < 10.0, "{:?}", service.rate);
        // An outage: nothing for ten seconds. The first that is served afterwards must not be the measure.
        service.served(10, at(30.0));
        assert!(!service.steady && service.rate.is_none());
    }
}

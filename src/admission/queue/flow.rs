//! One caller's requests in one lane: a flow of the fair queue, and how fast it is served.

use crate::admission::moment::Moment;
use crate::caller::{CallerId, Lane};

use super::order::Order;
use super::tag::Tag;

/// No place.
pub(super) const NONE: u32 = u32::MAX;
/// A flow's service is measured over at least this time, in seconds.
pub(super) const MEASURED: f64 = 4.0;
/// Measurements that differ by less are of a steady service.
const STEADY: f64 = 0.4;
/// What was served and due is halved when this much was due, in windows of the limit: the ratio
/// follows the last minutes.
const REMEMBERED: f64 = 1.0;

/// One caller's requests in one lane.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) caller: CallerId,
    pub(super) lane: Lane,
    pub(super) weight: u32,
    /// While anything is queued, the virtual time at which its next request starts; else at which
    /// its last one ended.
    pub(super) tag: Tag,
    pub(super) order: Order,
    /// Queued or parked.
    pub(super) waiting: usize,
    pub(super) bytes: usize,
    /// Its place in `backlogs` while anything is queued.
    pub(super) backlog: u32,
    /// The usual dominant share of one of its requests.
    pub(super) typical: f64,
    /// How fast it has been served while something waited.
    pub(super) service: Service,
    pub(super) entitlement: Entitlement,
}

impl Flow {
    pub(super) fn new(caller: CallerId, lane: Lane, weight: u32) -> Self {
        Self {
            caller,
            lane,
            weight,
            tag: Tag::START,
            order: Order::default(),
            waiting: 0,
            bytes: 0,
            backlog: NONE,
            typical: 0.0,
            service: Service::default(),
            entitlement: Entitlement::default(),
        }
    }

    /// A request of this dominant share is served; out of its turn it does not count for the flow's
    /// share by weight.
    pub(super) fn served(&mut self, share: f64, out_of_turn: bool) {
        self.typical = if self.typical > 0.0 { self.typical * 0.9 + share * 0.1 } else { share };
        if !out_of_turn {
            self.tag = self.tag.after(share, self.weight);
        }
    }
}

/// What a flow got while it waited, and what its weight entitled it to, in windows of the limit
/// that binds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entitlement {
    pub(super) served: f64,
    pub(super) due: f64,
    /// The lane's service for a weight of one, when `due` was brought up to date.
    pub(super) counted: f64,
}

impl Entitlement {
    /// Counts what has been due since the last time.
    pub(super) fn count(&mut self, fluid: f64, weight: u32) {
        self.due += (fluid - self.counted) * f64::from(weight);
        self.counted = fluid;
        if self.due > REMEMBERED {
            self.due *= 0.5;
            self.served *= 0.5;
        }
    }
}

/// A flow's measured service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    /// Since when this measurement runs, and what was served in it.
    pub(super) since: Option<Moment>,
    pub(super) share: f64,
    /// Dominant shares a second, once a measurement was complete.
    pub(super) rate: Option<f64>,
    /// Whether the last two measurements agreed.
    pub(super) steady: bool,
}

impl Service {
    pub(super) fn served(&mut self, share: f64, now: Moment) {
        let since = *self.since.get_or_insert(now);
        self.share += share;
        let seconds = now.seconds_since(since);
        if seconds >= 2.0 * MEASURED {
            // Nothing was served for long: it was held, by an outage or a pause. That says nothing
            // of how it is served now.
            *self = Self { since: Some(now), ..Self::default() };
        } else if seconds >= MEASURED {
            let rate = self.share / seconds;
            self.steady = self.rate.is_some_and(|last| (rate / last - 1.0).abs() < STEADY);
            self.rate = Some(self.rate.map_or(rate, |last| f64::midpoint(last, rate)));
            (self.since, self.share) = (Some(now), 0.0);
        }
    }
}

/// What is queued of one flow, in the form that predictions read.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) flow: u32,
    pub(super) lane: Lane,
    pub(super) weight: f64,
    /// The flow's virtual time.
    pub(super) start: f64,
    /// Dominant shares, tokens and requests that are queued.
    pub(super) share: f64,
    pub(super) tokens: f64,
    pub(super) requests: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_no_measure_of_what_comes() {
        let mut service = Service::default();
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for tenth in 0..200 {
            service.served(0.1, at(f64::from(tenth) * 0.1));
        }
        assert!(service.steady);
        assert!((service.rate.unwrap() - 1.0).abs() < 0.1, "{:?}", service.rate);
        // An outage: nothing for ten seconds. The first that is served afterwards must not be the
        // measure.
        service.served(0.1, at(30.0));
        assert!(!service.steady && service.rate.is_none());
    }
}

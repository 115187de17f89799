//! One supply that can serve a queue: its limits, its breaker, what is in flight to it and whether
//! its money is spent.
//!
//! The queue says whose request is next; a member says whether that request may go through it now.

use std::time::Duration;

use crate::admission::breaker::{Breaker, Gate, Load};
use crate::admission::concurrency::Concurrency;
use crate::admission::limits::{Charge, Cost, Limits};
use crate::admission::moment::Moment;
use crate::admission::settings::{LimitSettings, Settings};
use crate::admission::spent::Funding;
use crate::classify::ErrorClass;
use crate::pool::UpstreamId;

use super::hold::Hold;

/// A blocked gate is looked at again after this time at the earliest.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Limits a minute that stand in for unknown ones.
const USUAL_TOKENS: f64 = 1e6;
const USUAL_REQUESTS: f64 = 1e3;

/// A member's answer to an offered charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It may go now; `true` as a probe of a failing upstream.
    Takes(bool),
    /// Not before that moment, for the breaker.
    Blocked(Moment),
    /// For the limits: when it may go, and when to look again.
    Held { until: Moment, look: Moment },
    /// An attempt in flight must end first.
    Full,
}

/// One supply of a queue. Its fields lie as they are written: what every request touches comes
/// first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Member {
    pub(super) spent: Funding,
    /// Permits in flight.
    pub(super) in_flight: u32,
    /// The configured bound on them.
    pub(super) bound: Option<u32>,
    /// What finds a bound on them: by first events where the configuration asks for it, else by
    /// refusals from the first on.
    pub(super) found: Option<Box<Concurrency>>,
    pub(super) limits: Limits,
    pub(super) breaker: Breaker,
    pub(super) hold: Hold,
    pub(super) id: UpstreamId,
    /// No longer in the configuration: it gets no further request.
    pub(super) retired: bool,
    /// The class of the last failure that counted against it.
    pub(super) last_failure: Option<ErrorClass>,
    /// Permits given.
    pub(super) granted: u64,
}

impl Member {
    pub(super) fn new(id: UpstreamId, limits: &LimitSettings, spent: Funding, now: Moment) -> Self {
        Self {
            id,
            retired: false,
            last_failure: None,
            granted: 0,
            spent,
            in_flight: 0,
            bound: limits.in_flight,
            found: limits.finds_in_flight.then(|| Box::new(Concurrency::of_first_events())),
            limits: Limits::new(limits, now),
            breaker: Breaker::new(now),
            hold: Hold::default(),
        }
    }

    /// Whether it gets requests: its upstream works, and is paid for.
    pub(super) fn serves(&self) -> bool {
        !self.retired && !self.spent.is_open() && self.breaker.outage().is_none()
    }

    /// The configured bound on attempts in flight.
    #[cfg(test)]
    pub(super) fn limits_bound(&self) -> Option<u32> {
        self.bound
    }

    /// These limits, with the bound on attempts in flight that was found where that is the lower
    /// one.
    pub(super) fn limits_found(&self, limits: LimitSettings) -> LimitSettings {
        let found = self.found.as_ref().map(|found| found.bound());
        let Some(bound) = found.filter(|found| limits.in_flight.is_none_or(|stated| *found < stated)) else {
            return LimitSettings { finds_in_flight: false, ..limits };
        };
        LimitSettings { in_flight: Some(bound), finds_in_flight: true, ..limits }
    }

    /// Applies other limits; what was learned stays.
    pub(super) fn configure(&mut self, limits: &LimitSettings, now: Moment) {
        self.bound = limits.in_flight;
        self.found = match self.found.take() {
            Some(found) if found.is_of_first_events() == limits.finds_in_flight => Some(found),
            Some(_) | None => limits.finds_in_flight.then(|| Box::new(Concurrency::of_first_events())),
        };
        self.limits.configure(limits, now);
    }

    /// What the breaker says while `waiting` requests wait.
    pub(super) fn gate(&mut self, settings: &Settings, waiting: usize, now: Moment) -> Gate {
        let load = Load { waiting, in_flight: self.in_flight };
        self.breaker.gate(&settings.breaker, || self.limits.request_rate(), load, now)
    }

    /// Whether a charge may go now while `waiting` requests wait; `sparse` says that its caller is
    /// below its share.
    pub(super) fn offer(
        &mut self,
        charge: Charge,
        sparse: bool,
        settings: &Settings,
        waiting: usize,
        now: Moment,
    ) -> Offer {
        let probe = match self.gate(settings, waiting, now) {
            Gate::Pass => false,
            Gate::Probe => true,
            Gate::At(at) | Gate::Blocked(at) => return Offer::Blocked(at.max(now.plus(LOOK_AGAIN))),
        };
        let is_full = self.bound.is_some_and(|bound| self.in_flight >= self.limits.part_of_bound(bound));
        if is_full || self.found.as_mut().is_some_and(|found| !found.takes(self.in_flight)) {
            return Offer::Full;
        }
        let wait = self.limits.wait(charge, sparse, self.in_flight, now);
        // A part that will grow ends the wait sooner: nobody is refused for how long it would take
        // with the present one.
        let (free, hoped) = (now.plus(wait), now.plus(self.limits.hoped(wait)));
        match self.hold.holds(now) {
            Some((until, probe)) => Offer::Held { until: until.max(hoped), look: probe.max(free) },
            None if free > now => Offer::Held { until: hoped, look: free },
            None => Offer::Takes(probe),
        }
    }

    /// [`Member::share_of`] a cost.
    pub(super) fn share(&self, cost: Cost) -> f64 {
        self.share_of(self.limits.charge(cost))
    }

    /// What a request of this charge counts as in the fair queue: the largest part that it takes of
    /// any known limit. Where no limit is known its tokens count, or the request where it has none,
    /// as of usual limits.
    pub(super) fn share_of(&self, charge: Charge) -> f64 {
        match self.limits.share_of(charge) {
            share if share > 0.0 => share,
            _ if charge.tokens > 0 => charge.tokens as f64 / USUAL_TOKENS,
            _ => charge.requests as f64 / USUAL_REQUESTS,
        }
    }

    /// The cost at which a request goes, `full` after a refusal. What is larger than a limit goes
    /// at no price: the upstream says that it is too large, or shows that the limit or the estimate
    /// is off. At its price it would hold up others until all of the limit is unused.
    pub(super) fn price(&self, cost: Cost, full: bool) -> Cost {
        if !full && self.is_oversize(cost) { Cost { tokens: 0, ..cost } } else { cost }
    }

    /// Whether a request is priced above one of the limits.
    pub(super) fn is_oversize(&self, cost: Cost) -> bool {
        self.limits.share_of(self.limits.charge(cost)) > 1.0
    }

    /// An attempt is granted to a request that waited for `waited`: its charge is taken.
    pub(super) fn begin(
        &mut self,
        cost: Cost,
        charge: Charge,
        probe: bool,
        waited: Duration,
        settings: &Settings,
        now: Moment,
    ) {
        self.limits.take(cost, charge, waited, self.in_flight, now);
        self.breaker.passed(probe, &settings.breaker, now);
        self.hold.passed(now);
        self.in_flight += 1;
        self.granted += 1;
    }
}

//! The mirror of the upstream's limits for one scope: a pure machine, with time as an argument.

mod asking;
mod bucket;
mod calibrate;
mod charge;
mod dimension;
mod foreign;
mod own;
mod pace;
mod ramp;
mod refusal;
mod report;
mod part;
mod search;
mod sent_log;
mod shape;
mod slot;
mod standing;
mod untold;

use std::time::Duration;

use crate::admission::moment::Moment;
use crate::admission::settings::LimitSettings;

use charge::{ChargeRatio, EndpointRatios};
use dimension::Dimension;
pub use own::Cost;
use own::OwnUse;
pub(crate) use own::{Charge, Marks};
pub use part::{Demand, Part};
use ramp::Ramp;
use refusal::Numbers;
pub(crate) use refusal::{Refusal, Times, Verdict};
pub use report::{LimitReport, LimitReports, RefusalNumbers, Source};
pub use slot::{Slot, Unit};

/// No pause of a whole scope is longer, whatever a refusal names: it is asked again then.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A refusal is no surprise when a limit is used to this part.
const FORETOLD: f64 = 0.9;
/// After so long without a permit one is given although no limit has room.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// All limits of one scope. The fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Quota {
    /// Boxed: most scopes have two, and what a request looks at of the others is whether they are there.
    dimensions: [Option<Box<Dimension>>; 4],
    ramp: Option<Box<Ramp>>,
    paused_until: Moment,
    /// The last permit.
    asked: Moment,
    pauses: u32,
    /// The last permit was given with no attempt in flight.
    alone: bool,
    own: OwnUse,
    ratio: ChargeRatio,
    endpoints: EndpointRatios,
    share: f64,
    part: Part,
    /// The last pause after a refusal without numbers.
    paused_from: Moment,
    /// The last refusal where little was used of what is told; the start of time before the first.
    unexplained: Moment,
}

impl Quota {
    pub(crate) fn new(limits: &LimitSettings, now: Moment) -> Self {
        let mut quota = Self {
            dimensions: [None, None, None, None],
            own: OwnUse::new(),
            ramp: None,
            paused_from: Moment::START,
            paused_until: Moment::START,
            asked: now,
            pauses: 0,
            share: limits.share,
            part: Part::default(),
            ratio: ChargeRatio::new(),
            endpoints: EndpointRatios::new(),
            alone: false,
            unexplained: Moment::START,
        };
        for slot in Slot::ALL {
            quota.dimensions[slot.index()] = limits
                .of(slot)
                .filter(|limit| *limit > 0)
                .map(|limit| dimension(slot, limit as f64, Source::Configured, limits.share, 1.0, now));
        }
        if quota.dimensions.iter().all(Option::is_none) {
            quota.ramp = Some(Box::new(Ramp::new(now)));
        }
        quota
    }

    /// A cost as its endpoint's requests were charged so far. Everything else here takes costs that went through this.
    pub(crate) fn expected(&self, cost: Cost) -> Cost {
        self.endpoints.expected(cost)
    }

    /// An answer to a request of that cost, sent at `sent`, says how many tokens its input was.
    pub(crate) fn used(&mut self, cost: Cost, input: u64, sent: Moment, now: Moment) {
        self.endpoints.used(cost, input, self.ratio.value(), sent, now);
    }

    /// What `cost` takes, by what is known of the upstream's charges.
    pub(crate) fn charge(&self, cost: Cost) -> Charge {
        let tokens = cost.tokens as f64 * self.ratio.value();
        Charge { requests: u64::from(cost.requests), tokens: ceil(tokens) }
    }

    /// What so much waiting work takes.
    pub(crate) fn charge_of(&self, requests: u64, tokens: f64) -> Charge {
        Charge { requests, tokens: ceil(tokens * self.ratio.value()) }
    }

    /// How long until `charge` may go, all limits considered.
    pub(crate) fn wait(&self, charge: Charge, in_flight: u32, now: Moment) -> Duration {
        let mut wait = self.paused_until.since(now);
        if self.pauses > 1 && self.asked >= self.paused_until {
            // One asks whether the refusals are over.
            wait = wait.max(self.asked.plus(ramp::UNANSWERED).since(now));
        }
        if let Some(ramp) = &self.ramp {
            let own = self.own.of(ramp.unit(), self.ratio.value());
            wait = wait.max(ramp.wait(charge, &own, in_flight, now));
        }
        let mut doubtful = wait;
        for (slot, dimension) in self.each() {
            let own = self.own.of(slot.unit(), self.ratio.value());
            let held = dimension.wait(charge.of(slot), &own, now);
            wait = wait.max(held);
            doubtful = if dimension.proven() { doubtful } else { doubtful.max(held) };
        }
        if wait.is_zero() {
            return wait;
        }
        // A limit that seems spent for long is asked about now and then: it may have been raised, or never have been so low.
        let quiet = now.since(self.asked);
        let asks =
            doubtful > LONGEST_PAUSE && quiet >= ASK_AGAIN || wait > LONGEST_PAUSE && quiet >= ASK_AGAIN * 10;
        if asks { Duration::ZERO } else { wait }
    }

    /// Takes `charge` from every limit.
    pub(crate) fn take(&mut self, cost: Cost, charge: Charge, in_flight: u32, now: Moment) {
        self.own.granted(cost);
        self.asked = now;
        self.alone = in_flight == 0;
        if let Some(ramp) = &mut self.ramp {
            ramp.take(charge, in_flight, now);
        }
        for (slot, dimension) in self.each_mut() {
            dimension.take(charge.of(slot), now);
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, cost: Cost, charge: Charge, now: Moment) {
        self.own.no_longer_unsent(cost);
        if let Some(ramp) = &mut self.ramp {
            ramp.give_back(charge, now);
        }
        for (slot, dimension) in self.each_mut() {
            dimension.give_back(charge.of(slot), now);
        }
    }

    /// Notes that what was taken goes upstream now.
    pub(crate) fn sent(&mut self, cost: Cost, now: Moment) -> Marks {
        self.own.no_longer_unsent(cost);
        self.own.sent.add(Marks::of_cost(cost), now);
        self.own.sent.total()
    }

    /// Learns from the headers of an answer.
    pub(crate) fn told(
        &mut self,
        reports: &LimitReports,
        cost: Cost,
        marks: Marks,
        times: &Times,
        now: Moment,
    ) {
        for (unit, report) in [(Unit::Requests, &reports.requests), (Unit::Tokens, &reports.tokens)] {
            // 0 and −1 mean "unknown" in some dialects.
            if let Some(report) = report
                && report.limit > 0
            {
                self.told_of(unit, report, marks, times, now);
            }
        }
        self.calibrate(reports, cost, marks, times);
    }

    /// The same of one unit.
    fn told_of(&mut self, unit: Unit, report: &LimitReport, marks: Marks, times: &Times, now: Moment) {
        let slot = self.header_slot(unit);
        let (share, part) = (self.share, self.part.part);
        if self.dimensions[slot.index()].is_none() {
            self.found(unit);
        }
        let dimension = self.dimensions[slot.index()]
            .get_or_insert_with(|| dimension(slot, report.limit as f64, Source::Learned, share, part, now));
        let own = self.own.of(unit, self.ratio.value());
        dimension.told(report, &own, marks.of(unit), times, now);
        if dimension.window > 3600.0 && slot.window() < Duration::from_hours(1) {
            let day = if unit == Unit::Requests { Slot::RequestsPerDay } else { Slot::TokensPerDay };
            self.dimensions[day.index()] = self.dimensions[slot.index()].take();
        }
    }

    /// An answer that was no refusal came; `paced` says that the queue was waiting when its attempt went.
    pub(crate) fn accepted(&mut self, charge: Charge, paced: bool, sent: Moment, now: Moment) {
        if sent >= self.paused_from {
            self.pauses = 0;
        }
        self.own.accepted(charge, sent, now);
        if let Some(ramp) = &mut self.ramp {
            ramp.accepted(&self.own.of(ramp.unit(), self.ratio.value()), sent, now);
        }
        for (slot, dimension) in self.each_mut() {
            dimension.accepted(charge.of(slot), paced, sent, now);
        }
    }

    /// Learns from a refusal.
    pub(crate) fn refused(&mut self, refusal: &Refusal<'_>, rng: &mut fastrand::Rng, now: Moment) -> Verdict {
        let Refusal { numbers, hint, cost, charge, marks, times, .. } = *refusal;
        // A refused attempt takes nothing. Where it does, the next snapshot tells.
        self.own.sent.retract(Marks::of_cost(cost), times.sent);
        let marks = Marks {
            requests: marks.requests - f64::from(cost.requests),
            tokens: marks.tokens - cost.tokens as f64,
        };
        if let Some(numbers) = numbers.filter(|numbers| numbers.apart) {
            // It says nothing of the limits that are kept here: nobody else waits for it.
            for (slot, dimension) in self.each_mut() {
                dimension.give_back(charge.of(slot), now);
            }
            let wait = numbers.wait.or(hint).unwrap_or(LONGEST_PAUSE).min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if let Some(numbers) = numbers.filter(|numbers| numbers.limit > 0) {
            self.pauses = 0;
            let slot = numbers.slot;
            let (share, part) = (self.share, self.part.part);
            if slot.unit() == Unit::Tokens
                && let Some(requested) = numbers.requested
            {
                self.ratio.exact(requested, cost.tokens);
            }
            let limit = numbers.limit as f64;
            let told = Numbers {
                limit,
                // Some tell only the limit: what was refused found it full.
                used: numbers.used.unwrap_or(numbers.limit) as f64,
                requested: numbers.requested.unwrap_or(charge.of(slot)) as f64,
                wait: numbers.wait,
            };
            let own = self.own.of(slot.unit(), self.ratio.value());
            match &mut self.dimensions[slot.index()] {
                Some(dimension) => {
                    if !dimension.foretold(charge.of(slot), now) {
                        dimension.surprised(now);
                    }
                    dimension.refused(&told, &own, marks.of(slot.unit()), times, now);
                }
                place @ None => {
                    let dimension = place.insert(dimension(slot, limit, Source::Learned, share, part, now));
                    dimension.refused(&told, &own, marks.of(slot.unit()), times, now);
                }
            }
            for (slot, dimension) in self.each_mut() {
                dimension.forgive(charge.of(slot), now);
            }
            self.found(slot.unit());
            let wait = numbers.wait.or(hint).unwrap_or_default().min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if self.refused_by_untold(refusal, rng, now) {
            return Verdict { not_before: now };
        }
        // What was sent before the pause began learns nothing new from it.
        if times.sent >= self.paused_from {
            if !self.each().any(|(slot, dimension)| dimension.foretold(charge.of(slot), now)) {
                for (_, dimension) in self.each_mut() {
                    dimension.surprised(now);
                }
            }
            for (_, dimension) in self.each_mut() {
                dimension.refused_blindly(times.sent, now);
            }
            let pause = match hint {
                Some(hint) => jittered(hint, rng),
                None => ramp::pause(self.pauses, rng),
            };
            self.pauses = self.pauses.saturating_add(1);
            self.paused_from = now;
            self.paused_until = now.plus(pause);
        }
        Verdict { not_before: now }
    }

    /// Applies other settings; what was learned stays.
    pub(crate) fn configure(&mut self, limits: &LimitSettings, now: Moment) {
        self.share = limits.share;
        for slot in Slot::ALL {
            let stated = limits.of(slot).filter(|limit| *limit > 0).map(|limit| limit as f64);
            match (&mut self.dimensions[slot.index()], stated) {
                (Some(dimension), stated) => {
                    let stated = stated.filter(|_| dimension.source == Source::Configured);
                    dimension.configure(stated, limits.share, now);
                }
                (place @ None, Some(limit)) => {
                    *place =
                        Some(dimension(slot, limit, Source::Configured, limits.share, self.part.part, now));
                    self.found(slot.unit());
                }
                (None, None) => {}
            }
        }
    }

    fn header_slot(&self, unit: Unit) -> Slot {
        let (minute, day) = match unit {
            Unit::Requests => (Slot::RequestsPerMinute, Slot::RequestsPerDay),
            Unit::Tokens => (Slot::TokensPerMinute, Slot::TokensPerDay),
        };
        let learned_day =
            self.dimensions[day.index()].as_ref().is_some_and(|day| day.source == Source::Learned);
        if learned_day && self.dimensions[minute.index()].is_none() { day } else { minute }
    }

    fn each(&self) -> impl Iterator<Item = (Slot, &Dimension)> {
        Slot::ALL
            .iter()
            .zip(&self.dimensions)
            .filter_map(|(slot, dimension)| dimension.as_deref().map(|dimension| (*slot, dimension)))
    }

    fn each_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Dimension)> {
        Slot::ALL
            .iter()
            .zip(&mut self.dimensions)
            .filter_map(|(slot, dimension)| dimension.as_deref_mut().map(|dimension| (*slot, dimension)))
    }
}

fn dimension(slot: Slot, limit: f64, source: Source, share: f64, part: f64, now: Moment) -> Box<Dimension> {
    Box::new(Dimension::new(limit, slot.window().as_secs_f64(), source, share, now).with_part(part, now))
}

/// A named wait is a minimum; those who were told the same time do not come back together.
fn jittered(hint: Duration, rng: &mut fastrand::Rng) -> Duration {
    let hint = hint.min(LONGEST_PAUSE);
    hint + Duration::from_millis(250).min(hint / 4).mul_f64(rng.f64())
}

/// A count that is rounded up; what is not a number is 0. By casts: where the processor may be an old one, `f64::ceil` is a
/// call, and signed casts are shorter than others.
#[expect(clippy::cast_possible_truncation, reason = "a float's cast saturates")]
fn ceil(value: f64) -> u64 {
    let whole = value as i64;
    u64::try_from(whole).unwrap_or(0) + u64::from((whole as f64) < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is compared with")]
    fn counts_are_rounded_up_as_by_the_library() {
        for value in
            [0.0, -0.5, -1.5, 0.1, 1.0, 1.000_000_1, 149.999, 1e12, 1e12 + 0.5, f64::NAN, -f64::INFINITY]
        {
            assert_eq!(ceil(value), value.ceil() as u64, "{value}");
        }
        assert!(ceil(f64::INFINITY) >= 1 << 63);
    }
}

//! What the outcomes of attempts tell of limits: taken, refused with numbers or without, failed.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::rate::Rate;
use super::refusal::{Numbers, Refusal, Verdict};
use super::{Charge, Entry, FORETOLD, HOLD, Limits, Marks, Origin, RefusalNumbers, USUAL_WINDOW, Unit};

impl Limits {
    /// An answer that was no refusal came; `paced` says that the queue was waiting when its attempt
    /// went.
    pub(crate) fn accepted(&mut self, charge: Charge, marks: Marks, paced: bool, sent: Moment, now: Moment) {
        self.shedding.answered(false, sent, &mut self.rates[0], &self.own, now);
        self.own.accepted(charge, sent, now);
        self.went_on(charge, marks, paced, sent, now);
    }

    /// An attempt was answered with a failure that may be for the load: whether failures lead the
    /// rate, so that it counts as refused. In an outage they never do.
    pub(crate) fn failed(
        &mut self,
        refusal: &Refusal<'_>,
        is_outage: bool,
        paced: bool,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) -> bool {
        let Refusal { cost, charge, marks, times, .. } = *refusal;
        if is_outage {
            self.shedding.gives_up(&mut self.rates[0], now);
        } else {
            self.shedding.answered(true, times.sent, &mut self.rates[0], &self.own, now);
        }
        if !self.shedding.leads() {
            self.went_on(charge, marks, paced, times.sent, now);
            return false;
        }
        self.own.retract(cost, marks, times.sent);
        self.entries.iter_mut().for_each(|entry| entry.limit.refund(charge.of(entry.slot), now));
        let rate = self.rates[0].get_or_insert_with(|| Box::new(Rate::beside(Unit::Requests, now)));
        rate.refused(true, marks.in_flight, times.sent, refusal.hint, rng, now);
        true
    }

    /// Whether failures lead the rate: then what is repeated goes at a pace that is found to be
    /// taken, and adds nothing to the load.
    pub(crate) fn sheds(&self) -> bool {
        self.shedding.leads()
    }

    /// An attempt was not refused: it was answered well, or failed for another reason.
    fn went_on(&mut self, charge: Charge, marks: Marks, paced: bool, sent: Moment, now: Moment) {
        for rate in self.rates.iter_mut().flatten() {
            rate.accepted(&self.own.of(rate.unit(), self.ratio.value()), marks.in_flight, sent, now);
        }
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.accepted(charge.of(*slot), paced, sent, now);
        }
        if self.entries.iter().any(|entry| entry.origin.may_be_raised(now)) {
            self.raise_refused(paced, now);
        }
    }

    /// Learns from a refusal.
    pub(crate) fn refused(&mut self, refusal: &Refusal<'_>, rng: &mut fastrand::Rng, now: Moment) -> Verdict {
        let Refusal { numbers, hint, cost, charge, marks, times, .. } = *refusal;
        // A refused attempt takes nothing. Where it does, the next snapshot tells.
        self.own.retract(cost, marks, times.sent);
        if let Some(numbers) = numbers.filter(|numbers| numbers.apart) {
            // It says nothing of the limits that are kept here: nobody else waits for it.
            for Entry { slot, limit, .. } in &mut self.entries {
                limit.give_back(charge.of(*slot), now);
            }
            let wait = numbers.wait.or(hint).unwrap_or(USUAL_WINDOW).min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if let Some(numbers) = numbers.filter(|numbers| numbers.limit > 0 && numbers.are_borne_out(hint))
            && let Some(index) = self.place_of_refusal(numbers, now)
        {
            self.refused_by(index, numbers, refusal, now);
            let wait = numbers.wait.or(hint).unwrap_or_default().min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if refusal.by_load {
            let rate = self.rates[0].get_or_insert_with(|| Box::new(Rate::beside(Unit::Requests, now)));
            rate.refused(false, marks.in_flight, times.sent, hint, rng, now);
            return Verdict { not_before: now };
        }
        self.shedding.is_of_429s();
        let mut asked = false;
        for entry in &mut self.entries {
            asked |= entry.limit.refused_blindly(marks.in_flight, times.sent, hint, now);
        }
        // What was sent before the last such refusal was known says nothing new. What asked went
        // before its time.
        let fresh = times.sent >= self.unexplained && !asked;
        let (unit, learns) = if asked {
            (refusal.unit.unwrap_or(Unit::Requests), false)
        } else {
            self.untold(refusal.unit, charge, times.sent, now)
        };
        if fresh && !self.each().any(|(slot, limit)| limit.expected_refusal(charge.of(slot), now)) {
            self.entries.iter_mut().for_each(|entry| entry.limit.surprised(now));
        }
        let rate = self.rates[unit.index()].get_or_insert_with(|| Box::new(Rate::beside(unit, now)));
        rate.refused(learns, marks.in_flight, times.sent, hint, rng, now);
        Verdict { not_before: now }
    }

    /// The unit of the limit that refused without numbers, and whether it is one that nobody tells
    /// of.
    pub(super) fn untold(
        &mut self,
        said: Option<Unit>,
        charge: Charge,
        sent: Moment,
        now: Moment,
    ) -> (Unit, bool) {
        // The fullest of a unit's limits.
        let fullest = |unit: Unit| {
            let limits = self.each().filter(move |(slot, _)| unit == slot.unit());
            limits.map(|(slot, limit)| limit.part_used(charge.of(slot), now)).reduce(f64::max)
        };
        let used = [Unit::Requests, Unit::Tokens].map(fullest);
        let searched = self.rates.iter().flatten().find(|rate| rate.searches()).map(|rate| rate.unit());
        let other = || [Unit::Tokens, Unit::Requests].into_iter().find(|unit| used[unit.index()].is_none());
        let unit = said.or(searched).or_else(|| other().filter(|_| self.is_known()));
        let explains = |part: &Option<f64>| part.is_some_and(|part| part > FORETOLD);
        if said.map_or(used.iter().any(explains), |unit| explains(&used[unit.index()])) {
            return (unit.unwrap_or(Unit::Requests), false);
        }
        // One alone may be a storm.
        let again = self.unexplained > Moment::START && now.since(self.unexplained) <= USUAL_WINDOW;
        let again = again && sent >= self.unexplained;
        if sent >= self.unexplained {
            self.unexplained = now;
        }
        let unit = unit.unwrap_or(Unit::Requests);
        (unit, again || used[unit.index()].is_none() || searched == Some(unit))
    }

    /// A limit of this unit is known now: only of the other unit, and only what refusals found, is
    /// still kept beside it.
    pub(super) fn found(&mut self, unit: Unit) {
        for rate in &mut self.rates {
            *rate = rate.take().filter(|rate| rate.searches() && rate.unit() != unit);
        }
    }

    /// Learns from a refusal with numbers, of the limit at `index`.
    pub(super) fn refused_by(
        &mut self,
        index: usize,
        numbers: &RefusalNumbers,
        refusal: &Refusal<'_>,
        now: Moment,
    ) {
        let Refusal { cost, charge, marks, times, .. } = *refusal;
        let slot = self.entries[index].slot;
        if slot.unit() == Unit::Tokens
            && let Some(requested) = numbers.requested
        {
            let ratio = self.ratio.value();
            if !self.ratio.exact(requested, cost.tokens) {
                self.endpoints.refused(cost, requested, ratio);
            }
        }
        let told = Numbers {
            limit: numbers.limit as f64,
            // Some tell only the limit: what was refused found it full.
            used: numbers.used.unwrap_or(numbers.limit) as f64,
            requested: numbers.requested.unwrap_or(charge.of(slot)) as f64,
            wait: numbers.wait,
        };
        let own = self.own.of(slot.unit(), self.ratio.value());
        for (other, Entry { slot, limit, origin, .. }) in self.entries.iter_mut().enumerate() {
            let cells = charge.of(*slot);
            if other != index {
                limit.refund(cells, now);
                continue;
            }
            // A limit that became another explains the refusal.
            let is_another = told.limit.total_cmp(&limit.stated).is_ne();
            if !is_another && !limit.expected_refusal(cells, now) {
                limit.surprised(now);
            }
            limit.refused(&told, &own, marks.of(slot.unit()), times, now);
            limit.refund_debt(cells, now);
            if let Origin::Refusals { raise_at, hold } = origin {
                *raise_at = now.plus(*hold);
                *hold = (*hold * 2).min(HOLD.1);
            }
        }
        self.found(slot.unit());
    }
}

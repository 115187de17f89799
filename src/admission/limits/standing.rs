//! How the limits stand: for those who wait, the status and the metrics.

use crate::admission::moment::{Moment, duration};
use crate::admission::status::DimensionStatus;

use super::limit::Limit;
use super::own::Own;
use super::rate::Rate;
use super::shape::Rule;
use super::{Charge, Limits, Slot};

impl Limit {
    /// What is used of the limit now, as far as is known.
    pub(crate) fn level(&self, own: &Own<'_>, now: Moment) -> f64 {
        let window = duration(self.window);
        match (self.shape.rule(), self.closed, self.ends) {
            (Rule::Fixed, Some(closed), _) if closed.until > now => {
                (self.stated - closed.room - self.others as f64).max(0.0)
            }
            // A new one began: at its end, or a whole number of windows later.
            (Rule::Fixed, _, Some(ends)) if ends <= now => {
                let into = now.seconds_since(ends) % self.window;
                own.log.trailing(duration(into), now) * own.ratio
            }
            (Rule::Log, ..) => own.log.trailing(window, now) * own.ratio + self.foreign.ratio() * self.stated,
            (Rule::Unknown | Rule::Bucket | Rule::Shallow | Rule::Fixed, ..) => self.level.used(now),
        }
    }
}

impl Limits {
    /// The limit that holds `charge` longest, if one does.
    pub(crate) fn holding(&self, charge: Charge, in_flight: u32, now: Moment) -> Option<Slot> {
        let told = self.each().map(|(slot, dimension)| {
            let own = self.own.of(slot.unit(), self.ratio.value());
            (slot, dimension.wait(charge.of(slot), false, in_flight, &own, now))
        });
        let found = self.proven_rates().filter(|rate| rate.has_found());
        let found = found.map(|rate| (Slot::by_minute(rate.unit()), rate.wait(charge, in_flight, now)));
        told.chain(found)
            .filter(|(_, wait)| !wait.is_zero())
            .max_by_key(|(_, wait)| *wait)
            .map(|(slot, _)| slot)
    }

    /// Seconds until `ahead` and then `charge` have passed, were nothing else to come.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, now: Moment) -> f64 {
        let mut wait = self.paused_until.seconds_since(now);
        for rate in self.rates.iter().flatten() {
            wait = wait.max(rate.predict(ahead, charge, now));
        }
        for (slot, dimension) in self.each() {
            let predicted =
                dimension.predict(ahead.of(slot) as f64, charge.of(slot) as f64, self.hope(), now);
            wait = wait.max(predicted);
        }
        wait.max(0.0)
    }

    /// Requests a second at the present pace, where one holds.
    pub(crate) fn request_rate(&self) -> Option<f64> {
        let found = self.rates[0].as_ref().and_then(|rate| rate.rate());
        let is_paced =
            |(slot, limit): &(Slot, &Limit)| *slot == Slot::RequestsPerMinute && !limit.at_once.is_believed();
        let paced = self.each().filter(is_paced);
        paced.map(|(_, limit)| Limit::pace(limit)).chain(found).reduce(f64::min)
    }

    /// The dominant share of a charge: the largest part that it takes of any known limit, per
    /// window of that limit; 0 where no limit is known.
    pub(crate) fn share_of(&self, charge: Charge) -> f64 {
        self.each().map(|(slot, limit)| charge.of(slot) as f64 / limit.stated.max(1.0)).fold(0.0, f64::max)
    }

    /// Tokens that the upstream charges for one that was estimated.
    pub(crate) fn charge_ratio(&self) -> f64 {
        self.ratio.value()
    }

    /// The configured part of every limit that this instance takes.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// Whether any limit is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The limits as the status shows them.
    pub(crate) fn status(&self, now: Moment) -> Vec<DimensionStatus> {
        let found = || self.proven_rates().filter(|rate| rate.has_found());
        let told = self.each().map(|(slot, limit)| DimensionStatus {
            slot,
            limit: limit.stated,
            level: limit.level(&self.own.of(slot.unit(), self.ratio.value()), now),
            window: duration(limit.window),
            source: limit.source,
            pacer_burst: limit.shaper_burst(),
            foreign_use: self.part.foreign(limit.foreign.ratio(), slot, limit.rate()),
        });
        let mut limits: Vec<_> =
            told.filter(|limit| found().all(|rate| limit.slot != Slot::by_minute(rate.unit()))).collect();
        limits.extend(found().map(|rate| rate.status(&self.own.of(rate.unit(), self.ratio.value()), now)));
        // One for each place: of two limits the one that gives less over time is what holds.
        let rate = |status: &DimensionStatus| status.limit / status.window.as_secs_f64().max(1e-3);
        limits.sort_by(|one, two| {
            one.slot.index().cmp(&two.slot.index()).then(rate(one).total_cmp(&rate(two)))
        });
        limits.dedup_by_key(|limit| limit.slot.index());
        limits
    }

    /// The rates that refusals led to, without one that failures lead and that is still tried out.
    pub(super) fn proven_rates(&self) -> impl Iterator<Item = &Rate> {
        let tried = usize::from(self.shedding.is_tried());
        self.rates.iter().skip(tried).flatten().map(|rate| &**rate)
    }

    /// Until when a refusal without numbers stops everything.
    pub(crate) fn paused_until(&self) -> Moment {
        let blocked = self.rates.iter().flatten().map(|rate| rate.blocked_until());
        blocked.max().unwrap_or(Moment::START).max(self.paused_until)
    }
}

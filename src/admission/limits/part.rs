//! The part of a scope's limits that is this replica's, where several share them, and what it would
//! need.

use std::cmp::Ordering;
use std::time::Duration;

use crate::admission::admitted::Totals;
use crate::admission::moment::{Moment, duration};

use super::rate::Rate;
use super::{Charge, FoundRate, Limits, Slot, Source, Unit};

/// What this replica may use of a scope's limits, and what the others use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The part of every limit, beside the configured share: of its rate, its depth and the bound
    /// on requests in flight, and of what is left of a day's limit. Above 0, at most 1.
    pub part: f64,
    /// What is unused of the part that was gained with this, from 0 to 1: the rest may be full of
    /// what others sent.
    pub fresh: f64,
    /// The part that this replica will have at least when it needs it.
    pub prospect: f64,
    /// How long it holds; after that nothing goes until there is another.
    pub valid: Duration,
    /// Requests a second that the other replicas send.
    pub others_requests: f64,
    /// Tokens a second that the other replicas send.
    pub others_tokens: f64,
    /// Requests, and tokens as charged, that the others sent since the last part.
    pub others_sent: [f64; 2],
}

impl Default for Part {
    fn default() -> Self {
        Self {
            part: 1.0,
            fresh: 0.0,
            prospect: 1.0,
            valid: Duration::MAX,
            others_requests: 0.0,
            others_tokens: 0.0,
            others_sent: [0.0; 2],
        }
    }
}

/// What is kept of a [`Part`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) part: f64,
    /// The present part in the one that this replica will have when it needs it.
    pub(super) hope: f64,
    /// When it is over.
    pub(super) until: Moment,
    /// Requests and tokens a second that the others send.
    others: [f64; 2],
}

impl Default for Held {
    fn default() -> Self {
        Self { part: 1.0, hope: 1.0, until: Moment::NEVER, others: [0.0; 2] }
    }
}

impl Held {
    /// What a request takes of a rate that is searched, and how many are in flight. Before anything
    /// is known all replicas begin alike, so each request counts for those of the others, too:
    /// together they begin as one would. What a refusal told of the rate is this replica's own.
    pub(super) fn of_all(&self, rate: &Rate, charge: Charge, in_flight: u32) -> (Charge, u32) {
        let prospect = self.part / self.hope;
        if prospect >= 1.0 || rate.searches() {
            return (charge, in_flight);
        }
        let all = |own: f64| super::ceil(own / prospect - ROUNDING);
        let requests = all(charge.requests as f64);
        let charge = Charge { requests, tokens: all(charge.tokens as f64) };
        (charge, u32::try_from(all(in_flight.into())).unwrap_or(u32::MAX))
    }

    /// What of foreign use is not the other replicas', as a part of a limit that gives `rate` cells
    /// a second.
    pub(super) fn foreign(&self, ratio: f64, slot: Slot, rate: f64) -> f64 {
        (ratio - self.others[slot.unit().index()] / rate).max(0.0)
    }
}

/// What a scope sent, and what it would send if it were let.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Requests sent since the scope was made; less where some were refused.
    pub sent_requests: f64,
    /// Tokens, as estimated.
    pub sent_tokens: f64,
    /// Requests that wait.
    pub waiting_requests: f64,
    /// Tokens of those, as estimated.
    pub waiting_tokens: f64,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The configured bound on them, for all replicas.
    pub bound: Option<u32>,
    /// How long requests waited and were served, and those refused for their wait.
    pub totals: Totals,
    /// The sum of the weights of the callers whose requests wait.
    pub weight: u32,
    /// What is not used of this replica's part, from 0 to 1.
    pub unused: f64,
    /// Requests a second that the limits give all replicas together, where known.
    pub limit_requests: Option<f64>,
    /// Tokens a second, likewise, as the upstream charges them.
    pub limit_tokens: Option<f64>,
    /// Tokens that the upstream charges for one that was estimated. Totals don't have it in them:
    /// it changes.
    pub charge_ratio: f64,
}

impl Limits {
    /// Changes this replica's part of every limit.
    pub(crate) fn set_part(&mut self, part: Part, now: Moment) {
        let same = part.part.to_bits() == self.part.part.to_bits();
        self.part = Held {
            part: part.part,
            hope: (part.part / part.prospect.max(part.part)).clamp(0.0, 1.0),
            until: if part.valid == Duration::MAX { Moment::NEVER } else { now.plus(part.valid) },
            others: [part.others_requests, part.others_tokens],
        };
        if !same {
            self.divide(part.fresh, now);
        }
        for entry in &mut self.entries {
            let cells = part.others_sent[entry.slot.unit().index()];
            if cells > 0.0 {
                entry.limit.others_sent(cells, now);
            }
            entry.limit.divide_rest(part.part, now);
        }
    }

    /// The part in force.
    pub(crate) fn part(&self) -> f64 {
        self.part.part
    }

    /// The present part in the one that this replica will have when it needs it.
    pub(super) fn hope(&self) -> f64 {
        self.part.hope
    }

    /// Whether the part will not grow by need alone: what is measured with it says what comes.
    pub(crate) fn has_its_part(&self) -> bool {
        self.part.hope > 0.9
    }

    /// What is left of a wait once this replica has the part that it will have.
    pub(crate) fn hoped(&self, wait: Duration) -> Duration {
        if self.has_its_part() { wait } else { wait.mul_f64(self.part.hope) }
    }

    /// Without a part that holds nothing goes: the next one is looked for soon.
    pub(super) fn lapsed(&self, now: Moment) -> Duration {
        if now < self.part.until { Duration::ZERO } else { LOOK_FOR_PART }
    }

    /// This replica's part of a bound on requests in flight; at least one.
    pub(crate) fn part_of_bound(&self, bound: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the bound")]
        let part = (f64::from(bound) * self.part.part.min(1.0) + ROUNDING) as u32;
        part.max(1)
    }

    /// What was sent, and what the limits give; what waits is the queue's to say.
    pub(crate) fn demand(&self, now: Moment) -> Demand {
        let sent = self.own.sent.total();
        let least = |unit: Unit| {
            let rates = self.each().filter(|(slot, _)| slot.unit() == unit);
            rates
                .filter_map(|(_, dimension)| dimension.shared_rate().map(|rate| rate * self.share))
                .reduce(f64::min)
        };
        let ratio = self.ratio.value();
        let unused = self.each().map(|(slot, limit)| limit.unused(&self.own.of(slot.unit(), ratio), now));
        Demand {
            sent_requests: sent.of(Unit::Requests),
            sent_tokens: sent.of(Unit::Tokens),
            charge_ratio: ratio,
            unused: unused.reduce(f64::min).unwrap_or(0.0),
            limit_requests: least(Unit::Requests),
            limit_tokens: least(Unit::Tokens),
            ..Demand::default()
        }
    }

    /// The limits that the upstream told of here.
    pub(crate) fn learned(&self) -> Vec<(Slot, f64)> {
        // A slot alone says neither a window of its own nor one of several owners.
        let plain = |entry: &&super::Entry| {
            entry.limit.source == Source::Learned
                && self.owners.as_ref().is_none_or(|owners| owners.are_one())
                && (!entry.limit.window_is_told() || duration(entry.limit.window) == entry.slot.window())
        };
        let told = self.entries.iter().filter(plain).map(|entry| (entry.slot, &entry.limit));
        let mut told: Vec<_> = told.map(|(slot, limit)| (slot, limit.stated.round())).collect();
        // In one order, whatever was learned first, and of a slot the least.
        told.sort_by(|one, other| {
            (one.0.index(), one.1).partial_cmp(&(other.0.index(), other.1)).unwrap_or(Ordering::Equal)
        });
        told.dedup_by_key(|(slot, _)| *slot);
        told
    }

    /// Adds a limit that the upstream reported to another replica, or to an earlier process.
    pub(crate) fn apply_peer_limit(&mut self, slot: Slot, limit: f64, now: Moment) {
        if limit >= 1.0 && !self.each().any(|(known, _)| known == slot) {
            self.found(slot.unit());
            self.open(slot, super::Origin::Headers, limit, Source::Learned, now);
        }
    }

    /// What refusals found of limits that nobody tells of.
    pub(in crate::admission) fn found_rates(&self, now: Moment) -> Vec<FoundRate> {
        let of = |rate: &Rate| rate.learned(&self.own.of(rate.unit(), self.ratio.value()), now);
        self.proven_rates().filter_map(of).collect()
    }

    /// An earlier process found this rate, which counts by `weight`.
    pub(in crate::admission) fn recall_rate(&mut self, found: &FoundRate, weight: f64, now: Moment) {
        if !self.each().any(|(slot, _)| slot.unit() == found.unit) {
            self.rates[found.unit.index()] = Some(Box::new(Rate::recalled(found, weight, now)));
        }
    }

    /// Another replica was told to pause.
    pub(crate) fn paused_elsewhere(&mut self, pause: Duration, now: Moment) {
        self.paused_until = self.paused_until.max(now.plus(pause.min(super::USUAL_WINDOW)));
    }
}

/// A replica whose part is over looks for another after this time.
const LOOK_FOR_PART: Duration = Duration::from_millis(50);
/// A third of three is one, however the parts were rounded.
const ROUNDING: f64 = 1e-4;

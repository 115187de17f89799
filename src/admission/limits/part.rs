//! The part of a scope's limits that is this replica's, where several share them, and what it would need.

use crate::admission::moment::Moment;

use super::{Limits, Slot, Unit};

/// What this replica may use of a scope's limits, and what the others use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The part of every limit, beside the configured share; above 0, at most 1.
    pub part: f64,
    /// Requests a second that the other replicas send.
    pub others_requests: f64,
    /// Tokens a second that the other replicas send.
    pub others_tokens: f64,
}

impl Default for Part {
    fn default() -> Self {
        Self { part: 1.0, others_requests: 0.0, others_tokens: 0.0 }
    }
}

impl Part {
    /// What of foreign use is not the other replicas', as a part of a limit that gives so many cells a second.
    pub(super) fn foreign(&self, ratio: f64, slot: Slot, rate: f64) -> f64 {
        let others = match slot.unit() {
            Unit::Requests => self.others_requests,
            Unit::Tokens => self.others_tokens,
        };
        (ratio - others / rate).max(0.0)
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
    /// Requests a second that the limits give all replicas together, where known.
    pub limit_requests: Option<f64>,
    /// Tokens a second, likewise, as the upstream charges them.
    pub limit_tokens: Option<f64>,
    /// Tokens that the upstream charges for one that was estimated. Totals don't have it in them: it changes.
    pub charge_ratio: f64,
}

impl Limits {
    /// Changes this replica's part of every limit.
    pub(crate) fn set_part(&mut self, part: Part, now: Moment) {
        let same = part.part.to_bits() == self.part.part.to_bits();
        self.part = part;
        if !same {
            self.divide(now);
        }
    }

    /// The part in force.
    pub(crate) fn part(&self) -> f64 {
        self.part.part
    }

    /// What was sent, and what the limits give; what waits is the queue's to say.
    pub(crate) fn demand(&self) -> Demand {
        let sent = self.own.sent.total();
        let least = |unit: Unit| {
            let rates = self.each().filter(|(slot, _)| slot.unit() == unit);
            rates
                .filter_map(|(_, dimension)| dimension.shared_rate().map(|rate| rate * self.share))
                .reduce(f64::min)
        };
        Demand {
            sent_requests: sent.of(Unit::Requests),
            sent_tokens: sent.of(Unit::Tokens),
            charge_ratio: self.ratio.value(),
            limit_requests: least(Unit::Requests),
            limit_tokens: least(Unit::Tokens),
            ..Demand::default()
        }
    }
}

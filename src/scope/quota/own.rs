//! What we take and send ourselves, in requests and estimated tokens.

use crate::scope::moment::Moment;

use super::dimension::Own;
use super::sent_log::SentLog;
use super::slot::{Slot, Unit};

pub use crate::estimate::Cost;

/// What was taken from the buckets for one attempt, in cells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

impl Charge {
    pub(super) fn of(self, slot: Slot) -> u64 {
        match slot.unit() {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// The running totals just after an attempt was sent: requests, estimated tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(super) requests: f64,
    pub(super) tokens: f64,
}

impl Marks {
    pub(super) fn of(self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// What we sent ourselves, in requests and estimated tokens.
#[derive(Debug, Default)]
pub(super) struct OwnUse {
    pub(super) requests: SentLog,
    pub(super) tokens: SentLog,
    /// Granted and not yet sent.
    unsent: Cost,
}

impl OwnUse {
    pub(super) fn of(&self, unit: Unit, ratio: f64) -> Own<'_> {
        match unit {
            Unit::Requests => {
                Own { log: &self.requests, ratio: 1.0, unsent: f64::from(self.unsent.requests) }
            }
            Unit::Tokens => Own { log: &self.tokens, ratio, unsent: self.unsent.tokens as f64 },
        }
    }

    pub(super) fn granted(&mut self, cost: Cost) {
        self.unsent.requests = self.unsent.requests.saturating_add(cost.requests);
        self.unsent.tokens = self.unsent.tokens.saturating_add(cost.tokens);
    }

    pub(super) fn no_longer_unsent(&mut self, cost: Cost) {
        self.unsent.requests = self.unsent.requests.saturating_sub(cost.requests);
        self.unsent.tokens = self.unsent.tokens.saturating_sub(cost.tokens);
    }

    /// Our mean estimate of a request that was sent in a span.
    pub(super) fn mean(&self, from: Moment, until: Moment) -> f64 {
        let sent = |log: &SentLog| log.before(until) - log.before(from);
        let requests = sent(&self.requests);
        if requests > 0.0 { sent(&self.tokens) / requests } else { 0.0 }
    }
}

//! What we take and send ourselves, in requests and estimated tokens.

use std::time::Duration;

use crate::scope::moment::Moment;

use super::sent_log::SentLog;
use super::slot::{Slot, Unit};

pub use crate::estimate::Cost;

/// A longer time from send to head says too little about when the upstream took the request.
pub(super) const SHORT_TRIP: Duration = Duration::from_secs(5);

/// What is counted as sent within a span may have been sent just before it.
const CERTAINLY: f64 = 1.02;

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

/// Our own use of what a limit counts: the log in estimated units, and what the upstream charges for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) log: &'a SentLog,
    /// What the upstream is known to have taken, in cells, by when that was known.
    pub(crate) accepted: &'a SentLog,
    pub(crate) ratio: f64,
    /// Granted and not yet sent, in estimated units.
    pub(crate) unsent: f64,
}

impl Own<'_> {
    /// Cells sent since the running total stood at `mark`, and those granted.
    pub(super) fn since(&self, mark: f64) -> f64 {
        ((self.log.total() - mark).max(0.0) + self.unsent) * self.ratio
    }

    /// The running total at a moment after the one at which it stood at `mark`.
    pub(super) fn sent_by(&self, at: Moment, mark: f64) -> f64 {
        // Mostly nothing was sent since.
        if self.log.total() <= mark { mark } else { self.log.before(at).max(mark) }
    }

    /// Whether the upstream took more than `limit` within one `window`: a window or a log never does.
    pub(super) fn exceeded(&self, limit: f64, window: Duration, now: Moment) -> bool {
        self.accepted.trailing(window.saturating_sub(SHORT_TRIP), now) > limit * CERTAINLY
    }
}

/// What we sent ourselves, in requests and estimated tokens.
#[derive(Debug, Default)]
pub(super) struct OwnUse {
    pub(super) requests: SentLog,
    pub(super) tokens: SentLog,
    /// What was taken within a short time of its send, in cells: requests, tokens.
    accepted: [SentLog; 2],
    /// Granted and not yet sent.
    unsent: Cost,
}

impl OwnUse {
    pub(super) fn of(&self, unit: Unit, ratio: f64) -> Own<'_> {
        match unit {
            Unit::Requests => Own {
                log: &self.requests,
                accepted: &self.accepted[0],
                ratio: 1.0,
                unsent: f64::from(self.unsent.requests),
            },
            Unit::Tokens => Own {
                log: &self.tokens,
                accepted: &self.accepted[1],
                ratio,
                unsent: self.unsent.tokens as f64,
            },
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

    /// The upstream took what was sent at `sent`.
    pub(super) fn accepted(&mut self, charge: Charge, sent: Moment, now: Moment) {
        if sent >= now.minus(SHORT_TRIP) {
            self.accepted[0].add(charge.requests as f64, now);
            self.accepted[1].add(charge.tokens as f64, now);
        }
    }

    /// Our mean estimate of a request that was sent in a span.
    pub(super) fn mean(&self, from: Moment, until: Moment) -> f64 {
        let sent = |log: &SentLog| log.before(until) - log.before(from);
        let requests = sent(&self.requests);
        if requests > 0.0 { sent(&self.tokens) / requests } else { 0.0 }
    }
}

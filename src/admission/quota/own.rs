//! What we take and send ourselves, in requests and estimated tokens.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::sent_log::{Sent, SentLog};
use super::slot::{Slot, Unit};

pub use crate::estimate::Cost;

/// A longer time from send to head says too little about when the upstream took the request.
pub(super) const SHORT_TRIP: Duration = Duration::from_secs(5);

/// How finely the log tells what was sent when.
const SENT_BIN: Duration = Duration::from_millis(10);
/// The same of what was taken: it is only asked of windows of a minute and more, whose 2 % are a second.
const ACCEPTED_BIN: Duration = Duration::from_millis(100);

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

/// Running totals, such as those just after an attempt was sent: requests, estimated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    pub(super) requests: f64,
    pub(super) tokens: f64,
}

impl Marks {
    pub(super) fn of_cost(cost: Cost) -> Self {
        Self { requests: f64::from(cost.requests), tokens: cost.tokens as f64 }
    }

    /// What is left without `other`, never less than nothing.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            requests: (self.requests - other.requests).max(0.0),
            tokens: (self.tokens - other.tokens).max(0.0),
        }
    }

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
    pub(crate) log: Sent<'a>,
    /// What the upstream is known to have taken, in cells, by when that was known.
    pub(crate) accepted: Sent<'a>,
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
#[derive(Debug)]
pub(super) struct OwnUse {
    pub(super) sent: SentLog,
    /// What was taken within a short time of its send, in cells.
    accepted: SentLog,
    /// Granted and not yet sent.
    unsent: Cost,
}

impl OwnUse {
    pub(super) fn new() -> Self {
        Self { sent: SentLog::new(SENT_BIN), accepted: SentLog::new(ACCEPTED_BIN), unsent: Cost::default() }
    }

    pub(super) fn of(&self, unit: Unit, ratio: f64) -> Own<'_> {
        let (ratio, unsent) = match unit {
            Unit::Requests => (1.0, f64::from(self.unsent.requests)),
            Unit::Tokens => (ratio, self.unsent.tokens as f64),
        };
        Own { log: self.sent.of(unit), accepted: self.accepted.of(unit), ratio, unsent }
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
            let taken = Marks { requests: charge.requests as f64, tokens: charge.tokens as f64 };
            self.accepted.add(taken, now);
        }
    }

    /// Our mean estimate of a request that was sent in a span.
    pub(super) fn mean(&self, from: Moment, until: Moment) -> f64 {
        let (before, all) = (self.sent.before(from), self.sent.before(until));
        let requests = all.requests - before.requests;
        if requests > 0.0 { (all.tokens - before.tokens) / requests } else { 0.0 }
    }
}

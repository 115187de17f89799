//! What we take and send ourselves, in requests and estimated tokens.

use std::collections::VecDeque;
use std::time::Duration;

use crate::admission::moment::Moment;

use super::sent_log::{Sent, SentLog};
use super::slot::{Slot, Unit};

pub use crate::estimate::Cost;

/// A longer time from send to head says too little about when the upstream took the request.
pub(super) const SHORT_TRIP: Duration = Duration::from_secs(5);

/// How finely the log tells what was sent when.
const SENT_BIN: Duration = Duration::from_millis(10);
/// The same of what was taken: it is only asked of windows of a minute and more, whose 2 % are a
/// second.
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
        self.of_unit(slot.unit())
    }

    pub(super) fn of_unit(self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// Running totals: requests, and estimated tokens. An attempt keeps those that stood just after it
/// was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    pub(super) requests: f64,
    pub(super) tokens: f64,
    /// Other attempts that were in flight then.
    pub(super) in_flight: u32,
}

impl Marks {
    pub(super) fn of_cost(cost: Cost) -> Self {
        Self { requests: f64::from(cost.requests), tokens: cost.tokens as f64, in_flight: 0 }
    }

    /// Whether nothing else was in flight.
    pub(in crate::admission) fn is_alone(self) -> bool {
        self.in_flight == 0
    }

    pub(super) fn more(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            tokens: self.tokens + other.tokens,
            in_flight: self.in_flight,
        }
    }

    /// What is left without `other`, never less than nothing.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            requests: (self.requests - other.requests).max(0.0),
            tokens: (self.tokens - other.tokens).max(0.0),
            in_flight: self.in_flight,
        }
    }

    pub(super) fn of(self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// Our own use of what a limit counts: the log in estimated units, and what the upstream charges
/// for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    unit: Unit,
    of: &'a OwnUse,
    /// What was sent and not refused, by time.
    pub(crate) log: Sent<'a>,
    /// What the upstream is known to have taken, in cells, by when that was known.
    pub(crate) accepted: Sent<'a>,
    pub(crate) ratio: f64,
    /// Granted and not yet sent, in estimated units.
    pub(crate) unsent: f64,
}

impl Own<'_> {
    /// The running total that an attempt bears.
    pub(super) fn mark(&self, marks: Marks) -> f64 {
        marks.of(self.unit)
    }

    /// Whether it counts requests, and not tokens.
    pub(super) fn is_of_requests(&self) -> bool {
        self.unit == Unit::Requests
    }

    /// Cells sent after the attempt that bears `mark` and not refused, and those granted and not
    /// yet sent.
    pub(super) fn since(&self, mark: f64) -> f64 {
        (self.of.sent_since(mark, self.unit) + self.unsent) * self.ratio
    }

    /// The same without what was sent before a moment after the send of that attempt.
    pub(super) fn since_moment(&self, at: Moment, mark: f64) -> f64 {
        let since = self.of.sent_since(mark, self.unit);
        // Mostly nothing was sent since.
        let since = if since > 0.0 { since.min(self.log.total() - self.log.before(at)) } else { since };
        (since.max(0.0) + self.unsent) * self.ratio
    }

    /// The requests that the upstream is known to have taken in the span before `now`. What tokens
    /// it took is an estimate.
    pub(super) fn taken_requests(&self, span: Duration, now: Moment) -> f64 {
        match self.unit {
            Unit::Requests => self.accepted.trailing(span, now),
            Unit::Tokens => 0.0,
        }
    }

    /// All that was sent up to the attempt that bears `mark` and not refused, in cells.
    pub(super) fn until(&self, mark: f64) -> f64 {
        self.of.kept_by(mark, self.unit) * self.ratio
    }

    /// When the oldest of the last `cells` up to that attempt was sent.
    pub(super) fn sent_last(&self, cells: f64, mark: f64) -> Moment {
        let most = self.of.sent_since(mark, self.unit) + cells / self.ratio;
        self.log.trailing_falls_to(most, Duration::ZERO)
    }

    /// Whether the upstream took more than `limit` within one `window`: a window or a log never
    /// does.
    pub(super) fn exceeded(&self, limit: f64, window: Duration, now: Moment) -> bool {
        self.accepted.trailing(window.saturating_sub(SHORT_TRIP), now) > limit * CERTAINLY
    }
}

/// Refused attempts that are remembered. Of more, the level is overstated until the next snapshot
/// of a later attempt.
const MOST_RETRACTED: usize = 64;

/// Attempts that were refused.
#[derive(Debug, Default)]
struct Retracted {
    /// The last ones, oldest first: their marks and their costs.
    each: VecDeque<(Marks, Marks)>,
    /// The cost of all of them.
    all: Marks,
}

/// What we sent ourselves, in requests and estimated tokens.
#[derive(Debug)]
pub(super) struct OwnUse {
    /// What was sent and not refused.
    pub(super) sent: SentLog,
    /// All that was ever sent, refused attempts included: the total that marks are taken of.
    total: Marks,
    /// What was refused: in the total, and counts for nothing. Boxed, since most scopes have none.
    retracted: Option<Box<Retracted>>,
    /// What was taken within a short time of its send, in cells.
    accepted: SentLog,
    /// Granted and not yet sent.
    unsent: Cost,
}

impl OwnUse {
    pub(super) fn new() -> Self {
        Self {
            sent: SentLog::new(SENT_BIN),
            total: Marks::default(),
            retracted: None,
            accepted: SentLog::new(ACCEPTED_BIN),
            unsent: Cost::default(),
        }
    }

    /// Adds an attempt that is sent now, and returns its mark.
    pub(super) fn send(&mut self, cost: Cost, now: Moment) -> Marks {
        let cost = Marks::of_cost(cost);
        self.sent.add(cost, now);
        self.total = self.total.more(cost);
        self.total
    }

    /// The running total, refused attempts included.
    pub(super) fn total(&self) -> Marks {
        self.total
    }

    /// The attempt that bears `mark` was refused: it took nothing.
    pub(super) fn retract(&mut self, cost: Cost, mark: Marks, sent: Moment) {
        let cost = Marks::of_cost(cost);
        self.sent.retract(cost, sent);
        let retracted = self.retracted.get_or_insert_default();
        retracted.all = retracted.all.more(cost);
        if retracted.each.len() == MOST_RETRACTED {
            retracted.each.pop_front();
        }
        retracted.each.push_back((mark, cost));
    }

    /// What was sent after the attempt that bears `mark` and was not refused, in estimated units.
    fn sent_since(&self, mark: f64, unit: Unit) -> f64 {
        let sent = self.total.of(unit) - mark;
        if sent <= 0.0 {
            return 0.0;
        }
        (sent - self.retracted_after(mark, unit)).max(0.0)
    }

    /// The running total at a mark without what was refused, now or later.
    pub(super) fn kept_by(&self, mark: f64, unit: Unit) -> f64 {
        let all = self.retracted.as_ref().map_or(0.0, |retracted| retracted.all.of(unit));
        mark - (all - self.retracted_after(mark, unit))
    }

    fn retracted_after(&self, mark: f64, unit: Unit) -> f64 {
        let Some(retracted) = &self.retracted else { return 0.0 };
        let later = retracted.each.iter().filter(|(at, _)| at.of(unit) > mark);
        later.map(|(_, cost)| cost.of(unit)).sum()
    }

    pub(super) fn of(&self, unit: Unit, ratio: f64) -> Own<'_> {
        let (ratio, unsent) = match unit {
            Unit::Requests => (1.0, f64::from(self.unsent.requests)),
            Unit::Tokens => (ratio, self.unsent.tokens as f64),
        };
        Own { unit, of: self, log: self.sent.of(unit), accepted: self.accepted.of(unit), ratio, unsent }
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
            let taken =
                Marks { requests: charge.requests as f64, tokens: charge.tokens as f64, in_flight: 0 };
            self.accepted.add(taken, now);
        }
    }

    /// The requests that were sent and not refused.
    pub(super) fn requests(&self) -> Sent<'_> {
        self.sent.of(Unit::Requests)
    }

    /// The requests that the upstream took.
    pub(super) fn taken(&self) -> Sent<'_> {
        self.accepted.of(Unit::Requests)
    }

    /// The requests that were sent in a span, and their mean estimate.
    pub(super) fn window_use(&self, from: Moment, until: Moment) -> (f64, f64) {
        let (before, all) = (self.sent.before(from), self.sent.before(until));
        let requests = all.requests - before.requests;
        (requests, if requests > 0.0 { (all.tokens - before.tokens) / requests } else { 0.0 })
    }
}

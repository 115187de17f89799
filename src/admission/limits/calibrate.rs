//! What the upstream charged, against what was estimated: what one answer's headers tell of it.

use crate::admission::moment::{Moment, duration};

use super::charge::Evidence;
use super::limit::Limit;
use super::refusal::Times;
use super::shape::Rule;
use super::{Cost, LimitReport, LimitReports, Limits, Marks, Origin, Slot, Unit};

impl Limits {
    /// Compares what the upstream charged with what was estimated.
    pub(super) fn calibrate(&mut self, reports: &LimitReports, cost: Cost, marks: Marks, times: &Times) {
        let Some(report) = reports.tokens.filter(|report| report.limit > 0) else { return };
        let told = |slot: Slot| {
            let is_it = |entry: &&super::Entry| {
                entry.slot == slot && entry.origin == Origin::Headers && !entry.limit.window_is_told()
            };
            let entry = self.entries.iter().find(is_it);
            entry.map(|entry| &*entry.limit)
        };
        let Some(tokens) = told(Slot::TokensPerMinute) else { return };
        let requests = told(Slot::RequestsPerMinute);
        let at = times.admitted();
        let used = |report: LimitReport| report.limit.saturating_sub(report.remaining) as f64;
        let foreign = requests.is_some_and(|requests| requests.foreign.certain() > 0.0);
        let weighed = !foreign && self.ratio.weighs_mean(tokens.rule(), at);
        let (own_requests, mean) = if weighed { self.window_use(report, tokens, at) } else { (0.0, 0.0) };
        let evidence = Evidence {
            at,
            used: used(report),
            limit: report.limit as f64,
            rate: tokens.rate(),
            reset: report.reset,
            rule: tokens.rule(),
            own: self.own.kept_by(marks.tokens, Unit::Tokens),
            estimated: cost.tokens as f64,
            used_requests: requests.and(reports.requests).map(used),
            mean,
            own_requests,
            foreign,
        };
        if marks.in_flight == 0 && self.own.total().tokens <= marks.tokens {
            self.endpoints.observe(&evidence, cost, self.ratio.value(), times.sent, times.head);
        } else {
            self.endpoints.crowded();
        }
        self.ratio.observe(&evidence);
    }

    /// The requests that we sent in the window that a report counts, and their mean estimate: since
    /// it began, or in the last span as long as it is.
    fn window_use(&self, report: LimitReport, tokens: &Limit, at: Moment) -> (f64, f64) {
        let left = report.reset.filter(|_| tokens.rule() == Rule::Fixed).unwrap_or_default();
        self.own.window_use(at.minus(duration(tokens.window).saturating_sub(left)), at)
    }
}

//! What the upstream charged, against what was estimated: what one answer's headers tell of it.

use crate::admission::moment::{Moment, duration};

use super::charge::Evidence;
use super::dimension::Dimension;
use super::refusal::Times;
use super::shape::Rule;
use super::{Cost, LimitReport, LimitReports, Marks, Quota, Slot};

impl Quota {
    /// Compares what the upstream charged with what was estimated.
    pub(super) fn calibrate(&mut self, reports: &LimitReports, cost: Cost, marks: Marks, times: &Times) {
        let Some(report) = reports.tokens.filter(|report| report.limit > 0) else { return };
        let Some(tokens) = &self.dimensions[Slot::TokensPerMinute.index()] else { return };
        let requests = self.dimensions[Slot::RequestsPerMinute.index()].as_ref();
        let at = times.admitted();
        let used = |report: LimitReport| report.limit.saturating_sub(report.remaining) as f64;
        let foreign = requests.is_some_and(|requests| requests.foreign.certain() > 0.0);
        let weighed = !foreign && self.ratio.weighs_mean(tokens.rule(), at);
        let evidence = Evidence {
            at,
            used: used(report),
            limit: report.limit as f64,
            rate: tokens.rate(),
            reset: report.reset,
            rule: tokens.rule(),
            own: marks.tokens,
            estimated: cost.tokens as f64,
            used_requests: requests.and(reports.requests).map(used),
            mean: if weighed { self.mean(report, tokens, at) } else { 0.0 },
            foreign,
        };
        if self.alone && self.own.sent.total().tokens <= marks.tokens {
            self.endpoints.observe(&evidence, cost, self.ratio.value(), times.sent, times.head);
        } else {
            self.endpoints.crowded();
        }
        self.ratio.observe(&evidence);
    }

    /// Our mean estimate of the requests that a window counts: since it began, or the last ones as long as it is.
    fn mean(&self, report: LimitReport, tokens: &Dimension, at: Moment) -> f64 {
        let left = report.reset.filter(|_| tokens.rule() == Rule::Fixed).unwrap_or_default();
        self.own.mean(at.minus(duration(tokens.window).saturating_sub(left)), at)
    }
}

//! The end of a request: charges its budgets, and updates the metrics, the log and the reports.

use std::sync::atomic::Ordering;

use super::{Attempt, Record, Usage, Wait};
use crate::account::{access_log, spans};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::metrics::{Bounded, ModelSeries, Outcome, TokenKind};
use crate::openai::Endpoint;

impl Record {
    /// Accounts for the request once, however it ended.
    pub(super) fn end(&mut self, now: Instant) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.end_attempt(self.class, now);
        self.pay();
        self.count(now);
        self.account.last_minute.count(now);
        if self.endpoint == Endpoint::Other {
            self.account.unknown.count(now);
        }
        access_log::write(self, &self.account.settings, now);
        spans::send(self, &self.account, now);
        self.account.recent.ended(self.caller, self.class.is_none(), now);
        if let Some(class) = self.class {
            self.account.history.request(class, now);
            self.account.recent.request(self.caller, class, self.mostly_queued(now), now);
            if Outcome::of(Some(class)) != Outcome::ClientClosed {
                self.account.reports.add(
                    self,
                    class,
                    &self.account.caller_name(self.caller),
                    clock::wall(),
                    now,
                );
            }
        }
    }

    /// Charges its caller's budgets: the usage in the response, or, for a success without usage,
    /// the estimate.
    fn pay(&mut self) {
        let Some(budgets) = self.draws.take() else { return };
        let estimate = self.estimated.unwrap_or(0);
        let used = match self.used {
            Some((usage, _)) => usage.input.saturating_add(usage.output),
            None if self.class.is_none() && self.attempts.count() > 0 => estimate,
            None => 0,
        };
        self.account.settings.spending.settle(*budgets, estimate, used, clock::wall());
    }

    fn count(&self, now: Instant) {
        let metrics = &self.account.metrics;
        let series = metrics.caller(self.caller);
        let outcome = self.outcome();
        series.in_flight.dec();
        if series.overflows(self.endpoint) {
            metrics.labels_overflowed.inc(Bounded::Endpoint);
        }
        let pair = series.at(self.endpoint);
        pair.requests.inc(outcome);
        pair.duration.observe(now.saturating_duration_since(self.started).as_secs_f64());
        if let Some(to_answer) = self.to_answer() {
            metrics.time_to_first_byte.observe(self.endpoint, to_answer.as_secs_f64());
            metrics.overhead.observe(self.overhead_until(to_answer).as_secs_f64());
        }
        let queued = self.waits(Wait::Queue);
        series.queue_wait.observe(queued.as_secs_f64());
        if let Some(predicted) = self.predicted.filter(|wait| *wait >= self.account.settings.prediction_floor)
        {
            metrics.queue_prediction.observe(queued.as_secs_f64() / predicted.as_secs_f64());
        }
        if let Some(class) = self.class {
            metrics.errors.inc(class);
        }
        let model = self.model().map(|name| metrics.model(name, outcome == Outcome::Success));
        if let Some(model) = model {
            model.requests.inc(outcome);
            if let Some(head) =
                self.attempts.last().filter(|_| self.class.is_none()).and_then(Attempt::time_to_head)
            {
                model.pace.observe(head, now.saturating_duration_since(self.account.started));
            }
            self.count_speed(model, now);
        }
        let Some((usage, charged)) = self.used else { return };
        let tokens = metrics.tokens(self.caller, model);
        usage.kinds().into_iter().for_each(|(kind, used)| tokens.add(kind, used));
        if let (Some(estimated), 1..) = (self.estimated, charged) {
            metrics.tokens_estimated.inc_by(estimated);
            metrics.estimate_error.observe(estimated as f64 / charged as f64);
        }
    }

    /// Counts the speed of a streamed response, from the attempt's start.
    fn count_speed(&self, model: &ModelSeries, now: Instant) {
        let good = self.streamed && self.class.is_none();
        let (Some(answered), Some(attempt)) = (self.answered.filter(|_| good), self.attempts.last()) else {
            return;
        };
        model.first_event.observe(answered.saturating_duration_since(attempt.started).as_secs_f64());
        if let Some((Usage { output: 2.., .. }, _)) = self.used {
            let tokens = self.used.map_or(2, |(usage, _)| usage.output) - 1;
            model.per_token.observe(now.saturating_duration_since(answered).as_secs_f64() / tokens as f64);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // A relayed error keeps its class, even if the client did not read it to its end.
        if self.class.is_none() {
            let cut = self.account.cutting.load(Ordering::Acquire);
            self.class = Some(if cut { ErrorClass::WeirDraining } else { ErrorClass::WeirClientClosed });
        }
        self.end(clock::now());
    }
}

impl Usage {
    fn kinds(self) -> [(TokenKind, u64); 3] {
        [(TokenKind::Input, self.input), (TokenKind::Cached, self.cached), (TokenKind::Output, self.output)]
    }
}

//! The upstream's response to an attempt, and the reaction to it.

use weir::internals::admission::machine::{Attempt, HeadReport, Outcome, Ticket, Turn};
use weir::internals::admission::{LimitReports, RefusalNumbers, Slot};
use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::{Dimension, Price};

use super::*;

impl World {
    pub(super) fn send(&mut self, id: u64, mut attempt: Attempt) {
        let weir = self.weir_of(id);
        self.machines[weir].sent(&mut attempt, self.now);
        let measured = self.is_measured();
        let slow = self.rng.f64() < self.scenario.slow;
        let seconds = self.seconds();
        self.report.attempts.push(seconds);
        let weather = self
            .scenario
            .weather
            .iter()
            .find(|(from, until, _)| (*from..*until).contains(&seconds))
            .map(|found| found.2);
        let before = self.rng.f64() * self.scenario.before;
        let after = if slow { 60.0 } else { self.rng.f64() * self.scenario.after };
        let call = self.calls.get_mut(&id).unwrap();
        if self.now > call.deadline {
            self.report.late += 1;
        }
        let wait = self.now.seconds_since(call.first);
        let caller = self.scenario.sources[call.source].caller;
        if call.attempts == 0 {
            let turn = Served { since: call.first, at: self.now, deadline: call.deadline };
            self.report.turns.entry(caller).or_default().push(turn);
        }
        if measured {
            self.report.waits.push(wait);
            self.report.waits_of.entry(caller).or_default().push(wait);
            if let Some(predicted) = attempt.predicted() {
                self.report.predictions.push((predicted.as_secs_f64(), wait));
            }
        }
        call.sent = self.now;
        call.attempt = Some(attempt);
        call.attempts += 1;
        call.weather = match weather {
            Some(Weather::Flaky(part)) if self.rng.f64() >= part => None,
            weather => weather,
        };
        if let Some(weather) = call.weather {
            let head = match weather {
                Weather::Flaky(_) => self.now.plus_seconds(before + after),
                Weather::Overloaded(seconds) => self.now.plus_seconds(seconds),
                Weather::Refused => self.now.plus_seconds(0.002),
                Weather::Stall => call.deadline,
            };
            self.push(head, Event::Head(id));
            return;
        }
        call.accounted = self.now.plus_seconds(before);
        call.head = call.accounted.plus_seconds(after);
        let accounted = call.accounted;
        self.push(accounted, Event::Accounted(id));
    }

    pub(super) fn accounted(&mut self, id: u64) {
        let seconds = self.seconds();
        let call = &self.calls[&id];
        let tokens = (call.cost.tokens as f64 * self.scenario.charged).ceil() as u64;
        let price = Price { requests: u64::from(call.cost.requests), tokens };
        let strange = match &mut self.scenario.stranger {
            Some(stranger) => stranger.take(price, seconds),
            None => self.known(price),
        };
        let measured = self.is_measured();
        let call = self.calls.get_mut(&id).unwrap();
        match strange {
            Strange::Taken { limits, later, body } => {
                (call.refused, call.limits, call.body) = (None, limits, body);
                call.head = call.head.plus_seconds(later);
                self.report.accepted += 1;
                if measured {
                    self.report.used.0 += price.requests;
                    self.report.used.1 += price.tokens;
                    let caller = self.scenario.sources[call.source].caller;
                    *self.report.served.entry(caller).or_default() += call.cost.tokens;
                }
            }
            Strange::Refused { class, numbers, hint } => {
                call.limits = LimitReports::default();
                self.report.refused_upstream += 1;
                let minute = (seconds / 60.0) as usize;
                if self.report.refused_by_minute.len() <= minute {
                    self.report.refused_by_minute.resize(minute + 1, 0);
                }
                self.report.refused_by_minute[minute] += 1;
                self.report.refused_knowingly.resize(minute + 1, 0);
                if self.first_news.is_some_and(|first| call.sent >= first) {
                    self.report.refused_knowingly[minute] += 1;
                }
                call.refused = Some(OnItsWay { class, numbers, hint });
            }
            Strange::Failed(class) => {
                call.limits = LimitReports::default();
                call.failed = Some(class);
                call.head = call.accounted;
                self.report.refused_upstream += 1;
            }
        }
        let head = call.head;
        self.push(head, Event::Head(id));
    }

    /// The response of the scenario's upstream.
    pub(super) fn known(&mut self, price: Price) -> Strange {
        let now = self.instant();
        if let Err(refusal) = self.scenario.upstream.try_take(price, now) {
            let slot = slot(refusal.dimension);
            let numbers = RefusalNumbers {
                slot,
                window: None,
                limit: refusal.refusal.limit,
                used: Some(refusal.refusal.used),
                requested: Some(refusal.refusal.requested),
                wait: Some(refusal.refusal.wait),
                apart: false,
            };
            let class = match slot {
                Slot::RequestsPerMinute | Slot::RequestsPerDay => ErrorClass::RateLimitRequests,
                Slot::TokensPerMinute | Slot::TokensPerDay => ErrorClass::RateLimitTokens,
            };
            return Strange::Refused {
                class,
                numbers: self.scenario.numbers.then_some(numbers),
                hint: if self.scenario.hint { numbers.wait } else { None },
            };
        }
        let mut limits = LimitReports::default();
        if self.scenario.headers {
            let [requests, requests_a_day, tokens, tokens_a_day] =
                Dimension::ALL.map(|dimension| self.scenario.upstream.level(dimension, now));
            limits.requests = report(requests.or(requests_a_day));
            limits.tokens = report(tokens.or(tokens_a_day));
        }
        Strange::Taken { limits, later: 0.0, body: 0.0 }
    }

    pub(super) fn head(&mut self, id: u64) {
        let call = self.calls.get_mut(&id).unwrap();
        let mut attempt = call.attempt.take().unwrap();
        if let Some(class) = call.failed.take() {
            self.failed(id, attempt, class, true);
            return;
        }
        if let Some(weather) = call.weather.take() {
            let (class, answers) = match weather {
                Weather::Flaky(_) => (ErrorClass::InternalServerError, true),
                Weather::Overloaded(_) => (ErrorClass::Overloaded, true),
                Weather::Refused => (ErrorClass::ConnectionRefused, false),
                Weather::Stall => (ErrorClass::TimeoutResponse, false),
            };
            self.failed(id, attempt, class, answers);
            return;
        }
        let processing = Some(self.now.since(call.accounted));
        let refused = call.refused.take();
        let (report, body) = (HeadReport { limits: std::mem::take(&mut call.limits), processing }, call.body);
        let weir = self.weir_of(id);
        let machine = &mut self.machines[weir];
        machine.head(&mut attempt, &report, self.now);
        match refused {
            None if body > 0.0 => {
                machine.accepted(&mut attempt, self.now);
                machine.began(&mut attempt, self.now);
                self.calls.get_mut(&id).unwrap().attempt = Some(attempt);
                self.push(self.now.plus_seconds(body), Event::End(id));
                self.pump(weir);
            }
            None => self.answered(id, attempt),
            Some(OnItsWay { class, numbers, hint }) => {
                self.first_news.get_or_insert(self.now);
                let call = self.calls.get_mut(&id).unwrap();
                let earlier = call.refusals;
                call.refusals += 1;
                self.report.most_refusals_of_one = self.report.most_refusals_of_one.max(call.refusals);
                let outcome = Outcome::RateLimited { class, numbers, hint, words: None, earlier };
                let ticket: Ticket = self.machines[weir].settle(attempt, outcome, self.now).unwrap();
                self.pump(weir);
                self.arrive(id, Turn::Requeued(ticket));
            }
        }
    }

    pub(super) fn end(&mut self, id: u64) {
        let attempt = self.calls.get_mut(&id).unwrap().attempt.take().unwrap();
        self.answered(id, attempt);
    }

    pub(super) fn answered(&mut self, id: u64, attempt: Attempt) {
        let weir = self.weir_of(id);
        if let Some(stranger) = &mut self.scenario.stranger {
            stranger.ended();
        }
        self.machines[weir].settle(attempt, Outcome::Done, self.now);
        let call = self.calls.remove(&id).unwrap();
        let source = &self.scenario.sources[call.source];
        let (caller, is_closed) = (source.caller, source.closed > 0);
        self.report.answered_late += u64::from(call.head > call.deadline);
        self.report.finished = self.seconds();
        self.report.done.push((self.seconds(), self.now.seconds_since(call.first)));
        self.report.heads.push((self.seconds(), call.head.seconds_since(call.sent), caller));
        if let Some(payment) = call.retrying {
            self.machines[weir].retry_ended(payment);
        }
        *self.report.answered.entry(caller).or_default() += 1;
        if is_closed {
            self.push(self.now, Event::Closed(call.source));
        }
        self.pump(weir);
    }

    pub(super) fn failed(&mut self, id: u64, mut attempt: Attempt, class: ErrorClass, answers: bool) {
        let weir = self.weir_of(id);
        if answers {
            self.machines[weir].head(&mut attempt, &HeadReport::default(), self.now);
        }
        self.machines[weir].settle(attempt, Outcome::Failed(class), self.now);
        let call = self.calls.get_mut(&id).unwrap();
        if let Some(payment) = call.retrying.take() {
            self.machines[weir].retry_ended(payment);
        }
        let patience_left = call.deadline > self.now.plus_seconds(1.0);
        let retryable = class != ErrorClass::TimeoutResponse;
        if retryable
            && patience_left
            && call.attempts < 6
            && let Ok(payment) = self.machines[weir].withdraw(weir::internals::retry::cost(class), self.now)
        {
            call.retrying = Some(payment);
            let ceiling = (0.5 * 2.0_f64.powi(call.attempts as i32 - 1)).min(8.0);
            let delay = 0.05 + self.rng.f64() * ceiling;
            self.push(self.now.plus_seconds(delay), Event::Retry(id));
        } else {
            let call = self.calls.remove(&id).unwrap();
            let seconds = self.seconds();
            self.report.failed.push(seconds);
            if self.scenario.sources[call.source].closed > 0 {
                self.at(seconds, Event::Closed(call.source));
            }
        }
        self.pump(weir);
    }
}

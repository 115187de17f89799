//! The limits of a replay: the upstream's limiter, and the parts of several replicas.

use crate::admission::machine::{Attempt, Outcome, Turn};
use crate::admission::{LimitReport, LimitReports, Part, RefusalNumbers, Slot};
use crate::classify::ErrorClass;
use crate::retry::Decision;
use crate::simulate::limiter::{Dimension, JointRefusal, Level, Price};

use super::super::recording::End;
use super::{Duration, EXCHANGE, World};

impl World<'_> {
    /// Takes a price from the upstream's limiter; returns the limits in the response's headers.
    pub(super) fn take(&mut self, price: Price) -> Result<LimitReports, JointRefusal> {
        let now = self.instant();
        self.limiter.try_take(price, now)?;
        if !self.plan.told {
            return Ok(LimitReports::default());
        }
        let [requests, requests_a_day, tokens, tokens_a_day] =
            Dimension::ALL.map(|dimension| self.limiter.level(dimension, now));
        Ok(LimitReports {
            requests: requests.or(requests_a_day).map(report),
            tokens: tokens.or(tokens_a_day).map(report),
            ..LimitReports::default()
        })
    }

    pub(super) fn limited(&mut self, index: u32, attempt: Attempt, refused: &JointRefusal) {
        let (slot, class) = match refused.dimension {
            Dimension::RequestsPerMinute => (Slot::RequestsPerMinute, ErrorClass::RateLimitRequests),
            Dimension::RequestsPerDay => (Slot::RequestsPerDay, ErrorClass::RateLimitRequests),
            Dimension::TokensPerMinute => (Slot::TokensPerMinute, ErrorClass::RateLimitTokens),
            Dimension::TokensPerDay => (Slot::TokensPerDay, ErrorClass::RateLimitTokens),
        };
        let wait = Some(refused.refusal.wait);
        let numbers = RefusalNumbers {
            slot,
            window: None,
            limit: refused.refusal.limit,
            used: Some(refused.refusal.used),
            requested: Some(refused.refusal.requested),
            wait,
            apart: false,
        };
        let decision = self.decide(index, class, wait);
        let Some(call) = self.calls[index as usize].as_deref_mut() else { return };
        call.course.rate_limits = call.course.rate_limits.saturating_add(1);
        let earlier = call.refusals;
        call.refusals += 1;
        let outcome =
            Outcome::RateLimited { class, numbers: Some(numbers), hint: wait, words: None, earlier };
        let ticket = self.machines[usize::from(call.machine)].settle(attempt, outcome, self.now);
        match (decision, ticket) {
            (Decision::Requeue, Some(ticket)) => self.ask(index, Turn::Requeued(ticket)),
            _ => self.finish(index, End::Failed),
        }
    }

    pub(super) fn change_limits(&mut self, index: u32) {
        let limits = self.plan.limits[index as usize].1;
        let now = self.instant();
        for (dimension, limit) in Dimension::ALL.into_iter().zip(limits) {
            match (limit, self.limiter.limiter(dimension).is_some()) {
                (Some(limit), true) => self.limiter.set_limit(dimension, limit, now),
                (Some(limit), false) => {
                    self.limiter = std::mem::take(&mut self.limiter).with(dimension, limit, self.plan.shape);
                }
                (None, _) => {}
            }
        }
    }

    /// Gives each machine an even part, and reports to it the amounts that the others sent in the
    /// last interval.
    pub(super) fn share(&mut self, sent: &[(f64, f64)]) {
        let seconds = EXCHANGE.as_secs_f64();
        let rates: Vec<(f64, f64)> = (sent.iter().zip(&self.sent))
            .map(|(now, before)| {
                ((now.0 - before.0).max(0.0) / seconds, (now.1 - before.1).max(0.0) / seconds)
            })
            .collect();
        let all = rates.iter().fold((0.0, 0.0), |sum, rate| (sum.0 + rate.0, sum.1 + rate.1));
        let part = 1.0 / self.machines.len() as f64;
        for (index, machine) in self.machines.iter_mut().enumerate() {
            let own = rates.get(index).copied().unwrap_or_default();
            let (others_requests, others_tokens) = (all.0 - own.0, all.1 - own.1);
            let part = Part {
                part,
                prospect: part,
                fresh: 1.0,
                others_requests,
                others_tokens,
                others_sent: [others_requests * seconds, others_tokens * seconds],
                ..Part::default()
            };
            machine.set_part(part, self.now);
        }
        if !sent.is_empty() {
            self.sent = sent.to_vec();
        }
    }
}

/// The headers as the API writes them: whole units, milliseconds.
fn report(level: Level) -> LimitReport {
    let reset = Duration::from_millis(u64::try_from(level.reset.as_millis()).unwrap_or(u64::MAX));
    LimitReport { limit: level.limit, remaining: level.remaining, reset: Some(reset) }
}

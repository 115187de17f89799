//! The right to make one attempt, settled or given back exactly once.

use std::sync::Arc;
use std::time::Duration;

use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::pool::UpstreamId;

use super::budget::RetryPayment;
use super::front::Scope;
use super::limits::RefusalNumbers;
use super::machine::{Attempt, HeadReport, Outcome, Ticket, Would};
use super::refusal::UpstreamWords;

/// A permit for one attempt. Dropping it gives it back where nothing was sent, else settles it as
/// an attempt of unknown end.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once is given back"]
pub struct Permit {
    pub(super) scope: Arc<Scope>,
    /// Boxed: a permit moves from its grant to the end of the answer's body.
    attempt: Box<Attempt>,
    /// Whether it was given back, or its end told.
    settled: bool,
}

/// What moves is small.
const _: () = assert!(size_of::<Permit>() <= 3 * size_of::<usize>());

impl Permit {
    pub(super) fn new(scope: Arc<Scope>, attempt: Attempt) -> Self {
        Self { scope, attempt: Box::new(attempt), settled: false }
    }

    /// How long the request waited, from its first time in the queue on.
    pub fn queued(&self) -> Duration {
        self.attempt.queued()
    }

    /// How long it was expected to wait when it came; absent where it did not wait.
    pub fn predicted(&self) -> Option<Duration> {
        self.attempt.predicted()
    }

    /// Whether the attempt asks a failing upstream, or a spent quota, if it is back.
    pub fn is_probe(&self) -> bool {
        self.attempt.is_probe()
    }

    /// Whether it asks if a spent quota is back.
    pub fn asks_quota(&self) -> bool {
        self.attempt.asks_quota()
    }

    /// In the observe mode: what would have been done.
    pub fn would(&self) -> Would {
        self.attempt.would().clone()
    }

    /// The upstream that it is for.
    pub fn upstream(&self) -> UpstreamId {
        self.attempt.upstream()
    }

    /// The first byte goes upstream now.
    pub fn sent(&mut self) {
        self.sent_at(clock::now());
    }

    /// [`Permit::sent`], by a clock that was just read.
    pub fn sent_at(&mut self, now: Instant) {
        let attempt = &mut *self.attempt;
        self.scope.with(now, |machine, moment, _| machine.sent(attempt, moment));
    }

    /// [`Permit::head_at`] now.
    #[cfg(test)]
    pub fn head(&mut self, report: &HeadReport, organization: Option<&str>, project: Option<&str>) {
        self.head_at(report, organization, project, false, clock::now());
    }

    /// The head of the answer came: its limit headers set the levels, and its organization and
    /// project may show that other credentials share them. In the same step [`Permit::accepted`]
    /// where the head shows that the answer is a good one. Returns how many limits found no place.
    pub fn head_at(
        &mut self,
        report: &HeadReport,
        organization: Option<&str>,
        project: Option<&str>,
        is_good: bool,
        now: Instant,
    ) -> u32 {
        let attempt = &mut *self.attempt;
        let unfiled = self.scope.with(now, |machine, moment, wake| {
            let unfiled = machine.head(attempt, report, moment);
            if is_good {
                machine.accepted(attempt, moment);
            }
            machine.pump(moment, wake);
            unfiled
        });
        if is_good {
            self.scope.succeeded();
        }
        self.belongs_to(organization, project);
        unfiled
    }

    /// The first event of a streamed answer came that has something of it.
    pub fn began(&mut self, now: Instant) {
        let attempt = &mut *self.attempt;
        if attempt.awaits_its_beginning() {
            self.scope.with(now, |machine, moment, _| machine.began(attempt, moment));
        }
    }

    /// The answer is a good one, whatever becomes of its body: breaker and budget are told at once.
    /// Said twice, it counts once.
    pub fn accepted(&mut self) {
        let attempt = &mut *self.attempt;
        if !attempt.is_accepted() {
            self.scope.with(clock::now(), |machine, moment, wake| {
                machine.accepted(attempt, moment);
                machine.pump(moment, wake);
            });
            self.scope.succeeded();
        }
    }

    /// The answer says how many tokens the input was; what follows from that follows when the
    /// attempt is [done](Self::done_at).
    pub fn used(&mut self, input: u64) {
        self.attempt.used(input);
    }

    /// The attempt met a rate limit, as `earlier` attempts of the same request did: the request may
    /// go back to the head of its queue with the ticket. `words` are for those whom the time in
    /// `hint` does not serve.
    pub fn rate_limited(
        mut self,
        class: ErrorClass,
        numbers: Option<RefusalNumbers>,
        hint: Option<Duration>,
        words: Option<Arc<UpstreamWords>>,
        earlier: u32,
    ) -> Ticket {
        let now = clock::now();
        let fallback = self.scope.moment(now);
        self.settle(Outcome::RateLimited { class, numbers, hint, words, earlier }, now)
            .unwrap_or(Ticket { since: fallback, not_before: fallback })
    }

    /// The attempt failed; breaker and budget are told.
    pub fn fail(mut self, class: ErrorClass) {
        self.settle(Outcome::Failed(class), clock::now());
    }

    /// The upstream said that a quota is spent: with its words the account's, which is blocked.
    pub fn quota_exhausted(mut self, answer: Option<UpstreamWords>) {
        self.settle(Outcome::QuotaExhausted(answer), clock::now());
    }

    /// [`Permit::done_at`] now.
    #[cfg(test)]
    pub fn done(self) {
        self.done_at(clock::now());
    }

    /// The attempt succeeded: its body ended as it should. It earns a part of a retry, unless it
    /// was [accepted](Self::accepted) before.
    pub fn done_at(mut self, now: Instant) {
        self.scope.succeeded();
        self.settle(Outcome::Done, now);
    }

    fn belongs_to(&self, organization: Option<&str>, project: Option<&str>) {
        if let Some(organization) = organization {
            self.scope.identified(organization, project.unwrap_or_default());
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Instant) -> Option<Ticket> {
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        let attempt = &mut *self.attempt;
        self.scope.with(now, |machine, moment, wake| {
            let ticket = machine.end(attempt, outcome, moment);
            machine.pump(moment, wake);
            ticket
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Outcome::Dropped, clock::now());
        }
    }
}

/// A retry that was paid for; it counts as concurrent until it is dropped.
#[derive(Debug)]
#[must_use = "hold it until the retry ended"]
pub struct RetryTicket {
    pub(super) scope: Arc<Scope>,
    payment: RetryPayment,
}

impl RetryTicket {
    pub(super) fn new(scope: Arc<Scope>, payment: RetryPayment) -> Self {
        Self { scope, payment }
    }
}

impl Drop for RetryTicket {
    fn drop(&mut self) {
        let payment = self.payment;
        self.scope.with(clock::now(), |machine, _, _| machine.retry_ended(payment));
    }
}

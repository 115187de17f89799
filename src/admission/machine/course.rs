//! The course of an attempt as the machine is told of it: sent, answered, found good, ended; and
//! the retry that may follow.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::budget::{BudgetExhausted, RetryPayment};
use crate::admission::concurrency::Concurrency;
use crate::admission::limits::{FIRST_WAIT, Refusal, RefusalNumbers, Times, Unit, Verdict};
use crate::admission::moment::Moment;
use crate::admission::refusal::UpstreamWords;
use crate::classify::ErrorClass;
use crate::retry::{self, Health, MilliTokens};

use super::Machine;
use super::attempt::{Attempt, HeadReport, Outcome};
use super::request::Ticket;

/// How far apart those come back at most who were told the same time.
const MOST_SPREAD: Duration = Duration::from_secs(1);
/// The longest wait of a request that meets rate limits again and again: once in 16 s is no load,
/// and still several tries within a caller's usual timeout.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// The least time until a refused request may go again, which met `earlier` rate limits before this
/// one. A limit that is believed free and refuses again and again is not known well enough to be
/// asked at the pace of its own hints. Half of the wait is random, so that requests refused
/// together do not come back together.
fn wait_after(earlier: u32, rng: &mut fastrand::Rng) -> Duration {
    let Some(doublings) = earlier.checked_sub(1) else { return Duration::ZERO };
    let most = FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT);
    most.mul_f64(0.5 + 0.5 * rng.f64())
}

/// What a limit counts by the class of its refusal, where that says so.
fn unit_of(class: ErrorClass) -> Option<Unit> {
    let named = |of, unit| (class == of).then_some(unit);
    named(ErrorClass::RateLimitTokens, Unit::Tokens)
        .or_else(|| named(ErrorClass::RateLimitRequests, Unit::Requests))
}

impl<W> Machine<W> {
    /// The first byte of an attempt goes upstream.
    pub fn sent(&mut self, attempt: &mut Attempt, now: Moment) {
        if attempt.sent.is_some() {
            return;
        }
        attempt.sent = Some(now);
        let member = self.members.of_mut(attempt.member);
        attempt.marks = member.limits.sent(attempt.cost, now);
        member.breaker.sent(now);
        if let Some(found) = &mut member.found {
            attempt.flight = Some(found.sent(attempt.cost.tokens, member.in_flight));
        }
    }

    /// The first event of a streamed answer came that has something of it.
    pub fn began(&mut self, attempt: &mut Attempt, now: Moment) {
        let found = self.members.of_mut(attempt.member).found.as_mut();
        if let (Some(found), Some(flight), Some(sent), None) =
            (found, attempt.flight, attempt.sent, attempt.began)
        {
            attempt.began = Some(now);
            found.began(flight, now.seconds_since(sent), now);
        }
    }

    /// An attempt ended, well or not: what that tells of the bound on attempts in flight.
    fn landed(&mut self, attempt: &Attempt, outcome: &Outcome, now: Moment) {
        let member = self.members.of_mut(attempt.member);
        let Some(sent) = attempt.sent else { return };
        if let (Outcome::Done, Some(found), Some(flight)) = (outcome, &mut member.found, attempt.flight) {
            let first = attempt.began.map(|began| began.seconds_since(sent));
            found.ended(flight, first, now.seconds_since(sent), now);
        }
        if let Outcome::RateLimited { class: ErrorClass::SlowDown, .. } = outcome {
            let in_flight = member.in_flight;
            if !attempt.marks.is_alone() {
                let new = || Box::new(Concurrency::of_refusals(in_flight));
                let found = member.found.get_or_insert_with(new);
                found.refused(attempt.flight, in_flight.saturating_sub(1), now);
            } else if let Some(found) = &mut member.found {
                found.refused_alone();
            }
        }
    }

    /// The head of the answer came. Returns how many limits that it tells of found no place.
    pub fn head(&mut self, attempt: &mut Attempt, report: &HeadReport, now: Moment) -> u32 {
        let Some(sent) = attempt.sent.filter(|_| attempt.head.is_none()) else { return 0 };
        attempt.head = Some(now);
        attempt.processing = report.processing;
        let member = self.members.of_mut(attempt.member);
        member.breaker.no_longer_headless(Some(now.since(sent)), now);
        let times = Times { sent, head: now, processing: report.processing };
        member.limits.told(&report.limits, attempt.cost, attempt.charge, attempt.marks, &times, now)
    }

    /// The upstream's limits took the attempt: its answer is a good one, or blames the request.
    /// Only the outcome says so: a refusal may come in a 200's first event, or with another status
    /// than 429.
    fn limits_took(&mut self, attempt: &mut Attempt, now: Moment) {
        if let Some(sent) = attempt.sent.filter(|_| !std::mem::replace(&mut attempt.taken, true)) {
            let limits = &mut self.members.of_mut(attempt.member).limits;
            limits.accepted(attempt.charge, attempt.marks, attempt.paced, sent, now);
        }
    }

    /// The attempt was answered with a failure that a limiter may answer too. Returns whether it is
    /// taken for that: then it says nothing of the upstream's health.
    fn may_be_for_load(&mut self, attempt: &mut Attempt, sent: Moment, now: Moment) -> bool {
        if std::mem::replace(&mut attempt.taken, true) {
            return false;
        }
        let member = self.members.of_mut(attempt.member);
        let times = Times { sent, head: attempt.head.unwrap_or(now), processing: attempt.processing };
        let Attempt { cost, charge, marks, paced, .. } = *attempt;
        let refusal = Refusal {
            unit: None,
            by_load: true,
            numbers: None,
            hint: None,
            cost,
            charge,
            marks,
            times: &times,
        };
        let is_outage = member.breaker.outage().is_some();
        member.limits.failed(&refusal, is_outage, paced, &mut self.rng, now)
    }

    /// Whether no limit took the attempt, as it is larger than one: the upstream said so, or failed
    /// before it looked.
    fn passed_no_limit(&mut self, attempt: &Attempt, class: ErrorClass) -> bool {
        class == ErrorClass::RequestExceedsLimit
            || retry::health(class) == Health::Failing
                && self.members.of_mut(attempt.member).limits.share_of(attempt.charge) > 1.0
    }

    /// The answer is a good one. Its body may take minutes; that the upstream works is known now.
    pub fn accepted(&mut self, attempt: &mut Attempt, now: Moment) {
        if std::mem::replace(&mut attempt.accepted, true) {
            return;
        }
        self.limits_took(attempt, now);
        self.budget.succeeded();
        let member = self.members.of_mut(attempt.member);
        member.spent.charged(attempt.granted);
        member.hold.accepted(attempt.granted);
        if attempt.counted {
            let probe = std::mem::take(&mut attempt.probe);
            let settings = &self.settings.breaker;
            member.breaker.ended(Health::Alive, probe, attempt.granted, settings, &mut self.rng, now);
        }
    }

    /// How long the head of an answer usually takes.
    pub fn typical_head(&self) -> Option<Duration> {
        self.members.typical().breaker.typical_head()
    }

    /// An attempt ended. A rate limit gives a ticket for the head of the queue.
    pub fn settle(&mut self, mut attempt: Attempt, outcome: Outcome, now: Moment) -> Option<Ticket> {
        self.end(&mut attempt, outcome, now)
    }

    /// [`Machine::settle`], without moving the attempt: only for who makes sure that it ends once.
    pub(crate) fn end(&mut self, attempt: &mut Attempt, outcome: Outcome, now: Moment) -> Option<Ticket> {
        self.landed(attempt, &outcome, now);
        let member = self.members.of_mut(attempt.member);
        debug_assert!(member.in_flight > 0, "each attempt ends once");
        member.in_flight = member.in_flight.saturating_sub(1);
        let began = attempt.granted;
        self.admitted.totals.served += now.since(began).as_secs_f64();
        if attempt.sent.is_some() && attempt.head.is_none() {
            member.breaker.no_longer_headless(None, now);
        }
        if attempt.sent.is_none() {
            member.limits.give_back(attempt.cost, attempt.charge, now);
        }
        let (health, ticket) = match outcome {
            Outcome::Dropped => (Health::Unknown, None),
            Outcome::Done => {
                self.accepted(attempt, now);
                if let (Some(input), Some(sent)) = (attempt.input, attempt.sent) {
                    self.members.of_mut(attempt.member).limits.used(attempt.cost, input, sent, now);
                }
                (Health::Unknown, None)
            }
            // A caller in a hurry says nothing about the upstream.
            Outcome::Failed(ErrorClass::TimeoutResponse)
                if !attempt.probe && now.since(began) < self.settings.breaker.stall =>
            {
                (Health::Unknown, None)
            }
            Outcome::Failed(class) => {
                let mut health = retry::health(class);
                match attempt.sent {
                    Some(sent) if self.passed_no_limit(attempt, class) => {
                        let limits = &mut self.members.of_mut(attempt.member).limits;
                        limits.too_large(attempt.cost, attempt.charge, attempt.marks, sent, now);
                    }
                    Some(sent) if attempt.head.is_some() && class.may_be_for_load() => {
                        if self.may_be_for_load(attempt, sent, now) {
                            health = Health::Unknown;
                        }
                    }
                    // Any other answer passed the limits, whatever it says: a failing upstream is
                    // the breaker's concern.
                    Some(_) if health == Health::Alive || attempt.head.is_some() => {
                        self.limits_took(attempt, now);
                    }
                    Some(_) | None => {}
                }
                if health == Health::Failing {
                    self.last_failure = Some(class);
                    self.members.of_mut(attempt.member).last_failure = Some(class);
                }
                (health, None)
            }
            Outcome::QuotaExhausted(answer) => {
                if let Some(answer) = answer {
                    self.members.of_mut(attempt.member).spent.trip(answer, self.settings.quota_probe, now);
                }
                (Health::Alive, None)
            }
            Outcome::RateLimited { class, numbers, hint, words, earlier } => {
                let ticket = self.rate_limited(attempt, class, numbers.as_ref(), (hint, words), earlier, now);
                (retry::health(class), Some(ticket))
            }
        };
        if attempt.counted {
            self.members.of_mut(attempt.member).breaker.ended(
                health,
                attempt.probe,
                began,
                &self.settings.breaker,
                &mut self.rng,
                now,
            );
        }
        ticket
    }

    /// An attempt met a rate limit, or a bound on what is in flight: what that tells of them, and
    /// when its request may go again.
    fn rate_limited(
        &mut self,
        attempt: &Attempt,
        class: ErrorClass,
        numbers: Option<&RefusalNumbers>,
        (hint, words): (Option<Duration>, Option<Arc<UpstreamWords>>),
        earlier: u32,
        now: Moment,
    ) -> Ticket {
        self.counts.rate_limited += 1;
        let sent = attempt.sent.unwrap_or(attempt.granted);
        let head = attempt.head.unwrap_or(now);
        let times = Times { sent, head, processing: attempt.processing };
        let refusal = Refusal {
            unit: unit_of(class),
            by_load: class == ErrorClass::SlowDown,
            numbers,
            hint,
            cost: attempt.cost,
            charge: attempt.charge,
            marks: attempt.marks,
            times: &times,
        };
        let member = self.members.of_mut(attempt.member);
        // Of a bound on what is in flight no rate is to be learned. An attempt that was alone
        // met no such bound.
        let by_bound = class == ErrorClass::SlowDown && !attempt.marks.is_alone();
        let queues = by_bound && member.found.as_ref().is_some_and(|found| found.is_of_first_events());
        if let Some(hint) = hint.filter(|_| !queues) {
            // A time in the message's own numbers is this request's; one told beside them
            // holds for all.
            let for_all = numbers.is_none_or(|numbers| numbers.wait.is_none());
            member.hold.refused(hint, for_all, words, now);
        }
        let verdict = if by_bound {
            member.limits.too_large(attempt.cost, attempt.charge, attempt.marks, sent, now);
            Verdict { not_before: now }
        } else {
            member.limits.refused(&refusal, &mut self.rng, now)
        };
        // Those who were told the same time do not come back together. Numbers tell each
        // its own.
        let not_before = match (hint, numbers) {
            (Some(hint), None) => {
                let spread = (hint / 2).clamp(FIRST_WAIT, MOST_SPREAD).mul_f64(self.rng.f64());
                verdict.not_before.max(now.plus(hint)).plus(spread)
            }
            (None, _) | (Some(_), Some(_)) => verdict.not_before,
        };
        let not_before = not_before.max(now.plus(wait_after(earlier, &mut self.rng)));
        Ticket { since: attempt.since, not_before }
    }

    /// Pays `cost` for a retry. While the breaker blocks it costs nothing: it waits for a probe's
    /// success. So it does where the upstream fails by the load: it goes in its turn, at a rate
    /// that the upstream is found to take.
    ///
    /// # Errors
    /// When the budget allows none now.
    pub fn withdraw(&mut self, cost: MilliTokens, now: Moment) -> Result<RetryPayment, BudgetExhausted> {
        if self.members.outage(None).is_some() {
            return Ok(RetryPayment::Free);
        }
        let member = self.members.typical();
        if member.limits.sheds() {
            return Ok(RetryPayment::Free);
        }
        if self.rng.f64() < member.breaker.denies_retries(&self.settings.breaker, now) {
            return Err(BudgetExhausted);
        }
        self.budget.withdraw(cost, self.members.in_flight(), &self.settings.budget)?;
        Ok(RetryPayment::Counted)
    }

    /// A retry ended, or was never made.
    pub fn retry_ended(&mut self, payment: RetryPayment) {
        match payment {
            RetryPayment::Counted => self.budget.returned(),
            RetryPayment::Free => {}
        }
    }
}

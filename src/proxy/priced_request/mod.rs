//! One request, from its first attempt to the one response that its caller gets.

mod respond;

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tracing::Instrument as _;

use super::allowance::Allowance;
use super::attempt::{Answer, AttemptOutcome, attempt};
use super::body::Body;
use super::call::Call;
use super::configured_credential::ConfiguredCredential;
use super::destination::Destination;
use super::first_event::Awaited;
use super::labels::{stop_label, would_have};
use super::{Policy, Proxy, settle};
use crate::account::{Record, Wait};
use crate::admission::{Admission, Ask, BudgetExhausted, Permit, Refused, RetryTicket, Route, Scope, Turn};
use crate::caller::Caller;
use crate::classify::{Classified, ErrorClass, Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::response;
use crate::retry::{self, Decision, Situation, StopReason};

/// A request that was read and priced.
pub(super) struct PricedRequest<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) policy: &'a Policy,
    pub(super) caller: &'a Caller,
    pub(super) scope: Arc<Scope>,
    pub(super) call: Call,
    pub(super) record: Box<Record>,
    /// Attempts that were requeued at the head of the queue. Waiting for a limit is not a retry.
    pub(super) requeues: u32,
    /// The upstreams that the request may go to.
    pub(super) route: Route,
}

/// A failed attempt. The caller gets its response if no later attempt succeeds.
pub(super) struct FailedAttempt {
    pub(super) class: ErrorClass,
    /// The error response, or the reason why there is none.
    pub(super) result: Result<Answer, Failure>,
    pub(super) classified: Option<Box<Classified>>,
}

impl FailedAttempt {
    /// The response of a successful attempt, or the failure.
    pub(super) fn of(outcome: AttemptOutcome) -> Result<Answer, Box<Self>> {
        match outcome {
            AttemptOutcome::Answered(answer) => Ok(answer),
            AttemptOutcome::Refused(answer, classified) => Err(Box::new(Self {
                class: classified.class,
                result: Ok(answer),
                classified: Some(classified),
            })),
            AttemptOutcome::Broken(answer) => {
                Err(Box::new(Self { class: ErrorClass::StreamCut, result: Ok(answer), classified: None }))
            }
            AttemptOutcome::Failed(failure) => {
                Err(Box::new(Self { class: failure.kind.class(), result: Err(failure), classified: None }))
            }
        }
    }
}

impl FailedAttempt {
    /// Whether the attempt was ended because its stream did not begin in time.
    fn is_late_stream(&self) -> bool {
        self.result.as_ref().is_err_and(|failure| failure.kind == FailureKind::FirstEventTimeout)
    }
}

/// The next step after a failed attempt.
pub(super) enum Next {
    /// Another attempt, with this queue position, after this pause.
    Again(Turn, Duration, Option<RetryTicket>),
    /// Relay the response. `stop_sdk` tells the SDK not to retry.
    Stop { stop_sdk: bool },
}

/// Shortest useful time for a response: with less time left, a retry is not worth its slot.
const MIN_RESPONSE_TIME: Duration = Duration::from_millis(500);

impl PricedRequest<'_> {
    /// Runs a priced request to its response: admit, attempt, classify, retry or stop, respond.
    /// `now` is when the request was read.
    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    pub(super) fn run(mut self, mut now: Instant) -> impl Future<Output = Response<Body>> + Send {
        async move {
            let (mut turn, mut pause, mut ticket) = (Turn::First, Duration::ZERO, None::<RetryTicket>);
            let mut last: Option<Box<FailedAttempt>> = None;
            let mut renewed = false;
            // Check the caller's own limits.
            match self.own_allowance(now) {
                Allowance::Now => {}
                Allowance::Never(own) => return self.refuse_own(own),
                Allowance::Later(its_turn) => {
                    self.call.head.release_buffer();
                    let admitted = its_turn.await;
                    let waited = clock::now() - now;
                    self.record.waited(Wait::Queue, waited);
                    now += waited;
                    if let Err(refusal) = admitted {
                        let own = self.proxy.random(|rng| response::ceiling(&refusal, rng));
                        return self.refuse_own(Box::new(own));
                    }
                }
            }
            loop {
                // Admit.
                let (mut permit, granted) = match self.admit(turn, now).await {
                    Ok(admitted) => admitted,
                    Err(refused) => {
                        // The attempt is not made, so its pause is not Weir's latency.
                        self.record.waited(Wait::Backoff, pause);
                        return self.turned_away(&refused, last);
                    }
                };
                // Attempt and classify.
                self.record.attempt(pause, permit.is_probe(), granted);
                if permit.asks_quota() {
                    self.record.quota_probed();
                }
                self.record.goes_to(permit.upstream());
                self.await_first_event(granted);
                let Self { proxy, policy, call, record, .. } = &mut self;
                let to = Destination::of(&permit, policy, &proxy.policies, last.is_none());
                let worker = proxy.worker;
                let span = tracing::debug_span!("attempt", number = record.attempts().count());
                let outcome = if span.is_disabled() {
                    attempt((&to, worker), call, &mut permit, record, policy, granted).await
                } else {
                    let attempt = attempt((&to, worker), call, &mut permit, record, policy, granted);
                    Box::pin(attempt.instrument(span)).await
                };
                drop(to);
                drop(ticket.take());
                let failed = match FailedAttempt::of(outcome) {
                    // Respond. The end of the response's body accounts for the request.
                    Ok(answer) => {
                        tracing::debug!(status = answer.head.status.as_u16(), "the attempt succeeded");
                        return self.succeed(answer, permit);
                    }
                    Err(failed) => failed,
                };
                tracing::debug!(class = failed.class.as_str(), "the attempt failed");
                self.record.attempt_failed(failed.class, clock::now());
                // Retry or stop.
                if !renewed && self.has_a_newer_key(&failed) {
                    renewed = true;
                    let FailedAttempt { class, result, classified } = &*failed;
                    settle::failed(permit, *class, result, classified.as_deref());
                    (turn, pause, ticket) = (Turn::Retry, Duration::ZERO, None);
                    last = Some(failed);
                    now = clock::now();
                    continue;
                }
                match self.decide(&failed, permit) {
                    Next::Stop { stop_sdk } => return self.pass_on(failed, stop_sdk),
                    Next::Again(next, delay, paid) => {
                        tracing::debug!(
                            pause_ms = pause.as_millis(),
                            requeued = matches!(next, Turn::Requeued(_)),
                            "tries again"
                        );
                        (turn, pause, ticket) = (next, delay, paid);
                        last = Some(failed);
                        clock::sleep(pause).await;
                        now = clock::now();
                    }
                }
            }
        }
    }

    /// Sets the first-event limit of a new attempt.
    fn await_first_event(&mut self, since: Instant) {
        let Some(configured) = self.policy.first_event_timeout.filter(|_| self.call.streams) else { return };
        let limit = self.proxy.first_events.timeout(configured, self.record.model(), self.call.cost.tokens);
        self.call.head.first_event = Some(Awaited { since, limit });
    }

    /// Records the time to the first event, or the time waited without one.
    fn learn_first_event(&self, now: Instant) {
        if let Some(awaited) = self.call.head.first_event {
            let took = now.saturating_duration_since(awaited.since);
            self.proxy.first_events.observe(self.record.model(), self.call.cost.tokens, took);
        }
    }

    /// Records the early head that the caller got before the response.
    fn note_early_head(&mut self) {
        if let Some(at) = self.call.head.keep_alive.as_ref().and_then(|keep_alive| keep_alive.answered()) {
            self.record.answered(StatusCode::OK, at);
            self.record.set_streamed(true);
        }
    }

    /// Whether the upstream refused the configured key and a newer key is loaded. A refused attempt
    /// had no effect, so repeating it with the newer key is safe.
    fn has_a_newer_key(&self, failed: &FailedAttempt) -> bool {
        let refused =
            failed.result.as_ref().is_ok_and(|answer| answer.head.status == StatusCode::UNAUTHORIZED);
        refused
            && self.call.body.can_repeat()
            && self.call.head.configured.as_ref().is_some_and(ConfiguredCredential::was_rotated)
    }

    pub(super) fn ask(&self, turn: Turn) -> Ask {
        Ask {
            caller: self.caller.id,
            weight: self.caller.weight,
            lane: self.call.head.lane,
            cost: self.call.cost,
            body_bytes: self.call.body.bytes().len(),
            deadline: self.call.head.deadline.turn,
            head_due: self.call.head.deadline.stated,
            turn,
            mode: self.call.head.mode,
            route: self.route,
        }
    }

    /// Waits for admission. Returns the permit, and when it was granted.
    pub(super) async fn admit(&mut self, turn: Turn, asked: Instant) -> Result<(Permit, Instant), Refused> {
        let mut granted = asked;
        let admitted = match self.scope.ask(&self.ask(turn), asked) {
            Admission::Granted(permit) => Ok(permit),
            Admission::Refused(refused) => Err(refused),
            Admission::Waits(waiting) => {
                self.call.head.release_buffer();
                let admitted = waiting.await;
                granted = clock::now();
                self.record.waited(Wait::Queue, granted - asked);
                admitted
            }
        };
        let permit = admitted?;
        tracing::debug!(waited_ms = (granted - asked).as_millis(), "admitted");
        if let Some(predicted) = permit.predicted() {
            self.record.predicted(predicted);
        }
        if let Some(would) = would_have(&permit.would()) {
            self.proxy.account.metrics().observe_would.inc(would);
        }
        Ok((permit, granted))
    }

    /// The input of the retry decision after a failed attempt; without one, the situation after any
    /// failure.
    pub(super) fn situation(&self, failed: Option<&FailedAttempt>, now: Instant) -> Situation {
        let classified = failed.and_then(|failed| failed.classified.as_deref());
        let head = &self.call.head;
        Situation {
            class: failed.map_or(ErrorClass::WeirInternal, |failed| failed.class),
            safety: self.call.safety,
            may_have_run: match (failed.map(|failed| &failed.result), classified) {
                (Some(Err(failure)), _) => failure.sent,
                (_, Some(classified)) => classified.may_have_run(),
                (Some(Ok(_)) | None, None) => true,
            },
            committed: false,
            late_stream: failed.is_some_and(FailedAttempt::is_late_stream),
            replayable: self.call.body.can_repeat(),
            forbidden: match (failed.map(|failed| &failed.result), classified) {
                (Some(Err(failure)), _) => failure.is_lasting(),
                (_, classified) => {
                    classified.is_some_and(|classified| classified.should_retry == Some(false))
                }
            },
            excluded: self.policy.never_retried.contains(&head.endpoint),
            attempts: self.record.attempts().count().max(1).saturating_sub(self.requeues),
            requeues: self.requeues,
            hint: classified.and_then(|classified| classified.hint),
            left: head.deadline.turn.saturating_duration_since(now),
            queue: self.scope.expected_wait(&self.ask(Turn::Retry)),
            // Without a stated timeout the caller waits for as long as the response takes.
            answer: if head.deadline.stated {
                self.scope.typical_head().unwrap_or_default().max(MIN_RESPONSE_TIME)
            } else {
                Duration::ZERO
            },
        }
    }

    /// Settles a failed attempt, and decides the next step.
    pub(super) fn decide(&mut self, failed: &FailedAttempt, permit: Permit) -> Next {
        if failed.is_late_stream() {
            self.learn_first_event(clock::now());
        }
        let class = failed.class;
        let classified = failed.classified.as_deref();
        let upstream = permit.upstream();
        let has_other = self.route.pin.is_none() && self.scope.has_other(upstream);
        if has_other {
            self.route.after = Some(upstream);
        }
        let situation = self.situation(Some(failed), clock::now());
        if has_other && self.is_of_the_upstream(failed) {
            return self.move_on(failed, permit, &situation);
        }
        let decision = self.proxy.random(|rng| retry::decide(&situation, &self.policy.retry, rng));
        match decision {
            Decision::Requeue => {
                let body = || settle::body_of(failed.result.as_ref().ok());
                let place = settle::rate_limited(permit, class, classified, body, self.requeues);
                self.requeues += 1;
                self.proxy.account.rate_limited(&self.record, self.requeues, clock::wall());
                Next::Again(Turn::Requeued(place), Duration::ZERO, None)
            }
            Decision::After { delay, cost } => {
                settle::failed(permit, failed.class, &failed.result, classified);
                // Another upstream has not failed, so no backoff is needed.
                let delay = if has_other { Duration::ZERO } else { delay };
                match self.scope.retry_ticket(cost) {
                    Ok(ticket) => Next::Again(Turn::Retry, delay, Some(ticket)),
                    Err(BudgetExhausted) => self.stop(&situation, StopReason::Budget),
                }
            }
            Decision::Stop(reason) => {
                settle::failed(permit, failed.class, &failed.result, classified);
                self.stop(&situation, reason)
            }
        }
    }

    /// Whether an error concerns the upstream and not the request: its key is refused, or its quota
    /// is spent. Other upstreams may succeed, and the attempt had no effect.
    fn is_of_the_upstream(&self, failed: &FailedAttempt) -> bool {
        let refused =
            failed.result.as_ref().is_ok_and(|answer| answer.head.status == StatusCode::UNAUTHORIZED);
        self.call.body.can_repeat() && (failed.class.is_quota() || refused && self.policy.upstreams.swaps())
    }

    /// Takes the upstream out of service, and sends the request to another one at once.
    fn move_on(&mut self, failed: &FailedAttempt, permit: Permit, situation: &Situation) -> Next {
        let class = failed.class;
        match failed.classified.as_deref() {
            Some(classified) => settle::out_of_service(permit, classified),
            None => permit.fail(class),
        }
        if situation.attempts >= self.policy.retry.max_attempts {
            return self.stop(situation, StopReason::Attempts);
        }
        match self.scope.retry_ticket(retry::cost(ErrorClass::Overloaded)) {
            Ok(ticket) => Next::Again(Turn::Retry, Duration::ZERO, Some(ticket)),
            Err(BudgetExhausted) => self.stop(situation, StopReason::Budget),
        }
    }

    fn stop(&mut self, situation: &Situation, reason: StopReason) -> Next {
        if let Some(label) = stop_label(reason) {
            self.record.retries_stopped(label);
        }
        let attempts = self.record.attempts().count();
        Next::Stop { stop_sdk: retry::stops_sdk(situation.class, Some(reason), attempts, situation.hint) }
    }
}

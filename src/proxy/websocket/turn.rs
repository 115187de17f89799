//! One turn of a session: a `response.create` with its permit and its record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::context::Context;
use crate::account::{Begin, ErrorDetail, Record, RequestId, Usage, Wait};
use crate::admission::{self, Ask, BudgetExhausted, Cost, HeadReport, Permit, Refused, RetryTicket, Scope};
use crate::caller::Mode;
use crate::classify::{self, Classified, ErrorClass};
use crate::clock::{self, Instant};
use crate::metrics::{RetryStop, WouldHave};
use crate::openai::endpoint::Named;
use crate::openai::websocket::{self as events, ClientEvent};
use crate::openai::{AnswerHeaders, usage};
use crate::proxy::allowance::Allowance;
use crate::proxy::labels::{no_turn_label, queue_refusal, stop_label, would_have};
use crate::proxy::{Policy, limits, settle};
use crate::replay::Held;
use crate::response;
use crate::retry::{self, Decision, Safety, Situation, StopReason};
use crate::rights::NotAllowed;
use crate::spending::Spent;

/// A `response.create` as received.
pub(super) struct Create {
    /// Its frames.
    pub(super) frames: Bytes,
    pub(super) event: ClientEvent,
    /// Its reservation in the budget for kept bodies.
    pub(super) held: Option<Held>,
    /// For callers with restricted models: whether it names a model itself, or why it is refused.
    pub(super) checked: Option<Result<bool, NotAllowed>>,
}

/// A turn that has left its lane's queue.
pub(super) struct Turn {
    pub(super) serial: u64,
    create: Create,
    policy: Arc<Policy>,
    scope: Arc<Scope>,
    record: Box<Record>,
    cost: Cost,
    safety: Safety,
    deadline: Instant,
    /// Whether it continues a response in the connection's cache, which the upstream drops if the
    /// turn fails.
    continues_cached: bool,
    requeues: u32,
    /// The pause before the next attempt.
    delay: Duration,
    ticket: Option<RetryTicket>,
    permit: Option<Permit>,
    pub(super) progress: Progress,
    pub(super) response_id: Option<Box<str>>,
    /// When it was sent upstream, or when the last event of its response arrived.
    event_at: Instant,
    /// Output events.
    outputs: u64,
    /// The last attempt's error, which the client gets if no further attempt is made.
    last: Option<Box<Refusal>>,
    /// The caller's spent budget, if one is.
    spent: Option<Box<Spent>>,
}

/// The state of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for admission.
    Waiting,
    /// It was sent upstream.
    Sent,
    /// Its response has begun.
    Answered,
}

/// An upstream error in response to a turn.
pub(super) struct Refusal {
    /// Its unchanged frame, if it was held back.
    pub(super) frame: Bytes,
    pub(super) classified: Classified,
}

/// The next step after an error.
pub(super) enum Next {
    /// The turn is over, and the client gets the error.
    Over,
    /// Another attempt, after the pause.
    Again(Ask, Duration),
}

impl Turn {
    /// Creates a turn: prices it, resolves its scope, opens its record.
    pub(super) fn begin(
        context: &Context,
        create: Create,
        serial: u64,
        model: Option<&str>,
        continues_cached: bool,
        now: Instant,
    ) -> Self {
        let policy = context.proxy.policies.current();
        let peek = create.event.peek.as_ref();
        let cost = policy.estimator.price(context.endpoint, peek);
        let named = Named { endpoint: context.endpoint, itself: true };
        let safety = Safety::of(&http::Method::POST, "", named, peek, &[]);
        let scope = context.scope(&policy, model);
        let deadline = now + context.patience;
        let mut record = context.random(|rng| {
            let (id, trace) = (RequestId::new(rng), context.proxy.account.trace(&context.headers, true, rng));
            let begin =
                Begin { id, caller: context.caller.id, endpoint: context.endpoint, sdk_retries: 0, trace };
            context.proxy.account.begin(&begin, now)
        });
        record.set_deadline(deadline);
        record.set_bytes_in(create.frames.len() as u64);
        record.set_estimate(cost.tokens);
        record.set_streamed(true);
        if let Some(model) = model {
            record.set_model(model);
        }
        record.set_queue(context.caller.lane, context.caller.weight, scope.name());
        let spent = context.proxy.reserve(&context.caller, &scope, cost.tokens, context.mode, &mut record);
        record.keep_headers(&context.headers, &policy.report_headers);
        Self {
            serial,
            create,
            policy,
            scope,
            record,
            cost,
            safety,
            deadline,
            continues_cached,
            requeues: 0,
            delay: Duration::ZERO,
            ticket: None,
            permit: None,
            progress: Progress::Waiting,
            response_id: None,
            event_at: now,
            outputs: 0,
            last: None,
            spent,
        }
    }

    /// The verdict of the caller's own limits.
    pub(super) fn allowance(&self, context: &Context, now: Instant) -> Allowance {
        let of = (&*context.caller, &*self.scope);
        context.proxy.allowance(of, (self.cost, context.mode), self.spent.as_deref(), self.deadline, now)
    }

    pub(super) fn event(&self) -> &ClientEvent {
        &self.create.event
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// The turn's first request for admission.
    pub(super) fn first_ask(&self, context: &Context) -> Ask {
        self.ask(context, admission::Turn::First)
    }

    /// The request for admission of a response that the server began by itself: it is already
    /// running, and can only be counted.
    pub(super) fn uncontrolled_ask(&self, context: &Context) -> Ask {
        context.ask(self.cost, 0, self.deadline, admission::Turn::First, Mode::Bypass)
    }

    fn ask(&self, context: &Context, turn: admission::Turn) -> Ask {
        context.ask(self.cost, self.create.frames.len(), self.deadline, turn, context.mode)
    }

    /// Records an admission, after a wait of `waited`. Returns the frames to send.
    pub(super) fn granted(
        &mut self,
        context: &Context,
        mut permit: Permit,
        waited: Duration,
        now: Instant,
    ) -> Bytes {
        self.record.waited(Wait::Queue, waited);
        if let Some(predicted) = permit.predicted() {
            self.record.predicted(predicted);
        }
        if let Some(would) = would_have(&permit.would()) {
            context.proxy.account.metrics().observe_would.inc(would);
        }
        let probe = permit.is_probe();
        if permit.asks_quota() {
            self.record.quota_probed();
        }
        permit.sent_at(now);
        self.permit = Some(permit);
        let frames = self.sent(probe, now);
        self.record.goes_to(context.upstream);
        frames
    }

    /// Records a start without a permit. Returns the frames to send.
    pub(super) fn sent(&mut self, probe: bool, now: Instant) -> Bytes {
        self.record.attempt(std::mem::take(&mut self.delay), probe, now);
        self.progress = Progress::Sent;
        self.event_at = now;
        self.create.frames.clone()
    }

    /// Records an event of its response, of this many bytes.
    pub(super) fn note_event(&mut self, bytes: usize, is_output: bool, now: Instant) {
        if self.progress == Progress::Sent {
            self.progress = Progress::Answered;
            self.ticket = None;
            // It will not be sent again.
            self.create.frames = Bytes::new();
            self.create.held = None;
            self.record.attempt_answered(StatusCode::OK, None, now);
            self.record.answered(StatusCode::OK, now);
            if let Some(permit) = &mut self.permit {
                permit.head_at(&HeadReport::default(), None, None, true, now);
            }
        }
        self.event_at = now;
        self.outputs += u64::from(is_output);
        self.record.sent(bytes as u64);
    }

    /// Returns the permit of a turn without events for `upstream.idle_timeout`, because others wait
    /// for it and pings keep the session open. The turn itself stays open, as it would without
    /// Weir. Returns whether the permit was returned.
    pub(super) fn release_silent(&mut self, now: Instant) -> bool {
        let is_silent = self.policy.stream.idle_timeout.is_some_and(|idle| now >= self.event_at + idle);
        let Some(permit) = self.permit.take_if(|_| is_silent) else { return false };
        permit.fail(ErrorClass::TimeoutIdle);
        true
    }

    /// Settles a turn whose response completed, or is incomplete by the model's limits.
    pub(super) fn ended(mut self, event: &[u8], now: Instant) {
        let used = usage::find(event);
        if let Some(used) = used {
            self.record.used(usage_of(used), used.input);
        }
        if let Some(mut permit) = self.permit.take() {
            if let Some(used) = used {
                permit.used(used.input);
            }
            permit.done_at(now);
        }
        self.record.finish(now);
    }

    /// Settles an attempt that the upstream refused, and decides the next step.
    pub(super) fn failed(&mut self, context: &Context, event: &[u8], now: Instant) -> (Next, Classified) {
        let (headers, body) = (events::error_headers(event), events::error_body(event));
        let classified = classify::frame_error(context.endpoint, &body, &headers, clock::wall());
        self.record.attempt_answered(classified.status, None, now);
        self.record.attempt_failed(classified.class, now);
        if let Some(used) = usage::find(event) {
            self.record.used(usage_of(used), used.input);
        }
        let Some(mut permit) = self.permit.take() else { return (Next::Over, classified) };
        if self.progress == Progress::Sent {
            let found = AnswerHeaders::of(&headers, clock::wall);
            let told = HeadReport {
                limits: limits::reports(&found, classified.status),
                processing: found.processing,
            };
            permit.head_at(&told, found.organization, found.project, false, now);
        }
        drop(self.ticket.take());
        let next = self.decide(context, &classified, permit, now);
        (next, classified)
    }

    fn decide(&mut self, context: &Context, classified: &Classified, permit: Permit, now: Instant) -> Next {
        let class = classified.class;
        let situation = Situation {
            may_have_run: classified.may_have_run(),
            committed: self.progress == Progress::Answered,
            // The upstream has dropped the response that it continues.
            replayable: !self.continues_cached,
            forbidden: classified.should_retry == Some(false),
            excluded: self.policy.never_retried.contains(&context.endpoint),
            attempts: self.record.attempts().count().saturating_sub(self.requeues),
            requeues: self.requeues,
            hint: classified.hint,
            left: self.deadline.saturating_duration_since(now),
            queue: self.scope.expected_wait(&self.ask(context, admission::Turn::Retry)),
            ..Situation::new(class, self.safety)
        };
        let decision = context.random(|rng| retry::decide(&situation, &self.policy.retry, rng));
        if context.mode != Mode::Enforce {
            settle::refused(permit, class, classified, || None);
            if !matches!(decision, Decision::Stop(_)) {
                context.proxy.account.metrics().observe_would.inc(WouldHave::Retried);
                self.record.retries_stopped(RetryStop::Mode);
            }
            return Next::Over;
        }
        match decision {
            Decision::Requeue => {
                let place = settle::rate_limited(permit, class, Some(classified), || None, self.requeues);
                self.requeues += 1;
                context.proxy.account.rate_limited(&self.record, self.requeues, clock::wall());
                self.again(context, admission::Turn::Requeued(place), Duration::ZERO)
            }
            Decision::After { delay, cost } => {
                settle::refused(permit, class, classified, || None);
                match self.scope.retry_ticket(cost) {
                    Ok(ticket) => {
                        self.ticket = Some(ticket);
                        self.again(context, admission::Turn::Retry, delay)
                    }
                    Err(BudgetExhausted) => self.stop(StopReason::Budget),
                }
            }
            Decision::Stop(reason) => {
                settle::refused(permit, class, classified, || None);
                self.stop(reason)
            }
        }
    }

    fn again(&mut self, context: &Context, turn: admission::Turn, pause: Duration) -> Next {
        self.progress = Progress::Waiting;
        self.delay = pause;
        Next::Again(self.ask(context, turn), pause)
    }

    fn stop(&mut self, reason: StopReason) -> Next {
        if let Some(label) = stop_label(reason) {
            self.record.retries_stopped(label);
        }
        Next::Over
    }

    /// Holds an error back until the outcome of a retry is known.
    pub(super) fn keep(&mut self, frame: Bytes, classified: Classified) {
        self.last = Some(Box::new(Refusal { frame, classified }));
    }

    /// Ends the turn with this error of the upstream.
    pub(super) fn over(mut self, classified: &Classified, now: Instant) {
        let detail = settle::detail(classified, self.policy.mask_messages);
        self.record.answered(classified.status, now);
        self.record.failed(classified.class, Some(detail));
        self.record.finish(now);
    }

    /// Ends a turn that admission refused. Returns the event for the client: the last attempt's
    /// error, or one generated by Weir.
    pub(super) fn turned_away(mut self, context: &Context, refused: &Refused, now: Instant) -> TurnedAway {
        context.proxy.account.metrics().queue_refusals.inc(queue_refusal(refused));
        let spent = matches!(refused, Refused::QuotaExhausted(_));
        if let Some(last) = self.last.take().filter(|_| !spent) {
            if let Some(label) = no_turn_label(refused) {
                self.record.retries_stopped(label);
            }
            self.over(&last.classified, now);
            return TurnedAway::Upstream(last.frame);
        }
        let own = context.random(|rng| response::refusal(refused, rng));
        TurnedAway::Own(self.refuse(own, now))
    }

    /// Ends the turn with an error generated by Weir. Returns the event for the client.
    pub(super) fn refuse(mut self, own: response::OwnAnswer, now: Instant) -> Vec<u8> {
        let detail = ErrorDetail::masked(Some(&own.message), None, Some(&own.code), None);
        self.record.failed(own.class, Some(detail));
        self.record.answered(own.status, now);
        let (id, event) = (self.record.id().to_string(), &self.create.event);
        let answer = own.into_event(&id, event.stream_id.as_deref(), event.event_id.as_deref());
        self.record.sent(answer.len() as u64);
        self.record.finish(now);
        answer
    }

    /// Ends a turn whose connection ended first. Without a class, the client left.
    pub(super) fn cut(mut self, class: Option<ErrorClass>, now: Instant) {
        if self.outputs > 0 {
            // An estimate of the usage before the cut: the request's estimate, and one token per
            // event.
            let guess = Usage { input: self.cost.tokens, cached: 0, output: self.outputs };
            self.record.used(guess, 0);
        }
        // Dropping permit and record accounts for a client that left.
        let Some(class) = class else { return };
        self.record.failed(class, None);
        if let Some(permit) = self.permit.take().filter(|_| !class.is_own()) {
            permit.fail(class);
        }
        self.record.finish(now);
    }
}

/// The event that the client gets for a turn that was not admitted.
pub(super) enum TurnedAway {
    /// The upstream's last error, unchanged.
    Upstream(Bytes),
    /// An event generated by Weir.
    Own(Vec<u8>),
}

fn usage_of(used: crate::openai::Usage) -> Usage {
    Usage { input: used.input, cached: used.cached_input, output: used.output }
}

//! One request from its head to its end, accounted for exactly once.

mod ending;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Account;
use super::attempts::{Attempt, Attempts};
use super::error_detail::ErrorDetail;
use super::request_id::RequestId;
use crate::caller::{CallerId, Lane};
use crate::classify::ErrorClass;
use crate::clock::Instant;
use crate::metrics::{AttemptOutcome, Bound, Outcome, RetryStop};
use crate::openai::Endpoint;
use crate::pool::UpstreamId;
use crate::spending::Held;
use crate::telemetry::RequestTrace;

/// The facts about a request from its head.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Weir's id of the request.
    pub id: RequestId,
    /// The caller.
    pub caller: CallerId,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Earlier tries of the caller's SDK (`x-stainless-retry-count`).
    pub sdk_retries: u32,
    /// Its trace context.
    pub trace: Option<RequestTrace>,
}

/// The event that a request waits for; waits don't count as Weir's overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Admission.
    Queue,
    /// The pause before a retry.
    Backoff,
    /// The upstream, beyond the heads of attempts: events that were held back, an error's body.
    Upstream,
    /// The client's request body.
    Client,
}

const WAITS: usize = 4;

/// Token usage as the upstream reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, including cached ones.
    pub input: u64,
    /// Tokens of the prompt that the upstream had cached.
    pub cached: u64,
    /// Tokens of the response.
    pub output: u64,
}

/// The record of one request. Dropping it before [`Record::finish`] means that the client left.
#[derive(Debug)]
pub struct Record {
    account: Arc<Account>,
    pub(super) id: RequestId,
    pub(super) caller: CallerId,
    pub(super) endpoint: Endpoint,
    pub(super) sdk_retries: u32,
    pub(super) trace: Option<RequestTrace>,
    pub(super) started: Instant,
    pub(super) model: Option<Box<str>>,
    pub(super) lane: Lane,
    pub(super) weight: u32,
    /// The scope's name, if it differs from the model's.
    pub(super) scope: Option<Box<str>>,
    pub(super) attempts: Attempts,
    pub(super) waits: [Duration; WAITS],
    pub(super) predicted: Option<Duration>,
    pub(super) estimated: Option<u64>,
    /// The reported usage, and the charge at which the permit was settled.
    pub(super) used: Option<(Usage, u64)>,
    pub(super) deadline: Option<Instant>,
    pub(super) answered: Option<Instant>,
    pub(super) status: Option<StatusCode>,
    pub(super) class: Option<ErrorClass>,
    pub(super) streamed: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) stopped: Option<RetryStop>,
    pub(super) detail: Option<Box<ErrorDetail>>,
    pub(super) headers: Box<[(HeaderName, HeaderValue)]>,
    /// Boxed, because it is rare and would enlarge each record.
    pub(super) request_data: Option<Box<Bytes>>,
    /// The budgets that it draws from, if its caller has any.
    draws: Option<Box<Held>>,
    finished: bool,
}

/// One per in-flight request. Keep it at 512 bytes: the next allocator size class is 640.
const _: () = assert!(size_of::<Record>() <= 512);

impl Record {
    /// Boxed from the start: it moves from a request's head to the end of its response's body.
    pub(super) fn new(account: Arc<Account>, begin: &Begin, now: Instant) -> Box<Self> {
        let series = account.metrics.caller(begin.caller);
        series.in_flight.inc();
        if begin.sdk_retries > 0 {
            series.sdk_retries.inc();
        }
        Box::new(Self {
            account,
            id: begin.id,
            caller: begin.caller,
            endpoint: begin.endpoint,
            sdk_retries: begin.sdk_retries,
            trace: begin.trace,
            started: now,
            model: None,
            lane: Lane::default(),
            weight: 1,
            scope: None,
            attempts: Attempts::default(),
            waits: [Duration::ZERO; WAITS],
            predicted: None,
            estimated: None,
            used: None,
            deadline: None,
            answered: None,
            status: None,
            class: None,
            streamed: false,
            bytes_in: 0,
            bytes_out: 0,
            stopped: None,
            detail: None,
            headers: Box::default(),
            request_data: None,
            draws: None,
            finished: false,
        })
    }

    /// Weir's id of the request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The caller.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// Sets the current attempt as the parent span in `headers`, if spans are exported.
    pub fn write_trace(&self, headers: &mut HeaderMap) {
        if let Some(trace) = self.trace {
            trace.write(self.attempts.place(), headers);
        }
    }

    /// The attempts so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Total time of one kind of wait.
    pub fn waits(&self, wait: Wait) -> Duration {
        self.waits[wait as usize]
    }

    /// Sets the model in the request.
    pub fn set_model(&mut self, model: impl Into<Box<str>>) {
        self.model = Some(model.into());
    }

    /// The model in the request.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Sets the lane, the weight and the scope of its waits. Call it after [`Self::set_model`].
    pub fn set_queue(&mut self, lane: Lane, weight: u32, scope: &str) {
        (self.lane, self.weight) = (lane, weight);
        self.scope = (self.model() != Some(scope)).then(|| scope.into());
    }

    /// Sets the time until which the caller waits.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Sets the request's estimate, in tokens.
    pub fn set_estimate(&mut self, tokens: u64) {
        self.estimated = Some(tokens);
    }

    /// Sets the budgets in which its estimate is reserved.
    pub fn draws_from(&mut self, budgets: Held) {
        self.draws = Some(Box::new(budgets));
    }

    /// Sets the bytes of the request's body.
    pub fn set_bytes_in(&mut self, bytes: u64) {
        self.bytes_in = bytes;
    }

    /// Sets whether the response is an event stream.
    pub fn set_streamed(&mut self, streamed: bool) {
        self.streamed = streamed;
    }

    /// Adds time that the request waited.
    pub fn waited(&mut self, wait: Wait, time: Duration) {
        self.waits[wait as usize] += time;
    }

    /// Sets the wait that admission predicted on arrival.
    pub fn predicted(&mut self, wait: Duration) {
        self.predicted = Some(wait);
    }

    /// Records the start of an attempt, after a pause of `delay` (which this counts as
    /// [`Wait::Backoff`]).
    pub fn attempt(&mut self, delay: Duration, probe: bool, now: Instant) {
        self.waited(Wait::Backoff, delay);
        self.end_attempt(None, now);
        if let Some(class) = self.attempts.last().and_then(|last| last.class) {
            self.account.metrics.retries.inc(class);
        }
        if self.attempts.push(Attempt::begin(delay, probe, now)) {
            self.account.metrics.limits_reached.inc(Bound::AttemptsKept);
        }
    }

    /// Counts the current attempt as a probe of a spent quota.
    pub fn quota_probed(&self) {
        self.account.metrics.quota_probes.inc();
    }

    /// Sets the upstream of the current attempt.
    pub fn goes_to(&mut self, upstream: UpstreamId) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.upstream = upstream;
        }
    }

    /// The upstream of the last attempt.
    pub fn upstream(&self) -> Option<UpstreamId> {
        self.attempts.last().map(|attempt| attempt.upstream)
    }

    /// Records the response head of the current attempt.
    pub fn attempt_answered(&mut self, status: StatusCode, upstream_id: Option<HeaderValue>, now: Instant) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.answered = Some(now);
            attempt.status = Some(status);
            attempt.upstream_id = upstream_id;
        }
    }

    /// Records an error of the current attempt. A successful attempt ends with the record.
    pub fn attempt_failed(&mut self, class: ErrorClass, now: Instant) {
        self.end_attempt(Some(class), now);
    }

    /// Records that the response's head was sent to the caller.
    pub fn answered(&mut self, status: StatusCode, now: Instant) {
        if self.answered.is_none() {
            self.answered = Some(now);
            self.status = Some(status);
        }
    }

    /// Sets the error class of the caller's response; the last call counts.
    pub fn failed(&mut self, class: ErrorClass, detail: Option<ErrorDetail>) {
        self.class = Some(class);
        if detail.is_some() {
            self.detail = detail.map(Box::new);
        }
    }

    /// Records why no further attempt was made although the error's class allows one.
    pub fn retries_stopped(&mut self, why: RetryStop) {
        self.account.metrics.retries_stopped.inc(why);
        self.stopped = Some(why);
    }

    /// Stores the request headers in `list` for a report.
    pub fn keep_headers(&mut self, headers: &HeaderMap, list: &[HeaderName]) {
        let listed = |name: &HeaderName| Some((name.clone(), headers.get(name)?.clone()));
        self.headers = list.iter().filter_map(listed).filter(|(_, value)| !value.is_sensitive()).collect();
    }

    /// Stores the request's body for a report; only if configured.
    pub fn keep_request_data(&mut self, data: Bytes) {
        self.request_data = Some(Box::new(data));
    }

    /// Sets the reported usage, and the charge at which the permit was settled.
    pub fn used(&mut self, usage: Usage, charged: u64) {
        self.used = Some((usage, charged));
    }

    /// Adds bytes of the response's body that were passed to the server.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// Ends the request: with the class set by [`Record::failed`], or as a success.
    pub fn finish(mut self: Box<Self>, now: Instant) {
        self.end(now);
    }

    /// Weir's own share of the time until the response; `None` if there was none.
    pub fn overhead(&self) -> Option<Duration> {
        Some(self.overhead_until(self.to_answer()?))
    }

    /// Time from the request's head to the response's.
    fn to_answer(&self) -> Option<Duration> {
        Some(self.answered?.saturating_duration_since(self.started))
    }

    /// Weir's own share of the time until the response's head.
    fn overhead_until(&self, to_answer: Duration) -> Duration {
        let waits = self.waits.iter().copied().map(nanos).fold(0, u64::saturating_add);
        let heads = self.attempts.iter().filter_map(Attempt::time_to_head).map(nanos);
        let others = heads.fold(waits, u64::saturating_add);
        Duration::from_nanos(nanos(to_answer).saturating_sub(others))
    }

    /// The account that the record belongs to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether the access log contains it: always for an error.
    pub(super) fn is_told(&self, sample: f64) -> bool {
        self.class.is_some() || self.id.sampled(sample)
    }

    /// Whether it spent most of its time in Weir's queue, so that a timeout is not the upstream's
    /// fault.
    fn mostly_queued(&self, now: Instant) -> bool {
        self.waits(Wait::Queue) * 2 > now.saturating_duration_since(self.started)
    }

    /// The outcome of the request. Without an attempt, no upstream refused it.
    pub(super) fn outcome(&self) -> Outcome {
        let outcome = Outcome::of(self.class);
        let is_own = outcome == Outcome::UpstreamError && self.attempts.count() == 0;
        if is_own { Outcome::Refused } else { outcome }
    }

    fn end_attempt(&mut self, class: Option<ErrorClass>, now: Instant) {
        let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) else {
            return;
        };
        attempt.ended = Some(now);
        attempt.class = class;
        let metrics = &self.account.metrics;
        metrics.attempts(self.endpoint).inc(AttemptOutcome::of(class));
        if let Some(class) = class.filter(|class| !class.is_own()) {
            metrics.attempt_errors.inc(class);
            self.account.history.attempt(class, now);
            self.account.recent.attempt(self.caller, class, self.mostly_queued(now), now);
        }
    }
}

/// Integers are added with fewer instructions than durations.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

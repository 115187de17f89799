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

/// What is known of a request when its head was read.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Weir's id of it.
    pub id: RequestId,
    /// Who sent it.
    pub caller: CallerId,
    /// What it is for.
    pub endpoint: Endpoint,
    /// How often the caller's SDK has tried before (`x-stainless-retry-count`).
    pub sdk_retries: u32,
    /// Where it stands in a trace.
    pub trace: Option<RequestTrace>,
}

/// What a request waited for; none of it is Weir's overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its turn.
    Queue,
    /// The pause before a retry.
    Backoff,
    /// The upstream, beyond the heads of attempts: events held until the first that counts, an
    /// error's body.
    Upstream,
    /// The client, to send the request's body.
    Client,
}

const WAITS: usize = 4;

/// Tokens as the upstream reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, cached ones included.
    pub input: u64,
    /// Of the prompt, those that the upstream had cached.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
}

/// One request's story. Dropping it before [`Record::finish`] says that the client left.
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
    /// The scope's name, where it is not the model's.
    pub(super) scope: Option<Box<str>>,
    pub(super) attempts: Attempts,
    pub(super) waits: [Duration; WAITS],
    pub(super) predicted: Option<Duration>,
    pub(super) estimated: Option<u64>,
    /// What the upstream reported, and what the permit was settled at.
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
    /// Boxed: it is rare, and each record would be larger for it.
    pub(super) request_data: Option<Box<Bytes>>,
    /// The budgets that it draws from, where its caller has any.
    draws: Option<Box<Held>>,
    finished: bool,
}

/// Each request has one on the heap, also while it waits and while its answer streams: one byte
/// more, and the allocator gives it 640.
const _: () = assert!(size_of::<Record>() <= 512);

impl Record {
    /// Boxed where it is made: it moves from a request's head to the end of its answer's body.
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

    /// Who sent it.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// Makes the running attempt the parent that the upstream sees in `headers`, where spans are
    /// exported.
    pub fn write_trace(&self, headers: &mut HeaderMap) {
        if let Some(trace) = self.trace {
            trace.write(self.attempts.place(), headers);
        }
    }

    /// The attempts so far.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Time in which it waited for one thing so far.
    pub fn waits(&self, wait: Wait) -> Duration {
        self.waits[wait as usize]
    }

    /// The model that the request names.
    pub fn set_model(&mut self, model: impl Into<Box<str>>) {
        self.model = Some(model.into());
    }

    /// The model that the request names.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// How it waits: in which lane, with which weight, and for the limits of which scope. Comes
    /// after the model.
    pub fn set_queue(&mut self, lane: Lane, weight: u32, scope: &str) {
        (self.lane, self.weight) = (lane, weight);
        self.scope = (self.model() != Some(scope)).then(|| scope.into());
    }

    /// Until when the caller waits.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Tokens that the request was priced at.
    pub fn set_estimate(&mut self, tokens: u64) {
        self.estimated = Some(tokens);
    }

    /// It draws from these budgets, in which its estimate is reserved.
    pub fn draws_from(&mut self, budgets: Held) {
        self.draws = Some(Box::new(budgets));
    }

    /// Bytes of the request's body.
    pub fn set_bytes_in(&mut self, bytes: u64) {
        self.bytes_in = bytes;
    }

    /// Whether the answer is a stream of events.
    pub fn set_streamed(&mut self, streamed: bool) {
        self.streamed = streamed;
    }

    /// Adds time in which the request waited for something.
    pub fn waited(&mut self, wait: Wait, time: Duration) {
        self.waits[wait as usize] += time;
    }

    /// The wait that admission predicted when the request arrived.
    pub fn predicted(&mut self, wait: Duration) {
        self.predicted = Some(wait);
    }

    /// An attempt begins, after a pause of `delay` (which this counts as [`Wait::Backoff`]).
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

    /// The running attempt asks if a spent quota is back.
    pub fn quota_probed(&self) {
        self.account.metrics.quota_probes.inc();
    }

    /// The running attempt goes to this upstream.
    pub fn goes_to(&mut self, upstream: UpstreamId) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.upstream = upstream;
        }
    }

    /// The upstream that the last attempt went to.
    pub fn upstream(&self) -> Option<UpstreamId> {
        self.attempts.last().map(|attempt| attempt.upstream)
    }

    /// The running attempt's answer head came.
    pub fn attempt_answered(&mut self, status: StatusCode, upstream_id: Option<HeaderValue>, now: Instant) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.answered = Some(now);
            attempt.status = Some(status);
            attempt.upstream_id = upstream_id;
        }
    }

    /// The running attempt ended with an error. An attempt that succeeded ends with the record.
    pub fn attempt_failed(&mut self, class: ErrorClass, now: Instant) {
        self.end_attempt(Some(class), now);
    }

    /// The answer's head goes to the caller.
    pub fn answered(&mut self, status: StatusCode, now: Instant) {
        if self.answered.is_none() {
            self.answered = Some(now);
            self.status = Some(status);
        }
    }

    /// What the caller gets is an error of this class; the last call counts.
    pub fn failed(&mut self, class: ErrorClass, detail: Option<ErrorDetail>) {
        self.class = Some(class);
        if detail.is_some() {
            self.detail = detail.map(Box::new);
        }
    }

    /// Why there was no further attempt although the error's class allows one.
    pub fn retries_stopped(&mut self, why: RetryStop) {
        self.account.metrics.retries_stopped.inc(why);
        self.stopped = Some(why);
    }

    /// Keeps, for a report, what of the request's headers is on the list.
    pub fn keep_headers(&mut self, headers: &HeaderMap, list: &[HeaderName]) {
        let listed = |name: &HeaderName| Some((name.clone(), headers.get(name)?.clone()));
        self.headers = list.iter().filter_map(listed).filter(|(_, value)| !value.is_sensitive()).collect();
    }

    /// Keeps the request's body for a report; only where the configuration asks for it.
    pub fn keep_request_data(&mut self, data: Bytes) {
        self.request_data = Some(Box::new(data));
    }

    /// Tokens that the upstream reported, and what the permit was settled at.
    pub fn used(&mut self, usage: Usage, charged: u64) {
        self.used = Some((usage, charged));
    }

    /// Adds bytes of the answer's body that were handed to the server.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// The request ended: with what [`Record::failed`] said, or in success.
    pub fn finish(mut self: Box<Self>, now: Instant) {
        self.end(now);
    }

    /// Time in which Weir itself kept the request busy before its answer; nothing if there was
    /// none.
    pub fn overhead(&self) -> Option<Duration> {
        Some(self.overhead_until(self.to_answer()?))
    }

    /// From its head to its answer's.
    fn to_answer(&self) -> Option<Duration> {
        Some(self.answered?.saturating_duration_since(self.started))
    }

    /// What of the time to the answer's head Weir itself took.
    fn overhead_until(&self, to_answer: Duration) -> Duration {
        let waits = self.waits.iter().copied().map(nanos).fold(0, u64::saturating_add);
        let heads = self.attempts.iter().filter_map(Attempt::time_to_head).map(nanos);
        let others = heads.fold(waits, u64::saturating_add);
        Duration::from_nanos(nanos(to_answer).saturating_sub(others))
    }

    /// Where it will end.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether the access log tells of it: always of an error.
    pub(super) fn is_told(&self, sample: f64) -> bool {
        self.class.is_some() || self.id.sampled(sample)
    }

    /// Whether more of its time went by in Weir's queue than anywhere else: then a timeout is not
    /// the upstream's.
    fn mostly_queued(&self, now: Instant) -> bool {
        self.waits(Wait::Queue) * 2 > now.saturating_duration_since(self.started)
    }

    /// What became of the request. Without an attempt it is no upstream that refused it.
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

/// Whole numbers are added with fewer steps than durations.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

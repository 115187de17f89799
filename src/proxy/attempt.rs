//! One attempt: it sends the request, and reads as much of the response as the retry decision
//! needs.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, response};
use http_body::Body as _;

use super::call::Call;
use super::configured_credential::ConfiguredCredential;
use super::destination::Destination;
use super::response_guard::ResponseGuard;
use super::{Policy, held_head, limits, objects, shape};
use crate::account::{Record, Wait};
use crate::admission::{HeadReport, Permit};
use crate::classify::{self, Classified, ErrorClass, Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::openai::{AnswerHeaders, Endpoint};
use crate::retry::Safety;
use crate::stream::{self, Reader, Relay, copy};
use crate::upstream::{AnswerBody, HeadLimit, Ready, Upstream};

/// Longest wait for an error's body. It normally follows its head at once; a stalled one must not
/// delay the decision.
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a stream held back: a stream with more bytes counts as begun.
const MAX_HELD: usize = 64 << 10;

/// Longest time that the start of a stream is held back if no other limit applies.
const MAX_HOLD: Duration = Duration::from_hours(1);

/// The outcome of an attempt, as far as the retry decision needs it.
pub(super) enum AttemptOutcome {
    /// A response to relay to the caller.
    Answered(Answer),
    /// An error response, or a stream that starts with an error; kept in case it is relayed.
    Refused(Answer, Box<Classified>),
    /// A response that was truncated before its content began.
    Broken(Answer),
    /// No response.
    Failed(Failure),
}

/// An upstream response whose body may have been read in part.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    /// Boxed: it is moved from here to the caller's connection.
    pub(super) body: Box<Relay<AnswerBody, ResponseGuard>>,
}

/// Makes one attempt.
///
/// # Cancel safety
/// Dropping the future ends the attempt upstream at once. Dropping the permit and the record
/// accounts for it.
#[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
pub(super) fn attempt<'a>(
    (to, worker): (&'a Destination, usize),
    call: &'a mut Call,
    permit: &'a mut Permit,
    record: &'a mut Record,
    policy: &'a Policy,
    mut now: Instant,
) -> impl Future<Output = AttemptOutcome> + Send + 'a {
    async move {
        let limit = latest_head(call, policy);
        let upstream = to.member.of_worker(worker);
        let connection = if let Some(connection) = upstream.idle(now, call.safety == Safety::OnlyIfUnsent) {
            connection
        } else {
            call.head.release_buffer();
            // Boxed because it is rare; inline, it would enlarge the future of each attempt.
            match Box::pin(connect(upstream, limit.by)).await {
                Ok(connection) => {
                    now = clock::now();
                    connection
                }
                Err(failure) => return AttemptOutcome::Failed(failure),
            }
        };
        // A separate function: in this future the request would be stored as well.
        let Some(sent) = send(connection, call, to, Some(permit), record, limit, now) else {
            return AttemptOutcome::Failed(Failure::sent(
                FailureKind::Reset,
                "the body was not kept for another try",
            ));
        };
        let verdict = match sent.await {
            Ok(response) => judge(response, call, to, permit, record, policy),
            Err(failure) => return AttemptOutcome::Failed(late(failure, call, policy)),
        };
        let reading = match verdict {
            HeadVerdict::Now(outcome) => return outcome,
            HeadVerdict::Later(reading) => reading,
        };
        reading.await
    }
}

/// Marks a response timeout as a first-event timeout if that limit applied.
fn late(mut failure: Failure, call: &Call, policy: &Policy) -> Failure {
    let first_event = call.head.first_event.and_then(|awaited| awaited.limit);
    let is_bound = first_event.is_some() && latest_head(call, policy).after_request == first_event;
    if is_bound && failure.kind == FailureKind::ResponseTimeout {
        failure.kind = FailureKind::FirstEventTimeout;
    }
    failure
}

/// Sends the request, and returns the future of its response; `None` if the body was streamed and
/// can't be sent again.
pub(super) fn send(
    connection: Ready,
    call: &mut Call,
    to: &Destination,
    permit: Option<&mut Permit>,
    record: &Record,
    limit: HeadLimit,
    now: Instant,
) -> Option<impl Future<Output = Result<Response<AnswerBody>, Failure>> + Send + use<>> {
    let mut request = call.request(to, record.model())?;
    record.write_trace(request.headers_mut());
    if let Some(permit) = permit {
        permit.sent_at(now);
    }
    Some(connection.send(request, limit))
}

async fn connect(upstream: &Upstream, head_by: Option<Instant>) -> Result<Ready, Failure> {
    let Some(by) = head_by else { return upstream.connection().await };
    clock::timeout_at(by, upstream.connection())
        .await
        .unwrap_or_else(|_| Err(Failure::unsent(FailureKind::ConnectTimeout, "the deadline came first")))
}

/// The result of reading a response's head.
pub(super) enum HeadVerdict<'a> {
    /// The outcome is known.
    Now(AttemptOutcome),
    /// The start of the body must be read. Boxed, so that the future of a plain response stays
    /// small.
    Later(Pin<Box<dyn Future<Output = AttemptOutcome> + Send + 'a>>),
}

/// Reads as much of a response as the retry decision needs.
pub(super) fn judge<'a>(
    response: Response<AnswerBody>,
    call: &Call,
    to: &Destination,
    permit: &mut Permit,
    record: &'a mut Record,
    policy: &Policy,
) -> HeadVerdict<'a> {
    let now = clock::now();
    let (head, rest) = response.into_parts();
    let endpoint = call.head.endpoint;
    if head.status.as_u16() >= 400 {
        report_head(permit, record, &head, false, now);
        let body = Box::new(Relay::new(rest, Reader::blind(), relaying(call, policy), now));
        let refused_key =
            if head.status == StatusCode::UNAUTHORIZED { call.head.configured.clone() } else { None };
        let answer = Answer { head, body };
        return HeadVerdict::Later(Box::pin(judge_error(endpoint, answer, record, refused_key)));
    }
    let mut reader = Reader::of(endpoint, &head.headers);
    if to.is_another && policy.upstreams.is_pool() {
        objects::learn(&mut reader, &head.headers, &to.member, &policy.upstreams, record.account().metrics());
    }
    let is_whole = rest.is_end_stream();
    let body = Box::new(Relay::new(rest, reader, relaying(call, policy), now));
    let answer = Answer { head, body };
    let is_stream = answer.body.reader().is_stream();
    let is_judged = is_stream && (!is_whole || call.head.endpoint.speaks_json())
        || !is_stream && has_a_shape(call, &answer);
    let hold = HoldLimit::of(call, &answer, policy, now);
    let is_good = !is_judged || hold.ends_in.is_none() && hold.until <= now;
    report_head(permit, record, &answer.head, is_good, now);
    if is_good {
        return HeadVerdict::Now(AttemptOutcome::Answered(answer));
    }
    if is_stream {
        return HeadVerdict::Later(Box::pin(judge_stream(endpoint, answer, record, hold)));
    }
    HeadVerdict::Later(Box::pin(judge_whole(endpoint, answer, record, policy.hold)))
}

/// The limit on holding back the start of a response until its first meaningful event.
#[derive(Clone, Copy)]
struct HoldLimit {
    until: Instant,
    /// The attempt's failure at that time; `None` relays the response instead.
    ends_in: Option<FailureKind>,
}

impl HoldLimit {
    fn of(call: &Call, answer: &Answer, policy: &Policy, now: Instant) -> Self {
        let first_event = call.head.first_event.and_then(|awaited| Some(awaited.since + awaited.limit?));
        let is_kept_alive = call.head.keep_alive.is_some();
        if !answer.body.reader().is_stream() || !is_kept_alive && first_event.is_none() {
            return Self { until: now + policy.hold, ends_in: None };
        }
        // The caller gets keep-alive comments, or asked for a first-event timeout, so the response
        // can be held back until its first event.
        let idle = relaying(call, policy).idle_timeout.unwrap_or(MAX_HOLD);
        match first_event {
            Some(until) if until < now + idle => {
                Self { until, ends_in: Some(FailureKind::FirstEventTimeout) }
            }
            _ => Self { until: now + idle, ends_in: Some(FailureKind::IdleTimeout) },
        }
    }
}

/// Whether a response that is not a stream must be checked for the shape of its endpoint's
/// responses.
fn has_a_shape(call: &Call, answer: &Answer) -> bool {
    answer.head.status == StatusCode::OK
        && call.head.method == Method::POST
        && call.head.is_itself()
        && call.head.endpoint.speaks_json()
}

/// Reads a small response to its end; a part of it is of no use to the caller.
async fn judge_whole(
    endpoint: Endpoint,
    mut answer: Answer,
    record: &mut Record,
    hold_for: Duration,
) -> AttemptOutcome {
    let began = answer.body.read_at();
    answer.body.read_ahead(began + hold_for, |_, bytes| bytes < MAX_HELD).await;
    record.waited(Wait::Upstream, answer.body.read_at() - began);
    if !answer.body.is_over() {
        held_head::release_buffer(&mut answer.head.headers);
        return AttemptOutcome::Answered(answer);
    }
    if !answer.body.ended_in_order() {
        return AttemptOutcome::Broken(answer);
    }
    let headers = &answer.head.headers;
    let classified = shape::classify(endpoint, headers, &copy(headers, answer.body.held(), MAX_HELD));
    match classified {
        Some(classified) => AttemptOutcome::Refused(answer, Box::new(classified)),
        None => AttemptOutcome::Answered(answer),
    }
}

/// Reads and classifies an error's body.
async fn judge_error(
    endpoint: Endpoint,
    mut answer: Answer,
    record: &mut Record,
    refused_key: Option<ConfiguredCredential>,
) -> AttemptOutcome {
    let began = answer.body.read_at();
    // Bytes beyond the limit, or late ones, are only relayed.
    answer.body.read_ahead(began + ERROR_BODY_PATIENCE, |_, bytes| bytes < classify::MAX_BODY).await;
    record.waited(Wait::Upstream, answer.body.read_at() - began);
    let headers = &answer.head.headers;
    let plain = copy(headers, answer.body.held(), classify::MAX_BODY);
    let classified = classify::response(endpoint, answer.head.status, headers, &plain, clock::wall());
    drop(plain);
    if let Some(key) = refused_key {
        key.request_reload().await;
    }
    AttemptOutcome::Refused(answer, Box::new(classified))
}

/// Holds a stream back until its first meaningful event, which may be an error.
async fn judge_stream(
    endpoint: Endpoint,
    mut answer: Answer,
    record: &mut Record,
    hold: HoldLimit,
) -> AttemptOutcome {
    let began = answer.body.read_at();
    read_beginning(&mut answer, hold.until).await;
    record.waited(Wait::Upstream, answer.body.read_at() - began);
    let is_late = answer.body.read_at() >= hold.until && !answer.body.reader().has_begun();
    if is_late
        && !answer.body.is_over()
        && let Some(kind) = hold.ends_in
    {
        return AttemptOutcome::Failed(Failure::sent(kind, ""));
    }
    judge_beginning(endpoint, answer)
}

/// Reads ahead to the first meaningful event, or until `until`.
async fn read_beginning(answer: &mut Answer, until: Instant) {
    let Answer { head, body } = answer;
    let wants = |read: &Reader, bytes| !read.has_begun() && bytes < MAX_HELD;
    let mut reading = pin!(body.read_ahead(until, wants));
    let mut released = false;
    poll_fn(|cx| {
        let polled = reading.as_mut().poll(cx);
        if polled.is_pending() && !std::mem::replace(&mut released, true) {
            held_head::release_buffer(&mut head.headers);
        }
        polled
    })
    .await;
}

/// Classifies the start of a stream.
fn judge_beginning(endpoint: Endpoint, answer: Answer) -> AttemptOutcome {
    if let Some(data) = answer.body.reader().error() {
        let classified = Box::new(classify::stream_error(endpoint, data, clock::wall()));
        return AttemptOutcome::Refused(answer, classified);
    }
    if answer.body.is_over() && !answer.body.reader().has_begun() {
        return judge_eventless(endpoint, answer);
    }
    if answer.body.reader().is_without_output() && endpoint.speaks_json() {
        return AttemptOutcome::Refused(
            answer,
            Box::new(shape::of_class(endpoint, ErrorClass::EmptyResponse)),
        );
    }
    AttemptOutcome::Answered(answer)
}

/// Classifies a stream that ended without an event: it may be a response of another format with a
/// wrong content type.
fn judge_eventless(endpoint: Endpoint, answer: Answer) -> AttemptOutcome {
    if answer.body.broke_off() {
        return AttemptOutcome::Broken(answer);
    }
    let headers = &answer.head.headers;
    let classified = shape::classify(endpoint, headers, &copy(headers, answer.body.held(), MAX_HELD));
    match classified {
        Some(classified) if endpoint.speaks_json() => AttemptOutcome::Refused(answer, Box::new(classified)),
        Some(_) | None => AttemptOutcome::Broken(answer),
    }
}

/// The deadline for this attempt's head: the SDK's timeout, or the configured time after the
/// request, whichever is sooner.
pub(super) fn latest_head(call: &Call, policy: &Policy) -> HeadLimit {
    let sdk = call.head.deadline.head;
    let first_event = call.head.first_event.and_then(|awaited| awaited.limit);
    let after_request = sdk.after_request.into_iter().chain(policy.response_timeout).chain(first_event).min();
    HeadLimit { after_request, ..sdk }
}

/// The relay settings. If the caller's SDK waits longer than the configured idle timeout, its
/// timeout applies.
fn relaying(call: &Call, policy: &Policy) -> stream::Settings {
    let patience = call.head.deadline.patience;
    let idle_timeout = policy.stream.idle_timeout.map(|idle| patience.map_or(idle, |own| idle.max(own)));
    stream::Settings { idle_timeout, ..policy.stream }
}

/// Reports a response's head to the record and the scope. `is_good`: the response is a success
/// whatever its body contains.
pub(super) fn report_head<'a>(
    permit: impl Into<Option<&'a mut Permit>>,
    record: &mut Record,
    head: &response::Parts,
    is_good: bool,
    now: Instant,
) {
    let found = AnswerHeaders::of(&head.headers, clock::wall);
    // Copied: a slice of the head would keep the connection's read buffer alive for the whole
    // stream.
    let request_id = found.request_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
    record.attempt_answered(head.status, request_id, now);
    let told = HeadReport { limits: limits::reports(&found, head.status), processing: found.processing };
    let unfiled = permit
        .into()
        .map_or(0, |permit| permit.head_at(&told, found.organization, found.project, is_good, now));
    let unused = found.limits.malformed + unfiled;
    if unused > 0 {
        record.account().metrics().limit_headers_malformed.inc_by(u64::from(unused));
    }
}

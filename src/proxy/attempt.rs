//! One attempt: the request goes upstream, the answer is read as far as a decision needs.

use std::pin::Pin;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, response};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::call::Call;
use super::{Policy, limits};
use crate::account::{Record, Wait};
use crate::caller::Mode;
use crate::classify::{self, Classified, Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::openai::{AnswerHeaders, Endpoint};
use crate::scope::{HeadReport, Permit};
use crate::stream::{Held, Reader, copy, hold};
use crate::upstream::{AnswerBody, Ready, Upstream};

/// An error's body follows its head at once; the decision does not wait for one that stalls.
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(5);

/// How an attempt ended, as far as a decision needs to know.
pub(super) enum Attempted {
    /// An answer that goes to the caller.
    Answered(Answer),
    /// An error answer, or one whose stream begins with an error; kept, in case it goes to the caller.
    Refused(Answer, Box<Classified>),
    /// An answer that broke off before it had begun.
    Broken(Answer),
    /// No answer.
    Failed(Failure),
}

/// An answer whose beginning may have been read already.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) held: Held<Failure>,
    pub(super) rest: AnswerBody,
    pub(super) reader: Reader,
}

/// Makes one attempt.
///
/// # Cancel safety
/// Dropping the future ends the attempt upstream at once; the permit and the record account for it when they are dropped.
#[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
pub(super) fn attempt(
    upstream: &Upstream,
    call: &mut Call,
    permit: &mut Permit,
    record: &mut Record,
    policy: &Policy,
) -> impl Future<Output = Attempted> + Send {
    async move {
        let head_by = latest_head(call, policy);
        let connection = if let Some(connection) = upstream.idle() {
            connection
        } else {
            call.head.let_go();
            // Boxed, because it is rare: the future of every attempt would have to hold it.
            match Box::pin(connect(upstream, head_by)).await {
                Ok(connection) => connection,
                Err(failure) => return Attempted::Failed(failure),
            }
        };
        // Not in this future: it need not have room for the request.
        let Some(sent) = send(connection, call, permit, record, head_by) else {
            return Attempted::Failed(Failure::sent(
                FailureKind::Reset,
                "the body was not kept for another try",
            ));
        };
        // In a block, so that the future has no room for the answer while it reads.
        let reading = {
            let judged = match sent.await {
                Ok(response) => judge(response, call, permit, record, policy),
                Err(failure) => return Attempted::Failed(failure),
            };
            match judged {
                Judged::Now(attempted) => return attempted,
                Judged::Later(reading) => reading,
            }
        };
        reading.await
    }
}

/// Sends the request, and returns the future of its answer; `None` when the body was streamed and is gone.
fn send(
    connection: Ready,
    call: &mut Call,
    permit: &mut Permit,
    record: &Record,
    head_by: Option<Instant>,
) -> Option<impl Future<Output = Result<Response<AnswerBody>, Failure>> + Send + use<>> {
    let mut request = call.request()?;
    record.write_trace(request.headers_mut());
    permit.sent();
    Some(connection.send(request, head_by))
}

async fn connect(upstream: &Upstream, head_by: Option<Instant>) -> Result<Ready, Failure> {
    let Some(by) = head_by else { return upstream.connection().await };
    clock::timeout_at(by, upstream.connection())
        .await
        .unwrap_or_else(|_| Err(Failure::unsent(FailureKind::ConnectTimeout, "the deadline came first")))
}

/// What an answer's head says of the attempt.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and the large one is the usual one"
)]
pub(super) enum Judged<'a> {
    /// All that a decision needs.
    Now(Attempted),
    /// That the beginning of its body must be read. Boxed: the plain answer's future need not have room for what it never
    /// does.
    Later(Pin<Box<dyn Future<Output = Attempted> + Send + 'a>>),
}

/// Reads an answer as far as a decision needs.
pub(super) fn judge<'a>(
    response: Response<AnswerBody>,
    call: &Call,
    permit: &mut Permit,
    record: &'a mut Record,
    policy: &Policy,
) -> Judged<'a> {
    let now = clock::now();
    let (head, rest) = response.into_parts();
    let endpoint = call.head.endpoint;
    if head.status.as_u16() >= 400 {
        hear(permit, record, &head, false, now);
        let patience = ERROR_BODY_PATIENCE.min(policy.stream.idle_timeout);
        return Judged::Later(Box::pin(judge_error(endpoint, head, rest, record, patience)));
    }
    let reader = Reader::of(endpoint, &head.headers);
    let answer = Answer { head, held: Held::nothing(), rest, reader };
    let hold_for = if call.head.mode == Mode::Enforce { policy.hold } else { Duration::ZERO };
    let is_good = !answer.reader.is_stream() || hold_for.is_zero() || answer.rest.is_end_stream();
    hear(permit, record, &answer.head, is_good, now);
    if is_good {
        return Judged::Now(Attempted::Answered(answer));
    }
    Judged::Later(Box::pin(judge_stream(endpoint, answer, record, hold_for)))
}

/// Reads an error's body, and says what the error is.
async fn judge_error(
    endpoint: Endpoint,
    head: response::Parts,
    mut rest: AnswerBody,
    record: &mut Record,
    patience: Duration,
) -> Attempted {
    let began = clock::now();
    let (beginning, copy) = read_error(&mut rest, &head, patience).await;
    record.waited(Wait::Upstream, clock::now() - began);
    let classified = classify::response(endpoint, head.status, &head.headers, &copy, clock::wall());
    Attempted::Refused(Answer { head, held: beginning, rest, reader: Reader::blind() }, Box::new(classified))
}

/// Holds a stream until its first event that counts, which may be an error.
async fn judge_stream(
    endpoint: Endpoint,
    mut answer: Answer,
    record: &mut Record,
    hold_for: Duration,
) -> Attempted {
    let began = clock::now();
    answer.held = hold(&mut answer.rest, &mut answer.reader, began + hold_for).await;
    record.waited(Wait::Upstream, clock::now() - began);
    judge_beginning(endpoint, answer)
}

/// What a stream's beginning says.
fn judge_beginning(endpoint: Endpoint, answer: Answer) -> Attempted {
    if let Some(data) = answer.reader.error() {
        let classified = Box::new(classify::stream_error(endpoint, data));
        return Attempted::Refused(answer, classified);
    }
    if (answer.held.broken.is_some() || answer.held.ended) && !answer.reader.has_begun() {
        return Attempted::Broken(answer);
    }
    Attempted::Answered(answer)
}

/// The latest moment for this attempt's head: the caller's deadline, or the configured timeout if that is sooner.
pub(super) fn latest_head(call: &Call, policy: &Policy) -> Option<Instant> {
    let configured = policy.response_timeout.map(|timeout| clock::now() + timeout);
    match (call.head.deadline.head, configured) {
        (Some(deadline), Some(configured)) => Some(deadline.min(configured)),
        (deadline, configured) => deadline.or(configured),
    }
}

/// Tells the record and the scope what an answer's head says, and whether it is a good answer whatever its body brings.
pub(super) fn hear(
    permit: &mut Permit,
    record: &mut Record,
    head: &response::Parts,
    is_good: bool,
    now: Instant,
) {
    let found = AnswerHeaders::of(&head.headers);
    // A copy: a part of the head would keep the connection's read buffer for as long as a stream lasts.
    let request_id = found.request_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
    record.attempt_answered(head.status, request_id, now);
    if found.limits.malformed > 0 {
        record.account().metrics().limit_headers_malformed.inc_by(u64::from(found.limits.malformed));
    }
    let told = HeadReport {
        limits: limits::reports(&found.limits.headers),
        processing: found.processing,
        rate_limited: head.status == StatusCode::TOO_MANY_REQUESTS,
    };
    permit.head_at(&told, found.organization, found.project, is_good, now);
}

/// Reads an error's body up to a bound; what is beyond it, or comes too late, stays to be relayed. Returns the frames for the
/// caller, and the decoded copy.
async fn read_error(
    body: &mut AnswerBody,
    head: &response::Parts,
    patience: Duration,
) -> (Held<Failure>, Vec<u8>) {
    let mut kept = Held::nothing();
    let mut bytes = 0;
    let until = clock::now() + patience;
    while bytes < classify::MAX_BODY {
        let Ok(Some(next)) = clock::timeout_at(until, body.frame()).await else { break };
        match next {
            Ok(frame) => {
                bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
                kept.frames.push_back(frame);
            }
            Err(failure) => {
                kept.broken = Some(failure);
                break;
            }
        }
    }
    let plain =
        copy(&head.headers, kept.frames.iter().filter_map(http_body::Frame::data_ref), classify::MAX_BODY);
    (kept, plain)
}

//! One attempt: the request goes upstream, the answer is read as far as a decision needs.

use std::time::Duration;

use http::{Response, StatusCode, response};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::call::Call;
use super::{Policy, limits};
use crate::account::{Record, Wait};
use crate::caller::Mode;
use crate::classify::{self, Classified, Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::openai::{Endpoint, limit_headers};
use crate::scope::{HeadReport, Permit};
use crate::stream::{Held, Reader, copy, hold};
use crate::upstream::{AnswerBody, Upstream};

/// The name in which the upstream says how long it worked on a request.
const PROCESSING_MS: &str = "openai-processing-ms";
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
pub(super) async fn attempt(
    upstream: &Upstream,
    call: &mut Call,
    permit: &mut Permit,
    record: &mut Record,
    policy: &Policy,
) -> Attempted {
    let head_by = latest_head(call, policy);
    let connected = match head_by {
        None => upstream.connection().await,
        Some(by) => clock::timeout_at(by, upstream.connection())
            .await
            .unwrap_or_else(|_| Err(Failure::unsent(FailureKind::ConnectTimeout, "the deadline came first"))),
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err(failure) => return Attempted::Failed(failure),
    };
    let Some(mut request) = call.request() else {
        return Attempted::Failed(Failure::sent(FailureKind::Reset, "the body was not kept for another try"));
    };
    record.write_trace(request.headers_mut());
    permit.sent();
    let response = match connection.send(request, head_by).await {
        Ok(response) => response,
        Err(failure) => return Attempted::Failed(failure),
    };
    judge(response, call, permit, record, policy).await
}

/// Reads an answer as far as a decision needs.
pub(super) async fn judge(
    response: Response<AnswerBody>,
    call: &Call,
    permit: &mut Permit,
    record: &mut Record,
    policy: &Policy,
) -> Attempted {
    let now = clock::now();
    let (head, mut rest) = response.into_parts();
    record.attempt_answered(head.status, head.headers.get("x-request-id").cloned(), now);
    report(permit, record, &head);
    let endpoint = call.head.endpoint;
    if head.status.as_u16() >= 400 {
        let patience = ERROR_BODY_PATIENCE.min(policy.stream.idle_timeout);
        let (kept, body) = Box::pin(read_error(&mut rest, &head, patience)).await;
        record.waited(Wait::Upstream, clock::now() - now);
        let classified = classify::response(endpoint, head.status, &head.headers, &body, clock::wall());
        return Attempted::Refused(
            Answer { head, held: kept, rest, reader: Reader::blind() },
            Box::new(classified),
        );
    }
    let mut reader = Reader::of(endpoint, &head.headers);
    let hold_for = if call.head.mode == Mode::Enforce { policy.hold } else { Duration::ZERO };
    if !reader.is_stream() || hold_for.is_zero() || rest.is_end_stream() {
        return Attempted::Answered(Answer { head, held: Held::nothing(), rest, reader });
    }
    // Boxed, as is the reading of errors: the plain answer's future need not have room for what it never does.
    let beginning = Box::pin(hold(&mut rest, &mut reader, now + hold_for)).await;
    record.waited(Wait::Upstream, clock::now() - now);
    judge_beginning(endpoint, Answer { head, held: beginning, rest, reader })
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

/// Tells the scope what the answer's head says of the limits.
pub(super) fn report(permit: &mut Permit, record: &Record, head: &response::Parts) {
    let found = limit_headers::parse(&head.headers);
    if found.malformed > 0 {
        record.account().metrics().limit_headers_malformed.inc_by(u64::from(found.malformed));
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let told = HeadReport {
        limits: limits::reports(&found.headers),
        processing: text(PROCESSING_MS).and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
        rate_limited: head.status == StatusCode::TOO_MANY_REQUESTS,
    };
    permit.head(&told, text("openai-organization"), text("openai-project"));
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

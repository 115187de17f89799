//! The heads of answers: what Weir adds to the upstream's, and nothing else.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};

use super::attempt::Answer;
use super::body::{Body, Relayed};
use super::exchange::Exchange;
use super::{Policy, Proxy};
use crate::account::{Record, Wait};
use crate::classify::ErrorClass;
use crate::clock::{self, Instant};
use crate::response::{ATTEMPTS, ERROR_CLASS, OwnAnswer, QUEUE_MS, SHOULD_RETRY};
use crate::upstream::headers;

/// What Weir adds to an answer.
pub(super) struct Notes {
    /// The class, on an error.
    pub(super) class: Option<ErrorClass>,
    /// Whether the SDK is told not to try again.
    pub(super) stop_retries: bool,
}

/// The upstream's answer on its way to the caller from `now` on; `owed` is settled when its body
/// ends.
pub(super) fn relay(
    mut answer: Answer,
    notes: &Notes,
    mut owed: Exchange,
    (proxy, policy): (&Proxy, &Policy),
    now: Instant,
) -> Response<Body> {
    let headers = &mut answer.head.headers;
    let record = owed.record_mut();
    let way = record.upstream().and_then(|upstream| policy.upstreams.way(upstream));
    headers::prepare_response(headers, way.unwrap_or(policy.upstreams.home()).target());
    add_notes(headers, record, notes);
    record.answered(answer.head.status, now);
    record.set_streamed(answer.body.reader().is_stream());
    let shares_its_connection = owed.shares_its_connection();
    answer.body.go_on(owed, now);
    // An empty one is over: there is nothing to wait for.
    let body = if shares_its_connection && !http_body::Body::is_end_stream(&*answer.body) {
        Relayed::Watched(proxy.stalls.watch(answer.body, policy.write_timeout, now))
    } else {
        Relayed::Alone(answer.body)
    };
    Response::from_parts(answer.head, Body::Relayed(body))
}

/// Weir's own answer. The request ends with it.
pub(super) fn own(answer: OwnAnswer, mut record: Box<Record>) -> Response<Body> {
    let notes = Notes { class: None, stop_retries: false };
    let mut response = answer.into_response(&record.id().to_string());
    add_notes(response.headers_mut(), &record, &notes);
    let now = clock::now();
    record.answered(response.status(), now);
    record.sent(response.body().len() as u64);
    record.finish(now);
    response.map(Body::from)
}

pub(super) fn add_notes(headers: &mut HeaderMap, record: &Record, notes: &Notes) {
    headers.insert(ATTEMPTS, count(record.attempts().count()));
    headers.insert(QUEUE_MS, milliseconds(record.waits(Wait::Queue)));
    if let Some(class) = notes.class {
        headers.insert(ERROR_CLASS, HeaderValue::from_static(class.as_str()));
    }
    if notes.stop_retries {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

fn count(attempts: u32) -> HeaderValue {
    match attempts {
        1 => HeaderValue::from_static("1"),
        other => HeaderValue::from(other),
    }
}

fn milliseconds(waited: Duration) -> HeaderValue {
    match u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) {
        0 => HeaderValue::from_static("0"),
        other => HeaderValue::from(other),
    }
}

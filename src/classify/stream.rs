//! Errors inside a response with status 200, classified as the status that they represent.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::ErrorClass;
use super::response::{Classified, of_body};
use super::words::{TABLES, Words, by_code};
use crate::openai::{Endpoint, ErrorBody};

/// Classifies the data of an `error` or `response.failed` event, or a JSON error body, as the
/// status that it represents. `wall` is the current wall time, for hints that are dates.
///
/// An unknown code is a [`ErrorClass::StreamError`] and represents 500, because the request had
/// been accepted.
pub fn stream_error(endpoint: Endpoint, data: &[u8], wall: SystemTime) -> Classified {
    let body = ErrorBody::parse(data);
    let known = status_of(&body);
    let mut classified = of_body(endpoint, known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body, wall);
    if known.is_none() && classified.class == ErrorClass::InternalServerError {
        classified.class = ErrorClass::StreamError;
    }
    classified.hidden = true;
    classified
}

/// Classifies an error in a WebSocket session from its body and headers.
///
/// `wall` is the current wall time, for hints that are dates.
pub fn frame_error(endpoint: Endpoint, body: &[u8], headers: &HeaderMap, wall: SystemTime) -> Classified {
    let mut classified = stream_error(endpoint, body, wall);
    // The error is the response itself; no stream preceded it.
    classified.hidden = false;
    classified.read_hints(headers, wall);
    classified
}

/// The status that an error represents, by its own fields.
pub(crate) fn status_of(body: &ErrorBody) -> Option<StatusCode> {
    let numeric = || body.code.as_deref().and_then(|code| code.parse().ok()).and_then(by_number);
    body.status.and_then(by_number).or_else(|| by_name(body)).or_else(numeric).or_else(|| by_words(body))
}

fn by_number(number: u16) -> Option<StatusCode> {
    StatusCode::from_u16(number).ok().filter(|status| status.is_client_error() || status.is_server_error())
}

fn by_name(body: &ErrorBody) -> Option<StatusCode> {
    const LIMITS: [&str; 3] = ["tokens", "requests", "resource_unavailable"];
    let is_limit = || {
        body.is_named(&TABLES.slow_down_codes)
            || body.is_named(&TABLES.rate_limit_codes)
            || body.is_named(&LIMITS)
    };
    let by_table = || {
        TABLES
            .statuses
            .iter()
            .find(|(_, names)| body.is_named(names))
            .and_then(|(status, _)| by_number(*status))
    };
    if by_code(body, &TABLES.quota_codes).is_some() || is_limit() {
        Some(StatusCode::TOO_MANY_REQUESTS)
    } else if body.is_named(&TABLES.overload_codes) {
        Some(StatusCode::SERVICE_UNAVAILABLE)
    } else if body.is_named(&TABLES.model_codes) {
        Some(StatusCode::NOT_FOUND)
    } else {
        by_table()
    }
}

/// Some errors state it only in the message: `Streaming response failed: [503] The request queue is
/// full.`
fn by_words(body: &ErrorBody) -> Option<StatusCode> {
    let words = Words::of(body);
    let says_one_of = |lists: &[&Vec<String>]| lists.iter().any(|said| words.say_any(said));
    if words.find(&TABLES.quota_words).is_some()
        || says_one_of(&[&TABLES.hidden_limit_words, &TABLES.rate_limit_words])
    {
        Some(StatusCode::TOO_MANY_REQUESTS)
    } else if says_one_of(&[
        &TABLES.queue_words,
        &TABLES.capacity_words,
        &TABLES.concurrency_words,
        &TABLES.overload_words,
    ]) {
        Some(StatusCode::SERVICE_UNAVAILABLE)
    } else {
        words.find(&TABLES.key_words).map(|_| StatusCode::UNAUTHORIZED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_stream_is_what_its_code_stands_for() {
        for (data, class, status) in [
            (
                r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
                ErrorClass::QuotaInsufficient,
                429,
            ),
            (
                r#"{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"Rate limit reached for o4-mini on tokens per min (TPM): Limit 2, Used 1, Requested 2. Please try again in 1.574s."}}"#,
                ErrorClass::RateLimitTokens,
                429,
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                ErrorClass::InternalServerError,
                500,
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
                ErrorClass::RateLimitOther,
                429,
            ),
            (r#"{"type":"error","code":"server_is_overloaded","message":"m"}"#, ErrorClass::Overloaded, 503),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                ErrorClass::Overloaded,
                503,
            ),
            (r#"{"error":{"code":"slow_down"}}"#, ErrorClass::SlowDown, 429),
            (
                r#"{"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}"#,
                ErrorClass::ContextLengthExceeded,
                400,
            ),
            (
                r#"{"type":"error","status":400,"error":{"code":"previous_response_not_found"}}"#,
                ErrorClass::WebsocketPreviousResponseNotFound,
                400,
            ),
            (r#"{"error":{"code":502,"message":"Upstream error"}}"#, ErrorClass::BadGateway, 502),
            (
                r#"{"type":"error","code":"ERR_SOMETHING","message":"Something went wrong"}"#,
                ErrorClass::StreamError,
                500,
            ),
            (r#"{"error":"broken"}"#, ErrorClass::StreamError, 500),
            ("", ErrorClass::StreamError, 500),
            (
                r#"{"error":{"message":"Streaming response failed: [503] The request queue is full."}}"#,
                ErrorClass::SlowDown,
                503,
            ),
            (
                r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#,
                ErrorClass::RateLimitOther,
                429,
            ),
            (
                r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"temporarily rate-limited upstream"}}}"#,
                ErrorClass::RateLimitOther,
                429,
            ),
            (
                r#"{"id":"x","choices":null,"error_type":"BadRequestError","error_message":"maximum context length"}"#,
                ErrorClass::ContextLengthExceeded,
                400,
            ),
            (
                r#"{"choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#,
                ErrorClass::RateLimitOther,
                429,
            ),
            (r#"{"error":{"code":200,"message":"m"}}"#, ErrorClass::StreamError, 500),
            (r#"{"error":{"code":999,"message":"m"}}"#, ErrorClass::StreamError, 500),
        ] {
            let classified = stream_error(Endpoint::Responses, data.as_bytes(), SystemTime::UNIX_EPOCH);
            assert_eq!((classified.class, classified.status.as_u16()), (class, status), "{data}");
            assert!(classified.hidden);
        }
    }
}

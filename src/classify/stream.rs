//! Errors hidden inside a stream whose status was 200: they are what the status says that they stand for.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::ErrorClass;
use super::response::{
    Classified, MODEL_CODES, OVERLOAD_CODES, QUOTA_CODES, SLOW_DOWN_CODES, of_body, should_retry,
};
use crate::openai::{Endpoint, ErrorBody, retry_hint};

/// Classifies the data of an `error` or `response.failed` event as the status that it stands for.
///
/// A code that the list does not know is a [`ErrorClass::StreamError`], and stands for 500: the request had been accepted.
pub fn stream_error(endpoint: Endpoint, data: &[u8]) -> Classified {
    let body = ErrorBody::parse(data);
    let known = status_of(&body);
    let mut classified = of_body(endpoint, known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body);
    if known.is_none() {
        classified.class = ErrorClass::StreamError;
    }
    classified.hidden = true;
    classified
}

/// Classifies an error in a WebSocket session: what `body` says, with the headers that came with it.
///
/// `wall` is the wall time now, for hints that are dates.
pub fn frame_error(endpoint: Endpoint, body: &[u8], headers: &HeaderMap, wall: SystemTime) -> Classified {
    let mut classified = stream_error(endpoint, body);
    // Nothing was said before it: it is the answer itself.
    classified.hidden = false;
    classified.hint = retry_hint::in_headers(headers, wall).or(classified.hint);
    classified.should_retry = should_retry(headers);
    classified
}

/// The status that an error stands for, by what it says of itself.
pub(crate) fn status_of(body: &ErrorBody) -> Option<StatusCode> {
    let by_number = |number: u16| StatusCode::from_u16(number).ok().filter(|status| status.as_u16() >= 400);
    let is_quota = || QUOTA_CODES.iter().any(|(_, codes)| body.is_named(codes));
    let named = if is_quota() || body.is_named(&SLOW_DOWN_CODES) || body.is_named(&RATE_LIMIT_CODES) {
        Some(StatusCode::TOO_MANY_REQUESTS)
    } else if body.is_named(&OVERLOAD_CODES) {
        Some(StatusCode::SERVICE_UNAVAILABLE)
    } else if body.is_named(&AUTHENTICATION_CODES) {
        Some(StatusCode::UNAUTHORIZED)
    } else if body.is_named(&PERMISSION_CODES) {
        Some(StatusCode::FORBIDDEN)
    } else if body.is_named(&MODEL_CODES) || body.is_named(&["not_found_error"]) {
        Some(StatusCode::NOT_FOUND)
    } else if body.is_named(&BAD_REQUEST_CODES) {
        Some(StatusCode::BAD_REQUEST)
    } else if body.is_named(&["server_error", "internal_server_error", "api_error"]) {
        Some(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        None
    };
    let numeric = || body.code.as_deref().and_then(|code| code.parse().ok()).and_then(by_number);
    body.status.and_then(by_number).or(named).or_else(numeric)
}

const RATE_LIMIT_CODES: [&str; 5] =
    ["rate_limit_exceeded", "rate_limit_error", "tokens", "requests", "resource_unavailable"];
const AUTHENTICATION_CODES: [&str; 3] = ["invalid_api_key", "authentication_error", "ip_not_authorized"];
const PERMISSION_CODES: [&str; 3] =
    ["permission_error", "request_forbidden", "unsupported_country_region_territory"];
const BAD_REQUEST_CODES: [&str; 12] = [
    "invalid_request_error",
    "invalid_prompt",
    "context_length_exceeded",
    "previous_response_not_found",
    "websocket_connection_limit_reached",
    "websocket_stream_limit_reached",
    "invalid_image",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "image_parse_error",
    "image_content_policy_violation",
];

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
        ] {
            let classified = stream_error(Endpoint::Responses, data.as_bytes());
            assert_eq!((classified.class, classified.status.as_u16()), (class, status), "{data}");
            assert!(classified.hidden);
        }
    }
}

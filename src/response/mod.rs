//! The answers that are Weir's own: the only place where an error becomes bytes.
//!
//! They wear OpenAI's envelope, so that every SDK raises its usual exception, and say `weir_error`,
//! so that nobody takes them for the upstream's.

mod allowance;
mod refusal;
mod stream_error;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::admission::WordsBody;
use crate::classify::ErrorClass;
use crate::retry::OBEYED_HINT;

pub use allowance::{budget_spent, ceiling};
pub use refusal::{cut_before_it_began, failure, refusal};
pub use stream_error::{panic_event, stream_error};

/// How many attempts the request cost.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-weir-attempts");
/// How long the request waited for its turns, in whole milliseconds.
pub const QUEUE_MS: HeaderName = HeaderName::from_static("x-weir-queue-ms");
/// The error class, on every answer that is an error.
pub const ERROR_CLASS: HeaderName = HeaderName::from_static("x-weir-error-class");
/// Tells the SDKs whether to try again, above their own rules.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The request's identity, as the API names it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most that jitter adds to a hint.
const MOST_JITTER: Duration = Duration::from_secs(15);
/// The longest and shortest hints that are given. Below a second some SDKs ignore them.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error answer of Weir's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAnswer {
    /// What is counted, and named in `x-weir-error-class`.
    pub class: ErrorClass,
    /// The status that the caller sees.
    pub status: StatusCode,
    /// The envelope's `type`.
    pub kind: Cow<'static, str>,
    /// The envelope's `code`.
    pub code: Cow<'static, str>,
    /// What happened and what to do, for a person.
    pub message: String,
    /// When another try helps, already jittered.
    pub retry_after: Option<Duration>,
    /// Whether the SDK may try again; without it the SDK's own rules decide.
    pub should_retry: Option<bool>,
    /// The upstream's body that the answer repeats, in place of the envelope.
    pub body: Option<WordsBody>,
}

impl OwnAnswer {
    /// An answer of type `weir_error` with the status that the design gives this class.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            status: status(class),
            kind: Cow::Borrowed("weir_error"),
            code: Cow::Borrowed(code(class)),
            message: message.into(),
            retry_after: None,
            should_retry: None,
            body: None,
        }
    }

    /// The same, with a hint for another try after `wait`, and jitter above it so that callers told
    /// together do not come back together. A wait that is longer than every SDK obeys is told all
    /// the same, and the SDKs are told not to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration, rng: &mut fastrand::Rng) -> Self {
        let wait = wait.clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER);
        let jittered = wait + (wait / 4).min(MOST_JITTER).mul_f64(rng.f64());
        self.retry_after = Some(jittered.min(LONGEST_RETRY_AFTER));
        // An SDK that does not obey the hint would only be refused again.
        self.should_retry = (wait > OBEYED_HINT).then_some(false);
        self
    }

    /// The same, with the instruction to the SDKs not to try again.
    #[must_use]
    pub fn final_answer(mut self) -> Self {
        self.should_retry = Some(false);
        self
    }

    /// The answer as an `error` event of a WebSocket session, for one turn: `stream_id` is its
    /// lane, `about` the client's name of its message. What would be headers over HTTP stands in
    /// the error, as in the API's own events.
    pub fn into_event(self, request_id: &str, stream_id: Option<&str>, about: Option<&str>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Told<'a> {
            r#type: &'static str,
            event_id: &'a str,
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            stream_id: Option<&'a str>,
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            r#type: &'a str,
            code: &'a str,
            message: &'a str,
            param: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            event_id: Option<&'a str>,
            headers: std::collections::BTreeMap<String, String>,
        }
        let (kind, code, message) = (self.kind.clone(), self.code.clone(), self.message.clone());
        let (status, response) = (self.status.as_u16(), self.into_response(request_id));
        let told =
            response.headers().iter().filter(|(name, _)| !matches!(**name, CONTENT_TYPE | CONTENT_LENGTH));
        let headers = told
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let error =
            Inner { r#type: &kind, code: &code, message: &message, param: None, event_id: about, headers };
        let event = Told { r#type: "error", event_id: request_id, status, stream_id, error };
        serde_json::to_vec(&event).unwrap_or_default()
    }

    /// The answer's bytes and headers.
    pub fn into_response(self, request_id: &str) -> Response<Bytes> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: &'a str,
        }
        let inner = Inner { message: &self.message, r#type: &self.kind, param: None, code: &self.code };
        let (kind, body) = match self.body {
            Some(WordsBody { kind, bytes }) => (HeaderValue::from_str(&kind).ok(), bytes.into_vec()),
            None => (None, serde_json::to_vec(&Envelope { error: inner }).unwrap_or_default()),
        };
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(ERROR_CLASS, HeaderValue::from_static(self.class.as_str()));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(wait) = self.retry_after {
            let whole_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds));
            let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(milliseconds));
        }
        if let Some(retry) = self.should_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        }
        *response.body_mut() = Bytes::from(body);
        response
    }
}

/// The status of an answer that Weir gives by itself for this class (DESIGN, Admission 9).
///
/// Classes that the upstream answers with keep the upstream's status; for them this is what Weir
/// says where there was no answer to pass on.
pub fn status(class: ErrorClass) -> StatusCode {
    class.meaning().status
}

/// The envelope's `code`: the class without Weir's prefix, as the design names them.
fn code(class: ErrorClass) -> &'static str {
    let name = class.as_str();
    name.strip_prefix("weir_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_statuses_are_those_of_the_design() {
        for (class, status_code, code_name) in [
            (ErrorClass::WeirQueueFull, 429, "queue_full"),
            (ErrorClass::WeirCallerLimit, 429, "caller_limit"),
            (ErrorClass::WeirDeadline, 503, "deadline"),
            (ErrorClass::WeirBreakerOpen, 503, "breaker_open"),
            (ErrorClass::WeirDraining, 503, "draining"),
            (ErrorClass::WeirCallerUnknown, 401, "caller_unknown"),
            (ErrorClass::WeirBodyTooLarge, 413, "body_too_large"),
            (ErrorClass::WeirInternal, 500, "internal"),
            (ErrorClass::ConnectionRefused, 502, "connection_refused"),
            (ErrorClass::TimeoutConnect, 504, "timeout_connect"),
        ] {
            assert_eq!(status(class).as_u16(), status_code, "{}", class.as_str());
            assert_eq!(code(class), code_name);
        }
    }

    #[test]
    fn the_envelope_is_json_with_all_four_fields_and_the_headers_of_the_design() {
        let mut rng = fastrand::Rng::with_seed(1);
        let answer = OwnAnswer::new(ErrorClass::WeirQueueFull, "a \"quoted\" reason")
            .retry_after(Duration::from_secs(2), &mut rng);
        let response = answer.into_response("weir-1");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[ERROR_CLASS], "weir_queue_full");
        assert_eq!(response.headers()[REQUEST_ID], "weir-1");
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        assert!(!response.headers().contains_key(SHOULD_RETRY));
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": {"message": "a \"quoted\" reason", "type": "weir_error", "param": null, "code": "queue_full"}})
        );
    }

    #[test]
    fn hints_stay_within_what_every_sdk_obeys_and_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut seen = std::collections::BTreeSet::new();
        for wait in [Duration::ZERO, Duration::from_millis(1500), Duration::from_secs(40), Duration::MAX] {
            for _ in 0..20 {
                let hint =
                    OwnAnswer::new(ErrorClass::WeirDeadline, "").retry_after(wait, &mut rng).retry_after;
                let hint = hint.unwrap();
                assert!(hint >= SHORTEST_RETRY_AFTER && hint <= LONGEST_RETRY_AFTER, "{hint:?}");
                assert!(hint >= wait.min(LONGEST_RETRY_AFTER));
                seen.insert(hint);
            }
        }
        assert!(seen.len() > 50, "told together, they come back apart");
    }

    #[test]
    fn a_final_answer_stops_the_sdks() {
        let response =
            OwnAnswer::new(ErrorClass::ConnectionRefused, "gone").final_answer().into_response("x");
        assert_eq!(response.headers()[SHOULD_RETRY], "false");
    }
}

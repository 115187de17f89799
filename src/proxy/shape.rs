//! Whether a 200 has an answer's shape: an error in its place, a page, or nothing are none.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::classify::{self, Classified, ErrorClass};
use crate::clock;
use crate::openai::json::{Cursor, Malformed};
use crate::openai::{Endpoint, ErrorBody};

/// Members that answers have, and errors don't.
const OF_ANSWERS: [&[u8]; 5] = [b"object", b"choices", b"output", b"data", b"results"];

/// What a whole body with status 200 is classified as; nothing where it is an answer.
pub(super) fn classify(endpoint: Endpoint, headers: &HeaderMap, body: &[u8]) -> Option<Classified> {
    let body = body.trim_ascii();
    if body.is_empty() || body == b"[DONE]" || body == b"data: [DONE]" || body == b"{}" || body == b"null" {
        return Some(of_class(endpoint, ErrorClass::EmptyResponse));
    }
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if kind.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html")) || body.starts_with(b"<") {
        return Some(of_class(endpoint, ErrorClass::MalformedResponse));
    }
    // Most answers say in their first members what they are.
    let is_error = !is_answer(body).unwrap_or(false)
        && serde_json::from_slice::<Shape<'_>>(body).is_ok_and(|shape| shape.is_error());
    is_error.then(|| classify::stream_error(endpoint, body, clock::wall()))
}

/// Whether a JSON object has a member that errors don't have.
fn is_answer(body: &[u8]) -> Result<bool, Malformed> {
    let mut cursor = Cursor::new(body);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        // Of null it would tell nothing.
        if OF_ANSWERS.contains(&key.bytes) && cursor.peek() != Some(b'n') {
            return Ok(true);
        }
        cursor.skip()?;
    }
    Ok(false)
}

/// A 200 that is no answer, for a reason that it does not tell.
pub(super) fn of_class(endpoint: Endpoint, class: ErrorClass) -> Classified {
    let mut classified =
        classify::of_body(endpoint, StatusCode::INTERNAL_SERVER_ERROR, ErrorBody::default(), clock::wall());
    (classified.class, classified.hidden) = (class, true);
    classified
}

/// The keys that tell an answer from an error in its place.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Of `MiniMax`, also beside an answer.
    #[serde(borrow)]
    base_resp: Option<&'a RawValue>,
    /// A number that is not 0, or a word, beside a message.
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    /// The same of Baidu.
    #[serde(borrow)]
    error_code: Option<&'a RawValue>,
    // Each by itself: an alias would refuse a body that has two of them.
    message: Option<IgnoredAny>,
    msg: Option<IgnoredAny>,
    error_msg: Option<IgnoredAny>,
    detail: Option<IgnoredAny>,
    choices: Option<IgnoredAny>,
    output: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
    results: Option<IgnoredAny>,
    object: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct BaseResp<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
}

/// Whether a code tells of a failure: a number that is not 0, or a word.
fn is_failure(code: &RawValue) -> bool {
    !matches!(code.get(), "0" | "200" | "null" | "\"\"" | "\"0\"" | "\"200\"")
}

impl Shape<'_> {
    fn is_error(&self) -> bool {
        let answers = [&self.choices, &self.output, &self.data, &self.results, &self.object];
        let has_error =
            self.error.is_some_and(|error| error.get().starts_with(['{', '"']) && error.get() != "\"\"");
        let told = |base: &'_ RawValue| {
            serde_json::from_str::<BaseResp<'_>>(base.get()).ok()?.status_code.map(is_failure)
        };
        let has_failed = self.base_resp.and_then(told).unwrap_or(false);
        let has_message =
            [&self.message, &self.msg, &self.error_msg, &self.detail].iter().any(|text| text.is_some());
        let has_code = has_message && self.code.or(self.error_code).is_some_and(is_failure);
        answers.iter().all(|answer| answer.is_none()) && (has_error || has_failed || has_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_what_stands_in_its_place() {
        for (body, class) in [
            (r#"{"object":"chat.completion","choices":[]}"#, None),
            (r#"{"object":"response","error":{"code":"server_error"},"status":"failed"}"#, None),
            (r#"{"error":null,"choices":[]}"#, None),
            (r#"{"id":"x"}"#, None),
            (r#"{"choices":[{"message":{"content":"<html>, \"error\":{"}}]}"#, None),
            (r#"{"error":{"message":"busy","code":502}}"#, Some(ErrorClass::BadGateway)),
            (
                r#"{"error":{"code":"rate_limit_exceeded","type":"requests"},"user_id":"u"}"#,
                Some(ErrorClass::RateLimitRequests),
            ),
            (
                r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit exceeded"},"choices":null}"#,
                Some(ErrorClass::RateLimitOther),
            ),
            (
                r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
                Some(ErrorClass::QuotaCredit),
            ),
            (r#"{"choices":[{}],"base_resp":{"status_code":0,"status_msg":""}}"#, None),
            (
                r#"{"code":50603,"message":"System is really busy. Please try again later.","data":null}"#,
                Some(ErrorClass::SlowDown),
            ),
            (
                r#"{"choices":null,"base_resp":{"status_code":"1002","status_msg":"rate limit exceeded"}}"#,
                Some(ErrorClass::RateLimitOther),
            ),
            (
                r#"{"error":{"message":"busy","code":502},"message":"busy","detail":"of a gateway"}"#,
                Some(ErrorClass::BadGateway),
            ),
            (r#"{"error":{"message":"busy","code":502},"base_resp":"none"}"#, Some(ErrorClass::BadGateway)),
            (r#"{"code":0,"message":"ok"}"#, None),
            (
                r#"{"error_code":18,"error_msg":"Open api qps request limit reached","id":"x"}"#,
                Some(ErrorClass::RateLimitRequests),
            ),
            (r#"{"error_code":0,"error_msg":"","result":"text"}"#, None),
            (r#"{"choices":[{"message":"x"}],"code":7}"#, None),
            (" \r\n\r\n", Some(ErrorClass::EmptyResponse)),
            ("[DONE]", Some(ErrorClass::EmptyResponse)),
            ("<!DOCTYPE html><html></html>", Some(ErrorClass::MalformedResponse)),
        ] {
            let found = classify(Endpoint::ChatCompletions, &HeaderMap::new(), body.as_bytes());
            assert_eq!(found.map(|classified| classified.class), class, "{body}");
        }
    }
}

//! Whether a 200 response has the shape of a result: an error body, an HTML page or an empty body
//! does not.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use crate::classify::{self, Classified, ErrorClass};
use crate::clock;
use crate::openai::{Endpoint, ErrorBody, in_place};

/// Classifies a complete body with status 200; `None` if it is a result.
pub(super) fn classify(endpoint: Endpoint, headers: &HeaderMap, body: &[u8]) -> Option<Classified> {
    let body = body.trim_ascii();
    if body.is_empty() || body == b"[DONE]" || body == b"data: [DONE]" || body == b"{}" || body == b"null" {
        return Some(of_class(endpoint, ErrorClass::EmptyResponse));
    }
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if kind.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html")) || body.starts_with(b"<") {
        return Some(of_class(endpoint, ErrorClass::MalformedResponse));
    }
    in_place::is_error(body).then(|| classify::stream_error(endpoint, body, clock::wall()))
}

/// Classifies a 200 response that is not a result and gives no reason.
pub(super) fn of_class(endpoint: Endpoint, class: ErrorClass) -> Classified {
    let mut classified =
        classify::of_body(endpoint, StatusCode::INTERNAL_SERVER_ERROR, ErrorBody::default(), clock::wall());
    (classified.class, classified.hidden) = (class, true);
    classified
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

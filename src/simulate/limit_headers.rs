//! Limits in words: what the headers of an answer tell, and the message of a refusal.

use bytes::Bytes;
use serde_json::json;

use crate::openai::duration;

use super::limiter::{JointRefusal, Level, Unit};

/// What the headers of one answer tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// The day's limit of requests where there is one, as recorded; else the minute's.
    pub(super) requests: Option<Level>,
    /// The minute's limit of tokens where there is one; else the day's.
    pub(super) tokens: Option<Level>,
}

/// A refusal's body, in the API's own words.
pub(super) fn refusal_body(refused: &JointRefusal, model: &str, organization: &str) -> Bytes {
    let JointRefusal { dimension, refusal } = refused;
    let (phrase, limit, requested) = (dimension.phrase(), refusal.limit, refusal.requested);
    let message = if refusal.too_large {
        format!(
            "Request too large for {model} in organization {organization} on {phrase}: Limit {limit}, Requested \
             {requested}. The input or output tokens must be reduced in order to run successfully. Visit \
             https://platform.openai.com/account/rate-limits to learn more."
        )
    } else {
        format!(
            "Rate limit reached for {model} in organization {organization} on {phrase}: Limit {limit}, Used {}, \
             Requested {requested}. Please try again in {}. Visit \
             https://platform.openai.com/account/rate-limits to learn more.",
            refusal.used,
            duration::format(refusal.wait)
        )
    };
    let kind = match dimension.unit() {
        Unit::Requests => "requests",
        Unit::Tokens => "tokens",
    };
    let error = json!({ "message": message, "type": kind, "param": null, "code": "rate_limit_exceeded" });
    Bytes::from(json!({ "error": error }).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::limiter::{Dimension, Refusal};
    use super::*;

    #[test]
    fn a_refusal_speaks_the_recorded_grammar() {
        let refusal = Refusal {
            limit: 10_000,
            used: 8_554,
            requested: 3_082,
            wait: Duration::from_millis(9_816),
            too_large: false,
        };
        let refused = JointRefusal { dimension: Dimension::TokensPerMinute, refusal };
        let body = refusal_body(&refused, "gpt-4", "org-exampleorgid000000000001");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["message"],
            "Rate limit reached for gpt-4 in organization org-exampleorgid000000000001 on tokens per min (TPM): \
             Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s. Visit \
             https://platform.openai.com/account/rate-limits to learn more."
        );
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!("tokens"), &json!("rate_limit_exceeded"))
        );
        let too_large = JointRefusal {
            dimension: Dimension::TokensPerMinute,
            refusal: Refusal { limit: 30_000, requested: 31_538, too_large: true, ..refusal },
        };
        let body = refusal_body(&too_large, "gpt-4o", "org-exampleorgid000000000001");
        assert!(String::from_utf8_lossy(&body).contains(
            "Request too large for gpt-4o in organization org-exampleorgid000000000001 on tokens per min (TPM): Limit \
             30000, Requested 31538. The input or output tokens must be reduced in order to run successfully."
        ));
    }
}

//! The API's errors, a table in `errors.json`. Recorded errors are verbatim. The first row of a
//! status is its default error.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// An error response of the API.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// The name in `--fault` and `x-simulate`.
    pub name: String,
    /// The HTTP status.
    #[serde(deserialize_with = "status")]
    pub status: StatusCode,
    /// The value of `error` in the body, for errors of the API itself.
    #[serde(default)]
    error: Value,
    /// The content type and body, for errors of a proxy in front of the API.
    page: Option<(String, String)>,
}

/// All errors.
static TABLE: LazyLock<Vec<ApiError>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("errors.json")).expect("the table is valid, as a test shows")
});

fn status<'de, D: serde::Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
    StatusCode::from_u16(u16::deserialize(from)?).map_err(serde::de::Error::custom)
}

impl ApiError {
    /// All errors.
    pub fn all() -> &'static [Self] {
        &TABLE
    }

    /// The error with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|error| error.name == name)
    }

    /// The default error of this status.
    pub fn with_status(status: u16) -> Option<&'static Self> {
        TABLE.iter().find(|error| error.status.as_u16() == status)
    }

    /// The response body.
    pub fn body(&self) -> Bytes {
        match &self.page {
            Some((_, text)) => Bytes::copy_from_slice(text.as_bytes()),
            None => Bytes::from(json!({ "error": self.error }).to_string()),
        }
    }

    /// The value of `error`, for a body or for an event of a stream.
    pub fn object(&self) -> Value {
        match &self.page {
            Some((_, text)) => {
                json!({ "message": text, "type": "server_error", "param": null, "code": null })
            }
            None => self.error.clone(),
        }
    }

    /// Whether the API documents a `Retry-After` for this error: rate limits and overload.
    pub fn suggests_retry(&self) -> bool {
        matches!(&*self.name, "server_is_overloaded" | "slow_down" | "slow_down_503" | "model_overloaded")
            || self.name.starts_with("rate_limit_")
    }

    /// The body's content type.
    pub fn content_type(&self) -> HeaderValue {
        let kind = self.page.as_ref().map_or("application/json; charset=utf-8", |(kind, _)| kind);
        HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("text/plain"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_usual_ones_come_first() {
        let names: HashSet<_> = TABLE.iter().map(|error| &error.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for (status, name) in [
            (401, "invalid_api_key"),
            (429, "rate_limit_requests"),
            (500, "server_error"),
            (502, "html-502"),
            (503, "server_is_overloaded"),
        ] {
            assert_eq!(ApiError::with_status(status).unwrap().name, name);
        }
    }

    #[test]
    fn an_envelope_has_all_four_members() {
        let body: Value = serde_json::from_slice(&ApiError::named("cf_bad_gateway").unwrap().body()).unwrap();
        assert_eq!(
            body,
            json!({"error": {"message": "Bad gateway.", "type": "cf_bad_gateway", "param": null, "code": 502}})
        );
    }
}

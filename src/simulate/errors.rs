//! The API's errors: one row for each body that was recorded or documented, by a name to ask for
//! it.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::error_table::TABLE;

/// One error as the API, or the edge before it, sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What `error=NAME` and `--fault NAME=RATE` call it: the API's own code where it has one.
    pub name: &'static str,
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub form: Form,
}

/// How an error's body is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The API's envelope.
    Envelope {
        /// `error.message`.
        message: &'static str,
        /// `error.type`.
        kind: &'static str,
        /// `error.code`.
        code: Code,
        /// `error.param`.
        param: Option<&'static str>,
    },
    /// Plain text, as Envoy answers.
    Text(&'static str),
    /// A page, as the edge answers.
    Html(&'static str),
}

/// `error.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `null`.
    Null,
    /// A string, as usual.
    Name(&'static str),
    /// An integer, as Cloudflare sends it.
    Number(u16),
}

impl ApiError {
    /// The error of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|error| error.name == name)
    }

    /// The first error with this status, its usual one.
    pub fn with_status(status: u16) -> Option<&'static Self> {
        TABLE.iter().find(|error| error.status.as_u16() == status)
    }

    /// The body's bytes.
    pub fn body(&self) -> Bytes {
        match self.form {
            Form::Envelope { .. } => Bytes::from(json!({ "error": self.object() }).to_string()),
            Form::Text(text) | Form::Html(text) => Bytes::from_static(text.as_bytes()),
        }
    }

    /// What stands under `error`, for a stream that hides it too.
    pub fn object(&self) -> Value {
        match self.form {
            Form::Envelope { message, kind, code, param } => {
                let code = match code {
                    Code::Null => Value::Null,
                    Code::Name(name) => Value::from(name),
                    Code::Number(number) => Value::from(number),
                };
                json!({ "message": message, "type": kind, "param": param, "code": code })
            }
            Form::Text(text) | Form::Html(text) => {
                json!({ "message": text, "type": "server_error", "param": null, "code": null })
            }
        }
    }

    /// Whether the API documents a `Retry-After` for it: temporary refusals and overload.
    pub fn suggests_retry(&self) -> bool {
        matches!(self.name, "server_is_overloaded" | "slow_down" | "slow_down_503" | "model_overloaded")
            || self.name.starts_with("rate_limit_")
    }

    /// The body's content type.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self.form {
            Form::Envelope { .. } => "application/json; charset=utf-8",
            Form::Text(_) => "text/plain",
            Form::Html(_) => "text/html",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_usual_ones_come_first() {
        let names: HashSet<_> = TABLE.iter().map(|error| error.name).collect();
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

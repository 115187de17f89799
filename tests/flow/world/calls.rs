//! One call through the proxy, and its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;

/// A request of a caller.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    /// A chat completion.
    pub(crate) fn chat() -> Self {
        Self::post(
            "/v1/chat/completions",
            r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Three words."}]}"#,
        )
    }

    /// A chat completion as a stream, with its usage.
    pub(crate) fn chat_stream() -> Self {
        Self::post(
            "/v1/chat/completions",
            r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Three words."}]}"#,
        )
    }

    /// A response that is not stored, as a stream.
    pub(crate) fn response_stream() -> Self {
        Self::post(
            "/v1/responses",
            r#"{"model":"gpt-4o-mini","stream":true,"store":false,"input":"Three words."}"#,
        )
    }

    /// A JSON body to a path.
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path: path.to_owned(), headers: Vec::new(), body: body.into() }
            .with("authorization", "Bearer sk-flow")
            .with("content-type", "application/json")
    }

    /// The same with one more header, in place of another of its name.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The same with an `x-simulate` header.
    pub(crate) fn simulate(self, directive: &str) -> Self {
        self.with("x-simulate", directive)
    }

    /// The same with the caller's timeout in seconds, as sent by the Python SDK.
    pub(crate) fn timeout(self, seconds: u32) -> Self {
        self.with("x-stainless-read-timeout", seconds.to_string())
    }

    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(&self.method).uri(&self.path).header("host", "weir.test");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(self.body.clone())).expect("a request")
    }
}

/// What a caller got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the body is complete.
    pub(crate) whole: bool,
    pub(crate) began: Duration,
    pub(crate) head: Duration,
    pub(crate) ended: Duration,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success() && self.whole
    }

    /// From the request to the head of the answer.
    pub(crate) fn took(&self) -> Duration {
        self.head.saturating_sub(self.began)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Attempts that Weir made for it.
    pub(crate) fn attempts(&self) -> u64 {
        self.header("x-weir-attempts").expect("every answer tells").parse().expect("a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The quantile of a sorted list.
pub(crate) fn quantile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (last as f64 * share) as usize;
    times.get(at).copied().unwrap_or_default()
}

/// How many are successes.
pub(crate) fn successes(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.is_success()).count()
}

/// How many have each status.
pub(crate) fn statuses(answers: &[Answer]) -> std::collections::BTreeMap<u16, usize> {
    let mut statuses = std::collections::BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
    }
    statuses
}

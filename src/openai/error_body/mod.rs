//! Parses error bodies in all known dialects: the API's format, its variants, and the responses of
//! edges.

mod fields;
mod hints;

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;

use super::json::{Cursor, cut, without_mark};
use super::masking;
use fields::Fields;
pub use hints::BodyHints;

/// The longest message that is kept, in bytes.
pub const MAX_MESSAGE: usize = 2048;
/// The longest type, code or param that is kept, in bytes.
pub const MAX_FIELD: usize = 128;
/// Most nested bodies that are opened: a gateway quotes another server's body as text.
const MAX_WRAPPINGS: u32 = 3;

/// The fields of an error body, each of limited length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The unmodified message, at most [`MAX_MESSAGE`] bytes. It can echo prompts and keys: see
    /// [`ErrorBody::masked`].
    pub message: Option<Box<str>>,
    /// The field `type`, at most [`MAX_FIELD`] bytes.
    pub kind: Option<Box<str>>,
    /// The field `code`, at most [`MAX_FIELD`] bytes; a number is kept as its digits, of a list the
    /// first.
    pub code: Option<Box<str>>,
    /// The field `param`, at most [`MAX_FIELD`] bytes.
    pub param: Option<Box<str>>,
    /// The status inside the body, as in frames of a stream.
    pub status: Option<u16>,
    /// The format of the body.
    pub form: BodyForm,
    /// Hints about the limit and the time to wait.
    pub hints: BodyHints,
}

/// The format of an error body: the API sends JSON, edges send the other two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// Empty, or white space.
    #[default]
    Empty,
    /// JSON, perhaps truncated or wrapped.
    Json,
    /// An HTML page.
    Html,
    /// Any other text.
    Text,
}

impl ErrorBody {
    /// Parses an error body. It never fails: unknown parts are ignored.
    ///
    /// Known dialects: `{"error":{..}}`, `{"error":"text"}` with or without a sibling `message`,
    /// fields without a wrapper, `code` as a number or a list, `detail` instead of a message, extra
    /// fields anywhere. Known wrappings: a list of such objects, a JSON string, a message that
    /// contains another body, the data line of an event stream, words before an object, plain text
    /// and HTML under any content type, and a truncated body.
    pub fn parse(body: &[u8]) -> Self {
        Self::unwrap(body, MAX_WRAPPINGS)
    }

    /// The message without anything that may come from a prompt, a key or a URL; for logs, reports
    /// and pages.
    pub fn masked(&self) -> Option<String> {
        self.message.as_deref().map(masking::masked)
    }

    /// Whether `code` or `type` is one of `names`, ignoring case.
    pub fn is_named(&self, names: &[impl AsRef<str>]) -> bool {
        // AWS adds a namespace to some: `com.amazon.coral.service#ThrottlingException`.
        let is_one = |name: &str| {
            let name = name.rsplit('#').next().unwrap_or(name);
            names.iter().any(|known| known.as_ref().eq_ignore_ascii_case(name))
        };
        [&self.code, &self.kind].into_iter().flatten().any(|name| is_one(name))
    }

    /// Uses the type in AWS's header if the body has neither type nor code.
    pub fn take_type(&mut self, headers: &HeaderMap) {
        let text = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        if let (None, None, Some(text)) = (&self.code, &self.kind, text) {
            self.kind = keep(text.split(':').next().unwrap_or_default().trim(), MAX_FIELD);
        }
    }

    fn unwrap(body: &[u8], wrappings: u32) -> Self {
        let body = without_mark(body).trim_ascii();
        match body.first() {
            None => Self::default(),
            Some(b'{' | b'[') => Self::json(body, wrappings).unwrap_or_else(|| Self::text(body)),
            Some(b'"') if wrappings > 0 => match Cursor::new(body).string() {
                Ok(text) => Self::unwrap(text.text(MAX_MESSAGE * 8).as_bytes(), wrappings - 1),
                Err(_) => Self::text(body),
            },
            Some(b'<') => Self { form: BodyForm::Html, message: title(body), ..Self::default() },
            Some(_) => match inner(body) {
                Some(inner) if wrappings > 0 => {
                    let read = Self::unwrap(inner, wrappings - 1);
                    let says_something = read.message.is_some() || read.code.is_some() || read.kind.is_some();
                    if says_something { read } else { Self::text(body) }
                }
                Some(_) | None => Self::text(body),
            },
        }
    }

    fn text(body: &[u8]) -> Self {
        Self { form: BodyForm::Text, message: keep(&text(body), MAX_MESSAGE), ..Self::default() }
    }

    /// Parses an object, or the first one of a list; `None` if there is none.
    fn json(body: &[u8], wrappings: u32) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        while cursor.eat(b'[') {}
        if cursor.peek() != Some(b'{') {
            return None;
        }
        let fields = Fields::read(&mut cursor);
        let mut read = fields.body();
        // A gateway's message may be the body that it received itself.
        for nested in fields.nested(read.message.as_deref()).into_iter().flatten().filter(|_| wrappings > 0) {
            read.complete_from(Self::unwrap(nested.as_bytes(), wrappings - 1));
        }
        Some(read)
    }

    /// Fills fields from a body that this one quotes; the quoted message takes precedence.
    fn complete_from(&mut self, inner: Self) {
        if inner.form == BodyForm::Json && inner.message.is_some() {
            self.message = inner.message;
        }
        self.kind = self.kind.take().or(inner.kind);
        self.param = self.param.take().or(inner.param);
        self.status = self.status.or(inner.status);
        // A number only repeats the status; a word is more specific.
        if self.code.as_deref().is_none_or(|code| code.bytes().all(|byte| byte.is_ascii_digit())) {
            self.code = inner.code.or(self.code.take());
        }
        self.hints = self.hints.or(inner.hints);
    }
}

/// Shows the message masked, so that accidental logging does not reveal a prompt.
impl fmt::Debug for ErrorBody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ErrorBody")
            .field("message", &self.masked())
            .field("kind", &self.kind)
            .field("code", &self.code)
            .field("param", &self.param)
            .field("status", &self.status)
            .field("form", &self.form)
            .field("hints", &self.hints)
            .finish()
    }
}

/// The body inside an event stream (its first data line), or the object after some words.
fn inner(body: &[u8]) -> Option<&[u8]> {
    let is_stream =
        ["data:", "event:", "id:", ":", "retry:"].iter().any(|field| body.starts_with(field.as_bytes()));
    if is_stream {
        let lines = body.split(|byte| matches!(byte, b'\n' | b'\r'));
        return lines
            .filter_map(|line| line.strip_prefix(b"data:"))
            .map(<[u8]>::trim_ascii)
            .find(|data| !data.is_empty());
    }
    memchr::memchr(b'{', body).map(|at| &body[at..])
}

/// The title of an HTML page, the only part worth keeping.
fn title(page: &[u8]) -> Option<Box<str>> {
    let page = text(page);
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title>")?;
    keep(page[start..end].trim(), MAX_MESSAGE)
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE + 4)])
}

fn keep(text: &str, bound: usize) -> Option<Box<str>> {
    (!text.is_empty()).then(|| cut(text, bound).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::openai::Unit;

    fn fields(body: &ErrorBody) -> [Option<&str>; 4] {
        [body.message.as_deref(), body.kind.as_deref(), body.code.as_deref(), body.param.as_deref()]
    }

    #[test]
    fn reads_every_dialect() {
        for (body, expected) in [
            (
                r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#,
                [Some("m"), Some("t"), Some("c"), Some("p")],
            ),
            (
                r#"{"error":{"code":503,"message":"Service Unavailable.","param":null,"type":"cf_service_unavailable"}}"#,
                [Some("Service Unavailable."), Some("cf_service_unavailable"), Some("503"), None],
            ),
            (r#"{"error":"no such thing"}"#, [Some("no such thing"), None, None, None]),
            (
                r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
                [Some("Rate limit exceeded"), Some("rate_limited"), Some("1300"), None],
            ),
            (r#"{"detail":"Not Found"}"#, [Some("Not Found"), None, None, None]),
            (
                r#"{"type":"error","code":"E","message":"flat","param":null}"#,
                [Some("flat"), None, Some("E"), None],
            ),
            (
                r#"{"type":"response.failed","response":{"id":"r","error":{"code":"server_error","message":"m"}}}"#,
                [Some("m"), None, Some("server_error"), None],
            ),
            (r#"{"error":{"message":"cut here","type":"tok"#, [Some("cut here"), None, None, None]),
            (r#"{"error":null}"#, [None; 4]),
            (r#"{"error":[1,2]}"#, [None; 4]),
            ("no healthy upstream", [Some("no healthy upstream"), None, None, None]),
            ("<html>\n<head><title>502 Bad Gateway</title>", [Some("502 Bad Gateway"), None, None, None]),
            ("<html>", [None; 4]),
            ("", [None; 4]),
            ("[]", [Some("[]"), None, None, None]),
            // Wrappings.
            (
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                [Some("m"), Some("RESOURCE_EXHAUSTED"), Some("429"), None],
            ),
            (r#""{\"error\":{\"message\":\"m\",\"code\":\"c\"}}""#, [Some("m"), None, Some("c"), None]),
            (r#""Too many requests""#, [Some("Too many requests"), None, None, None]),
            (
                "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"m\"}}\n\n",
                [Some("m"), None, Some("insufficient_quota"), None],
            ),
            (
                "data: {\"error\":{\"message\":\"m\",\"type\":\"t\"}}\r\n\r\ndata: [DONE]",
                [Some("m"), Some("t"), None, None],
            ),
            ("upstream said: {\"error\":{\"message\":\"m\"}}", [Some("m"), None, None, None]),
            ("no object {here}", [Some("no object {here}"), None, None, None]),
            ("\u{feff}{\"error\":{\"message\":\"m\"}}", [Some("m"), None, None, None]),
            (
                r#"{"error":{"message":"{\"error\":{\"message\":\"inner\",\"code\":\"slow_down\"}}","code":429}}"#,
                [Some("inner"), None, Some("slow_down"), None],
            ),
            // A message beside a string.
            (
                r#"{"status":429,"error":"INSUFFICIENT QUOTA","message":"You exceeded your current limit of concurrent requests."}"#,
                [
                    Some("You exceeded your current limit of concurrent requests."),
                    Some("INSUFFICIENT QUOTA"),
                    None,
                    None,
                ],
            ),
            (
                r#"{"error":"rate_limit_exceeded","message":"m"}"#,
                [Some("m"), None, Some("rate_limit_exceeded"), None],
            ),
            (
                r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
                [Some("Model is overloaded"), Some("overloaded"), None, None],
            ),
            // Codes of every type.
            (r#"{"error":{"code":["a","b"],"message":"m","type":null}}"#, [Some("m"), None, Some("a"), None]),
            (r#"{"error":{"code":[[{"x":1}]],"message":"m"}}"#, [Some("m"), None, None, None]),
            (r#"{"error":{"code":{"a":1},"message":"m"}}"#, [Some("m"), None, None, None]),
            (r#"{"error":{"code":true,"message":null}}"#, [None; 4]),
            (
                r#"{"errors":[{"code":10000,"message":"Authentication error"}]}"#,
                [Some("Authentication error"), None, Some("10000"), None],
            ),
            (
                r#"{"fault":{"code":900802,"message":"throttled"}}"#,
                [Some("throttled"), None, Some("900802"), None],
            ),
            (r#"{"detail":[{"msg":"field required"}]}"#, [Some("field required"), None, None, None]),
            (r#"{"detail":{"error":{"message":"m"}}}"#, [Some("m"), None, None, None]),
            ("<HTML><TITLE lang=en> Blocked </TITLE>", [Some("Blocked"), None, None, None]),
        ] {
            assert_eq!(fields(&ErrorBody::parse(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn a_status_is_read_inside_and_outside() {
        let outside = ErrorBody::parse(br#"{"error":{"message":"m"},"status":401}"#);
        assert_eq!(outside.status, Some(401));
        let frame = ErrorBody::parse(br#"{"type":"error","status":400,"error":{"code":"x","message":"m"}}"#);
        assert_eq!((frame.status, frame.code.as_deref()), (Some(400), Some("x")));
    }

    #[test]
    fn debug_shows_no_prompt() {
        let body =
            ErrorBody::parse(br#"{"error":{"message":"Invalid value: 'my secret'","code":"invalid_value"}}"#);
        let shown = format!("{body:?}");
        assert!(shown.contains("invalid_value") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let body =
            format!(r#"{{"error":{{"message":"{0}","type":"{0}","code":"{0}"}}}}"#, "é".repeat(10_000));
        let body = ErrorBody::parse(body.as_bytes());
        assert_eq!(body.message.unwrap().len(), MAX_MESSAGE);
        assert_eq!(body.kind.unwrap().len(), MAX_FIELD);
        let text = ErrorBody::parse("é".repeat(10_000).as_bytes());
        assert_eq!(text.message.unwrap().len(), MAX_MESSAGE);
    }

    #[test]
    fn fields_that_tell_when_to_come_back_are_read() {
        use std::time::{Duration, SystemTime};
        let second = Duration::from_secs(1);
        let hints = |body: &str| ErrorBody::parse(body.as_bytes()).hints;
        let google = |quota: &str, delay: &str| {
            format!(
                r#"[{{"error":{{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{{"@type":"q","violations":[
                {{"quotaMetric":"x","quotaId":"{quota}","quotaValue":"10"}}]}},{{"@type":"r","retryDelay":{delay}}}]}}}}]"#
            )
        };
        let minute = hints(&google("GenerateRequestsPerMinutePerProjectPerModel", "\"8.5s\""));
        assert_eq!((minute.wait, minute.limit), (Some(Duration::from_millis(8_500)), Some(10)));
        assert_eq!((minute.unit, minute.window), (Some(Unit::Requests), Some(second * 60)));
        let day = hints(&google("GenerateContentInputTokensPerModelPerDay-FreeTier", "{\"seconds\":9}"));
        assert_eq!(
            (day.wait, day.unit, day.window),
            (Some(second * 9), Some(Unit::Tokens), Some(second * 86_400))
        );
        let router = hints(
            r#"{"error":{"message":"m","code":429,"metadata":{"headers":{"X-RateLimit-Limit":"200","X-RateLimit-Remaining":"0",
            "X-RateLimit-Reset":"1743292800000"}}}}"#,
        );
        assert_eq!(router.reset_at, Some(SystemTime::UNIX_EPOCH + second * 1_743_292_800));
        assert_eq!((router.limit, router.remaining), (Some(200), Some(0)));
        for (body, wait) in [
            (r#"{"error":{"message":"m"},"retry_after":30}"#, 30),
            (r#"{"error":"x","message":"m","retryAfter":"30"}"#, 30),
            (r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":3600}}"#, 3_600),
            (r#"{"error":{"retry_after_ms":2000}}"#, 2),
        ] {
            assert_eq!(hints(body).wait, Some(second * wait), "{body}");
        }
        let absurd = r#"{"error":{"retry_after":1e300,"details":7,"metadata":[1]},"retry_after":-4,"resets_at":"soon"}"#;
        assert_eq!(hints(absurd), BodyHints::default());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), tail in any::<String>()) {
            ErrorBody::parse(&bytes).masked();
            let mut json = br#"{"error":{"message":"#.to_vec();
            json.extend(bytes);
            ErrorBody::parse(&json).masked();
            ErrorBody::parse(tail.as_bytes()).masked();
        }
    }
}

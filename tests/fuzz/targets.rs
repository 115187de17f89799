//! What may be fed with anything: each target takes arbitrary bytes and checks what must hold of the outcome.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weir::config;
use weir::estimate::{self, Estimator};
use weir::openai::{
    self, Endpoint, ErrorBody, Event, SseScanner, limit_headers, limit_message, multipart, request_peek,
    retry_hint,
};

/// A target's name, which is its corpus's too, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const ALL: [Target; 6] = [
    ("pricing", pricing),
    ("sse", sse),
    ("limit_headers", limit_headers_of),
    ("retry_hints", retry_hints),
    ("error_bodies", error_bodies),
    ("configuration", configuration),
];

/// A request's body, read for its price.
pub(crate) fn pricing(bytes: &[u8]) {
    let estimator = Estimator::new(estimate::Settings::default());
    let peeked = request_peek::peek(bytes).ok();
    if let Some(peek) = &peeked {
        assert!(peek.model.as_ref().is_none_or(|model| model.len() <= 256), "a model's name is bounded");
        assert!(peek.text_chars <= bytes.len() as u64, "no more text than bytes");
    }
    let form = multipart::peek(bytes, "boundary");
    for endpoint in Endpoint::ALL {
        assert!(
            estimator.price(endpoint, peeked.as_ref()).requests <= 1_000_000,
            "a price is a number of requests"
        );
        estimator.price(endpoint, Some(&form));
    }
    let path = String::from_utf8_lossy(bytes);
    let endpoint = Endpoint::of(&Method::POST, &path);
    let dots = openai::endpoint::has_dot_segments(&path);
    assert!(!dots || endpoint == Endpoint::Other, "what dots lead to is not for us to say");
}

/// A stream: however it is cut into chunks, it says the same.
pub(crate) fn sse(bytes: &[u8]) {
    let told = |cut: usize| {
        let mut scanner = SseScanner::new();
        let mut events = Vec::new();
        for chunk in bytes.chunks(cut) {
            scanner.feed(chunk, &mut |event: Event<'_>| events.push(format!("{event:?}")));
            assert!(scanner.held() <= 160 << 10, "what is held is bounded");
        }
        events
    };
    let whole = told(bytes.len().max(1));
    let first = usize::from(*bytes.first().unwrap_or(&0));
    for cut in [1, 2, 7, first + 1] {
        assert_eq!(told(cut), whole, "in chunks of {cut}");
    }
}

/// Lines of `name: value` as headers.
fn headers(bytes: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// An answer's headers, read for its limits.
pub(crate) fn limit_headers_of(bytes: &[u8]) {
    let parsed = limit_headers::parse(&headers(bytes));
    if let Some(requests) = parsed.headers.requests {
        assert!(requests.used() <= requests.limit, "no more was used than there is");
    }
}

/// An answer's headers and message, read for when to come back.
pub(crate) fn retry_hints(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let hint = retry_hint::parse(&headers(bytes), Some(&message), wall);
    assert!(hint.is_none_or(|hint| hint <= Duration::from_hours(40 * 24)), "{hint:?} is no hint");
}

/// An error's body, and its message.
pub(crate) fn error_bodies(bytes: &[u8]) {
    let body = ErrorBody::parse(bytes);
    for text in [&body.message, &body.kind, &body.code, &body.param].into_iter().flatten() {
        assert!(text.len() <= 16 << 10, "what is kept is bounded");
    }
    drop(body.masked());
    let message = String::from_utf8_lossy(bytes);
    limit_message::parse(&message, body.kind.as_deref());
    let masked = openai::masking::masked(&message);
    assert!(masked.len() <= message.len() * 4 + 64, "masking adds little");
    weir::classify::stream_error(Endpoint::Responses, bytes);
}

/// A configuration: whatever it says, the answer is a configuration or a list of problems.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(problems) = config::parse("fuzz.toml", &text, &[], &config::sources::Nothing) {
        assert!(!problems.list.is_empty(), "a refusal without a reason");
        assert!(!problems.to_string().is_empty());
    }
}

//! The fuzz targets: each takes arbitrary bytes and checks invariants of the result.

use std::io::{self, Cursor, Read, Write};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};
use weir::internals::config;
use weir::internals::estimate::{self, Estimator};
use weir::internals::openai::websocket::{
    client_event, error_body, error_headers, rate_limits, server_event,
};
use weir::internals::openai::{
    self, Endpoint, ErrorBody, Event, ModelScan, ModelSearch, SseScanner, limit_headers, limit_message,
    multipart, request_peek, retry_hint,
};
use weir::internals::stream;
use weir::internals::websocket::{Part, Reader, Sender, unmask};

/// A target: its name, which is also its corpus's, and its function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const ALL: [Target; 9] = [
    ("pricing", pricing),
    ("request_bodies", request_bodies),
    ("codings", codings),
    ("sse", sse),
    ("limit_headers", limit_headers_of),
    ("retry_hints", retry_hints),
    ("error_bodies", error_bodies),
    ("configuration", configuration),
    ("frames", frames),
];

/// Estimates the cost of a request's body.
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

/// Parses a request's body: the result equals that of `serde_json`, and the model is found at the
/// same position for any chunks.
pub(crate) fn request_bodies(bytes: &[u8]) {
    let peeked = request_peek::peek(bytes);
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes) {
        let peek = peeked.expect("an object that serde_json reads");
        if let Some(model) = object.get("model").and_then(Value::as_str)
            && model.len() <= request_peek::MAX_MODEL
        {
            assert_eq!(peek.model.as_deref(), Some(model));
        }
        if let Some(stream) = object.get("stream").and_then(Value::as_bool) {
            assert_eq!(peek.stream, stream);
        }
        if let Some(store) = object.get("store").and_then(Value::as_bool) {
            assert_eq!(peek.store, Some(store));
        }
        if let Some(n) = object.get("n").and_then(Value::as_u64) {
            assert_eq!(peek.n, Some(n));
        }
        assert!(request_peek::scan(bytes).is_some_and(|scanned| scanned.whole), "it is whole");
    }
    for model_search in [ModelSearch::Json, ModelSearch::Form, ModelSearch::Skip] {
        let ends = |cut: usize| {
            let mut scan = ModelScan::new(model_search);
            bytes.chunks(cut).for_each(|chunk| scan.feed(chunk));
            scan.is_done()
        };
        let whole = ends(bytes.len().max(1));
        for cut in [1, 3, usize::from(*bytes.first().unwrap_or(&0)) + 1] {
            assert_eq!(ends(cut), whole, "{model_search:?} in chunks of {cut}");
        }
    }
    // A truncated body has no other members than the whole one.
    let cut = bytes.len() / 2;
    let part = request_peek::scan(&bytes[..cut]);
    assert!(part.is_none_or(|part| part.peek.text_bytes <= cut as u64 * 2), "no more than came");
}

/// Decodes a body: bounded, and equal for any chunks. The first byte selects the coding.
pub(crate) fn codings(bytes: &[u8]) {
    const MOST: usize = 64 << 10;
    let Some((first, body)) = bytes.split_first() else { return };
    let coding = ["gzip", "deflate", "br", "zstd"][usize::from(*first) % 4];
    let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
    let decoded = |cut: usize| {
        let chunks: Vec<Bytes> = body.chunks(cut).map(Bytes::copy_from_slice).collect();
        stream::copy(&headers, chunks.iter(), MOST).into_owned()
    };
    let whole = decoded(body.len().max(1));
    assert!(whole.len() <= MOST, "{} bytes of {coding}", whole.len());
    let bytewise = decoded(1);
    let both = whole.len().min(bytewise.len());
    assert_eq!(whole[..both], bytewise[..both], "{coding}");
}

/// Parses a stream: equal for any chunks.
pub(crate) fn sse(bytes: &[u8]) {
    let told = |cut: usize| {
        let mut scanner = SseScanner::default();
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

/// Parses lines of `name: value` to headers.
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

/// A moment of this century.
fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

/// Parses the limits in a response's headers.
pub(crate) fn limit_headers_of(bytes: &[u8]) {
    let parsed = limit_headers::parse(&headers(bytes), wall);
    assert!(parsed.headers.len() <= limit_headers::MAX_LIMITS, "limits are bounded");
    for told in parsed.headers.iter() {
        assert!(
            told.limit.zip(told.remaining).is_none_or(|(limit, remaining)| remaining <= limit),
            "{told:?}"
        );
        let times = [told.reset, told.window].into_iter().flatten();
        assert!(times.into_iter().all(|time| time <= Duration::from_hours(32 * 24)), "{told:?}");
    }
    limit_headers::spent_window(&headers(bytes), wall());
}

/// Parses the retry hint in a response's headers and message.
pub(crate) fn retry_hints(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes);
    let hint = retry_hint::parse(&headers(bytes), Some(&message), wall());
    assert!(hint.is_none_or(|hint| hint <= Duration::from_hours(40 * 24)), "{hint:?} is no hint");
}

/// Parses an error's body and its message.
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
    let classified = weir::internals::classify::stream_error(Endpoint::Responses, bytes, wall());
    assert!(classified.hint.is_none_or(|hint| hint <= Duration::from_hours(32 * 24)), "a hint is bounded");
    assert!(!classified.class.is_own(), "what came is the upstream's");
}

/// Parses WebSocket frames of either side: equal for any chunks, with all messages that tungstenite
/// finds.
pub(crate) fn frames(bytes: &[u8]) {
    for (sender, role) in [(Sender::Client, Role::Server), (Sender::Server, Role::Client)] {
        let (whole, is_broken) = messages(bytes, bytes.len().max(1), sender);
        for cut in [1, 2, 7, usize::from(*bytes.first().unwrap_or(&0)) + 1] {
            assert_eq!(messages(bytes, cut, sender), (whole.clone(), is_broken), "in chunks of {cut}");
        }
        let theirs = messages_by_tungstenite(bytes, role);
        let both = theirs.len().min(whole.len());
        assert_eq!(theirs[..both], whole[..both], "the same messages");
        assert!(is_broken || theirs.len() <= whole.len(), "a message was missed");
        for message in &whole {
            client_event(message);
            server_event(message, b"");
            error_headers(message);
            rate_limits(message);
            ErrorBody::parse(&error_body(message));
        }
    }
}

/// The messages in frames that arrive in pieces of this size, and whether a protocol violation ends
/// them.
fn messages(bytes: &[u8], cut: usize, sender: Sender) -> (Vec<Vec<u8>>, bool) {
    let mut reader = Reader::new(sender);
    let (mut held, mut message, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in bytes.chunks(cut) {
        held.extend_from_slice(chunk);
        loop {
            let length = match reader.next(&held) {
                Err(_) => return (told, true),
                Ok(None) => break,
                Ok(Some(Part::Control(_, length))) => length,
                Ok(Some(Part::Data(data))) => {
                    let begin = message.len();
                    message.extend_from_slice(&held[data.header..data.length]);
                    if let Some((mask, phase)) = data.mask {
                        unmask(&mut message[begin..], mask, phase);
                    }
                    if data.last {
                        told.push(std::mem::take(&mut message));
                    }
                    data.length
                }
            };
            assert!(length > 0, "it goes on");
            held.drain(..length);
        }
        assert!(held.len() < 140, "what is held is bounded");
    }
    (told, false)
}

/// Bytes to read, and nowhere to write to.
struct Stream<'a>(Cursor<&'a [u8]>);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn messages_by_tungstenite(bytes: &[u8], role: Role) -> Vec<Vec<u8>> {
    let mut socket = WebSocket::from_raw_socket(Stream(Cursor::new(bytes)), role, None);
    let mut told = Vec::new();
    while let Ok(message) = socket.read() {
        match message {
            Message::Text(_) | Message::Binary(_) => told.push(message.into_data().to_vec()),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    told
}

/// Parses a configuration: returns a configuration or a list of problems.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(problems) = config::parse("fuzz.toml", &text, &[], &config::sources::Nothing) {
        assert!(!problems.list.is_empty(), "a refusal without a reason");
        assert!(!problems.to_string().is_empty());
    }
}

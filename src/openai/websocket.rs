//! What the messages of a WebSocket session say: `/responses` in WebSocket mode, and Realtime.
//!
//! In both a client asks for an answer with `response.create`, and events of the same names as in a
//! stream over HTTP tell of it. In WebSocket mode `stream_id` names a lane: the turns of one lane
//! follow each other, the lanes go on side by side (developers.openai.com, guide "WebSocket mode").
//! Realtime has `response.done` for every end, and tells its limits in `rate_limits.updated`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::json::{Cursor, Malformed, Raw};
use super::request_peek;
use super::{HeaderLimit, LimitHeaders, Part, RequestPeek, Unit};

/// The longest `stream_id` that the API accepts, in bytes.
pub const MAX_STREAM_ID: usize = 256;
/// The longest id of a response or an event that is kept, in bytes.
const MAX_ID: usize = 128;
/// Headers of an error that are read.
const MAX_HEADERS: usize = 64;

/// What a client's message asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// `response.create`: an answer.
    Create,
    /// `response.cancel`: the end of one.
    Cancel,
    /// `input_audio_buffer.*` and `output_audio_buffer.*`: sound, which does not wait.
    Audio,
    /// Anything else.
    #[default]
    Other,
}

/// A client's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientEvent {
    /// What it asks for.
    pub kind: ClientKind,
    /// The lane, where it names one; at most [`MAX_STREAM_ID`] bytes of it.
    pub stream_id: Option<Box<str>>,
    /// The response that it continues.
    pub previous_response_id: Option<Box<str>>,
    /// The client's own name of the message (Realtime).
    pub event_id: Option<Box<str>>,
    /// `generate: false`: no output is made, only state is prepared.
    pub warms_up: bool,
    /// What a `response.create` says of its price.
    pub peek: Option<RequestPeek>,
}

/// Reads a client's message. What is no JSON object asks for nothing.
pub fn client_event(message: &[u8]) -> ClientEvent {
    let mut event = ClientEvent::default();
    let mut nested = None;
    if read_client(&mut event, &mut nested, message).is_err() {
        return ClientEvent::default();
    }
    if event.kind == ClientKind::Create {
        // Realtime wraps what it asks for.
        event.peek = request_peek::peek(nested.unwrap_or(message)).ok();
    }
    event
}

fn read_client<'a>(
    event: &mut ClientEvent,
    nested: &mut Option<&'a [u8]>,
    message: &'a [u8],
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(message);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match &*key.key() {
            b"type" => {
                event.kind = cursor.string_or_skip()?.map(|kind| ClientKind::of(&kind)).unwrap_or_default();
            }
            b"stream_id" => event.stream_id = text(cursor.string_or_skip()?, MAX_STREAM_ID),
            b"previous_response_id" => event.previous_response_id = text(cursor.string_or_skip()?, MAX_ID),
            b"event_id" => event.event_id = text(cursor.string_or_skip()?, MAX_ID),
            b"generate" => event.warms_up = cursor.truth_or_skip()? == Some(false),
            b"response" if cursor.peek() == Some(b'{') => *nested = Some(cursor.raw_value()?),
            _ => cursor.skip()?,
        }
    }
    if cursor.peek().is_some() { Err(Malformed) } else { Ok(()) }
}

impl ClientKind {
    fn of(kind: &Raw<'_>) -> Self {
        match &*kind.key() {
            b"response.create" => Self::Create,
            b"response.cancel" => Self::Cancel,
            name if name.starts_with(b"input_audio_buffer.") || name.starts_with(b"output_audio_buffer.") => {
                Self::Audio
            }
            _ => Self::Other,
        }
    }
}

/// Whether the API accepts this as the name of a lane.
pub fn is_stream_id(id: &str) -> bool {
    (1..=MAX_STREAM_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// What an event tells of the answer that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerKind {
    /// `response.created`: an answer begins.
    Created,
    /// Any other event of an answer under way.
    Progress,
    /// `response.completed`, `response.incomplete`, and `response.done` that did not fail: its end.
    Ended,
    /// `response.failed`, and `response.done` that failed: its end, with an error.
    Failed,
    /// `error`.
    Error,
    /// `rate_limits.updated`.
    RateLimits,
    /// Nothing that concerns an answer.
    #[default]
    Other,
}

/// An event of the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// What it tells.
    pub kind: ServerKind,
    /// The lane, where it names one.
    pub stream_id: Option<Box<str>>,
    /// The answer.
    pub response_id: Option<Box<str>>,
    /// The client's message that an error is about (Realtime).
    pub about: Option<Box<str>>,
}

/// Reads an event from its beginning, `head`, and its end, `tail`, which is empty where the
/// beginning is all of it.
pub fn server_event(head: &[u8], tail: &[u8]) -> ServerEvent {
    let mut event = ServerEvent::default();
    let mut cursor = Cursor::new(head);
    // An event cut short ends in an error: what was read until then counts.
    let whole = read_server(&mut event, &mut cursor).is_ok();
    if !whole && event.stream_id.is_none() {
        event.stream_id = last_stream_id(tail);
    }
    event
}

fn read_server(event: &mut ServerEvent, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match &*key.key() {
            b"type" => {
                let kind = cursor.string_or_skip()?.map(|kind| ServerKind::of(&kind)).unwrap_or_default();
                // The status of a response may stand before the type.
                event.kind = if event.kind == ServerKind::Failed { ServerKind::Failed } else { kind };
            }
            b"stream_id" => event.stream_id = text(cursor.string_or_skip()?, MAX_STREAM_ID),
            b"response_id" => event.response_id = text(cursor.string_or_skip()?, MAX_ID),
            b"response" if cursor.peek() == Some(b'{') => read_response(event, cursor)?,
            b"error" if cursor.peek() == Some(b'{') => {
                cursor.object()?;
                while let Some(key) = cursor.key()? {
                    match key.bytes {
                        b"event_id" => event.about = text(cursor.string_or_skip()?, MAX_ID),
                        _ => cursor.skip()?,
                    }
                }
            }
            _ => cursor.skip()?,
        }
    }
    Ok(())
}

fn read_response(event: &mut ServerEvent, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.bytes {
            b"id" => event.response_id = text(cursor.string_or_skip()?, MAX_ID),
            b"status" => {
                if cursor.string_or_skip()?.is_some_and(|status| status.is("failed")) {
                    event.kind = ServerKind::Failed;
                }
            }
            _ => cursor.skip()?,
        }
    }
    Ok(())
}

impl ServerKind {
    fn of(kind: &Raw<'_>) -> Self {
        match &*kind.key() {
            b"response.created" => Self::Created,
            b"response.completed" | b"response.incomplete" | b"response.done" => Self::Ended,
            b"response.failed" => Self::Failed,
            b"error" => Self::Error,
            b"rate_limits.updated" => Self::RateLimits,
            // They concern input that waits for an answer, not an answer's output.
            name if name.starts_with(b"response.steer.") => Self::Other,
            name if name.starts_with(b"response.") => Self::Progress,
            _ => Self::Other,
        }
    }
}

/// The last `stream_id` in the end of an event. In text quotes are escaped, so that no text can
/// pretend to be one.
fn last_stream_id(tail: &[u8]) -> Option<Box<str>> {
    const KEY: &[u8] = b"\"stream_id\"";
    let at = memchr::memmem::rfind(tail, KEY)?;
    let mut cursor = Cursor::new(&tail[at + KEY.len()..]);
    cursor.eat(b':').then(|| cursor.string().ok()).flatten().and_then(|id| text(Some(id), MAX_STREAM_ID))
}

fn text(raw: Option<Raw<'_>>, bound: usize) -> Option<Box<str>> {
    raw.map(|raw| raw.text(bound).into())
}

/// The error of an event as an error's body: of `response.done` it stands where no other event has
/// it.
pub fn error_body(event: &[u8]) -> Vec<u8> {
    match nested_value(event, &[b"response", b"status_details", b"error"]) {
        Some(error) => [b"{\"error\":", error, b"}"].concat(),
        None => event.to_vec(),
    }
}

/// The headers that an `error` event carries, beside the error or in it: those that the answer over
/// HTTP would have had.
pub fn error_headers(event: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for path in [&[&b"error"[..], b"headers"][..], &[b"headers"]] {
        let Some(object) = nested_value(event, path) else { continue };
        let mut cursor = Cursor::new(object);
        if cursor.object().is_err() {
            continue;
        }
        while let Ok(Some(name)) = cursor.key()
            && headers.len() < MAX_HEADERS
        {
            let value = match cursor.peek() {
                Some(b'"') => cursor.string().ok().map(|value| value.text(MAX_ID * 8).into_owned()),
                _ => cursor.scalar_or_skip().ok().map(|value| String::from_utf8_lossy(value).into_owned()),
            };
            let Some(value) = value else { break };
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.bytes), HeaderValue::from_str(&value))
            {
                headers.append(name, value);
            }
        }
    }
    headers
}

/// What stands under these keys, one within the other.
fn nested_value<'a>(json: &'a [u8], path: &[&[u8]]) -> Option<&'a [u8]> {
    let mut value = json;
    for wanted in path {
        let mut cursor = Cursor::new(value);
        cursor.object().ok()?;
        value = loop {
            let key = cursor.key().ok()??;
            let raw = cursor.raw_value().ok()?;
            if key.bytes == *wanted {
                break raw;
            }
        };
    }
    Some(value)
}

/// The limits that `rate_limits.updated` tells of requests and tokens.
pub fn rate_limits(event: &[u8]) -> LimitHeaders {
    let mut limits = LimitHeaders::default();
    let Some(list) = nested_value(event, &[b"rate_limits"]) else { return limits };
    let mut cursor = Cursor::new(list);
    if !cursor.eat(b'[') {
        return limits;
    }
    while cursor.peek() == Some(b'{') {
        let Ok(entry) = rate_limit(&mut cursor) else { return limits };
        if let Some(limit) = entry.filter(HeaderLimit::makes_sense) {
            limits.keep(limit);
        }
        cursor.eat(b',');
    }
    limits
}

fn rate_limit(cursor: &mut Cursor<'_>) -> Result<Option<HeaderLimit>, Malformed> {
    let (mut name, mut limit, mut remaining, mut reset) = (None, None, None, None);
    cursor.object()?;
    while let Some(key) = cursor.key()? {
        match key.bytes {
            b"name" => name = cursor.string_or_skip()?,
            b"limit" => limit = cursor.whole_number_or_skip()?,
            b"remaining" => remaining = cursor.whole_number_or_skip()?,
            b"reset_seconds" => {
                let seconds =
                    std::str::from_utf8(cursor.scalar_or_skip()?).ok().and_then(|text| text.parse().ok());
                reset = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
            }
            _ => cursor.skip()?,
        }
    }
    let (Some(name), Some(limit @ 1..), Some(remaining)) = (name, limit, remaining) else { return Ok(None) };
    let unit = match name.bytes {
        b"requests" => Unit::Requests,
        b"tokens" => Unit::Tokens,
        _ => return Ok(None),
    };
    let remaining = Some(remaining.min(limit));
    Ok(Some(HeaderLimit { unit, part: Part::Whole, limit: Some(limit), remaining, reset, window: None }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_create_says_its_lane_its_parent_and_its_price() {
        let event = client_event(
            br#"{"type":"response.create","stream_id":"main","model":"gpt-5.6","store":false,"previous_response_id":"resp_1",
            "input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"12345678"}]}],"tools":[]}"#,
        );
        assert_eq!((event.kind, event.stream_id.as_deref()), (ClientKind::Create, Some("main")));
        assert_eq!((event.previous_response_id.as_deref(), event.warms_up), (Some("resp_1"), false));
        let peek = event.peek.unwrap();
        assert_eq!((peek.model.as_deref(), peek.text_chars, peek.store), (Some("gpt-5.6"), 8, Some(false)));
        let warm =
            client_event(br#"{"generate":false,"previous_response_id":null,"type":"response.create"}"#);
        assert_eq!((warm.kind, warm.warms_up, warm.previous_response_id), (ClientKind::Create, true, None));
        let realtime = client_event(
            br#"{"event_id":"e1","type":"response.create","response":{"instructions":"1234","max_output_tokens":9}}"#,
        );
        assert_eq!(realtime.event_id.as_deref(), Some("e1"));
        assert_eq!(realtime.peek.unwrap().text_chars, 4);
    }

    #[test]
    fn a_create_hides_in_no_spelling() {
        for message in [
            r#"{"type":"response.cancel","type":"response.create"}"#,
            r#" { "input" : "x" , "ty\u0070e" : "response.creat\u0065" } "#,
            r#"{"response":5,"type":"response.create"}"#,
        ] {
            assert_eq!(client_event(message.as_bytes()).kind, ClientKind::Create, "{message}");
        }
        for (message, kind) in [
            (r#"{"type":"response.steer","previous_response_id":"r","input":"x"}"#, ClientKind::Other),
            (r#"{"type":"response.cancel"}"#, ClientKind::Cancel),
            (r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#, ClientKind::Audio),
            (r#"{"type":"session.update","session":{"type":"response.create"}}"#, ClientKind::Other),
            (r#"{"type":["response.create"]}"#, ClientKind::Other),
            (r#"[{"type":"response.create"}]"#, ClientKind::Other),
            (r#"{"type":"response.create""#, ClientKind::Other),
            (r#"{"type":"response.create"}{}"#, ClientKind::Other),
            ("", ClientKind::Other),
        ] {
            assert_eq!(client_event(message.as_bytes()).kind, kind, "{message}");
        }
    }

    #[test]
    fn events_say_whose_they_are_and_what_they_end() {
        for (event, kind, stream, response) in [
            (
                r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"},"stream_id":"a"}"#,
                ServerKind::Created,
                Some("a"),
                Some("resp_1"),
            ),
            (
                r#"{"type":"response.output_text.delta","delta":"x","stream_id":"a"}"#,
                ServerKind::Progress,
                Some("a"),
                None,
            ),
            (
                r#"{"type":"response.completed","response":{"id":"r","output":[{"status":"failed"}],"status":"completed"}}"#,
                ServerKind::Ended,
                None,
                Some("r"),
            ),
            (r#"{"type":"response.incomplete","response":{"id":"r"}}"#, ServerKind::Ended, None, Some("r")),
            (
                r#"{"type":"response.failed","response":{"id":"r","status":"failed"}}"#,
                ServerKind::Failed,
                None,
                Some("r"),
            ),
            (
                r#"{"type":"response.done","response":{"id":"r","status":"cancelled"}}"#,
                ServerKind::Ended,
                None,
                Some("r"),
            ),
            (
                r#"{"response":{"id":"r","status":"failed"},"type":"response.done"}"#,
                ServerKind::Failed,
                None,
                Some("r"),
            ),
            (r#"{"type":"response.steer.accepted","stream_id":"a"}"#, ServerKind::Other, Some("a"), None),
            (
                r#"{"type":"error","status":400,"stream_id":"b","error":{"code":"x"}}"#,
                ServerKind::Error,
                Some("b"),
                None,
            ),
            (r#"{"type":"session.created"}"#, ServerKind::Other, None, None),
            ("not json", ServerKind::Other, None, None),
        ] {
            let read = server_event(event.as_bytes(), b"");
            assert_eq!(
                (read.kind, read.stream_id.as_deref(), read.response_id.as_deref()),
                (kind, stream, response),
                "{event}"
            );
        }
        let about = server_event(br#"{"type":"error","error":{"code":"x","event_id":"e1"}}"#, b"");
        assert_eq!(about.about.as_deref(), Some("e1"));
    }

    #[test]
    fn of_a_long_event_beginning_and_end_tell() {
        let head = br#"{"type":"response.completed","response":{"id":"r","output":[{"text":"aaaa"#;
        let tail = br#"\"stream_id\":\"no\" aaa"}]},"usage":{},"stream_id" : "yes","sequence_number":9}"#;
        let event = server_event(head, tail);
        assert_eq!((event.kind, event.stream_id.as_deref()), (ServerKind::Ended, Some("yes")));
    }

    #[test]
    fn limits_and_headers_are_read_from_events() {
        let limits = rate_limits(
            br#"{"type":"rate_limits.updated","event_id":"e","rate_limits":[{"name":"requests","limit":1000,"remaining":999,
            "reset_seconds":60},{"name":"tokens","limit":50000,"remaining":49950,"reset_seconds":0.5},{"name":"other","limit":1,"remaining":1}]}"#,
        );
        let requests = limits.of(Unit::Requests, Part::Whole).next().unwrap();
        assert_eq!(
            (requests.limit, requests.remaining, requests.reset),
            (Some(1000), Some(999), Some(Duration::from_mins(1)))
        );
        let tokens = limits.of(Unit::Tokens, Part::Whole).next().unwrap();
        assert_eq!((tokens.reset, limits.len()), (Some(Duration::from_millis(500)), 2));
        assert!(rate_limits(br#"{"rate_limits":[{"name":"tokens","limit":0,"remaining":0}]}"#).is_empty());
        for event in [
            r#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded","headers":{"Retry-After":"3","x-n":5,"b d":"x"}}}"#,
            r#"{"type":"error","status":429,"error":{"code":"rate_limit_exceeded"},"headers":{"retry-after":"3","x-n":5}}"#,
        ] {
            let headers = error_headers(event.as_bytes());
            assert_eq!(
                (headers.len(), headers["retry-after"].as_bytes(), headers["x-n"].as_bytes()),
                (2, &b"3"[..], &b"5"[..])
            );
        }
        let done = br#"{"type":"response.done","response":{"id":"r","status":"failed","status_details":{"error":{"code":"server_error"}}}}"#;
        assert_eq!(error_body(done), br#"{"error":{"code":"server_error"}}"#);
    }

    #[test]
    fn names_of_lanes_are_as_the_guide_says() {
        for (id, valid) in [("main", true), ("a.b-C_9", true), ("", false), ("a b", false), ("é", false)] {
            assert_eq!(is_stream_id(id), valid, "{id}");
        }
        assert!(is_stream_id(&"a".repeat(256)) && !is_stream_id(&"a".repeat(257)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), cut in 0_usize..64) {
            for prefix in [&b""[..], b"{\"type\":\"error\",\"error\":{\"headers\":{", b"{\"rate_limits\":[{"] {
                let json = [prefix, &bytes].concat();
                client_event(&json);
                server_event(&json, &json[json.len().min(cut)..]);
                error_headers(&json);
                rate_limits(&json);
                error_body(&json);
            }
        }
    }
}

//! The messages of WebSocket sessions: `/responses` in WebSocket mode, and Realtime.
//!
//! In both, a client requests a response with `response.create`, and the events have the same names
//! as in an HTTP stream. In WebSocket mode `stream_id` names a lane: turns of one lane run in
//! sequence, lanes in parallel (developers.openai.com, guide "WebSocket mode"). Realtime ends every
//! response with `response.done`, and reports its limits in `rate_limits.updated`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::json::{Cursor, Malformed, Raw};
use super::request_peek;
use super::{HeaderLimit, LimitHeaders, Part, RequestPeek, Unit};

/// The longest `stream_id` that the API accepts, in bytes.
pub const MAX_STREAM_ID: usize = 256;
/// The longest id of a response or an event that is kept, in bytes.
const MAX_ID: usize = 128;
/// Most headers of an error that are parsed.
const MAX_HEADERS: usize = 64;

/// The kind of a client's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// `response.create`: requests a response.
    Create,
    /// `response.cancel`: cancels one.
    Cancel,
    /// `input_audio_buffer.*` and `output_audio_buffer.*`: audio, which is never delayed.
    Audio,
    /// Any other message.
    #[default]
    Other,
}

/// A client's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientEvent {
    /// The kind of the message.
    pub kind: ClientKind,
    /// The lane, if it names one; at most [`MAX_STREAM_ID`] bytes.
    pub stream_id: Option<Box<str>>,
    /// The response that it continues.
    pub previous_response_id: Option<Box<str>>,
    /// The client's own id of the message (Realtime).
    pub event_id: Option<Box<str>>,
    /// `generate: false`: produces no output, only prepares state.
    pub warms_up: bool,
    /// The fields of a `response.create` that pricing needs.
    pub peek: Option<RequestPeek>,
}

/// Parses a client's message. Anything but a JSON object is of kind `Other`.
pub fn client_event(message: &[u8]) -> ClientEvent {
    let mut event = ClientEvent::default();
    let mut nested = None;
    if read_client(&mut event, &mut nested, message).is_err() {
        return ClientEvent::default();
    }
    if event.kind == ClientKind::Create {
        // Realtime nests the request.
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

/// The meaning of an event for its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerKind {
    /// `response.created`: a response begins.
    Created,
    /// Any other event of a running response.
    Progress,
    /// `response.completed`, `response.incomplete`, and `response.done` without failure: the
    /// response's end.
    Ended,
    /// `response.failed`, and `response.done` with failure: the response's end with an error.
    Failed,
    /// `error`.
    Error,
    /// `rate_limits.updated`.
    RateLimits,
    /// An event without a response.
    #[default]
    Other,
}

/// An event of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its meaning.
    pub kind: ServerKind,
    /// The lane, if it names one.
    pub stream_id: Option<Box<str>>,
    /// The response's id.
    pub response_id: Option<Box<str>>,
    /// The client's message that an error refers to (Realtime).
    pub about: Option<Box<str>>,
}

/// Parses an event from its start `head` and its end `tail`, which is empty if `head` is complete.
pub fn server_event(head: &[u8], tail: &[u8]) -> ServerEvent {
    let mut event = ServerEvent::default();
    let mut cursor = Cursor::new(head);
    // Parsing a truncated event ends with an error; the fields parsed so far count.
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
                // The status of a response may precede the type.
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
            // They concern input that waits for a response, not output.
            name if name.starts_with(b"response.steer.") => Self::Other,
            name if name.starts_with(b"response.") => Self::Progress,
            _ => Self::Other,
        }
    }
}

/// The last `stream_id` in the end of an event. Quotes in text are escaped, so text can't be
/// mistaken for it.
fn last_stream_id(tail: &[u8]) -> Option<Box<str>> {
    const KEY: &[u8] = b"\"stream_id\"";
    let at = memchr::memmem::rfind(tail, KEY)?;
    let mut cursor = Cursor::new(&tail[at + KEY.len()..]);
    cursor.eat(b':').then(|| cursor.string().ok()).flatten().and_then(|id| text(Some(id), MAX_STREAM_ID))
}

fn text(raw: Option<Raw<'_>>, bound: usize) -> Option<Box<str>> {
    raw.map(|raw| raw.text(bound).into())
}

/// The error of an event as an error body; in `response.done` it is at another place than in other
/// events.
pub fn error_body(event: &[u8]) -> Vec<u8> {
    match nested_value(event, &[b"response", b"status_details", b"error"]) {
        Some(error) => [b"{\"error\":", error, b"}"].concat(),
        None => event.to_vec(),
    }
}

/// The headers in an `error` event, beside the error or in it: those that an HTTP response would
/// have.
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

/// The value at this path of keys.
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

/// The limits of requests and tokens in `rate_limits.updated`.
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

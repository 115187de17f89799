//! The bytes that both sides agree on: the request, the answer, the events of a stream.

use std::fmt::Write as _;

use crate::failure::{Failure, Result};

pub(crate) const PATH: &str = "/v1/chat/completions";
/// Bytes of a request's body.
pub(crate) const REQUEST_BODY: usize = 497;
/// Bytes of an answer's body.
pub(crate) const ANSWER_BODY: usize = 937;
/// A request with this header is never answered.
pub(crate) const HOLD_HEADER: &str = "x-bench-hold";
/// Different keys, hence organizations, that a load can use.
pub(crate) const KEYS: usize = 1024;

const KEY_PREFIX: &str = "sk-bench-";
const EVENT_PREFIX: &str = "data: {\"id\":\"chatcmpl-";
const INSTANT_DIGITS: usize = 20;
const SEQUENCE_DIGITS: usize = 8;

/// The bearer key of a number below [`KEYS`], as long as a real one.
pub(crate) fn key(number: usize) -> String {
    format!("{KEY_PREFIX}{number:04}-abcdefghijklmnopqrstuvwxyz0123456789")
}

/// The number of the key in a request's head, 0 without one.
pub(crate) fn key_number(head: &[u8]) -> usize {
    let digits = memchr::memmem::find(head, KEY_PREFIX.as_bytes())
        .and_then(|at| head.get(at + KEY_PREFIX.len()..at + KEY_PREFIX.len() + 4));
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .map_or(0, |number: usize| number % KEYS)
}

/// What a request asks of the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Json,
    Stream,
    /// No answer at all.
    Hold,
}

/// A whole request as the python SDK writes it, with a body of [`REQUEST_BODY`] bytes.
pub(crate) fn request(ask: Ask, key_number: usize) -> Vec<u8> {
    let stream =
        if ask == Ask::Stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let start = format!(
        r#"{{"model":"gpt-4o-mini",{stream}"max_tokens":64,"temperature":0.2,"messages":[{{"role":"system","content":"You answer briefly."}},{{"role":"user","content":""#
    );
    let body = padded(&start, r#""}]}"#, REQUEST_BODY);
    let mut head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         User-Agent: OpenAI/Python 1.109.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.109.1\r\n\
         X-Stainless-Retry-Count: 0\r\nX-Stainless-Read-Timeout: 600\r\nAuthorization: Bearer {}\r\n",
        key(key_number)
    );
    if ask == Ask::Hold {
        let _ = write!(head, "{HOLD_HEADER}: 1\r\n");
    }
    let _ = write!(head, "Content-Length: {REQUEST_BODY}\r\n\r\n");
    (head + &body).into_bytes()
}

/// The limits that an answer's headers tell.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

fn common_headers(key_number: usize, limits: Limits) -> String {
    format!(
        "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\nopenai-organization: org-bench-{key_number:04}\r\n\
         openai-processing-ms: 1\r\nopenai-version: 2020-10-01\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\n\
         x-ratelimit-limit-requests: {}\r\nx-ratelimit-limit-tokens: {}\r\nx-ratelimit-remaining-requests: {}\r\n\
         x-ratelimit-remaining-tokens: {}\r\nx-ratelimit-reset-requests: 1ms\r\nx-ratelimit-reset-tokens: 1ms\r\n",
        limits.requests,
        limits.tokens,
        limits.requests - 1,
        limits.tokens - 180
    )
}

/// A whole JSON answer with a body of [`ANSWER_BODY`] bytes.
pub(crate) fn answer(key_number: usize, limits: Limits) -> Vec<u8> {
    let body = padded(
        r#"{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1795348800,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":""#,
        r#"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":116,"completion_tokens":64,"total_tokens":180,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default","system_fingerprint":"fp_0123456789"}"#,
        ANSWER_BODY,
    );
    let headers = common_headers(key_number, limits);
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {ANSWER_BODY}\r\n{headers}\r\n{body}")
        .into_bytes()
}

/// The head of a stream's answer.
pub(crate) fn stream_head(key_number: usize, limits: Limits) -> Vec<u8> {
    let headers = common_headers(key_number, limits);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// Appends one event in a chunk of its own; it carries when it was sent and its place in the
/// stream.
pub(crate) fn push_event(out: &mut Vec<u8>, sent: u64, sequence: u64) {
    push_chunk(
        out,
        &format!(
            "{EVENT_PREFIX}{sent:020}{sequence:08}\",\"object\":\"chat.completion.chunk\",\"created\":1795348800,\"model\":\
             \"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word\"}},\"finish_reason\":null}}]}}\n\n"
        ),
    );
}

/// Appends what ends a stream: the usage, `[DONE]`, the last chunk.
pub(crate) fn push_end(out: &mut Vec<u8>, sent: u64, sequence: u64) {
    push_chunk(
        out,
        &format!(
            "{EVENT_PREFIX}{sent:020}{sequence:08}\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":\
             {{\"prompt_tokens\":116,\"completion_tokens\":{sequence},\"total_tokens\":{}}}}}\n\n",
            sequence + 116
        ),
    );
    push_chunk(out, "data: [DONE]\n\n");
    out.extend_from_slice(b"0\r\n\r\n");
}

fn push_chunk(out: &mut Vec<u8>, data: &str) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What an event of a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Chunk { sent: u64, sequence: u64 },
    Done,
}

/// Reads one event without its empty line.
pub(crate) fn parse_event(event: &[u8]) -> Result<Event> {
    if event == b"data: [DONE]" {
        return Ok(Event::Done);
    }
    let digits = event
        .strip_prefix(EVENT_PREFIX.as_bytes())
        .and_then(|rest| rest.get(..INSTANT_DIGITS + SEQUENCE_DIGITS));
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
    };
    let parsed = digits.and_then(|digits| {
        let (sent, sequence) = digits.split_at(INSTANT_DIGITS);
        Some(Event::Chunk { sent: number(sent)?, sequence: number(sequence)? })
    });
    parsed.ok_or_else(|| {
        Failure::new(format!("a changed event: {}", String::from_utf8_lossy(&event[..event.len().min(80)])))
    })
}

fn padded(start: &str, end: &str, length: usize) -> String {
    let words = "the quick brown fox jumps over the lazy dog ";
    let room = length - start.len() - end.len();
    let filling: String = words.chars().cycle().take(room).collect();
    format!("{start}{filling}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, MessageReader};

    const LIMITS: Limits = Limits { requests: 1000, tokens: 1000 };

    #[test]
    fn bodies_have_their_lengths_and_keys_come_back() {
        for ask in [Ask::Json, Ask::Stream, Ask::Hold] {
            let request = request(ask, 77);
            let mut reader = MessageReader::new(Kind::Request);
            let fed = reader.feed(&request, &mut |_| ()).expect("a valid request");
            assert_eq!(fed.message.map(|message| message.body_bytes), Some(REQUEST_BODY as u64));
            assert_eq!(key_number(reader.head()), 77);
        }
        let mut reader = MessageReader::new(Kind::Response);
        let fed = reader.feed(&answer(3, LIMITS), &mut |_| ()).expect("a valid answer");
        assert_eq!(fed.message.map(|message| message.body_bytes), Some(ANSWER_BODY as u64));
    }

    #[test]
    fn events_are_about_200_bytes_and_come_back() {
        let mut out = stream_head(0, LIMITS);
        let head = out.len();
        push_event(&mut out, 123_456_789, 42);
        assert!((190..=225).contains(&(out.len() - head)), "{}", out.len() - head);
        push_end(&mut out, 5, 43);
        let mut body = Vec::new();
        let mut reader = MessageReader::new(Kind::Response);
        let fed = reader.feed(&out, &mut |bytes| body.extend_from_slice(bytes)).expect("a valid stream");
        assert_eq!((fed.consumed, fed.message.is_some()), (out.len(), true));
        let body = String::from_utf8(body).expect("text");
        let events: Vec<_> =
            body.split_terminator("\n\n").map(|event| parse_event(event.as_bytes()).ok()).collect();
        assert_eq!(
            events,
            [
                Some(Event::Chunk { sent: 123_456_789, sequence: 42 }),
                Some(Event::Chunk { sent: 5, sequence: 43 }),
                Some(Event::Done)
            ]
        );
        assert!(parse_event(b"data: {\"id\":\"other\"}").is_err());
    }
}

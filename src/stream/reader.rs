//! Inspects the copy of a response: its usage, whether it is complete, whether it contains an
//! error.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::decode::{Coding, Decoder};
use super::relay::End;
use crate::classify::ErrorClass;
use crate::openai::sse::{Event, SseScanner};
use crate::openai::{Endpoint, Usage, usage};

/// Bytes kept from the end of a JSON response, which contains the usage on every endpoint.
const JSON_TAIL: usize = 16 << 10;
/// Bytes kept from the start of an error's body.
const MAX_ERROR: usize = crate::classify::MAX_BODY;

/// The facts found in a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the answer")]
pub struct Findings {
    /// Whether the response was an event stream.
    pub stream: bool,
    /// Token usage, if the response reports it.
    pub usage: Option<Usage>,
    /// Whether a stream ended with its terminal event, or ended normally after each choice's
    /// `finish_reason`.
    pub complete: bool,
    /// Whether every choice of a stream has its `finish_reason`.
    pub finished: bool,
    /// Events with output.
    pub outputs: u64,
    /// The data of the first error event, bounded by the scanner; or the start of an error's body
    /// that was not read ahead.
    pub error: Option<Box<[u8]>>,
    /// Whether the copy could not be inspected: unknown coding, damage, or a limit.
    pub unread: bool,
}

impl Findings {
    /// Whether the caller has the complete response, even if its body has not ended.
    pub fn is_answered(&self) -> bool {
        self.stream && self.error.is_none() && (self.complete || self.finished)
    }

    /// The error class of a response that started well and ended with `end`; `None` if it
    /// succeeded.
    pub fn class(&self, end: End) -> Option<ErrorClass> {
        match end {
            End::Complete if self.error.is_some() => Some(ErrorClass::StreamError),
            End::Complete if self.stream && !self.complete && !self.unread => Some(ErrorClass::StreamCut),
            End::Complete | End::CallerLeft => None,
            // The last event had arrived, so the response is complete however its body ends.
            End::Cut | End::Stalled if self.complete && self.error.is_none() => None,
            End::Cut => Some(ErrorClass::StreamCut),
            End::Stalled => Some(ErrorClass::TimeoutIdle),
        }
    }
}

/// Inspects a response while it is relayed.
pub struct Reader {
    decoder: Option<Decoder>,
    inspection: Inspection,
    findings: Findings,
}

/// A callback that receives each decoded part of a response.
pub struct Tap(pub Callback);

/// The callback.
type Callback = Box<dyn FnMut(&[u8]) + Send>;

enum Inspection {
    /// Nothing is inspected.
    Nothing,
    /// The start of an error's body.
    Error(Vec<u8>),
    /// The end of a JSON body.
    Tail { frames: VecDeque<Bytes>, kept: usize },
    /// An event stream, and how it ends.
    Events(Box<SseScanner>, LastEvent),
    /// One of the others, with a callback for each part.
    Tapped(Box<Tapped>),
}

struct Tapped {
    inspection: Inspection,
    tap: Tap,
}

impl Inspection {
    fn plain(&self) -> &Self {
        if let Self::Tapped(tapped) = self { &tapped.inspection } else { self }
    }

    fn parts(&mut self) -> (&mut Self, Option<&mut Tap>) {
        match self {
            Self::Tapped(tapped) => (&mut tapped.inspection, Some(&mut tapped.tap)),
            Self::Nothing | Self::Error(_) | Self::Tail { .. } | Self::Events(..) => (self, None),
        }
    }
}

/// Whether an endpoint's complete streams end with a terminal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastEvent {
    /// Always: a stream without it is truncated, and must not end normally for the caller.
    Always,
    /// As documented: a stream without it counts as truncated.
    Usually,
    /// Unknown: a normal end is accepted.
    Unknown,
}

impl LastEvent {
    fn of(endpoint: Endpoint) -> Self {
        if matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses) {
            Self::Always
        } else if matches!(endpoint, Endpoint::Audio | Endpoint::Images | Endpoint::Threads) {
            Self::Usually
        } else {
            Self::Unknown
        }
    }
}

impl Reader {
    /// A reader for a response with these headers.
    pub fn of(endpoint: Endpoint, headers: &HeaderMap) -> Self {
        let inspection = match headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes) {
            Some(kind) if starts_with(kind, b"text/event-stream") => {
                Inspection::Events(Box::default(), LastEvent::of(endpoint))
            }
            Some(kind) if starts_with(kind, b"application/json") && counts_tokens(endpoint) => {
                Inspection::Tail { frames: VecDeque::new(), kept: 0 }
            }
            Some(_) | None => Inspection::Nothing,
        };
        let findings =
            Findings { stream: matches!(inspection, Inspection::Events(..)), ..Findings::default() };
        let mut reader = Self { decoder: None, inspection, findings };
        if !matches!(reader.inspection, Inspection::Nothing) {
            reader.decode(headers);
        }
        reader
    }

    fn decode(&mut self, headers: &HeaderMap) {
        match Coding::of(headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes)) {
            Coding::Identity => {}
            Coding::Coded(decoder) => self.decoder = Some(decoder),
            Coding::Unknown => self.give_up(),
        }
    }

    /// Calls `tap` with the parts of a JSON response or event stream with these headers.
    pub fn tap(&mut self, headers: &HeaderMap, tap: Tap) {
        let kind = headers.get(CONTENT_TYPE).map_or(&[][..], http::HeaderValue::as_bytes);
        if !starts_with(kind, b"application/json") && !starts_with(kind, b"text/event-stream") {
            return;
        }
        if matches!(self.inspection, Inspection::Nothing) && !self.findings.unread {
            self.decode(headers);
            // The body can't be decoded.
            if std::mem::take(&mut self.findings.unread) {
                return;
            }
        }
        let inspection = std::mem::replace(&mut self.inspection, Inspection::Nothing);
        self.inspection = Inspection::Tapped(Box::new(Tapped { inspection, tap }));
    }

    /// A reader that keeps the start of an error's body.
    pub fn of_error(headers: &HeaderMap) -> Self {
        let (inspection, findings) = (Inspection::Error(Vec::new()), Findings::default());
        let mut reader = Self { decoder: None, inspection, findings };
        reader.decode(headers);
        reader
    }

    /// A reader that inspects nothing.
    pub fn blind() -> Self {
        Self { decoder: None, inspection: Inspection::Nothing, findings: Findings::default() }
    }

    /// Whether the response is a readable event stream.
    pub fn is_stream(&self) -> bool {
        matches!(self.inspection.plain(), Inspection::Events(..))
    }

    /// Inspects the next bytes of the body.
    pub fn read(&mut self, data: &Bytes) {
        if matches!(self.inspection, Inspection::Nothing) {
            return;
        }
        let Some(decoder) = &mut self.decoder else {
            let (inspection, tap) = self.inspection.parts();
            if let Some(tap) = tap {
                (tap.0)(data);
            }
            match inspection {
                Inspection::Nothing | Inspection::Tapped(_) => {}
                Inspection::Error(start) => keep_start(start, data),
                Inspection::Tail { frames, kept } => keep_tail(frames, kept, data.clone()),
                Inspection::Events(scanner, _) => scan(scanner, data, &mut self.findings),
            }
            return;
        };
        let ((inspection, mut tap), findings) = (self.inspection.parts(), &mut self.findings);
        let outcome = decoder.decode(data, &mut |plain| {
            if let Some(tap) = &mut tap {
                (tap.0)(plain);
            }
            match inspection {
                Inspection::Nothing | Inspection::Tapped(_) => {}
                Inspection::Error(start) => keep_start(start, plain),
                Inspection::Tail { frames, kept } => {
                    let end = &plain[plain.len().saturating_sub(JSON_TAIL)..];
                    keep_tail(frames, kept, Bytes::copy_from_slice(end));
                }
                Inspection::Events(scanner, _) => scan(scanner, plain, findings),
            }
        });
        if outcome.is_err() {
            self.give_up();
        }
    }

    /// Records that the body ended normally. `[DONE]` counts without the blank line that should
    /// follow; any other event without one may be incomplete and is not reported.
    pub fn finish(&mut self) {
        if let (Inspection::Events(scanner, last), _) = self.inspection.parts() {
            let findings = &mut self.findings;
            scanner.feed(b"\n\n", &mut |event| findings.complete |= event == Event::Done);
            findings.complete |= scanner.choices_are_finished();
            findings.complete |=
                *last == LastEvent::Unknown && findings.outputs > 0 && !scanner.choices_are_unfinished();
        }
    }

    /// Whether output, an error or the end has arrived, so that the head need not be held back any
    /// longer.
    pub fn has_begun(&self) -> bool {
        let found = &self.findings;
        !self.is_stream() || found.outputs > 0 || found.complete || found.error.is_some()
    }

    /// Whether a stream that must end with a terminal event (`[DONE]`, or `response.completed` and
    /// similar) has not had one.
    pub fn lacks_its_end(&self) -> bool {
        matches!(self.inspection.plain(), Inspection::Events(_, LastEvent::Always)) && !self.findings.complete
    }

    /// Whether a stream reached its last event without any output.
    pub fn is_without_output(&self) -> bool {
        let found = &self.findings;
        self.is_stream()
            && found.complete
            && found.outputs == 0
            && found.usage.is_none()
            && found.error.is_none()
    }

    /// The error event of the stream, if there was one.
    pub fn error(&self) -> Option<&[u8]> {
        self.findings.error.as_deref()
    }

    /// Whether Weir may insert an event here: between two events of an unencoded stream.
    pub fn at_event_boundary(&self) -> bool {
        match self.inspection.plain() {
            Inspection::Events(scanner, _) => self.decoder.is_none() && scanner.is_at_boundary(),
            Inspection::Nothing | Inspection::Error(_) | Inspection::Tail { .. } | Inspection::Tapped(_) => {
                false
            }
        }
    }

    /// The facts found. Call it once, at the end.
    pub fn findings(&mut self) -> Findings {
        if let (Inspection::Error(start), _) = self.inspection.parts() {
            self.findings.error = Some(std::mem::take(start).into());
            self.inspection = Inspection::Nothing;
        }
        if let (Inspection::Tail { frames, .. }, _) = self.inspection.parts() {
            self.findings.usage = match frames.len() {
                0 => None,
                1 => usage::find(&frames[0]),
                _ => {
                    let mut tail = BytesMut::new();
                    for frame in &*frames {
                        tail.extend_from_slice(frame);
                    }
                    usage::find(&tail)
                }
            };
            self.inspection = Inspection::Nothing;
        }
        if let Inspection::Events(scanner, _) = self.inspection.plain() {
            self.findings.finished = scanner.choices_are_finished();
        }
        std::mem::take(&mut self.findings)
    }

    fn give_up(&mut self) {
        self.inspection = Inspection::Nothing;
        self.decoder = None;
        self.findings.unread = true;
    }
}

fn scan(scanner: &mut SseScanner, data: &[u8], findings: &mut Findings) {
    scanner.feed(data, &mut |event| match event {
        Event::Preamble => {}
        Event::Output => findings.outputs += 1,
        Event::Usage(usage) => findings.usage = Some(usage),
        Event::Done => findings.complete = true,
        Event::Completed(usage) | Event::Incomplete(usage) => {
            findings.complete = true;
            // This event contains the whole response.
            findings.outputs += u64::from(findings.outputs == 0);
            findings.usage = usage.or(findings.usage);
        }
        Event::Failed { data, usage } => {
            findings.complete = true;
            findings.usage = usage.or(findings.usage);
            findings.error.get_or_insert_with(|| data.into());
        }
        Event::Error { data } => {
            findings.complete = true;
            findings.error.get_or_insert_with(|| data.into());
        }
    });
}

fn keep_start(start: &mut Vec<u8>, data: &[u8]) {
    start.extend_from_slice(&data[..data.len().min(MAX_ERROR - start.len())]);
}

fn keep_tail(frames: &mut VecDeque<Bytes>, kept: &mut usize, frame: Bytes) {
    *kept += frame.len();
    frames.push_back(frame);
    while let Some(first) = frames.front()
        && *kept - first.len() >= JSON_TAIL
    {
        *kept -= first.len();
        frames.pop_front();
    }
}

/// Whether the endpoint's JSON responses contain token usage.
fn counts_tokens(endpoint: Endpoint) -> bool {
    use Endpoint as E;
    matches!(
        endpoint,
        E::ChatCompletions
            | E::Completions
            | E::Responses
            | E::Embeddings
            | E::Audio
            | E::Images
            | E::Threads
    )
}

fn starts_with(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

//! A scanner of server-sent events, which detects the events that matter to a proxy and changes
//! nothing.
//!
//! It sees every chunk of every stream, so common events must be cheap: lines are found by
//! `memchr`, an event within one chunk is parsed in place, and a delta is recognized by its name.
//! State between chunks is bounded, and the chunk boundaries do not affect the events.

mod choices;
mod line;
mod meaning;

use std::fmt;

use memchr::memchr2;

use self::choices::{Choices, is_announcement};
use self::line::{Data, PartialLine, Parts};
use self::meaning::{Name, meaning};
use super::usage::Usage;

/// The meaning of an event to a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// `data: [DONE]`: the stream is complete.
    Done,
    /// `response.created`, `response.queued` or `response.in_progress`: accepted, without output
    /// yet; or a keep-alive.
    Preamble,
    /// Output, or an unknown event.
    Output,
    /// A chat chunk with the usage; other chunks have `"usage":null`. It may contain output too.
    Usage(Usage),
    /// `response.completed` and similar: the stream is complete, with its usage.
    Completed(Option<Usage>),
    /// `response.incomplete`: the stream is complete, but an output limit was reached.
    Incomplete(Option<Usage>),
    /// `response.failed`: the end of the stream, with its (bounded) data for
    /// [`super::ErrorBody::parse`].
    Failed {
        /// The start of the event's data, at most 20 KiB.
        data: &'a [u8],
        /// The usage, if reported.
        usage: Option<Usage>,
    },
    /// An error instead of or after output: `event: error`, nested or flat, or an `error` object in
    /// any event's data.
    Error {
        /// The start of the event's data, at most 20 KiB.
        data: &'a [u8],
    },
}

impl Event<'_> {}

/// Shows only the length of the data, because errors echo prompts.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => out.write_str("Done"),
            Self::Preamble => out.write_str("Preamble"),
            Self::Output => out.write_str("Output"),
            Self::Usage(usage) => out.debug_tuple("Usage").field(usage).finish(),
            Self::Completed(usage) => out.debug_tuple("Completed").field(usage).finish(),
            Self::Incomplete(usage) => out.debug_tuple("Incomplete").field(usage).finish(),
            Self::Failed { data, usage } => {
                out.debug_struct("Failed").field("bytes", &data.len()).field("usage", usage).finish()
            }
            Self::Error { data } => out.debug_struct("Error").field("bytes", &data.len()).finish(),
        }
    }
}

/// An incremental scanner of one stream. It holds no memory between events, and at most 144 KiB
/// during a long one.
#[derive(Clone, Default)]
pub struct SseScanner {
    /// The start of an incomplete line.
    line: PartialLine,
    /// The data lines of an incomplete event that could not be parsed in place.
    data: Data,
    name: Name,
    /// Whether the last line ended in CR, so that a following LF belongs to it.
    skip_line_feed: bool,
    /// Whether the first line has begun; only before it a byte order mark is allowed.
    started: bool,
    /// Whether there was output.
    output: bool,
    choices: Choices,
}

/// Shows only the amount of data, which is part of a response.
impl fmt::Debug for SseScanner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SseScanner").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl SseScanner {
    /// Scans the next chunk, and calls `on_event` for each event that ends in it, in order.
    pub fn feed(&mut self, chunk: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        // The current event's data, as long as it is one line of this chunk.
        let mut in_place: Option<Parts<'_>> = None;
        while !rest.is_empty() {
            if self.skip_line_feed {
                self.skip_line_feed = false;
                if let [b'\n', after @ ..] = rest {
                    rest = after;
                    continue;
                }
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line.push(rest);
                break;
            };
            let line = &rest[..end];
            self.skip_line_feed = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if self.line.is_empty() {
                match self.field(Parts::of(line)) {
                    Field::Blank => self.dispatch(&mut in_place, on_event),
                    Field::Data(parts) if in_place.is_none() && self.data.is_absent() => {
                        in_place = Some(parts);
                    }
                    Field::Data(parts) => {
                        self.data.spill(&mut in_place);
                        self.data.push(parts);
                    }
                    Field::Other => {}
                }
            } else {
                // The line began in an earlier chunk.
                let mut whole = std::mem::take(&mut self.line);
                whole.push(line);
                match self.field(whole.parts()) {
                    Field::Blank => self.dispatch(&mut in_place, on_event),
                    Field::Data(parts) => {
                        self.data.spill(&mut in_place);
                        self.data.push(parts);
                    }
                    Field::Other => {}
                }
                self.line = whole.emptied();
            }
        }
        self.data.spill(&mut in_place);
    }

    /// Whether no event is incomplete, so that another event may be inserted.
    pub fn is_at_boundary(&self) -> bool {
        self.line.is_empty() && self.data.is_absent() && self.name == Name::Absent
    }

    /// Whether every choice that began in a chat stream has its `finish_reason`. If the stream then
    /// ends normally, it is complete even without `[DONE]`.
    pub fn choices_are_finished(&self) -> bool {
        self.choices.are_finished()
    }

    /// Whether a choice that began in a chat stream has no `finish_reason`.
    pub fn choices_are_unfinished(&self) -> bool {
        self.choices.are_unfinished()
    }

    /// Allocated memory, in bytes.
    pub fn held(&self) -> usize {
        self.line.capacity() + self.data.capacity()
    }

    fn field<'a>(&mut self, line: Parts<'a>) -> Field<'a> {
        let line = if self.started { line } else { line.without_byte_order_mark() };
        self.started = true;
        if line.head.is_empty() {
            return Field::Blank;
        }
        if let Some(value) = line.value_of(b"data") {
            return Field::Data(value);
        }
        if let Some(value) = line.value_of(b"event") {
            self.name = Name::of(value.head);
        }
        Field::Other
    }

    fn dispatch(&mut self, in_place: &mut Option<Parts<'_>>, on_event: &mut impl FnMut(Event<'_>)) {
        let name = std::mem::take(&mut self.name);
        if let Some(parts) = in_place.take() {
            on_event(event(name, parts, &mut self.output, &mut self.choices));
        } else if !self.data.is_absent() {
            on_event(event(name, self.data.parts(), &mut self.output, &mut self.choices));
            self.data.clear();
        }
    }
}

fn event<'a>(name: Name, data: Parts<'a>, output: &mut bool, choices: &mut Choices) -> Event<'a> {
    let event = meaning(name, data);
    if !matches!(event, Event::Output | Event::Usage(_)) {
        return event;
    }
    let is_chunk = matches!(name, Name::Absent | Name::Unknown);
    if is_chunk {
        choices.note(data);
    }
    // Checked only until the first output.
    if !*output && is_chunk && event == Event::Output && is_announcement(data) {
        return Event::Preamble;
    }
    *output = true;
    event
}

enum Field<'a> {
    Blank,
    Data(Parts<'a>),
    Other,
}

#[cfg(test)]
mod tests;

//! A scanner over server-sent events that tells what a proxy must know of a stream, and touches nothing.
//!
//! It sees every chunk of every stream, so the common event must cost next to nothing: lines are found by `memchr`, an event
//! that lies whole in a chunk is looked at in place, and a delta is told by its name alone. What is kept between two chunks is
//! bounded, and how the bytes are cut into chunks makes no difference to the events.

use std::sync::LazyLock;

use memchr::{memchr2, memmem};

use super::json::Cursor;
use super::usage::{self, Usage};

/// Of a line longer than `HEAD + TAIL` its first bytes are kept, where errors stand...
const HEAD: usize = 4 << 10;
/// ...and its last bytes, where the usage stands: behind it come at most 16 metadata of 576 characters.
const TAIL: usize = 16 << 10;

/// What an event means to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `data: [DONE]`: the stream is complete.
    Done,
    /// `response.created`, `response.queued` or `response.in_progress`: accepted, no output yet.
    Preamble,
    /// Output, or an event that the list does not know.
    Output,
    /// A chat chunk that carries the usage; other chunks of such a stream say `"usage":null`. It may carry output too.
    Usage(Usage),
    /// `response.completed` and the like: the stream is complete, and what it took.
    Completed(Option<Usage>),
    /// `response.incomplete`: complete as far as the stream goes; a limit on the output was reached.
    Incomplete(Option<Usage>),
    /// `response.failed`: the end of the stream, with its data (bounded) for [`super::ErrorBody::parse`].
    Failed {
        /// The start of the event's data, at most 20 KiB.
        data: &'a [u8],
        /// What it took, where it says so.
        usage: Option<Usage>,
    },
    /// An error instead of, or after, output: `event: error`, nested or flat, or an `error` object in any event's data.
    Error {
        /// The start of the event's data, at most 20 KiB.
        data: &'a [u8],
    },
}

impl Event<'_> {
    /// Whether the upstream ends the stream with it: what follows is at most a `[DONE]`.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Done | Self::Completed(_) | Self::Incomplete(_) | Self::Failed { .. } => true,
            Self::Preamble | Self::Output | Self::Usage(_) | Self::Error { .. } => false,
        }
    }

    /// The usage that the event carries.
    pub fn usage(&self) -> Option<Usage> {
        match *self {
            Self::Usage(usage) => Some(usage),
            Self::Completed(usage) | Self::Incomplete(usage) | Self::Failed { usage, .. } => usage,
            Self::Done | Self::Preamble | Self::Output | Self::Error { .. } => None,
        }
    }
}

/// An incremental scanner of one stream. It holds at most 57 KiB, and nothing between events.
#[derive(Clone, Debug, Default)]
pub struct SseScanner {
    /// The start of a line whose end has not come yet.
    line: PartialLine,
    /// The data lines of an event whose blank line has not come yet, when they could not be looked at in place.
    data: Data,
    name: Name,
    /// The last line ended in CR: an LF that follows belongs to it.
    skip_line_feed: bool,
    /// A byte order mark may stand before the first line only.
    started: bool,
}

impl SseScanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk and tells the events that end in it, in order.
    pub fn feed(&mut self, chunk: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        // The data of the current event, as long as one line of this chunk holds all of it.
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
                        in_place = Some(parts)
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

    /// Whether no event is under way: where an event of one's own can be put between those of the upstream.
    pub fn is_at_boundary(&self) -> bool {
        self.line.is_empty() && self.data.is_absent() && self.name == Name::Absent
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
            on_event(meaning(name, parts));
        } else if !self.data.is_absent() {
            on_event(meaning(name, self.data.parts()));
            self.data.clear();
        }
    }
}

/// What an event of this name, with this data, means.
fn meaning(name: Name, data: Parts<'_>) -> Event<'_> {
    match name {
        Name::Output => Event::Output,
        Name::Preamble => Event::Preamble,
        Name::Completed => Event::Completed(data.usage()),
        Name::Incomplete => Event::Incomplete(data.usage()),
        Name::Failed => Event::Failed { data: data.head, usage: data.usage() },
        Name::Error => Event::Error { data: data.head },
        Name::Absent | Name::Unknown => meaning_of_data(data),
    }
}

/// What data means whose event has no name, or none that tells: a chat chunk, `[DONE]`, or an event with its `type` first.
fn meaning_of_data(data: Parts<'_>) -> Event<'_> {
    let start = data.head.trim_ascii_start();
    if start.starts_with(b"[DONE]") {
        return Event::Done;
    }
    if let Some(name) = leading_type(start) {
        match name {
            // An event of its own type can still carry an error or a usage.
            Name::Absent | Name::Unknown => {}
            Name::Output
            | Name::Preamble
            | Name::Completed
            | Name::Incomplete
            | Name::Failed
            | Name::Error => return meaning(name, data),
        }
    }
    if ERROR.find(start).is_some() && has_error(start) {
        return Event::Error { data: data.head };
    }
    data.usage().map_or(Event::Output, Event::Usage)
}

static ERROR: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"error\""));
static USAGE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"usage\""));

/// The event's name as its data says, where `type` is the first key, as it is in everything the API sends.
fn leading_type(data: &[u8]) -> Option<Name> {
    let rest = data.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"type\"")?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(Name::of(&value[..memchr2(b'"', b'\\', value)?]))
}

/// Whether the object has an `error` of its own that is not null.
fn has_error(data: &[u8]) -> bool {
    let mut cursor = Cursor::new(data);
    if cursor.object().is_err() {
        return false;
    }
    while let Ok(Some(key)) = cursor.key() {
        if key.bytes == b"error" {
            return matches!(cursor.peek(), Some(b'{' | b'"'));
        }
        if cursor.skip().is_err() {
            return false;
        }
    }
    false
}

/// What an event's name tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Absent,
    Unknown,
    Preamble,
    Output,
    Completed,
    Incomplete,
    Failed,
    Error,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b"error" => Self::Error,
            b"response.created" | b"response.queued" | b"response.in_progress" => Self::Preamble,
            b"response.completed"
            | b"transcript.text.done"
            | b"speech.audio.done"
            | b"image_generation.completed"
            | b"image_edit.completed" => Self::Completed,
            b"response.incomplete" => Self::Incomplete,
            b"response.failed" => Self::Failed,
            _ if name.starts_with(b"response.") => Self::Output,
            _ => Self::Unknown,
        }
    }
}

enum Field<'a> {
    Blank,
    Data(Parts<'a>),
    Other,
}

/// A line, or an event's data: whole in `head`, or the two ends of one that is too long.
#[derive(Clone, Copy)]
struct Parts<'a> {
    head: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(line: &'a [u8]) -> Self {
        if line.len() <= HEAD + TAIL {
            Self { head: line, tail: &[] }
        } else {
            Self { head: &line[..HEAD], tail: &line[line.len() - TAIL..] }
        }
    }

    fn without_byte_order_mark(self) -> Self {
        Self { head: self.head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(self.head), ..self }
    }

    /// The value of the line, if it is of this field; one space after the colon is not part of it.
    fn value_of(self, field: &[u8]) -> Option<Self> {
        let rest = self.head.strip_prefix(field)?;
        let value = match rest {
            [] => rest,
            [b':', value @ ..] => value.strip_prefix(b" ").unwrap_or(value),
            _ => return None,
        };
        Some(Self { head: value, ..self })
    }

    fn usage(self) -> Option<Usage> {
        [self.tail, self.head]
            .into_iter()
            // Found in a few nanoseconds whether there is one at all; most events have none.
            .filter(|part| USAGE.find(part).is_some())
            .find_map(usage::find)
    }
}

/// The start of a line, kept until its end comes: the two ends of it if it is long.
#[derive(Clone, Debug, Default)]
struct PartialLine {
    kept: Vec<u8>,
    length: usize,
}

impl PartialLine {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        let (head, tail) = bytes.split_at(bytes.len().min(HEAD.saturating_sub(self.kept.len())));
        self.kept.extend_from_slice(head);
        if tail.len() >= TAIL {
            self.kept.truncate(HEAD);
            self.kept.extend_from_slice(&tail[tail.len() - TAIL..]);
        } else {
            self.kept.extend_from_slice(tail);
            // Twice the tail, so that what is moved is paid for by what was added.
            if self.kept.len() > HEAD + 2 * TAIL {
                self.kept.drain(HEAD..self.kept.len() - TAIL);
            }
        }
    }

    fn parts(&self) -> Parts<'_> {
        if self.length <= HEAD + TAIL {
            Parts { head: &self.kept, tail: &[] }
        } else {
            Parts { head: &self.kept[..HEAD], tail: &self.kept[self.kept.len() - TAIL..] }
        }
    }

    fn emptied(mut self) -> Self {
        self.length = 0;
        empty(&mut self.kept);
        self
    }
}

/// The data of an event that spans lines or chunks.
#[derive(Clone, Debug, Default)]
struct Data {
    present: bool,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Data {
    fn is_absent(&self) -> bool {
        !self.present
    }

    /// Keeps what was looked at in place until now.
    fn spill(&mut self, in_place: &mut Option<Parts<'_>>) {
        if let Some(parts) = in_place.take() {
            self.push(parts);
        }
    }

    /// Appends a line.
    fn push(&mut self, line: Parts<'_>) {
        if self.present {
            self.append(b"\n");
            self.append(line.head);
            self.append(line.tail);
        } else {
            self.present = true;
            self.head.extend_from_slice(line.head);
            self.tail.extend_from_slice(line.tail);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.tail.is_empty() && self.head.len() + bytes.len() <= HEAD + TAIL {
            self.head.extend_from_slice(bytes);
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts { head: &self.head, tail: &self.tail }
    }

    fn clear(&mut self) {
        self.present = false;
        empty(&mut self.head);
        empty(&mut self.tail);
    }
}

/// Empties a buffer, and gives a large one back: thousands of streams are open at once.
fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > HEAD {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

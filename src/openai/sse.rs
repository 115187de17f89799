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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event with its data, for comparison.
    fn told(stream: &[u8], chunks: impl IntoIterator<Item = usize>) -> Vec<String> {
        let mut scanner = SseScanner::new();
        let mut events = Vec::new();
        let mut rest = stream;
        for size in chunks {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            scanner.feed(chunk, &mut |event| events.push(format!("{event:?}")));
            rest = after;
        }
        scanner.feed(rest, &mut |event| events.push(format!("{event:?}")));
        events
    }

    fn events(stream: &str) -> Vec<String> {
        told(stream.as_bytes(), [])
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, cached_input: 0, total: input + output }
    }

    #[test]
    fn tells_a_chat_stream() {
        let stream = concat!(
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
            ": keep-alive\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":{\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"error\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\n",
            "data: [DONE]\n\n",
        );
        let expected = [Event::Output, Event::Output, Event::Output, Event::Usage(usage(9, 3)), Event::Done]
            .map(|event| format!("{event:?}"));
        assert_eq!(events(stream), expected);
    }

    #[test]
    fn tells_a_responses_stream() {
        let stream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null,\"usage\":null}}\n\n\
            event: response.in_progress\ndata: {\"type\":\"response.in_progress\"}\n\n\
            event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n\
            event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"error\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":2}}}\n\n";
        let expected = [Event::Preamble, Event::Preamble, Event::Output, Event::Completed(Some(usage(7, 2)))]
            .map(|event| format!("{event:?}"));
        assert_eq!(events(stream), expected);
        // The same without names: the type in the data tells.
        let unnamed: String = stream
            .lines()
            .filter(|line| !line.starts_with("event"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(events(&unnamed), expected);
    }

    #[test]
    fn tells_errors_of_every_form() {
        for data in [
            r#"{"error":{"message":"m"}}"#,
            r#"{"id":"x","choices":[{"delta":{}}],"error":{"code":502}}"#,
            r#"{"type":"error","code":"E","message":"flat"}"#,
            r#"{ "type" : "error" }"#,
            r#"{"error":"text"}"#,
        ] {
            let expected = format!("{:?}", Event::Error { data: data.as_bytes() });
            assert_eq!(events(&format!("data: {data}\n\n")), [expected.clone()], "{data}");
            assert_eq!(events(&format!("event: error\ndata: {data}\n\n")), [expected], "{data}");
        }
        assert_eq!(events("data: {\"error\":null,\"choices\":[{\"error\":{}}]}\n\n"), ["Output"]);
        let failed = br#"{"type":"response.failed","response":{"error":{"code":"server_error"},"usage":{"input_tokens":1}}}"#;
        let expected = Event::Failed { data: failed, usage: Some(usage(1, 0)) };
        assert_eq!(
            told(&[b"event: response.failed\ndata: ", &failed[..], b"\n\n"].concat(), []),
            [format!("{expected:?}")]
        );
    }

    #[test]
    fn tells_the_end_of_other_streams() {
        for (stream, expected) in [
            (
                "event: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":45}}\n\n",
                Event::Completed(Some(usage(14, 45))),
            ),
            ("data: {\"type\":\"image_generation.completed\",\"b64_json\":\"\"}\n\n", Event::Completed(None)),
            ("event: done\ndata: [DONE]\n\n", Event::Done),
            ("event: response.incomplete\ndata: {}\n\n", Event::Incomplete(None)),
        ] {
            assert_eq!(events(stream), [format!("{expected:?}")], "{stream}");
        }
    }

    #[test]
    fn follows_the_line_rules_of_the_standard() {
        assert_eq!(events("\u{feff}data:[DONE]\r\n\r\n"), ["Done"]);
        assert_eq!(events("data: [DONE]\r\r"), ["Done"]);
        assert_eq!(events("data\n\n"), ["Output"]);
        assert_eq!(events("event: error\n\n"), Vec::<String>::new());
        assert_eq!(events("id: 1\nretry: 5\nevents: x\n\n"), Vec::<String>::new());
        // Two data lines are one datum; an event without its blank line never was.
        assert_eq!(events("data: {\"error\":\ndata: {\"a\":1}}\n\ndata: [DONE]\n").len(), 1);
        assert!(events("data: {\"error\":\ndata: {\"a\":1}}\n\n")[0].starts_with("Error"));
    }

    #[test]
    fn knows_where_an_event_may_be_put() {
        let mut scanner = SseScanner::new();
        assert!(scanner.is_at_boundary());
        for (chunk, boundary) in [
            ("da", false),
            ("ta: x\n", false),
            ("\n", true),
            ("event: a\n", false),
            ("\n", true),
            (":", false),
        ] {
            scanner.feed(chunk.as_bytes(), &mut |_| {});
            assert_eq!(scanner.is_at_boundary(), boundary, "{chunk:?}");
        }
    }

    #[test]
    fn a_long_event_keeps_its_ends_in_bounded_memory() {
        let text = "x".repeat(3_000_000);
        let stream = format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"text\":\"{text}\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":2}}}}\n\n"
        );
        let expected = [format!("{:?}", Event::Completed(Some(usage(7, 2))))];
        let mut scanner = SseScanner::new();
        let mut told_by_pieces = Vec::new();
        for chunk in stream.as_bytes().chunks(1013) {
            scanner.feed(chunk, &mut |event| told_by_pieces.push(format!("{event:?}")));
            let held =
                scanner.line.kept.capacity() + scanner.data.head.capacity() + scanner.data.tail.capacity();
            assert!(held <= 4 * (HEAD + 2 * TAIL), "{held}");
        }
        assert_eq!(told_by_pieces, expected);
        assert_eq!(told(stream.as_bytes(), []), expected);
        assert!(scanner.line.kept.capacity() <= HEAD && scanner.data.tail.capacity() <= HEAD);
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            Just("data: [DONE]".to_owned()),
            Just("event: error".to_owned()),
            Just("event: response.completed".to_owned()),
            Just(": comment".to_owned()),
            Just("data: {\"error\":{\"message\":\"m\"}}".to_owned()),
            Just("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}".to_owned()),
            "[ -~]{0,30}",
            (HEAD - 3..HEAD + 3).prop_map(|size| format!("data: {{\"a\":\"{}\"}}", "y".repeat(size))),
            (HEAD + TAIL - 60..HEAD + TAIL + 60).prop_map(|size| format!(
                "data: {{\"a\":\"{}\",\"usage\":{{\"prompt_tokens\":2}}}}",
                "z".repeat(size)
            )),
        ]
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            lines in prop::collection::vec((line(), prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])), 0..12),
            sizes in prop::collection::vec(prop_oneof![0_usize..4, 1_usize..9000], 0..60),
        ) {
            let stream: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
            let whole = told(stream.as_bytes(), []);
            prop_assert_eq!(&told(stream.as_bytes(), sizes), &whole);
            if stream.len() < 2000 {
                prop_assert_eq!(&told(stream.as_bytes(), std::iter::repeat_n(1, stream.len())), &whole);
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in any::<Vec<u8>>(), sizes in prop::collection::vec(0_usize..50, 0..20)) {
            prop_assert_eq!(told(&bytes, sizes), told(&bytes, []));
        }
    }
}

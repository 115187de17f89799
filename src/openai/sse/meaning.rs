//! Determines the meaning of an event from its name and data.

use std::sync::LazyLock;

use memchr::{memchr2, memmem};

use super::Event;
use super::line::Parts;
use crate::openai::in_place;
use crate::openai::json::Cursor;
use crate::openai::usage::{self, Usage};

/// The meaning of an event.
pub(super) fn meaning(name: Name, data: Parts<'_>) -> Event<'_> {
    match name {
        Name::Output => Event::Output,
        Name::Preamble => Event::Preamble,
        Name::Completed => Event::Completed(usage_in(data)),
        Name::Incomplete => Event::Incomplete(usage_in(data)),
        Name::Failed => Event::Failed { data: data.head, usage: usage_in(data) },
        Name::Error => Event::Error { data: data.head },
        Name::Absent | Name::Unknown => meaning_of_data(data),
    }
}

/// The meaning of data without a significant event name: a chat chunk, `[DONE]`, or an event whose
/// first key is `type`.
fn meaning_of_data(data: Parts<'_>) -> Event<'_> {
    let start = data.head.trim_ascii_start();
    if start.starts_with(b"[DONE]") {
        return Event::Done;
    }
    if let Some(name) = leading_type(start) {
        match name {
            // An event with an unknown type can still contain an error or a usage.
            Name::Absent | Name::Unknown => {}
            Name::Output
            | Name::Preamble
            | Name::Completed
            | Name::Incomplete
            | Name::Failed
            | Name::Error => return meaning(name, data),
        }
    }
    let may_say_so = || ERROR.find(start).is_some() || BASE_RESP.find(start).is_some();
    let in_other_words = || in_place::begins_as_error(start) && in_place::is_error(start);
    if may_say_so() && has_error(start) || in_other_words() {
        return Event::Error { data: data.head };
    }
    usage_in(data).map_or(Event::Output, Event::Usage)
}

static ERROR: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"error"));
static BASE_RESP: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"base_resp\""));
static USAGE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"usage\""));

/// The event's name from `type`, which is the first key in all events of the API.
fn leading_type(data: &[u8]) -> Option<Name> {
    let rest = data.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"type\"")?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(Name::of(&value[..memchr2(b'"', b'\\', value)?]))
}

/// Whether the object, or the first of a list (Google), has an `error` that is not null, an
/// `error_type`, `error_message` or `error_msg`, `object: "error"` (vLLM), or a `base_resp` with a
/// failure (`MiniMax`).
fn has_error(data: &[u8]) -> bool {
    let mut cursor = Cursor::new(data.strip_prefix(b"[").unwrap_or(data));
    if cursor.object().is_err() {
        return false;
    }
    while let Ok(Some(key)) = cursor.key() {
        match key.bytes {
            b"error" => return in_place::is_error_value(&mut cursor).unwrap_or(true),
            b"error_type" | b"error_message" | b"error_msg" if cursor.peek() == Some(b'"') => return true,
            b"base_resp" if cursor.peek() == Some(b'{') => {
                return in_place::has_failed_base(&mut cursor).unwrap_or(false);
            }
            b"object" if cursor.peek() == Some(b'"') => match cursor.string() {
                Ok(object) if object.is("error") => return true,
                Ok(_) => continue,
                Err(_) => return false,
            },
            _ => {}
        }
        if cursor.skip().is_err() {
            return false;
        }
    }
    false
}

/// The meaning of an event's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Name {
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
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"error" => Self::Error,
            b"response.created" | b"response.queued" | b"response.in_progress" | b"keepalive" | b"ping" => {
                Self::Preamble
            }
            b"response.completed"
            | b"transcript.text.done"
            | b"speech.audio.done"
            | b"image_generation.completed"
            | b"image_edit.completed"
            // Anthropic and Cohere, whose own endpoints are proxied too.
            | b"message_stop"
            | b"message-end" => Self::Completed,
            b"response.incomplete" => Self::Incomplete,
            b"response.failed" => Self::Failed,
            _ if name.starts_with(b"response.") => Self::Output,
            _ => Self::Unknown,
        }
    }
}

/// The usage in the data.
fn usage_in(data: Parts<'_>) -> Option<Usage> {
    [data.tail, data.head].into_iter().filter(|part| may_have_usage(part)).find_map(usage::find)
}

/// Whether there is a usage that is not null; in most chunks it is null, which is detected in a few
/// nanoseconds.
fn may_have_usage(part: &[u8]) -> bool {
    USAGE.find_iter(part).any(|found| !part[found..].starts_with(b"\"usage\":null"))
}

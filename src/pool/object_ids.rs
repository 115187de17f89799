//! The ids of the API's objects in bodies and paths: what tells to whom a stateful request belongs.

use memchr::memchr_iter;

/// How the ids of objects that requests refer to begin. What is not known of these belongs to the
/// pool's home.
const OBJECTS: [&[u8]; 18] = [
    b"resp_",
    b"conv_",
    b"file-",
    b"file_",
    b"assistant-",
    b"vs_",
    b"batch_",
    b"asst_",
    b"thread_",
    b"run_",
    b"upload_",
    b"ftjob-",
    b"cntr_",
    b"cfile_",
    b"eval_",
    b"evalrun_",
    b"video_",
    b"chatcmpl-",
];
/// How the ids of an answer's items begin, which a later request may send back. What is not known
/// of these may be anybody's.
const ITEMS: [&[u8]; 8] = [b"msg_", b"rs_", b"fc_", b"ws_", b"fs_", b"ci_", b"ig_", b"mcp_"];
/// The characters of an id.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;

/// An id of an object in a text, and whether an unknown one belongs to the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectId<'a> {
    /// The id.
    pub(super) id: &'a [u8],
    /// Whether requests refer to it as an object of its own.
    pub(super) is_object: bool,
}

/// The ids in quotes in a JSON text that may be a part of one.
#[derive(Debug)]
pub(super) struct ObjectIds<'a> {
    text: &'a [u8],
    quotes: memchr::Memchr<'a>,
}

impl<'a> ObjectIds<'a> {
    /// The ids in `text`.
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { text, quotes: memchr_iter(b'"', text) }
    }
}

impl<'a> Iterator for ObjectIds<'a> {
    type Item = ObjectId<'a>;

    fn next(&mut self) -> Option<ObjectId<'a>> {
        loop {
            let quote = self.quotes.next()?;
            // A quote inside a string, as in a prompt that shows JSON, begins no value.
            if quote.checked_sub(1).is_some_and(|before| self.text[before] == b'\\') {
                continue;
            }
            let rest = &self.text[quote + 1..];
            let end = rest.iter().position(|byte| !is_of_an_id(*byte)).unwrap_or(rest.len());
            if rest.get(end) == Some(&b'"')
                && let Some(found) = reference(&rest[..end])
            {
                return Some(found);
            }
        }
    }
}

/// A text as the id of an object, where it begins as one.
pub(super) fn reference(id: &[u8]) -> Option<ObjectId<'_>> {
    if !LENGTHS.contains(&id.len()) || !id.iter().all(|byte| is_of_an_id(*byte)) {
        return None;
    }
    let begins = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| id.starts_with(prefix));
    let is_object = begins(&OBJECTS);
    (is_object || begins(&ITEMS)).then_some(ObjectId { id, is_object })
}

fn is_of_an_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_where_they_are_values() {
        let text = br#"{"previous_response_id":"resp_0123456789","input":[{"type":"item_reference","id":"msg_abcdef01"},
            {"text":"say \"file-0123456789\""},{"tools":[{"vector_store_ids":["vs_11112222"]}]},{"call_id":"call_123456789"}],
            "cut":"file-12345"#;
        let found: Vec<(&str, bool)> = ObjectIds::of(text)
            .map(|found| (std::str::from_utf8(found.id).unwrap(), found.is_object))
            .collect();
        assert_eq!(found, [("resp_0123456789", true), ("msg_abcdef01", false), ("vs_11112222", true)]);
    }

    #[test]
    fn what_is_too_short_or_has_other_characters_is_none() {
        for text in ["resp_1", "file-../../etc", "gpt-4o-mini-2024", "resp_ 0123456789", ""] {
            assert_eq!(reference(text.as_bytes()), None, "{text}");
        }
    }
}

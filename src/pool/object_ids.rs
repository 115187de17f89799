//! The ids of the API's objects in bodies and paths, which show the owner of a stateful request.

use memchr::memchr2_iter;

/// The characters that end the prefix of an id, and the longest prefix.
const SEPARATORS: [u8; 2] = [b'_', b'-'];
const LONGEST_BEGINNING: usize = 10;

/// Whether an id with this prefix is an object that requests refer to: an unknown one then belongs
/// to the pool's home. `Some(false)` is an item of a response, which a later request may send back:
/// an unknown one may belong to any upstream. `None` for other prefixes.
fn is_object(beginning: &[u8]) -> Option<bool> {
    match beginning {
        b"resp_" | b"conv_" | b"file-" | b"file_" | b"assistant-" | b"vs_" | b"batch_" | b"asst_"
        | b"thread_" | b"run_" | b"upload_" | b"ftjob-" | b"cntr_" | b"cfile_" | b"eval_" | b"evalrun_"
        | b"video_" | b"chatcmpl-" => Some(true),
        b"msg_" | b"rs_" | b"fc_" | b"ws_" | b"fs_" | b"ci_" | b"ig_" | b"mcp_" => Some(false),
        _ => None,
    }
}

/// The allowed lengths of an id.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;

/// The id of an object in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectId<'a> {
    /// The id.
    pub(super) id: &'a [u8],
    /// Whether requests refer to it as a separate object: an unknown one then belongs to the home.
    pub(super) is_object: bool,
}

/// The quoted ids in a JSON text, which may be incomplete. The search goes from separator to
/// separator, which are much rarer than quotes.
#[derive(Debug)]
pub(super) struct ObjectIds<'a> {
    text: &'a [u8],
    separators: memchr::Memchr2<'a>,
}

impl<'a> ObjectIds<'a> {
    /// The ids in `text`.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let [one, other] = SEPARATORS;
        Self { text, separators: memchr2_iter(one, other, text) }
    }
}

impl<'a> Iterator for ObjectIds<'a> {
    type Item = ObjectId<'a>;

    fn next(&mut self) -> Option<ObjectId<'a>> {
        loop {
            let separator = self.separators.next()?;
            let before = self.text[..separator].iter().rev().take(LONGEST_BEGINNING);
            let start = separator - before.take_while(|byte| byte.is_ascii_lowercase()).count();
            let quotes = self.text[..start].last_chunk();
            // A quote inside a string, as in a prompt that contains JSON, does not start a value.
            let begins = match quotes {
                Some([before, quote]) => *quote == b'"' && *before != b'\\',
                None => self.text.first() == Some(&b'"') && start == 1,
            };
            if !begins || is_object(&self.text[start..=separator]).is_none() {
                continue;
            }
            let rest = &self.text[start..];
            let end = rest.iter().position(|byte| !is_of_an_id(*byte)).unwrap_or(rest.len());
            if rest.get(end) == Some(&b'"')
                && let Some(found) = reference(&rest[..end])
            {
                return Some(found);
            }
        }
    }
}

/// A text as the id of an object, if it has the prefix of one.
pub(super) fn reference(id: &[u8]) -> Option<ObjectId<'_>> {
    if !LENGTHS.contains(&id.len()) || !id.iter().all(|byte| is_of_an_id(*byte)) {
        return None;
    }
    let separator = id.iter().position(|byte| SEPARATORS.contains(byte))?;
    Some(ObjectId { id, is_object: is_object(&id[..=separator])? })
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
    fn an_id_is_found_at_the_beginning_and_wherever_else_separators_stand() {
        let found = |text: &'static str| {
            ObjectIds::of(text.as_bytes()).map(|found| found.id.len()).collect::<Vec<_>>()
        };
        assert_eq!(found(r#""file-0123456789""#), [15]);
        assert_eq!(
            found(r#"["a_b","vs_0123-45_67","-","_",{"max_tokens":1,"x":"resp_ab_cd-ef"}]"#),
            [13, 13]
        );
        assert_eq!(
            found(r#"resp_0123456789" "Resp_0123456789" "xresp_0123456789" \"resp_0123456789""#),
            [0; 0]
        );
        assert_eq!(found("_-\"_\"-"), [0; 0]);
    }

    #[test]
    fn what_is_too_short_or_has_other_characters_is_none() {
        for text in ["resp_1", "file-../../etc", "gpt-4o-mini-2024", "resp_ 0123456789", ""] {
            assert_eq!(reference(text.as_bytes()), None, "{text}");
        }
    }
}

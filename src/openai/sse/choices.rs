//! Tracks which choices of a chat stream have begun and which have ended, to decide whether a
//! stream without `[DONE]` is complete.

use std::sync::LazyLock;

use memchr::memmem;
use serde_json::Value;

use super::line::Parts;

/// Most choices that are tracked; a stream with more is complete only with its terminal event.
const MOST: u64 = 64;

static FINISH: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"\"finish_reason\""));
static INDEX: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"index\""));

/// A bit set of choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choices {
    begun: u64,
    finished: u64,
}

impl Choices {
    /// Whether every choice that began has its last chunk.
    pub(super) fn are_finished(self) -> bool {
        self.begun != 0 && self.begun & !self.finished == 0
    }

    /// Whether a choice that began lacks its last chunk.
    pub(super) fn are_unfinished(self) -> bool {
        self.begun & !self.finished != 0
    }

    /// Records a chunk. Most belong to the first choice and are not its last, which is detected
    /// without parsing.
    pub(super) fn note(&mut self, data: Parts<'_>) {
        let data = data.head;
        if self.begun & 1 == 1 && !finishes(data) && first_index(data) == Some(0) {
            return;
        }
        // A chunk that can't be parsed to its end counts as far as it was parsed.
        let _: Option<()> = self.read(data);
    }

    fn read(&mut self, data: &[u8]) -> Option<()> {
        let chunk: Value = serde_json::from_slice(data).ok()?;
        for choice in chunk["choices"].as_array()? {
            let index = choice["index"].as_u64().unwrap_or(0).min(MOST - 1);
            self.begun |= 1 << index;
            if choice["finish_reason"].is_string() {
                self.finished |= 1 << index;
            }
        }
        Some(())
    }
}

/// Whether a chunk only announces a response: the role, content filter results of the prompt, or
/// nothing.
pub(super) fn is_announcement(data: Parts<'_>) -> bool {
    let Ok(chunk) = serde_json::from_slice::<Value>(data.head) else { return false };
    let Some(choices) = chunk["choices"].as_array() else { return false };
    chunk["usage"].is_null()
        && choices.iter().all(|choice| {
            let says = |part: &Value, except: &[&str]| match part.as_object() {
                Some(part) => {
                    part.iter().any(|(name, value)| !except.contains(&name.as_str()) && !is_blank(value))
                }
                None => !is_blank(part),
            };
            choice["finish_reason"].is_null()
                && !says(&choice["delta"], &["role"])
                && is_blank(&choice["text"])
                && is_blank(&choice["message"])
        })
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether it has a `finish_reason` other than null.
fn finishes(data: &[u8]) -> bool {
    FINISH.find_iter(data).any(|at| !value_at(data, at + FINISH.needle().len()).starts_with(b"null"))
}

/// The first `index`, which is normally the choice's.
fn first_index(data: &[u8]) -> Option<u64> {
    let at = INDEX.find(data)?;
    match value_at(data, at + INDEX.needle().len()) {
        [b'0', after, ..] if !after.is_ascii_digit() => Some(0),
        _ => None,
    }
}

fn value_at(data: &[u8], colon: usize) -> &[u8] {
    data.get(colon..)
        .unwrap_or_default()
        .trim_ascii_start()
        .strip_prefix(b":")
        .unwrap_or_default()
        .trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(chunks: &[&str]) -> Choices {
        let mut choices = Choices::default();
        for chunk in chunks {
            choices.note(Parts::of(chunk.as_bytes()));
        }
        choices
    }

    #[test]
    fn a_stream_is_whole_when_each_choice_that_began_has_its_reason() {
        let one = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
        let two = r#"{"choices":[{"delta":{"tool_calls":[{"index":3}]},"finish_reason":null,"index":1}]}"#;
        let end = |index: u32| {
            format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#)
        };
        let quoted = r#"{"choices":[{"index":0,"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}]}"#;
        for (chunks, finished) in [
            (&[][..], false),
            (&[one], false),
            (&[one, quoted], false),
            (&[one, &end(0)], true),
            (&[&end(0)], true),
            (&[one, two, &end(0)], false),
            (&[one, two, &end(0), &end(1)], true),
            (&[r#"{"choices":[]}"#], false),
            (&[r#"{"choices":[{"text":"a","finish_reason":"length"}]}"#], true),
            (&["{", "[DONE]", r#"{"choices":3}"#], false),
        ] {
            assert_eq!(after(chunks).are_finished(), finished, "{chunks:?}");
        }
    }

    #[test]
    fn an_announcement_has_nothing_that_a_caller_can_use() {
        for (chunk, announces) in [
            (r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#, true),
            (
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}"#,
                true,
            ),
            (r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}"#, false),
            (r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#, false),
            (r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#, false),
            (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, false),
            (r#"{"choices":[{"index":0,"text":"a"}]}"#, false),
            (r#"{"choices":[],"usage":{"total_tokens":1}}"#, false),
            (r#"{"type":"something"}"#, false),
            ("not json", false),
        ] {
            assert_eq!(is_announcement(Parts::of(chunk.as_bytes())), announces, "{chunk}");
        }
    }
}

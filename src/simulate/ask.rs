//! The members of a request's JSON that determine its cost and its response.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::settings::Charge;

/// The relevant members of a request to any endpoint with a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ask {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) max_tokens: Option<u64>,
    pub(super) max_completion_tokens: Option<u64>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) n: Option<u64>,
    pub(super) messages: Option<Text>,
    pub(super) prompt: Option<Text>,
    pub(super) input: Option<Text>,
    pub(super) instructions: Option<Text>,
    pub(super) tools: Option<Text>,
    pub(super) encoding_format: Option<String>,
    pub(super) dimensions: Option<usize>,
    pub(super) store: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) response_format: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

impl Ask {
    pub(super) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }

    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or_default()
    }

    pub(super) fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or_default()
    }

    /// The number of requested choices, at most the API's maximum of 128.
    pub(super) fn choices(&self) -> u64 {
        self.n.unwrap_or(1).clamp(1, 128)
    }

    pub(super) fn max_output(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens).or(self.max_output_tokens)
    }

    fn texts(&self) -> impl Iterator<Item = &Text> {
        [&self.messages, &self.prompt, &self.input, &self.instructions].into_iter().flatten()
    }

    /// The number of input tokens: one per four characters, and one per number of a token array.
    pub(super) fn input_tokens(&self) -> u64 {
        self.texts().map(|text| text.letters.div_ceil(4) + text.numbers).sum()
    }

    /// The number of chat messages.
    pub(super) fn message_count(&self) -> u64 {
        self.messages.as_ref().map_or(0, |messages| messages.elements)
    }

    /// The number of inputs of an embedding request.
    pub(super) fn input_count(&self) -> u64 {
        self.input.as_ref().map_or(0, |input| if input.flat_numbers() { 1 } else { input.elements.max(1) })
    }

    /// The tokens that the limiter charges: the input, `flat`, and output by the mode.
    pub(super) fn charged(&self, flat: u64, charge: Charge) -> u64 {
        let input = self.input_tokens() + flat;
        let output = || self.choices().saturating_mul(self.max_output().unwrap_or(16));
        match charge {
            Charge::Input => input,
            Charge::InputAndMax => input.saturating_add(output()),
            Charge::Larger => input.max(output()),
        }
    }
}

/// The amount of text in a string, content parts, messages or token arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Characters in strings.
    pub(super) letters: u64,
    /// Numbers in arrays.
    pub(super) numbers: u64,
    /// Elements of the outermost array; 1 for anything else.
    pub(super) elements: u64,
    /// Elements of the outermost array that are numbers.
    direct_numbers: u64,
    is_number: bool,
}

impl Text {
    fn flat_numbers(&self) -> bool {
        self.direct_numbers > 0 && self.direct_numbers == self.elements
    }

    fn number() -> Self {
        Self { numbers: 1, elements: 1, is_number: true, ..Self::default() }
    }
}

/// The members of objects that contain text for the model. Others (image URLs, ids, roles) are
/// free.
const TEXTUAL: [&str; 8] =
    ["text", "content", "input", "output", "arguments", "name", "description", "refusal"];

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text { letters: text.chars().count() as u64, elements: 1, ..Text::default() })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text::number())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text::number())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text::number())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text { elements: 1, ..Text::default() })
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text { elements: 1, ..Text::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Text, A::Error> {
        let mut all = Text::default();
        while let Some(value) = values.next_element::<Text>()? {
            all.letters += value.letters;
            all.numbers += value.numbers;
            all.elements += 1;
            all.direct_numbers += u64::from(value.is_number);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Text, A::Error> {
        let mut all = Text { elements: 1, ..Text::default() };
        while let Some(name) = members.next_key::<std::borrow::Cow<'_, str>>()? {
            if TEXTUAL.contains(&&*name) {
                let value: Text = members.next_value()?;
                all.letters += value.letters;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: &str) -> Ask {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn text_is_counted_in_every_form() {
        let chat = ask(r#"{"model":"m","messages":[{"role":"user","content":"12345678"},
            {"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"x"}}]}]}"#);
        assert_eq!((chat.input_tokens(), chat.message_count()), (3, 2));
        for (json, inputs, tokens) in [
            (r#"{"input":"12345678"}"#, 1, 2),
            (r#"{"input":["1234","1234"]}"#, 2, 2),
            (r#"{"input":[1,2,3]}"#, 1, 3),
            (r#"{"input":[[1,2],[3]]}"#, 2, 3),
            (r#"{"input":[]}"#, 1, 0),
            (r#"{"input":"äöüß"}"#, 1, 1),
        ] {
            assert_eq!((ask(json).input_count(), ask(json).input_tokens()), (inputs, tokens), "{json}");
        }
    }

    #[test]
    fn the_charge_follows_the_mode() {
        let chat = ask(r#"{"messages":[{"content":"12345678"}],"max_tokens":100,"n":2}"#);
        assert_eq!(chat.charged(3, Charge::Input), 5);
        assert_eq!(chat.charged(3, Charge::InputAndMax), 205);
        assert_eq!(chat.charged(3, Charge::Larger), 200);
        let plain = ask(r#"{"messages":[{"content":"12345678"}]}"#);
        assert_eq!(plain.charged(3, Charge::InputAndMax), 21);
        let huge = ask(r#"{"max_tokens":18446744073709551615,"n":128}"#);
        assert_eq!(huge.charged(0, Charge::InputAndMax), u64::MAX);
    }

    #[test]
    fn the_recorded_charge_of_a_chat_comes_out() {
        // Recorded: 7,243 characters and max_tokens 100 were charged 1,814 tokens.
        let chat =
            ask(&format!(r#"{{"messages":[{{"content":"{}"}}],"max_tokens":100}}"#, "a".repeat(7_243)));
        assert_eq!(chat.charged(chat.message_count() + 2, Charge::Input), 1_814);
    }
}

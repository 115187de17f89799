//! The codes and words that identify errors, in all known dialects: the rows of `words.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use super::ErrorClass;
use crate::openai::ErrorBody;

/// The tables of `words.toml`, which documents them.
#[derive(Deserialize)]
pub(super) struct Tables {
    pub(super) quota_codes: Vec<(ErrorClass, Vec<String>)>,
    pub(super) quota_words: Vec<(String, ErrorClass)>,
    pub(super) one_request_words: Vec<String>,
    pub(super) slow_down_codes: Vec<String>,
    pub(super) concurrency_words: Vec<String>,
    pub(super) queue_words: Vec<String>,
    pub(super) capacity_words: Vec<String>,
    pub(super) overload_codes: Vec<String>,
    pub(super) overload_words: Vec<String>,
    pub(super) rate_limit_codes: Vec<String>,
    pub(super) rate_limit_words: Vec<String>,
    pub(super) hidden_limit_words: Vec<String>,
    pub(super) model_codes: Vec<String>,
    pub(super) missing_words: Vec<String>,
    pub(super) region_codes: Vec<String>,
    pub(super) region_words: Vec<String>,
    pub(super) context_codes: Vec<String>,
    pub(super) context_words: Vec<String>,
    pub(super) websocket_codes: Vec<(ErrorClass, Vec<String>)>,
    pub(super) key_codes: Vec<(ErrorClass, Vec<String>)>,
    pub(super) key_words: Vec<(String, ErrorClass)>,
    pub(super) statuses: Vec<(u16, Vec<String>)>,
}

/// All tables.
pub(super) static TABLES: LazyLock<Tables> =
    LazyLock::new(|| toml::from_str(include_str!("words.toml")).expect("it is valid, as every test shows"));

/// A message's text in lower case, without quoted parts.
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(body: &ErrorBody) -> Self {
        let mut text = body.masked().unwrap_or_default();
        // A type with several words ("INSUFFICIENT QUOTA") is treated like a message.
        if let Some(kind) = body.kind.as_deref().filter(|kind| kind.contains(' ')) {
            text.push_str(". ");
            text.push_str(kind);
        }
        text.make_ascii_lowercase();
        Self(text)
    }

    /// Whether the message contains `text`, which is lower case.
    pub(super) fn say(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    pub(super) fn say_any(&self, texts: &[impl AsRef<str>]) -> bool {
        texts.iter().any(|text| self.say(text.as_ref()))
    }

    /// The class of the first row whose words the message contains.
    pub(super) fn find(&self, rows: &[(String, ErrorClass)]) -> Option<ErrorClass> {
        rows.iter().find(|(words, _)| self.say(words)).map(|(_, class)| *class)
    }
}

/// The class of the first row that contains the error's code or type.
pub(super) fn by_code(body: &ErrorBody, rows: &[(ErrorClass, Vec<String>)]) -> Option<ErrorClass> {
    rows.iter().find(|(_, codes)| body.is_named(codes)).map(|(class, _)| *class)
}

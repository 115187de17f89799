//! What is kept of an error's body: never more than the privacy rule allows.

use crate::telemetry::masked;

/// An error's body, as far as it is kept: the message is masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorDetail {
    /// The message, masked unless configured otherwise.
    pub message: String,
    /// `type`.
    pub kind: Option<String>,
    /// `code`.
    pub code: Option<String>,
    /// `param`.
    pub param: Option<String>,
}

/// Characters of a code, type or param that are kept.
const MAX_WORD: usize = 64;

impl ErrorDetail {
    /// Keeps an error's body with its message masked and the rest cut to 64 characters.
    pub fn masked(
        message: Option<&str>,
        kind: Option<&str>,
        code: Option<&str>,
        param: Option<&str>,
    ) -> Self {
        let word = |word: &str| word.chars().filter(|part| !part.is_control()).take(MAX_WORD).collect();
        Self {
            message: message.map(masked).unwrap_or_default(),
            kind: kind.map(word),
            code: code.map(word),
            param: param.map(word),
        }
    }
}

//! What is kept of an error's body: never more than the privacy rule allows.

use std::net::IpAddr;

use crate::telemetry::{masked, without_keys};

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
    /// Where the request came from: kept of callers that are not known otherwise.
    pub peer: Option<IpAddr>,
    /// The path, where the upstream did not know it.
    pub path: Option<String>,
}

/// Characters of a code, type or param that are kept.
const MAX_WORD: usize = 64;
/// Characters of a path that are kept.
const MAX_PATH: usize = 128;

impl ErrorDetail {
    /// Keeps an error's body with its message masked and the rest cut to 64 characters.
    pub fn masked(
        message: Option<&str>,
        kind: Option<&str>,
        code: Option<&str>,
        param: Option<&str>,
    ) -> Self {
        Self::of(message, kind, code, param, true)
    }

    /// A path as it is kept: a key in it is masked, and what is long is cut.
    pub fn path_of(path: &str) -> String {
        without_keys(path).chars().filter(|part| !part.is_control()).take(MAX_PATH).collect()
    }

    /// Keeps an error's body; its message masked, or only without keys.
    pub fn of(
        message: Option<&str>,
        kind: Option<&str>,
        code: Option<&str>,
        param: Option<&str>,
        mask: bool,
    ) -> Self {
        let shown = if mask { masked } else { without_keys };
        let word = |word: &str| word.chars().filter(|part| !part.is_control()).take(MAX_WORD).collect();
        Self {
            message: message.map(shown).unwrap_or_default(),
            kind: kind.map(word),
            code: code.map(word),
            param: param.map(word),
            peer: None,
            path: None,
        }
    }
}

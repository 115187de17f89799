//! The stored part of an error's body, limited by the privacy rules.

use std::net::IpAddr;

use crate::telemetry::{masked, without_keys};

/// The stored part of an error's body; the message is masked.
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
    /// The client's address: stored for unknown callers, who have no other identity.
    pub peer: Option<IpAddr>,
    /// The path, if the upstream does not know it.
    pub path: Option<String>,
}

/// Most characters stored of a code, type or param.
const MAX_WORD: usize = 64;
/// Most characters stored of a path.
const MAX_PATH: usize = 128;

impl ErrorDetail {
    /// Stores an error's body with its message masked and the rest cut to 64 characters.
    pub fn masked(
        message: Option<&str>,
        kind: Option<&str>,
        code: Option<&str>,
        param: Option<&str>,
    ) -> Self {
        Self::of(message, kind, code, param, true)
    }

    /// A path in its stored form: keys are masked and the length is limited.
    pub fn path_of(path: &str) -> String {
        without_keys(path).chars().filter(|part| !part.is_control()).take(MAX_PATH).collect()
    }

    /// Stores an error's body. The message is masked, or only its keys are.
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

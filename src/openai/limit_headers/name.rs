//! The names of limit headers: each vendor combines the same few words in another order.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::{Part, Unit};
use crate::openai::decimal;

/// The property of a limit that a header contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The limit itself.
    Limit,
    /// The remaining amount.
    Remaining,
    /// When the limit is fully restored.
    Reset,
    /// The seconds of its window (Azure).
    Renewal,
}

/// The limit that a header is about. Headers with the same key describe the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) unit: Unit,
    pub(super) part: Part,
    pub(super) window: Option<Duration>,
    /// A hash of the words that name the limit's owner: `LiteLLM`'s `api_key` and `team`, an API
    /// gateway's instance.
    pub(super) owner: u64,
}

impl Key {
    /// All of a unit, over an unknown window.
    fn of(unit: Unit) -> Self {
        Self { unit, part: Part::Whole, window: None, owner: 0 }
    }
}

/// The prefixes of limit headers, each with the unit to use if the rest of the name has none.
///
/// OpenAI, Azure, Groq, Mistral, Cerebras, OpenRouter, Together and the IETF's drafts 3 to 6 use
/// the first four; Together counts tokens under the fifth, Mistral's gateway under the next two,
/// APISIX and Kong under the eighth; Cohere counts calls under the last.
const PREFIXES: [(&str, Unit); 9] = [
    ("x-ratelimit-", Unit::Requests),
    ("x-rate-limit-", Unit::Requests),
    ("anthropic-ratelimit-", Unit::Requests),
    ("ratelimit-", Unit::Requests),
    ("x-tokenlimit-", Unit::Tokens),
    ("x-ratelimitbysize-", Unit::Tokens),
    ("ratelimitbysize-", Unit::Tokens),
    (OF_INSTANCES, Unit::Tokens),
    ("x-trial-endpoint-call-", Unit::Requests),
];

/// The prefix after which any word names an instance.
const OF_INSTANCES: &str = "x-ai-ratelimit-";

/// Words that name a limit's owner, each of which `LiteLLM` counts separately.
const OWNERS: [&str; 6] = ["api_key", "user", "team", "end_user", "organization", "model_per_key"];
/// The upstream chooses the owners' names, and they are compared only within one response, so no
/// seed is needed.
const OWNER_HASH: FixedState = FixedState::with_seed(0);

/// Parses a lower-case header name; `None` for other headers, and for limits of neither requests
/// nor tokens.
pub(super) fn read(name: &str) -> Option<(Key, Field)> {
    // Most headers of a response are skipped here.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'r' | b'a')) {
        return None;
    }
    if let Some(found) = usual(name) {
        return Some(found);
    }
    let (words, unit) =
        PREFIXES.iter().find_map(|(prefix, unit)| Some((name.strip_prefix(prefix)?, *unit)))?;
    let names_instances = name.starts_with(OF_INSTANCES);
    let (mut key, mut field) = (Key::of(unit), None);
    for word in words.split('-') {
        match word {
            "limit" => field = Some(Field::Limit),
            "remaining" => field = Some(Field::Remaining),
            "reset" => field = Some(Field::Reset),
            "renewalperiod" => field = Some(Field::Renewal),
            "requests" | "request" | "req" => key.unit = Unit::Requests,
            "tokens" | "token" => key.unit = Unit::Tokens,
            "input" | "prompt" => key.part = Part::Input,
            "output" | "generated" => key.part = Part::Output,
            "project" => key.part = Part::Project,
            word => match window(word).or_else(|| seconds(word).filter(|_| names_instances)) {
                Some(window) => key.window = Some(window),
                None if names_instances || OWNERS.contains(&word) => {
                    key.owner = key.owner.wrapping_add(OWNER_HASH.hash_one(word));
                }
                None => return None,
            },
        }
    }
    Some((key, field?))
}

/// The six most common names, without parsing each word.
fn usual(name: &str) -> Option<(Key, Field)> {
    let (unit, field) = match name.strip_prefix("x-ratelimit-")? {
        "limit-requests" => (Unit::Requests, Field::Limit),
        "remaining-requests" => (Unit::Requests, Field::Remaining),
        "reset-requests" => (Unit::Requests, Field::Reset),
        "limit-tokens" => (Unit::Tokens, Field::Limit),
        "remaining-tokens" => (Unit::Tokens, Field::Remaining),
        "reset-tokens" => (Unit::Tokens, Field::Reset),
        _ => return None,
    };
    Some((Key::of(unit), field))
}

/// A window in seconds (Kong).
fn seconds(word: &str) -> Option<Duration> {
    decimal::whole(word.as_bytes()).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// A window by its name; a month has thirty days.
fn window(word: &str) -> Option<Duration> {
    Some(match word {
        "second" | "1s" => Duration::from_secs(1),
        "minute" | "1m" => Duration::from_mins(1),
        "hour" | "1h" => Duration::from_hours(1),
        "day" | "1d" => Duration::from_hours(24),
        "month" => Duration::from_hours(30 * 24),
        _ => return None,
    })
}

//! The names of limit headers: every vendor orders the same few words in its own way.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::{Part, Unit};
use crate::openai::decimal;

/// What a limit header tells of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The limit itself.
    Limit,
    /// What is left of it.
    Remaining,
    /// When it is whole again.
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
    /// A hash of the words that tell limits of one kind apart by their owners: `LiteLLM`'s
    /// `api_key` and `team`, the instance of an API gateway.
    pub(super) owner: u64,
}

impl Key {
    /// All of a unit, over a window that the name does not tell.
    fn of(unit: Unit) -> Self {
        Self { unit, part: Part::Whole, window: None, owner: 0 }
    }
}

/// How the names of limit headers begin, each with the unit where the rest of the name has none.
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

/// The prefix behind which any word names an instance.
const OF_INSTANCES: &str = "x-ai-ratelimit-";

/// Words that name whose limit it is: `LiteLLM` counts each of its own.
const OWNERS: [&str; 6] = ["api_key", "user", "team", "end_user", "organization", "model_per_key"];
/// The upstream names owners, and they are compared within one answer only: no seed is needed.
const OWNER_HASH: FixedState = FixedState::with_seed(0);

/// What the header of this (lower-case) name tells of which limit; nothing for any other header,
/// and for limits on what is neither requests nor tokens.
pub(super) fn read(name: &str) -> Option<(Key, Field)> {
    // Nearly every header of an answer ends here.
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

/// The six names that nearly all answers bear, without a look at each word.
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

/// A window of a number of seconds (Kong).
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

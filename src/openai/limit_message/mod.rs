//! The grammar of a 429's message: which limit, its level, and how long to wait.

mod wait;
mod words;

use std::time::Duration;

use crate::label::names;

use super::{ErrorBody, retry_hint};
pub use wait::{moment, wait};
use words::{Word, cut, unit_of_time};

names! {
    /// A dimension that the API limits.
    #[derive(Default)]
    Dimension {
        /// RPM.
        RequestsPerMinute = "requests_per_minute",
        /// TPM.
        TokensPerMinute = "tokens_per_minute",
        /// RPD.
        RequestsPerDay = "requests_per_day",
        /// TPD.
        TokensPerDay = "tokens_per_day",
        /// IPM.
        ImagesPerMinute = "images_per_minute",
        /// Seconds or minutes of audio per minute.
        AudioPerMinute = "audio_per_minute",
        /// One that the list does not know.
        #[default]
        Other = "other",
    }
}

/// What a dimension counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// Something else.
    Other,
}

/// What a 429's message says of the limit that refused the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitRefusal {
    /// The dimension that is full.
    pub dimension: Dimension,
    /// The limit, in the dimension's unit; nothing where the message names none.
    pub limit: Option<u64>,
    /// How much of it was used.
    pub used: Option<u64>,
    /// What the request would have taken.
    pub requested: Option<u64>,
    /// How long the message says to wait.
    pub wait: Option<Duration>,
    /// The limit's window, where the message names one: by a word ("per day", "RPM") or a number
    /// ("per 86400s").
    pub window: Option<Duration>,
    /// The request is larger than the limit: it can never pass.
    pub too_large: bool,
    /// The limit is that of long contexts, which the model keeps apart from its others: no header
    /// tells of it.
    pub long_context: bool,
}

impl Dimension {
    /// What the dimension counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
            Self::ImagesPerMinute | Self::AudioPerMinute | Self::Other => Unit::Other,
        }
    }

    /// The window that the name promises. The true one may differ: free tiers have had a month
    /// behind "per min".
    pub const fn window(self) -> Duration {
        match self {
            Self::RequestsPerMinute
            | Self::TokensPerMinute
            | Self::ImagesPerMinute
            | Self::AudioPerMinute
            | Self::Other => Duration::from_mins(1),
            Self::RequestsPerDay | Self::TokensPerDay => Duration::from_hours(24),
        }
    }

    /// The dimension of a unit over a window: what lasts half a day or more is a day's.
    fn of(unit: Unit, window: Option<Duration>) -> Self {
        let day = window.is_some_and(|window| window >= Duration::from_hours(12));
        match (unit, day) {
            (Unit::Tokens, false) => Self::TokensPerMinute,
            (Unit::Tokens, true) => Self::TokensPerDay,
            (Unit::Requests, false) => Self::RequestsPerMinute,
            (Unit::Requests, true) => Self::RequestsPerDay,
            (Unit::Other, _) => Self::Other,
        }
    }
}

/// What a message says of a limit without a number.
const PHRASES: [&str; 13] = [
    "rate limit",
    "ratelimit",
    "rate_limit",
    "rate-limit",
    "rate limiting",
    "limit exceeded",
    "limit is exceeded",
    "limit reached",
    "too many tokens",
    "out of call volume quota",
    "quota exceeded",
    "usage limit",
    "free allocation",
];

/// Reads the message of a refusal; nothing if it speaks of no limit.
///
/// `kind` is the error's type. Letter case and parentheses are of no account. Known forms: "Rate
/// limit reached for M in organization O on tokens per min (TPM): Limit L, Used U, Requested R.
/// Please try again in D.", "Request too large for M ...: Limit L, Requested R.", the dialects of
/// 2023 ("Limit: 10000 / min.", "Limit: 60.000000 / min. Current: 100.000000 / min."), Azure's
/// "have exceeded token rate limit ... Please retry after N seconds.", Moonshot's "request reached
/// organization TPD rate limit, current: U, limit: L" and "max RPM: L", GitHub's "Rate limit of L
/// per 86400s exceeded", Cohere's "limited to L API calls / minute".
pub fn parse(message: &str, kind: Option<&str>) -> Option<LimitRefusal> {
    let lower = message.to_ascii_lowercase();
    let words = cut(&lower);
    let limit = (number_after(&words, "limit").or_else(|| number_after_most(&words)))
        .or_else(|| number_of_rate(&words));
    let too_large = lower.contains("request too large");
    let (named, mut window) = unit_and_window(&words);
    let speaks_of_one = PHRASES.iter().any(|phrase| lower.contains(phrase));
    if !(too_large || limit.is_some() || speaks_of_one || is_acronym(&words)) {
        return None;
    }
    let of_kind = match kind {
        Some("tokens") => Some(Unit::Tokens),
        Some("requests") => Some(Unit::Requests),
        Some(_) | None => None,
    };
    let named = named.or_else(|| of_kind.filter(|_| !says(&words, &["images", "ipm"])));
    let dimension = match named.or_else(|| limit.and_then(|_| beside_a_number(&words))) {
        Some(unit) => Dimension::of(unit, window),
        None if says(&words, &["images", "image", "ipm"]) => Dimension::ImagesPerMinute,
        None if says(&words, &["audio"]) => Dimension::AudioPerMinute,
        // "Rate limit of 150 per 86400s" counts requests: nothing else is limited without being
        // named.
        None if limit.is_some() && window.is_some() => Dimension::of(Unit::Requests, window),
        None => Dimension::Other,
    };
    let used = ["used", "current", "actual"].iter().find_map(|label| number_after(&words, label));
    let requested = number_after(&words, "requested");
    if let (None, Unit::Requests | Unit::Tokens, true) = (window, dimension.unit(), used.is_some()) {
        // The API's own form without a window in its words is by the minute.
        window = Some(dimension.window());
    }
    let wait = wait(message).filter(|wait| {
        limit.is_some() || window.is_some_and(|window| *wait <= window * 10) || !is_a_day(*wait)
    });
    Some(LimitRefusal {
        dimension,
        limit,
        used,
        requested,
        wait,
        window,
        too_large: too_large
            || limit.zip(requested).is_some_and(|(limit, requested)| requested > limit && limit > 0),
        long_context: lower.contains("long-context)") || lower.contains("long context)"),
    })
}

/// What a body says of the limit that refused: its message, and fields beside it (Google's quota,
/// OpenRouter's headers). Nothing if it speaks of no limit.
pub fn of_body(body: &ErrorBody) -> Option<LimitRefusal> {
    let hints = &body.hints;
    let told = body.message.as_deref().and_then(|message| parse(message, body.kind.as_deref()));
    if hints.window.is_none() && hints.limit.is_none() {
        return told;
    }
    let told = told.unwrap_or_default();
    let window = hints.window.or(told.window);
    // A number beside which no unit stands counts requests.
    let unit = hints
        .unit
        .or(Some(told.dimension.unit()).filter(|unit| *unit != Unit::Other))
        .unwrap_or(Unit::Requests);
    let limit = hints.limit.or(told.limit);
    let used = told.used.or_else(|| limit?.checked_sub(hints.remaining?));
    Some(LimitRefusal { dimension: Dimension::of(unit, window), limit, used, window, ..told })
}

/// Whether a wait is a whole day: Azure has said "86400 seconds" of a limit that renews every
/// minute.
pub(crate) fn is_a_day(wait: Duration) -> bool {
    wait == Duration::from_hours(24)
}

/// What the limit counts and over which window: by "tokens per min", then by an acronym (TPM, RPD),
/// then by what of it other words tell ("call rate limit", "60 / min", "per 10 seconds", "daily").
fn unit_and_window(words: &[Word<'_>]) -> (Option<Unit>, Option<Duration>) {
    let (mut unit, mut window) = (None, None);
    for at in 0..words.len() {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        match &words[at..] {
            [Word::Text("per" | "every") | Word::Bind, rest @ ..] => {
                let Some(over) =
                    time_at(rest).filter(|over| !over.is_zero() && *over <= retry_hint::MAX_HINT)
                else {
                    continue;
                };
                match before.and_then(of_noun) {
                    Some(noun) => return (Some(noun), Some(over)),
                    None => window = window.or(Some(over)),
                }
            }
            [noun, Word::Text("in" | "within" | "each" | "a" | "an"), rest @ ..] => {
                if let (Some(noun), Some(over)) = (of_noun(noun), time_at(rest)) {
                    return (Some(noun), Some(over));
                }
            }
            [Word::Text("limit"), Word::Text("reached" | "exceeded"), Word::Text("for"), rest @ ..] => {
                window = window.or_else(|| time_at(rest));
            }
            [Word::Text("daily"), ..] => window = window.or(Some(Duration::from_hours(24))),
            [Word::Text(word @ ("hourly" | "weekly" | "monthly")), ..] => {
                window = window.or_else(|| unit_of_time(word.strip_suffix("ly")?));
            }
            [noun, Word::Text("rate"), Word::Text("limit" | "limiting"), ..]
            | [noun, Word::Text("limit"), ..]
            | [noun, Word::Text("volume"), Word::Text("quota"), ..] => unit = unit.or_else(|| of_noun(noun)),
            [Word::Text("too"), Word::Text("many"), Word::Text("tokens"), ..] => {
                unit = unit.or(Some(Unit::Tokens));
            }
            _ => {}
        }
    }
    let acronym = words.iter().find_map(|word| match word {
        Word::Text(text) => acronym(text),
        Word::Number(_) | Word::Bind | Word::Stop => None,
    });
    acronym.map_or((unit, window), |(unit, window)| (Some(unit), Some(window)))
}

/// The time at the start of some words: `day`, `86400 s`.
fn time_at(words: &[Word<'_>]) -> Option<Duration> {
    match words {
        [Word::Text(name), ..] => unit_of_time(name),
        [Word::Number(Some(count)), Word::Text(name), ..] => {
            Duration::try_from_secs_f64(unit_of_time(name)?.as_secs_f64() * count).ok()
        }
        _ => None,
    }
}

/// The unit and the window of TPM, RPD and their kin.
fn acronym(word: &str) -> Option<(Unit, Duration)> {
    let unit = match word.as_bytes().first()? {
        b't' => Unit::Tokens,
        b'r' | b'q' => Unit::Requests,
        _ => return None,
    };
    let window = match word.get(1..)? {
        "ps" => Duration::from_secs(1),
        "pm" => Duration::from_mins(1),
        "ph" => Duration::from_hours(1),
        "pd" => Duration::from_hours(24),
        _ => return None,
    };
    Some((unit, window))
}

fn is_acronym(words: &[Word<'_>]) -> bool {
    words.iter().any(|word| matches!(word, Word::Text(text) if acronym(text).is_some()))
}

fn of_noun(word: &Word<'_>) -> Option<Unit> {
    match word {
        Word::Text("token" | "tokens") => Some(Unit::Tokens),
        Word::Text("request" | "requests" | "call" | "calls" | "queries") => Some(Unit::Requests),
        Word::Text(_) | Word::Number(_) | Word::Bind | Word::Stop => None,
    }
}

/// The noun within a few words of a limit's number.
fn beside_a_number(words: &[Word<'_>]) -> Option<Unit> {
    let at = words.iter().position(|word| matches!(word, Word::Text("limit")))?;
    let near = &words[at.saturating_sub(6)..(at + 8).min(words.len())];
    let unit = |wanted: Unit| near.iter().any(|word| of_noun(word) == Some(wanted)).then_some(wanted);
    unit(Unit::Tokens).or_else(|| unit(Unit::Requests))
}

fn says(words: &[Word<'_>], any: &[&str]) -> bool {
    words.iter().any(|word| matches!(word, Word::Text(text) if any.contains(text)))
}

/// The number behind a label: `Limit 10000`, `limit: 1,500,000`, `Limit: 60.000000 / min`, `rate
/// limit of 150`. A label without its number is a word of the sentence: the next one is looked at.
fn number_after(words: &[Word<'_>], label: &str) -> Option<u64> {
    if let Some(number) = number_of_pair(words, label) {
        return whole(number);
    }
    let labels = words.iter().enumerate().filter(|(_, word)| **word == Word::Text(label));
    labels
        .map(|(at, _)| &words[at + 1..])
        .find_map(|rest| match rest {
            [Word::Number(number), ..]
            | [Word::Bind | Word::Text("of" | "is" | "usage"), Word::Number(number), ..]
            | [Word::Text("is" | "usage"), Word::Bind, Word::Number(number), ..] => Some(*number),
            _ => None,
        })?
        .and_then(whole)
}

/// The number of a label in "(actual/limit): 65605/16000" (xAI).
fn number_of_pair(words: &[Word<'_>], label: &str) -> Option<f64> {
    words.windows(7).find_map(|pair| match pair {
        [
            Word::Text(one),
            Word::Bind,
            Word::Text(other),
            Word::Bind,
            Word::Number(first),
            Word::Bind,
            Word::Number(second),
        ] => match label {
            label if label == *one => *first,
            label if label == *other => *second,
            _ => None,
        },
        _ => None,
    })
}

/// The number of "max RPM: 20", "maximum requests per minute: 20".
fn number_after_most(words: &[Word<'_>]) -> Option<u64> {
    let most = words.iter().position(|word| matches!(word, Word::Text("max" | "maximum")))?;
    let near = words.get(most + 1..(most + 6).min(words.len()))?;
    // Of tokens or requests over a time only: "max concurrency: 3" bounds something else.
    if near.iter().all(|word| of_noun(word).is_none()) && !is_acronym(near) {
        return None;
    }
    near.windows(2)
        .find_map(|pair| match pair {
            [Word::Bind | Word::Text("of" | "is"), Word::Number(number)] => Some(*number),
            _ => None,
        })?
        .and_then(whole)
}

/// The number of "limited to 10 API calls / minute", "at most 5 requests in 10 seconds", "only 60
/// RPM", "5 per 1 minute": a count over a time, in a message that says that more is not taken.
fn number_of_rate(words: &[Word<'_>]) -> Option<u64> {
    if !says(
        words,
        &["limit", "limits", "limited", "allow", "allows", "allowed", "max", "maximum", "most", "only"],
    ) {
        return None;
    }
    words.iter().enumerate().find_map(|(at, word)| {
        let Word::Number(Some(number)) = *word else { return None };
        let rest = &words[at + 1..];
        let noun = rest.iter().take(3).position(|word| of_noun(word).is_some());
        let is_rate = match (noun.map(|noun| &rest[noun + 1..]), rest) {
            (
                Some(
                    [
                        Word::Text("per" | "every" | "in" | "within" | "each" | "a" | "an") | Word::Bind,
                        time @ ..,
                    ],
                ),
                _,
            )
            // A count without a noun is of requests.
            | (None, [Word::Text("per") | Word::Bind, time @ ..]) => time_at(time).is_some(),
            (None, [Word::Text(text), ..]) => acronym(text).is_some(),
            _ => false,
        };
        is_rate.then(|| whole(number))?
    })
}

/// A count as a whole number; nothing where it is no count.
fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests;

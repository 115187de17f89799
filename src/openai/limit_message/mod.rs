//! The grammar of a 429's message: the limit, its level, and the time to wait.

mod numbers;
mod wait;
mod window;
mod words;

pub(super) use words::unit_of_time;

use std::time::Duration;

use crate::label::names;

use super::ErrorBody;
use numbers::{number_after, number_after_most, number_of_rate, spent_of_several};
pub use wait::{moment, wait};
use window::{is_acronym, of_noun, unit_and_window, window_in_chinese};
use words::{Word, cut};

names! {
    /// A kind of limit of the API.
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
        /// An unknown kind.
        #[default]
        Other = "other",
    }
}

/// The unit of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// Something else.
    Other,
}

/// The information in a 429's message about the limit that refused the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitRefusal {
    /// The kind of limit.
    pub dimension: Dimension,
    /// The limit, in its unit, if the message contains it.
    pub limit: Option<u64>,
    /// The amount used.
    pub used: Option<u64>,
    /// The amount that the request needs.
    pub requested: Option<u64>,
    /// The time to wait.
    pub wait: Option<Duration>,
    /// The limit's window, if the message contains one: a word ("per day", "RPM") or a number ("per
    /// 86400s").
    pub window: Option<Duration>,
    /// Whether the request is larger than the limit and can never pass.
    pub too_large: bool,
    /// Whether it is the limit of long contexts, which is separate from the model's others and in
    /// no header.
    pub long_context: bool,
}

impl Dimension {
    /// The unit of the limit.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
            Self::ImagesPerMinute | Self::AudioPerMinute | Self::Other => Unit::Other,
        }
    }

    /// The window in the name. The real one may differ: on free tiers "per min" was a month.
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

    /// The kind of limit of a unit and window: half a day or more counts as daily.
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

/// Phrases for a limit without a number.
const PHRASES: [&str; 15] = [
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
    // Chinese for a usage limit, and for a quota.
    "使用上限",
    "限额",
];

/// Parses the message of a refusal; `None` if it is not about a limit.
///
/// `kind` is the error's type. Letter case and parentheses are ignored. Known forms: "Rate limit
/// reached for M in organization O on tokens per min (TPM): Limit L, Used U, Requested R. Please
/// try again in D.", "Request too large for M ...: Limit L, Requested R.", the dialects of 2023
/// ("Limit: 10000 / min.", "Limit: 60.000000 / min. Current: 100.000000 / min."), Azure's "have
/// exceeded token rate limit ... Please retry after N seconds.", Moonshot's "request reached
/// organization TPD rate limit, current: U, limit: L" and "max RPM: L", GitHub's "Rate limit of L
/// per 86400s exceeded", Cohere's "limited to L API calls / minute".
pub fn parse(message: &str, kind: Option<&str>) -> Option<LimitRefusal> {
    let lower = message.to_ascii_lowercase();
    let words = cut(&lower);
    let spent = spent_of_several(&words);
    let limit = (spent.map(|spent| spent.limit))
        .or_else(|| number_after(&words, "limit").or_else(|| number_after_most(&words)))
        .or_else(|| number_of_rate(&words));
    let too_large = lower.contains("request too large");
    let (named, mut window) = unit_and_window(&words);
    window = spent.map(|spent| spent.window).or(window).or_else(|| window_in_chinese(&lower));
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
        // "Rate limit of 150 per 86400s" counts requests: limits of anything else name it.
        None if limit.is_some() && window.is_some() => Dimension::of(Unit::Requests, window),
        None => Dimension::Other,
    };
    let labelled = || ["used", "current", "actual"].iter().find_map(|label| number_after(&words, label));
    let used = spent.map(|spent| spent.used).or_else(labelled);
    let requested = number_after(&words, "requested");
    if let (None, Unit::Requests | Unit::Tokens, true) = (window, dimension.unit(), used.is_some()) {
        // The API's own form without a window means a minute.
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

/// The limit that refused, from a body's message and fields (Google's quota, OpenRouter's headers);
/// `None` if it is not about a limit.
pub fn of_body(body: &ErrorBody) -> Option<LimitRefusal> {
    let hints = &body.hints;
    let told = body.message.as_deref().and_then(|message| parse(message, body.kind.as_deref()));
    if hints.window.is_none() && hints.limit.is_none() {
        return told;
    }
    let told = told.unwrap_or_default();
    let window = hints.window.or(told.window);
    // A number without a unit counts requests.
    let unit = hints
        .unit
        .or(Some(told.dimension.unit()).filter(|unit| *unit != Unit::Other))
        .unwrap_or(Unit::Requests);
    let limit = hints.limit.or(told.limit);
    let used = told.used.or_else(|| limit?.checked_sub(hints.remaining?));
    Some(LimitRefusal { dimension: Dimension::of(unit, window), limit, used, window, ..told })
}

/// Whether a wait is exactly a day: Azure has sent "86400 seconds" for a limit that renews every
/// minute.
pub(crate) fn is_a_day(wait: Duration) -> bool {
    wait == Duration::from_hours(24)
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

#[cfg(test)]
mod tests;

//! The grammar of a 429's message: which limit, its level, and how long to wait.

use std::time::Duration;

use super::duration;

/// A dimension that the API limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// RPM.
    RequestsPerMinute,
    /// TPM.
    TokensPerMinute,
    /// RPD.
    RequestsPerDay,
    /// TPD.
    TokensPerDay,
    /// IPM.
    ImagesPerMinute,
    /// Seconds or minutes of audio per minute.
    AudioPerMinute,
    /// One that the list does not know.
    Other,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The request is larger than the limit: it can never pass.
    pub too_large: bool,
    /// The limit is that of long contexts, which the model keeps apart from its others: no header tells of it.
    pub long_context: bool,
}

impl Dimension {
    /// Every dimension, in the order of the metrics.
    pub const ALL: [Self; 7] = [
        Self::RequestsPerMinute,
        Self::TokensPerMinute,
        Self::RequestsPerDay,
        Self::TokensPerDay,
        Self::ImagesPerMinute,
        Self::AudioPerMinute,
        Self::Other,
    ];

    /// The dimension's name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerDay => "tokens_per_day",
            Self::ImagesPerMinute => "images_per_minute",
            Self::AudioPerMinute => "audio_per_minute",
            Self::Other => "other",
        }
    }

    /// What the dimension counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
            Self::ImagesPerMinute | Self::AudioPerMinute | Self::Other => Unit::Other,
        }
    }

    /// The window that the name promises. The true one may differ: free tiers have had a month behind "per min".
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

    /// The dimension's place in [`Dimension::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The dimension that a message is about. `kind` is the error's type (`tokens`, `requests`), for messages that name none.
    fn of(message: &str, kind: Option<&str>) -> Self {
        let says = |phrases: [&str; 4]| phrases.iter().any(|phrase| message.contains(phrase));
        let day = message.contains("per day") || message.contains("(TPD)") || message.contains("(RPD)");
        let unit = if says(["tokens per", "token rate limit", "(TPM)", "(TPD)"]) {
            Unit::Tokens
        } else if says(["requests per", "call rate limit", "(RPM)", "(RPD)"]) {
            Unit::Requests
        } else if says(["images per", "input-images", "image per", "(IPM)"]) {
            return Self::ImagesPerMinute;
        } else if message.contains("audio") {
            return Self::AudioPerMinute;
        } else {
            match kind {
                Some("tokens") => Unit::Tokens,
                Some("requests") => Unit::Requests,
                Some(_) | None => Unit::Other,
            }
        };
        match (unit, day) {
            (Unit::Tokens, false) => Self::TokensPerMinute,
            (Unit::Tokens, true) => Self::TokensPerDay,
            (Unit::Requests, false) => Self::RequestsPerMinute,
            (Unit::Requests, true) => Self::RequestsPerDay,
            (Unit::Other, _) => Self::Other,
        }
    }
}

/// Reads the message of a 429; nothing if it speaks of no limit.
///
/// `kind` is the error's type. Known forms: "Rate limit reached for M in organization O on tokens per min (TPM): Limit L,
/// Used U, Requested R. Please try again in D.", "Request too large for M ...: Limit L, Requested R.", the dialects of 2023
/// ("Limit: 10000 / min. Please try again in 6ms.", "Limit: 60.000000 / min. Current: 100.000000 / min."), and Azure's
/// "have exceeded token rate limit ... Please retry after N seconds."
pub fn parse(message: &str, kind: Option<&str>) -> Option<LimitRefusal> {
    let limit = number_after(message, "Limit");
    let wait = wait(message);
    let too_large = message.contains("Request too large");
    let about_a_limit =
        too_large || limit.is_some() || message.contains("ate limit") || message.contains("ate Limit");
    if !about_a_limit {
        return None;
    }
    let dimension = Dimension::of(message, kind);
    let requested = number_after(message, "Requested");
    let refusal = LimitRefusal {
        dimension,
        limit,
        used: number_after(message, "Used").or_else(|| number_after(message, "Current")),
        requested,
        wait: wait.filter(|wait| limit.is_some() || is_plausible(*wait, dimension)),
        too_large: too_large
            || limit.zip(requested).is_some_and(|(limit, requested)| requested > limit && limit > 0),
        long_context: message.contains("long-context)") || message.contains("long context)"),
    };
    Some(refusal)
}

/// How long any message says to wait: "try again in 1m26.4s", "retry after 55 seconds".
pub fn wait(message: &str) -> Option<Duration> {
    for lead in ["try again in ", "retry after ", "retry in ", "try again after "] {
        let Some(found) = find_ignoring_case(message, lead) else { continue };
        let rest = &message[found + lead.len()..];
        if let Some((wait, _)) = duration::parse_prefix(rest) {
            return Some(wait);
        }
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let seconds: f64 = rest[..digits].trim_end_matches('.').parse().ok()?;
        let unit = rest[digits..].trim_start();
        let scale = UNITS.iter().find(|(name, _)| unit.starts_with(name))?.1;
        return Duration::try_from_secs_f64(seconds * scale).ok();
    }
    None
}

/// Units in words, with the seconds that they stand for; a longer name before its own beginning.
const UNITS: [(&str, f64); 6] =
    [("millisecond", 0.001), ("sec", 1.0), ("min", 60.0), ("hour", 3600.0), ("day", 86_400.0), ("s", 1.0)];

/// Whether a limit without numbers may take this long: Azure has said "86400 seconds" of a limit that renews every minute.
fn is_plausible(wait: Duration, dimension: Dimension) -> bool {
    wait <= dimension.window() * 10
}

/// The number behind a label: `Limit 10000`, `Limit: 10000 / min`, `Limit: 60.000000 / min`.
fn number_after(message: &str, label: &str) -> Option<u64> {
    let mut from = 0;
    while let Some(found) = message[from..].find(label) {
        let after = &message[from + found + label.len()..];
        from += found + label.len();
        let number = after.trim_start_matches(':').trim_start();
        let end =
            number.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(number.len());
        // A label without its number is a word of the sentence: look further.
        if end > 0 && after.starts_with([':', ' ']) {
            return number[..end].replace('_', "").parse().ok();
        }
    }
    None
}

fn find_ignoring_case(haystack: &str, needle: &str) -> Option<usize> {
    haystack.as_bytes().windows(needle.len()).position(|part| part.eq_ignore_ascii_case(needle.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(message: &str, kind: &str) -> LimitRefusal {
        parse(message, Some(kind)).unwrap()
    }

    #[test]
    fn reads_the_grammar_of_today() {
        for (window, unit, dimension, limit, used, requested, wait) in [
            ("tokens per min (TPM)", "tokens", Dimension::TokensPerMinute, 10_000, 8554, 3082, "9.816s"),
            ("tokens per min (TPM)", "tokens", Dimension::TokensPerMinute, 30_000, 29_937, 385, "644ms"),
            ("requests per min (RPM)", "requests", Dimension::RequestsPerMinute, 3, 3, 1, "20s"),
            ("requests per day (RPD)", "requests", Dimension::RequestsPerDay, 1000, 1000, 1, "1m26.4s"),
            ("tokens per day (TPD)", "tokens", Dimension::TokensPerDay, 500, 499, 11, "28m48s"),
            ("images per minute (IPM)", "images", Dimension::ImagesPerMinute, 5, 5, 1, "12s"),
            (
                "tokens per min (TPM)",
                "tokens",
                Dimension::TokensPerMinute,
                100_000,
                99_918,
                2094,
                "14h29m11.04s",
            ),
        ] {
            let message = format!(
                "Rate limit reached for gpt-4 (gpt-4-long) in organization org-x on {window}: Limit {limit}, Used {used}, \
                 Requested {requested}. Please try again in {wait}. Visit https://platform.openai.com/account/rate-limits to learn more."
            );
            let expected = LimitRefusal {
                dimension,
                limit: Some(limit),
                used: Some(used),
                requested: Some(requested),
                wait: duration::parse(wait),
                too_large: false,
                long_context: false,
            };
            assert_eq!(refusal(&message, unit), expected, "{message}");
        }
    }

    #[test]
    fn the_limit_of_long_contexts_is_another() {
        for bucket in ["gpt-5.4-long-context", "long context"] {
            let refusal = refusal(
                &format!(
                    "Rate limit reached for gpt-5.4 ({bucket}) in organization org-x on tokens per min (TPM): Limit 400000, Used \
                     248785, Requested 312683. Please try again in 24.22s."
                ),
                "tokens",
            );
            assert!(refusal.long_context);
            assert_eq!((refusal.limit, refusal.wait), (Some(400_000), Some(Duration::from_millis(24_220))));
        }
    }

    #[test]
    fn a_request_too_large_can_never_pass() {
        let refusal = refusal(
            "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 31538. The input \
             or output tokens must be reduced in order to run successfully.",
            "tokens",
        );
        assert!(refusal.too_large);
        assert_eq!((refusal.limit, refusal.requested, refusal.wait), (Some(30_000), Some(31_538), None));
    }

    #[test]
    fn reads_the_dialects_of_2023() {
        let wait = refusal(
            "Rate limit reached for 10KTPM-200RPM in organization org-x on tokens per min. Limit: 10000 / min. Please try again in \
             6ms. Contact us through our help center at help.openai.com if you continue to have issues.",
            "tokens",
        );
        assert_eq!((wait.dimension, wait.limit), (Dimension::TokensPerMinute, Some(10_000)));
        assert_eq!((wait.used, wait.wait), (None, Some(Duration::from_millis(6))));
        let current = refusal(
            "Rate limit reached for default-global-with-image-limits in organization org-x on requests per min. Limit: 60.000000 / \
             min. Current: 100.000000 / min. Contact support@openai.com.",
            "requests",
        );
        assert_eq!((current.dimension, current.limit), (Dimension::RequestsPerMinute, Some(60)));
        assert_eq!((current.used, current.wait, current.too_large), (Some(100), None, false));
    }

    #[test]
    fn reads_azure_and_doubts_a_day_for_a_minute() {
        let azure = |wait| {
            let message = format!(
                "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-08-01-preview have exceeded \
                 token rate limit of your current OpenAI S0 pricing tier. Please retry after {wait} seconds. Please go here."
            );
            refusal(&message, "")
        };
        assert_eq!(azure(55).dimension, Dimension::TokensPerMinute);
        assert_eq!(azure(55).wait, Some(Duration::from_secs(55)));
        assert_eq!(azure(86_400).wait, None);
    }

    #[test]
    fn the_type_tells_what_the_message_does_not() {
        assert_eq!(refusal("Rate limit exceeded", "tokens").dimension, Dimension::TokensPerMinute);
        assert_eq!(refusal("Rate limit exceeded", "rate_limited").dimension, Dimension::Other);
        assert_eq!(parse("You exceeded your current quota", Some("insufficient_quota")), None);
    }

    #[test]
    fn absurd_numbers_are_no_numbers() {
        let refusal = refusal(
            "Rate limit reached: Limit 1000000000000000000000000000000, Used -5, Requested many",
            "tokens",
        );
        assert_eq!((refusal.limit, refusal.used, refusal.requested), (None, None, None));
        assert_eq!(wait("try again in 99999999999999999999 days"), None);
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_harm(text in any::<String>(), kind in any::<Option<String>>()) {
            parse(&text, kind.as_deref());
            parse(&format!("Rate limit: Limit {text}, Used {text}. Please try again in {text}"), None);
        }
    }
}

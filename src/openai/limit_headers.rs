//! `x-ratelimit-*`: what the upstream says of a scope's limits at the moment when it admitted a request.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{decimal, duration};

/// The limits that an answer's headers describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    /// Requests: of the minute, or of the day; the reset tells which.
    pub requests: Option<DimensionHeaders>,
    /// Tokens.
    pub tokens: Option<DimensionHeaders>,
    /// The project's own share of the tokens.
    pub project_tokens: Option<DimensionHeaders>,
    /// Images in the input.
    pub input_images: Option<DimensionHeaders>,
}

/// One dimension's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DimensionHeaders {
    /// The limit, at least 1.
    pub limit: u64,
    /// What is left of it, at most `limit`.
    pub remaining: u64,
    /// How long until all of it is there again, truncated to milliseconds by the upstream; nothing where it is unknown.
    pub reset: Option<Duration>,
    /// The window, where the upstream names it (Azure).
    pub renewal: Option<Duration>,
}

/// What was read from an answer's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The limits.
    pub headers: LimitHeaders,
    /// How many values made no sense and were ignored.
    pub malformed: u32,
}

impl LimitHeaders {
    /// Whether no dimension is described.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl DimensionHeaders {
    /// What is used of the limit.
    pub fn used(&self) -> u64 {
        self.limit - self.remaining
    }
}

/// Reads the limits from an answer's headers.
///
/// A dimension without both a limit and a remainder is left out: a remainder alone (Azure) says nothing of the level. -1, and
/// a limit of 0, mean "unknown" there and are no error. Values that no upstream can mean are ignored and counted.
pub fn parse(headers: &HeaderMap) -> Parsed {
    let mut values = Values::default();
    // One pass over all headers is several times cheaper than sixteen look-ups.
    for (name, value) in headers {
        if let Some(place) = name.as_str().strip_prefix(PREFIX).and_then(|name| values.place(name)) {
            place.get_or_insert(value);
        }
    }
    values.read()
}

/// How the limit headers' names begin.
pub(super) const PREFIX: &str = "x-ratelimit-";
/// The largest number that is believed: thousands of times the largest limit known (180 M tokens a minute), and small enough
/// that no sum or product of a few of them overflows.
const MAX_COUNT: u64 = 1_000_000_000_000;
/// The longest reset or window that is believed: the longest known is a month.
const MAX_WINDOW: Duration = Duration::from_hours(32 * 24);

/// The limit headers' values, as they stand.
#[derive(Default)]
pub(super) struct Values<'a> {
    requests: Level<'a>,
    tokens: Level<'a>,
    project_tokens: Level<'a>,
    input_images: Level<'a>,
}

/// One dimension's values, as they stand.
#[derive(Default)]
struct Level<'a> {
    limit: Option<&'a HeaderValue>,
    remaining: Option<&'a HeaderValue>,
    reset: Option<&'a HeaderValue>,
    renewal: Option<&'a HeaderValue>,
}

impl<'a> Values<'a> {
    /// Where a header's value belongs, by its name without the prefix. Of two values the first counts.
    pub(super) fn place(&mut self, name: &str) -> Option<&mut Option<&'a HeaderValue>> {
        let (field, level) = if let Some(field) = name.strip_suffix("-requests") {
            (field, &mut self.requests)
        } else if let Some(field) = name.strip_suffix("-project-tokens") {
            (field, &mut self.project_tokens)
        } else if let Some(field) = name.strip_suffix("-tokens") {
            (field, &mut self.tokens)
        } else {
            (name.strip_suffix("-input-images")?, &mut self.input_images)
        };
        Some(match field {
            "limit" => &mut level.limit,
            "remaining" => &mut level.remaining,
            "reset" => &mut level.reset,
            "renewalperiod" => &mut level.renewal,
            _ => return None,
        })
    }

    /// What the values say.
    pub(super) fn read(&self) -> Parsed {
        let mut malformed = 0;
        let headers = LimitHeaders {
            requests: self.requests.read(&mut malformed),
            tokens: self.tokens.read(&mut malformed),
            project_tokens: self.project_tokens.read(&mut malformed),
            input_images: self.input_images.read(&mut malformed),
        };
        Parsed { headers, malformed }
    }
}

impl Level<'_> {
    fn read(&self, malformed: &mut u32) -> Option<DimensionHeaders> {
        if self.limit.is_none() && self.remaining.is_none() {
            return None;
        }
        // Both are looked at, so that both are counted where they make no sense.
        let limit = count(text(self.limit)).or_count(malformed);
        let remaining = count(text(self.remaining)).or_count(malformed);
        let (limit, remaining) = (limit?, remaining?);
        if limit == 0 {
            return None;
        }
        if remaining > limit {
            *malformed += 1;
            return None;
        }
        let renewal = renewal(text(self.renewal)).or_count(malformed);
        let reset = reset(text(self.reset), renewal).or_count(malformed);
        // Azure sends 0 for "unknown"; with something used, a full bucket in no time is no information.
        let reset = reset.filter(|reset| renewal.is_none() || !reset.is_zero() || remaining == limit);
        Some(DimensionHeaders { limit, remaining, reset, renewal })
    }
}

/// A header's value as read.
enum Value<T> {
    /// Absent, or a dialect's way to say that it is unknown.
    Unknown,
    /// There, and no value of this header.
    Malformed,
    /// There.
    Known(T),
}

impl<T> Value<T> {
    fn or_count(self, malformed: &mut u32) -> Option<T> {
        match self {
            Self::Unknown => None,
            Self::Malformed => {
                *malformed += 1;
                None
            }
            Self::Known(value) => Some(value),
        }
    }
}

/// A value without white space around it. Bytes that are no text are there all the same, and malformed.
fn text(value: Option<&HeaderValue>) -> Option<&[u8]> {
    value.map(|value| value.as_bytes().trim_ascii())
}

fn count(text: Option<&[u8]>) -> Value<u64> {
    match text {
        None | Some(b"-1") => Value::Unknown,
        Some(text) => match decimal::whole(text) {
            Some(count) if count <= MAX_COUNT => Value::Known(count),
            Some(_) | None => Value::Malformed,
        },
    }
}

fn renewal(text: Option<&[u8]>) -> Value<Duration> {
    match text {
        None | Some(b"-1" | b"0") => Value::Unknown,
        Some(text) => match decimal::whole(text).map(Duration::from_secs) {
            Some(window) if window <= MAX_WINDOW => Value::Known(window),
            Some(_) | None => Value::Malformed,
        },
    }
}

/// Go's notation; milliseconds without a unit only beside a renewal period, which no one but Azure sends.
fn reset(text: Option<&[u8]>, renewal: Option<Duration>) -> Value<Duration> {
    let Some(text) = text else { return Value::Unknown };
    let reset = match duration::parse_bytes(text) {
        None if renewal.is_some() => decimal::whole(text).map(Duration::from_millis),
        reset => reset,
    };
    match reset {
        Some(reset) if reset <= MAX_WINDOW => Value::Known(reset),
        Some(_) | None if text == b"-1" => Value::Unknown,
        Some(_) | None => Value::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn tokens(limit: &str, remaining: &str, reset: &str) -> Parsed {
        parse(&headers(&[
            ("x-ratelimit-limit-tokens", limit),
            ("x-ratelimit-remaining-tokens", remaining),
            ("x-ratelimit-reset-tokens", reset),
        ]))
    }

    #[test]
    fn reads_the_apis_form() {
        let parsed = tokens("250000", "249507", "118ms");
        let expected = DimensionHeaders {
            limit: 250_000,
            remaining: 249_507,
            reset: Some(Duration::from_millis(118)),
            renewal: None,
        };
        assert_eq!(parsed.headers.tokens, Some(expected));
        assert_eq!(expected.used(), 493);
        assert_eq!(parsed.malformed, 0);
        assert_eq!(parse(&HeaderMap::new()), Parsed::default());
    }

    #[test]
    fn of_two_values_the_first_counts() {
        let mut headers =
            headers(&[("x-ratelimit-limit-tokens", "10"), ("x-ratelimit-remaining-tokens", "9")]);
        headers.append("x-ratelimit-limit-tokens", HeaderValue::from_static("20"));
        assert_eq!(parse(&headers).headers.tokens.unwrap().limit, 10);
        headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(parse(&headers).malformed, 1);
    }

    #[test]
    fn reads_azures_form() {
        let parsed = parse(&headers(&[
            ("x-ratelimit-limit-requests", "120"),
            ("x-ratelimit-remaining-requests", "119"),
            ("x-ratelimit-reset-requests", "500"),
            ("x-ratelimit-renewalperiod-requests", "60"),
            ("x-ratelimit-limit-tokens", "250000"),
            ("x-ratelimit-remaining-tokens", "249988"),
            ("x-ratelimit-reset-tokens", "0"),
            ("x-ratelimit-renewalperiod-tokens", "60"),
        ]));
        let requests = parsed.headers.requests.unwrap();
        assert_eq!(requests.reset, Some(Duration::from_millis(500)));
        assert_eq!(requests.renewal, Some(Duration::from_mins(1)));
        assert_eq!(parsed.headers.tokens.unwrap().reset, None);
        assert_eq!(parsed.malformed, 0);
    }

    #[test]
    fn unknown_is_neither_a_level_nor_malformed() {
        assert_eq!(tokens("-1", "-1", "0"), Parsed::default());
        assert_eq!(tokens("0", "0", "0s"), Parsed::default());
        let remaining_alone = parse(&headers(&[("x-ratelimit-remaining-tokens", "119984")]));
        assert_eq!(remaining_alone, Parsed::default());
    }

    #[test]
    fn absurd_values_are_ignored_and_counted() {
        let thirty_zeros = format!("1{}", "0".repeat(30));
        for (limit, remaining, reset, kept, malformed) in [
            ("-5", "3", "1s", false, 1),
            ("many", "few", "1s", false, 2),
            (thirty_zeros.as_str(), "3", "1s", false, 1),
            ("18446744073709551615", "3", "1s", false, 1),
            ("+10", "3", "1s", false, 1),
            ("10", "11", "1s", false, 1),
            ("10", "9", "6", true, 1),
            ("10", "9", "-6s", true, 1),
            ("10", "9", "soon", true, 1),
            ("10", "9", "99999h", true, 1),
            ("", "", "", false, 2),
        ] {
            let parsed = tokens(limit, remaining, reset);
            assert_eq!(parsed.headers.tokens.is_some(), kept, "{limit} {remaining} {reset}");
            assert_eq!(parsed.malformed, malformed, "{limit} {remaining} {reset}");
            assert!(parsed.headers.tokens.is_none_or(|tokens| tokens.reset.is_none()), "{reset}");
        }
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_harm(values in prop::array::uniform4("[ -~]{0,40}|[0-9]{1,30}|-?[0-9]{1,12}(ms|s|m|h)?")) {
            let [limit, remaining, reset, renewal] = &values;
            let parsed = parse(&headers(&[
                ("x-ratelimit-limit-project-tokens", limit),
                ("x-ratelimit-remaining-project-tokens", remaining),
                ("x-ratelimit-reset-project-tokens", reset),
                ("x-ratelimit-renewalperiod-project-tokens", renewal),
            ]));
            if let Some(level) = parsed.headers.project_tokens {
                prop_assert!(level.limit >= 1 && level.remaining <= level.limit);
                prop_assert!(level.reset.is_none_or(|reset| reset <= MAX_WINDOW));
            }
        }
    }
}

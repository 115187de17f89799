//! What an answer's headers say of limits at the moment when the upstream admitted the request, in
//! every vendor's notation.

mod name;
mod structured;
mod value;

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::limit_message::Unit;
use name::{Field, Key};
pub(crate) use value::{moment, since_1970};

/// Limits of one answer that are kept; more are ignored and counted. The most that a vendor sends
/// is six.
pub const MAX_LIMITS: usize = 8;

/// The limits that an answer's headers describe, in the order in which they came; at most
/// [`MAX_LIMITS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    limits: [HeaderLimit; MAX_LIMITS],
    count: usize,
}

/// One limit as headers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLimit {
    /// What it counts: requests or tokens.
    pub unit: Unit,
    /// Which of them it counts.
    pub part: Part,
    /// The limit, at least 1; nothing where only a remainder is told (Azure).
    pub limit: Option<u64>,
    /// What is left of it, at most `limit`.
    pub remaining: Option<u64>,
    /// How long until all of it is there again, truncated to milliseconds by the API; nothing where
    /// it is unknown.
    pub reset: Option<Duration>,
    /// The window, where the header's name or the policy tells it.
    pub window: Option<Duration>,
}

/// Which part of the requests or tokens a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of them.
    #[default]
    Whole,
    /// The project's own share of the organization's.
    Project,
    /// Tokens of the input alone (Anthropic, Fireworks).
    Input,
    /// Tokens of the output alone.
    Output,
}

/// What was read from an answer's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The limits.
    pub headers: LimitHeaders,
    /// How many values made no sense, or belonged to limits beyond the bound, and were ignored.
    pub malformed: u32,
}

impl Default for HeaderLimit {
    /// A limit of requests of which nothing is told.
    fn default() -> Self {
        Self {
            unit: Unit::Requests,
            part: Part::Whole,
            limit: None,
            remaining: None,
            reset: None,
            window: None,
        }
    }
}

impl HeaderLimit {
    pub(super) fn makes_sense(&self) -> bool {
        let counts = [self.limit, self.remaining].into_iter().flatten();
        let times = [self.reset, self.window].into_iter().flatten();
        self.limit.zip(self.remaining).is_none_or(|(limit, remaining)| remaining <= limit)
            && self.limit != Some(0)
            && self.window != Some(Duration::ZERO)
            && counts.into_iter().all(|count| count <= value::MAX_COUNT)
            && times.into_iter().all(|time| time <= value::MAX_WINDOW)
    }
}

impl LimitHeaders {
    /// The limits with this unit and part.
    #[cfg(test)]
    pub fn of(&self, unit: Unit, part: Part) -> impl Iterator<Item = &HeaderLimit> {
        self.iter().filter(move |limit| limit.unit == unit && limit.part == part)
    }

    /// Keeps a limit of which something is told; tells whether there was room.
    pub(super) fn keep(&mut self, limit: HeaderLimit) -> bool {
        let told = limit.limit.is_some() || limit.remaining.is_some();
        match self.limits.get_mut(self.count) {
            Some(place) if told => {
                *place = limit;
                self.count += 1;
                true
            }
            Some(_) => true,
            None => !told,
        }
    }
}

impl Deref for LimitHeaders {
    type Target = [HeaderLimit];

    fn deref(&self) -> &[HeaderLimit] {
        &self.limits[..self.count]
    }
}

/// Reads the limits from an answer's headers. `wall` is asked for the wall time only where a header
/// names a moment.
///
/// -1, and a limit of 0, mean "unknown" and are no error. Values that no upstream can mean are
/// ignored and counted.
#[cfg(any(test, feature = "internals"))]
pub fn parse(headers: &HeaderMap, wall: fn() -> SystemTime) -> Parsed {
    let mut values = Values::default();
    for (name, value) in headers {
        values.place(name.as_str(), value);
    }
    values.read(&wall)
}

/// How long until a window that is spent begins anew, by headers of fixed windows: those without a
/// unit in their names (OpenRouter, GitHub), and the IETF's. Others tell when a bucket is full,
/// which is no time to wait.
pub fn spent_window(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let named = ["x-ratelimit", "x-rate-limit", "ratelimit"].iter().find_map(|prefix| {
        let value = |field: &str| headers.get(format!("{prefix}-{field}"));
        let is_spent = value("remaining")?.as_bytes() == b"0";
        value::reset(value("reset"), None, &|| wall).or_count(&mut 0).filter(|_| is_spent)
    });
    let mut listed: Option<Duration> = None;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    structured::read(text("ratelimit"), text("ratelimit-policy"), |limit| {
        if limit.remaining == Some(0) && limit.makes_sense() {
            listed = listed.max(limit.reset);
        }
    });
    named.or(listed).filter(|wait| !wait.is_zero())
}

/// The limit headers' values, as they stand.
#[derive(Default)]
pub(super) struct Values<'a> {
    levels: [Option<Level<'a>>; MAX_LIMITS],
    rate_limit: Option<&'a HeaderValue>,
    policy: Option<&'a HeaderValue>,
    beyond: u32,
}

/// One limit's values, as they stand.
struct Level<'a> {
    key: Key,
    limit: Option<&'a HeaderValue>,
    remaining: Option<&'a HeaderValue>,
    reset: Option<&'a HeaderValue>,
    renewal: Option<&'a HeaderValue>,
}

impl<'a> Values<'a> {
    /// Keeps the value of a limit header, by its lower-case name; tells whether it was one. Of two
    /// values the first counts.
    pub(super) fn place(&mut self, name: &str, value: &'a HeaderValue) -> bool {
        let Some((key, field)) = name::read(name) else { return self.place_list(name, value) };
        let is_ours = |level: &Option<Level<'_>>| level.as_ref().is_none_or(|level| level.key == key);
        let Some(place) = self.levels.iter_mut().find(|level| is_ours(level)) else {
            self.beyond += 1;
            return true;
        };
        let level =
            place.get_or_insert(Level { key, limit: None, remaining: None, reset: None, renewal: None });
        let place = match field {
            Field::Limit => &mut level.limit,
            Field::Remaining => &mut level.remaining,
            Field::Reset => &mut level.reset,
            Field::Renewal => &mut level.renewal,
        };
        place.get_or_insert(value);
        true
    }

    /// Keeps the value of a header that lists several limits.
    fn place_list(&mut self, name: &str, value: &'a HeaderValue) -> bool {
        let place = match name {
            "ratelimit" | "x-ratelimit" => &mut self.rate_limit,
            "ratelimit-policy" | "x-ratelimit-policy" => &mut self.policy,
            _ => return false,
        };
        place.get_or_insert(value);
        true
    }

    /// What the values say.
    pub(super) fn read(&self, wall: &dyn Fn() -> SystemTime) -> Parsed {
        let mut parsed = Parsed { headers: LimitHeaders::default(), malformed: self.beyond };
        for level in self.levels.iter().flatten() {
            if let Some(limit) = level.read(self.policy, wall, &mut parsed.malformed) {
                parsed.headers.keep(limit);
            }
        }
        let text =
            |value: Option<&'a HeaderValue>| value.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.rate_limit.is_some() {
            structured::read(text(self.rate_limit), text(self.policy), |limit| {
                if !limit.makes_sense() || !parsed.headers.keep(limit) {
                    parsed.malformed += 1;
                }
            });
        }
        parsed
    }
}

impl Level<'_> {
    fn read(
        &self,
        policy: Option<&HeaderValue>,
        wall: &dyn Fn() -> SystemTime,
        malformed: &mut u32,
    ) -> Option<HeaderLimit> {
        if self.limit.is_none() && self.remaining.is_none() {
            return None;
        }
        let Key { unit, part, window } = self.key;
        // Both are looked at, so that both are counted where they make no sense.
        let before = *malformed;
        let limit = value::count(self.limit).or_count(malformed);
        let remaining = value::count(self.remaining).or_count(malformed);
        // A limit of 0 is Azure's "unknown", and so is what stands beside it.
        if *malformed > before || limit == Some(0) {
            return None;
        }
        if limit.zip(remaining).is_some_and(|(limit, remaining)| remaining > limit) {
            *malformed += 1;
            return None;
        }
        let renewal = value::renewal(self.renewal).or_count(malformed);
        let reset = value::reset(self.reset, renewal, wall).or_count(malformed);
        // Azure sends 0 for "unknown"; with something used, a full bucket in no time is no
        // information.
        let is_full = limit.is_some() && limit == remaining;
        let reset = reset.filter(|reset| renewal.is_none() || !reset.is_zero() || is_full);
        let window = window.or(renewal).or_else(|| self.window_of_policy(policy));
        Some(HeaderLimit { unit, part, limit, remaining, reset, window })
    }

    /// The window that stands beside the limit (`RateLimit-Limit: 100, 100;w=60`) or in a policy of
    /// its own.
    fn window_of_policy(&self, policy: Option<&HeaderValue>) -> Option<Duration> {
        let with_window = |value: &HeaderValue| {
            // Nearly every value is a number alone, and a search for text costs more than one for
            // a byte.
            memchr::memchr(b';', value.as_bytes())?;
            let text = value.to_str().ok()?;
            let (_, after) = text.split_once(";w=").or_else(|| text.split_once("; w="))?;
            let (seconds, _) = super::decimal::leading(after.as_bytes())?;
            Some(Duration::from_secs(seconds))
                .filter(|window| !window.is_zero() && *window <= value::MAX_WINDOW)
        };
        let policy = policy.filter(|_| self.key.unit == Unit::Requests);
        self.limit.and_then(with_window).or_else(|| policy.and_then(with_window))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_743_200_000;

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn read(pairs: &[(&'static str, &str)]) -> Parsed {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        parse(&headers, wall)
    }

    fn tokens(limit: &str, remaining: &str, reset: &str) -> Parsed {
        read(&[
            ("x-ratelimit-limit-tokens", limit),
            ("x-ratelimit-remaining-tokens", remaining),
            ("x-ratelimit-reset-tokens", reset),
        ])
    }

    #[test]
    fn of_two_values_the_first_counts() {
        let mut headers: HeaderMap =
            [("x-ratelimit-limit-tokens", "10"), ("x-ratelimit-remaining-tokens", "9")]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .into_iter()
                .collect();
        headers.append("x-ratelimit-limit-tokens", HeaderValue::from_static("20"));
        assert_eq!(parse(&headers, wall).headers[0].limit, Some(10));
        headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(parse(&headers, wall).malformed, 1);
    }

    /// Names and values of headers.
    type Pairs<'a> = &'a [(&'static str, &'a str)];

    /// Each vendor's names and notations, as recorded or documented: unit, part, limit, remainder,
    /// reset in ms, window in s.
    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn reads_every_vendors_headers() {
        use Part::{Input, Output, Project, Whole};
        use Unit::{Requests, Tokens};
        type Row = (Unit, Part, Option<u64>, Option<u64>, Option<u64>, Option<u64>);
        let day = Some(86_400);
        let rows: &[(Pairs<'_>, &[Row])] = &[
            // OpenAI.
            (
                &[
                    ("x-ratelimit-limit-tokens", "250000"),
                    ("x-ratelimit-remaining-tokens", "249507"),
                    ("x-ratelimit-reset-tokens", "118ms"),
                    ("x-ratelimit-limit-project-tokens", "1000"),
                    ("x-ratelimit-remaining-project-tokens", "900"),
                    ("x-ratelimit-reset-project-tokens", "6m0s"),
                    ("x-ratelimit-limit-input-images", "50"),
                    ("x-ratelimit-remaining-input-images", "49"),
                ],
                &[
                    (Tokens, Whole, Some(250_000), Some(249_507), Some(118), None),
                    (Tokens, Project, Some(1_000), Some(900), Some(360_000), None),
                ],
            ),
            // Azure: milliseconds beside a renewal period; a reset of 0 is unknown; or a remainder
            // alone.
            (
                &[
                    ("x-ratelimit-limit-requests", "120"),
                    ("x-ratelimit-remaining-requests", "119"),
                    ("x-ratelimit-reset-requests", "500"),
                    ("x-ratelimit-renewalperiod-requests", "60"),
                    ("x-ratelimit-limit-tokens", "250000"),
                    ("x-ratelimit-remaining-tokens", "249988"),
                    ("x-ratelimit-reset-tokens", "0"),
                    ("x-ratelimit-renewalperiod-tokens", "60"),
                ],
                &[
                    (Requests, Whole, Some(120), Some(119), Some(500), Some(60)),
                    (Tokens, Whole, Some(250_000), Some(249_988), None, Some(60)),
                ],
            ),
            (
                &[("x-ratelimit-remaining-tokens", "119984")],
                &[(Tokens, Whole, None, Some(119_984), None, None)],
            ),
            // Anthropic.
            (
                &[
                    ("anthropic-ratelimit-requests-limit", "50"),
                    ("anthropic-ratelimit-requests-remaining", "49"),
                    ("anthropic-ratelimit-requests-reset", "2025-03-28T22:13:30Z"),
                    ("anthropic-ratelimit-input-tokens-limit", "40000"),
                    ("anthropic-ratelimit-input-tokens-remaining", "39000"),
                    ("anthropic-ratelimit-input-tokens-reset", "2025-03-28T22:13:20Z"),
                    ("anthropic-ratelimit-output-tokens-limit", "8000"),
                    ("anthropic-ratelimit-output-tokens-remaining", "8000"),
                ],
                &[
                    (Requests, Whole, Some(50), Some(49), Some(10_000), None),
                    (Tokens, Input, Some(40_000), Some(39_000), Some(0), None),
                    (Tokens, Output, Some(8_000), Some(8_000), None, None),
                ],
            ),
            // Groq: the names of OpenAI, with fractions of a second.
            (
                &[
                    ("x-ratelimit-limit-requests", "14400"),
                    ("x-ratelimit-remaining-requests", "14370"),
                    ("x-ratelimit-reset-requests", "2m59.56s"),
                ],
                &[(Requests, Whole, Some(14_400), Some(14_370), Some(179_560), None)],
            ),
            // Mistral.
            (
                &[
                    ("x-ratelimit-limit-req-minute", "60"),
                    ("x-ratelimit-remaining-req-minute", "59"),
                    ("x-ratelimit-limit-tokens-minute", "500000"),
                    ("x-ratelimit-remaining-tokens-minute", "499000"),
                    ("x-ratelimit-limit-tokens-month", "1000000000"),
                    ("x-ratelimit-remaining-tokens-month", "999999000"),
                    ("x-ratelimit-tokens-query-cost", "12"),
                ],
                &[
                    (Requests, Whole, Some(60), Some(59), None, Some(60)),
                    (Tokens, Whole, Some(500_000), Some(499_000), None, Some(60)),
                    (Tokens, Whole, Some(1_000_000_000), Some(999_999_000), None, Some(2_592_000)),
                ],
            ),
            // Cerebras: the day's requests, seconds with a fraction.
            (
                &[
                    ("x-ratelimit-limit-requests-day", "1000"),
                    ("x-ratelimit-remaining-requests-day", "999"),
                    ("x-ratelimit-reset-requests-day", "33011.382"),
                ],
                &[(Requests, Whole, Some(1_000), Some(999), Some(33_011_382), day)],
            ),
            // OpenRouter: milliseconds since 1970. GitHub and SambaNova: seconds since 1970.
            (
                &[
                    ("x-ratelimit-limit", "200"),
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1743200012500"),
                ],
                &[(Requests, Whole, Some(200), Some(0), Some(12_500), None)],
            ),
            (
                &[
                    ("x-ratelimit-limit-requests", "60"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1743200030"),
                ],
                &[(Requests, Whole, Some(60), Some(0), Some(30_000), None)],
            ),
            // Together.
            (
                &[("x-tokenlimit-limit", "2000000"), ("x-tokenlimit-remaining", "1999000")],
                &[(Tokens, Whole, Some(2_000_000), Some(1_999_000), None, None)],
            ),
            // The IETF's drafts, from 3 on.
            (
                &[
                    ("ratelimit-limit", "100, 100;w=60"),
                    ("ratelimit-remaining", "50"),
                    ("ratelimit-reset", "5"),
                ],
                &[(Requests, Whole, Some(100), Some(50), Some(5_000), Some(60))],
            ),
            (
                &[("ratelimit", "limit=100, remaining=50, reset=5"), ("ratelimit-policy", "100;w=60")],
                &[(Requests, Whole, Some(100), Some(50), Some(5_000), Some(60))],
            ),
            (
                &[
                    ("ratelimit", "\"burst\";r=3;t=1, \"tokens-day\";r=900;t=3600, \"bytes\";r=1"),
                    (
                        "ratelimit-policy",
                        "\"burst\";q=10;w=1,\"tokens-day\"; q=1000; w=86400, \"bytes\";q=5;qu=\"content-bytes\"",
                    ),
                ],
                &[
                    (Requests, Whole, Some(10), Some(3), Some(1_000), Some(1)),
                    (Tokens, Whole, Some(1_000), Some(900), Some(3_600_000), day),
                ],
            ),
            (
                &[("ratelimit", "\"default\";r=50;t=30")],
                &[(Requests, Whole, None, Some(50), Some(30_000), None)],
            ),
        ];
        for (headers, expected) in rows {
            let parsed = read(headers);
            let told: Vec<Row> = parsed
                .headers
                .iter()
                .map(|limit| {
                    let reset = limit.reset.map(|reset| u64::try_from(reset.as_millis()).unwrap());
                    let window = limit.window.map(|window| window.as_secs());
                    (limit.unit, limit.part, limit.limit, limit.remaining, reset, window)
                })
                .collect();
            assert_eq!(told, *expected, "{headers:?}");
            assert_eq!(parsed.malformed, 0, "{headers:?}");
        }
    }

    #[test]
    fn unknown_is_neither_a_level_nor_malformed() {
        for parsed in [tokens("-1", "-1", "0"), tokens("0", "0", "0s"), read(&[])] {
            assert_eq!(parsed, Parsed::default());
        }
        for name in
            ["x-ratelimit-bypass", "x-ratelimit-limit-tokens_usage_based", "x-request-id", "retry-after"]
        {
            assert_eq!(read(&[(name, "5")]), Parsed::default(), "{name}");
        }
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
            ("10", "9", "-6s", true, 1),
            ("10", "9", "soon", true, 1),
            ("10", "9", "99999h", true, 1),
            ("10", "9", "99999999999999999999", true, 1),
            ("", "", "", false, 2),
        ] {
            let parsed = tokens(limit, remaining, reset);
            assert_eq!(!parsed.headers.is_empty(), kept, "{limit} {remaining} {reset}");
            assert_eq!(parsed.malformed, malformed, "{limit} {remaining} {reset}");
            assert!(parsed.headers.iter().all(|tokens| tokens.reset.is_none()), "{reset}");
        }
        for policy in ["\"a\";q=1", "\"a\";q=9;w=0"] {
            assert_eq!(
                read(&[("ratelimit", "\"a\";r=5"), ("ratelimit-policy", policy)]).malformed,
                1,
                "{policy}"
            );
        }
    }

    #[test]
    fn limits_beyond_the_bound_are_counted() {
        let windows = ["second", "minute", "hour", "day", "month"];
        let mut headers = HeaderMap::new();
        for unit in ["requests", "tokens"] {
            for window in windows {
                let name: HeaderName = format!("x-ratelimit-limit-{unit}-{window}").parse().unwrap();
                headers.insert(name, HeaderValue::from_static("9"));
            }
        }
        let parsed = parse(&headers, wall);
        assert_eq!((parsed.headers.len(), parsed.malformed), (MAX_LIMITS, 2));
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_harm(
            values in prop::array::uniform4("[ -~]{0,40}|[0-9]{1,30}|-?[0-9]{1,12}(ms|s|m|h)?"),
            lists in prop::array::uniform2("(\"[a-z]{0,5}\";[rtqw]=[0-9]{0,22}[;, ]?){0,12}|[ -~]{0,60}"),
        ) {
            let [limit, remaining, reset, renewal] = &values;
            let parsed = read(&[
                ("x-ratelimit-limit-project-tokens", limit),
                ("x-ratelimit-remaining-project-tokens", remaining),
                ("x-ratelimit-reset-project-tokens", reset),
                ("x-ratelimit-renewalperiod-project-tokens", renewal),
                ("ratelimit", &lists[0]),
                ("ratelimit-policy", &lists[1]),
            ]);
            for told in parsed.headers.iter() {
                prop_assert!(told.makes_sense());
            }
        }
    }
}

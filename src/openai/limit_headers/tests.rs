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
    let mut headers: HeaderMap = [("x-ratelimit-limit-tokens", "10"), ("x-ratelimit-remaining-tokens", "9")]
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

/// Each vendor's names and notations, as recorded or documented: unit, part, limit, remaining,
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
        // Azure: milliseconds beside a renewal period; a reset of 0 is unknown; or a remaining
        // amount alone.
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
        (&[("x-ratelimit-remaining-tokens", "119984")], &[(Tokens, Whole, None, Some(119_984), None, None)]),
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
        // Groq: OpenAI's names, with fractions of a second.
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
        // Cerebras: daily requests, seconds with a fraction.
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
            &[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "50"), ("ratelimit-reset", "5")],
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
        (&[("ratelimit", "\"default\";r=50;t=30")], &[(Requests, Whole, None, Some(50), Some(30_000), None)]),
        // Hugging Face, with the kind of window before the policy's name.
        (
            &[
                ("ratelimit", "\"api\";r=499;t=271"),
                ("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300"),
            ],
            &[(Requests, Whole, Some(500), Some(499), Some(271_000), Some(300))],
        ),
        // A policy alone.
        (
            &[("ratelimit-policy", "\"default\";q=100;w=60, \"tokens-day\";q=9000;w=86400, \"odd\";q=1")],
            &[
                (Requests, Whole, Some(100), None, None, Some(60)),
                (Tokens, Whole, Some(9_000), None, None, day),
            ],
        ),
        (&[("ratelimit-policy", "100;w=60")], &[(Requests, Whole, Some(100), None, None, Some(60))]),
        // APISIX and Kong, by instance; a window is a word or a number of seconds.
        (
            &[
                ("x-ai-ratelimit-limit-openai-instance", "300"),
                ("x-ai-ratelimit-remaining-openai-instance", "290"),
                ("x-ai-ratelimit-reset-openai-instance", "28"),
                ("x-ai-ratelimit-limit-deepseek", "500"),
                ("x-ai-ratelimit-remaining-deepseek", "499"),
            ],
            &[
                (Tokens, Whole, Some(300), Some(290), Some(28_000), None),
                (Tokens, Whole, Some(500), Some(499), None, None),
            ],
        ),
        (
            &[
                ("x-ai-ratelimit-limit-30-azure", "1000"),
                ("x-ai-ratelimit-remaining-30-azure", "950"),
                ("x-ai-ratelimit-limit-hour-azure", "9000"),
                ("x-ai-ratelimit-remaining-hour-azure", "8000"),
                ("x-ai-ratelimit-query-cost-azure", "50"),
            ],
            &[
                (Tokens, Whole, Some(1_000), Some(950), None, Some(30)),
                (Tokens, Whole, Some(9_000), Some(8_000), None, Some(3_600)),
            ],
        ),
        // LiteLLM, by key and by team; Python writes fractions.
        (
            &[
                ("x-ratelimit-api_key-limit-requests", "60"),
                ("x-ratelimit-api_key-remaining-requests", "59.0"),
                ("x-ratelimit-team-limit-requests", "600"),
                ("x-ratelimit-team-remaining-requests", "20"),
                ("x-ratelimit-api_key-limit-max_parallel_requests", "5"),
                ("x-ratelimit-api_key-remaining-max_parallel_requests", "4"),
            ],
            &[
                (Requests, Whole, Some(60), Some(59), None, None),
                (Requests, Whole, Some(600), Some(20), None, None),
            ],
        ),
        // Cohere.
        (
            &[("x-trial-endpoint-call-limit", "40"), ("x-trial-endpoint-call-remaining", "39")],
            &[(Requests, Whole, Some(40), Some(39), None, None)],
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
    for name in ["x-ratelimit-bypass", "x-ratelimit-limit-tokens_usage_based", "x-request-id", "retry-after"]
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

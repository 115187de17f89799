//! Converts the upstream's reports of its limits into those that admission understands.

use std::time::Duration;

use http::StatusCode;

use crate::admission::{self, LimitReport, LimitReports, RefusalNumbers, Slot, StatedLimit, WindowReport};
use crate::openai::{AnswerHeaders, Dimension, HeaderLimit, LimitHeaders, LimitRefusal, Part, Unit};

/// The limits that a response's head reports, and the scope that they belong to.
pub(crate) fn reports(found: &AnswerHeaders<'_>, status: StatusCode) -> LimitReports {
    let of_error = status.is_client_error() || status.is_server_error();
    LimitReports { owner: found.owner, of_error, ..of_headers(&found.limits.headers) }
}

/// The limits of requests and tokens in the limit headers: among several of one unit and window,
/// the one with the least remaining. A limit of input tokens is used if none of all tokens is
/// reported; its charge per estimated token is learned. A limit of output tokens is ignored,
/// because the estimate does not count against it.
pub(super) fn of_headers(headers: &LimitHeaders) -> LimitReports {
    let mut reports = LimitReports::default();
    let is_whole = |told: &HeaderLimit| matches!(told.part, Part::Whole | Part::Project);
    let tells_tokens = headers.iter().any(|told| told.unit == Unit::Tokens && is_whole(told));
    let counts = |told: &&HeaderLimit| is_whole(told) || (told.part == Part::Input && !tells_tokens);
    for told in headers.iter().filter(counts) {
        let (unit, by_minute) = match told.unit {
            Unit::Requests => (admission::Unit::Requests, &mut reports.requests),
            Unit::Tokens => (admission::Unit::Tokens, &mut reports.tokens),
            Unit::Other => continue,
        };
        let Some(report) = report(told) else {
            if let (Some(limit), Some(window)) = (told.limit, told.window) {
                reports.stated.push(StatedLimit { unit, window, limit });
            }
            continue;
        };
        let tighter = |known: LimitReport| report.remaining < known.remaining;
        match told.window {
            None | Some(MINUTE) => {
                if by_minute.is_none_or(tighter) {
                    *by_minute = Some(report);
                }
            }
            Some(window) => {
                let is_its = |known: &&mut WindowReport| known.unit == unit && known.window == window;
                match reports.windows.iter_mut().find(is_its) {
                    Some(known) if tighter(known.report) => known.report = report,
                    Some(_) => {}
                    None => reports.windows.push(WindowReport { unit, window, report }),
                }
            }
        }
    }
    reports
}

/// The numbers in a refusal, if it names a limit that admission tracks.
pub(super) fn numbers(refusal: &LimitRefusal) -> Option<RefusalNumbers> {
    let apart = match refusal.dimension {
        Dimension::RequestsPerMinute
        | Dimension::TokensPerMinute
        | Dimension::RequestsPerDay
        | Dimension::TokensPerDay => refusal.long_context,
        // A separate limit that text does not count against: only the refused request waits.
        Dimension::ImagesPerMinute | Dimension::AudioPerMinute => true,
        Dimension::Other => return None,
    };
    let window = refusal.window.unwrap_or(refusal.dimension.window());
    let by_minute = match refusal.dimension.unit() {
        Unit::Tokens => Slot::TokensPerMinute,
        Unit::Requests | Unit::Other => Slot::RequestsPerMinute,
    };
    let slot = by_minute.of_window(window.as_secs_f64());
    Some(RefusalNumbers {
        slot,
        window: (window != slot.window()).then_some(window),
        limit: if apart { refusal.limit.unwrap_or_default() } else { refusal.limit? },
        used: refusal.used,
        requested: refusal.requested,
        wait: refusal.wait,
        apart,
    })
}

/// The level of a limit, which needs both numbers.
fn report(told: &HeaderLimit) -> Option<LimitReport> {
    Some(LimitReport { limit: told.limit?, remaining: told.remaining?, reset: told.reset })
}

const MINUTE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::clock;
    use crate::openai::AnswerHeaders;

    /// Unit, window in seconds (0: a minute, or not stated), limit, remaining, reset in seconds.
    type Told = (char, u64, u64, u64, Option<u64>);

    fn told(pairs: &[(&'static str, &'static str)]) -> Vec<Told> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = pairs.collect();
        let reports = reports(&AnswerHeaders::of(&headers, clock::wall), StatusCode::OK);
        let row = |unit, window, report: LimitReport| {
            (unit, window, report.limit, report.remaining, report.reset.map(|reset| reset.as_secs()))
        };
        let minute =
            [reports.requests.map(|told| row('r', 0, told)), reports.tokens.map(|told| row('t', 0, told))];
        let windows = reports.windows.iter().map(|told| {
            let unit = if told.unit == admission::Unit::Requests { 'r' } else { 't' };
            row(unit, told.window.as_secs(), told.report)
        });
        minute.into_iter().flatten().chain(windows).collect()
    }

    #[test]
    fn several_limits_of_one_unit_are_told_apart_by_their_windows() {
        // Cerebras.
        let cerebras = told(&[
            ("x-ratelimit-limit-requests-day", "14400"),
            ("x-ratelimit-remaining-requests-day", "9"),
            ("x-ratelimit-reset-requests-day", "33011.382867"),
            ("x-ratelimit-limit-requests-minute", "30"),
            ("x-ratelimit-remaining-requests-minute", "29"),
            ("x-ratelimit-limit-tokens-minute", "60000"),
            ("x-ratelimit-remaining-tokens-minute", "59000"),
            ("x-ratelimit-limit-tokens-day", "1000000"),
            ("x-ratelimit-remaining-tokens-day", "999000"),
        ]);
        let day = 86_400;
        assert_eq!(
            cerebras,
            [
                ('r', 0, 30, 29, None),
                ('t', 0, 60_000, 59_000, None),
                ('r', day, 14_400, 9, Some(33_011)),
                ('t', day, 1_000_000, 999_000, None)
            ]
        );
        // The IETF draft, with several policies.
        let policies = told(&[
            (
                "ratelimit-policy",
                r#""burst";q=100;w=60, "daily";q=5000;w=86400, "t";q=9000;w=60;qu="tokens""#,
            ),
            ("ratelimit", r#""daily";r=4000;t=3600, "burst";r=70;t=20, "t";r=8000;t=9"#),
        ]);
        let expected =
            [('r', 0, 100, 70, Some(20)), ('t', 0, 9000, 8000, Some(9)), ('r', day, 5000, 4000, Some(3600))];
        assert_eq!(policies, expected);
        // A limit of a day alone is a daily one; of two with one window, the tighter counts.
        let day_alone = told(&[
            ("x-ratelimit-limit-requests-day", "200"),
            ("x-ratelimit-remaining-requests-day", "150"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-limit-project-tokens", "500"),
            ("x-ratelimit-remaining-project-tokens", "100"),
        ]);
        assert_eq!(day_alone, [('t', 0, 500, 100, None), ('r', day, 200, 150, None)]);
    }

    #[test]
    fn a_limit_of_input_counts_where_none_of_all_tokens_is_told() {
        let input = [
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("anthropic-ratelimit-input-tokens-remaining", "39000"),
            ("anthropic-ratelimit-output-tokens-limit", "8000"),
            ("anthropic-ratelimit-output-tokens-remaining", "7000"),
        ];
        assert_eq!(told(&input), [('t', 0, 40_000, 39_000, None)]);
        let all = [
            ("anthropic-ratelimit-tokens-limit", "48000"),
            ("anthropic-ratelimit-tokens-remaining", "46000"),
        ];
        assert_eq!(told(&[&input[..], &all].concat()), [('t', 0, 48_000, 46_000, None)]);
        let mistral = told(&[
            ("ratelimitbysize-limit", "500000"),
            ("ratelimitbysize-remaining", "499000"),
            ("ratelimitbysize-reset", "31"),
            ("ratelimitbysize-query-cost", "1000"),
            ("x-ratelimitbysize-limit-month", "1000000000"),
            ("x-ratelimitbysize-remaining-month", "999000000"),
        ]);
        let expected =
            [('t', 0, 500_000, 499_000, Some(31)), ('t', 30 * 86_400, 1_000_000_000, 999_000_000, None)];
        assert_eq!(mistral, expected);
    }

    #[test]
    fn any_window_that_a_policy_names_is_kept() {
        // express-rate-limit, draft 8, 7 and 6.
        let eighth = told(&[
            ("ratelimit-policy", r#""100-in-1hr"; q=100; w=3600; pk=:NDNiZDk=:"#),
            ("ratelimit", r#""100-in-1hr"; r=58; t=1784"#),
        ]);
        let seventh =
            told(&[("ratelimit-policy", "100;w=3600"), ("ratelimit", "limit=100, remaining=58, reset=1784")]);
        let sixth = told(&[
            ("ratelimit-policy", "100;w=3600"),
            ("ratelimit-limit", "100"),
            ("ratelimit-remaining", "58"),
            ("ratelimit-reset", "1784"),
        ]);
        for told in [eighth, seventh, sixth] {
            assert_eq!(told, [('r', 3600, 100, 58, Some(1784))]);
        }
        // Two windows at once.
        let both = told(&[
            ("ratelimit-policy", r#""second";q=10;w=1, "hour";q=2000;w=3600"#),
            ("ratelimit", r#""second";r=9;t=1, "hour";r=1200;t=1800"#),
        ]);
        assert_eq!(both, [('r', 1, 10, 9, Some(1)), ('r', 3600, 2000, 1200, Some(1800))]);
        // Kong and Mistral put the window in the header name.
        let named = told(&[
            ("x-ratelimit-limit-second", "10"),
            ("x-ratelimit-remaining-second", "9"),
            ("x-ratelimit-limit-hour", "500"),
            ("x-ratelimit-remaining-hour", "480"),
            ("x-ratelimit-limit-tokens-month", "1000000000"),
            ("x-ratelimit-remaining-tokens-month", "999000000"),
        ]);
        let expected = [
            ('r', 1, 10, 9, None),
            ('r', 3600, 500, 480, None),
            ('t', 30 * 86_400, 1_000_000_000, 999_000_000, None),
        ];
        assert_eq!(named, expected);
    }
}

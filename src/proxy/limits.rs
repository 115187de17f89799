//! From the upstream's words about its limits to what admission understands.

use std::time::Duration;

use crate::admission::{LimitReport, LimitReports, RefusalNumbers, Slot};
use crate::openai::{Dimension, HeaderLimit, LimitHeaders, LimitRefusal, Part, Unit};

/// What the limit headers say of requests and tokens: of several limits of one unit and window the
/// one with the least left. Limits of the input or the output alone are no limits of what a request
/// is priced at.
pub(crate) fn reports(headers: &LimitHeaders) -> LimitReports {
    let tightest = |unit: Unit, of_day: bool| {
        let of_unit = headers.of(unit, Part::Whole).chain(headers.of(unit, Part::Project));
        let of_window = of_unit.filter(move |told| (told.window == Some(DAY)) == of_day);
        of_window.filter_map(report).min_by_key(|report| report.remaining)
    };
    LimitReports {
        requests: tightest(Unit::Requests, false),
        tokens: tightest(Unit::Tokens, false),
        requests_a_day: tightest(Unit::Requests, true),
        tokens_a_day: tightest(Unit::Tokens, true),
    }
}

/// The numbers of a refusal, if it names a limit that admission keeps.
pub(super) fn numbers(refusal: &LimitRefusal) -> Option<RefusalNumbers> {
    let slot = match refusal.dimension {
        Dimension::RequestsPerMinute => Slot::RequestsPerMinute,
        Dimension::TokensPerMinute => Slot::TokensPerMinute,
        Dimension::RequestsPerDay => Slot::RequestsPerDay,
        Dimension::TokensPerDay => Slot::TokensPerDay,
        // A limit of its own, which text does not count for: only the refused request waits.
        Dimension::ImagesPerMinute | Dimension::AudioPerMinute => {
            return Some(RefusalNumbers {
                slot: Slot::RequestsPerMinute,
                limit: refusal.limit.unwrap_or_default(),
                used: refusal.used,
                requested: refusal.requested,
                wait: refusal.wait,
                apart: true,
            });
        }
        Dimension::Other => return None,
    };
    // A limit of another window (an hour's) is none of these.
    if refusal.window.is_some_and(|window| window != refusal.dimension.window()) {
        return None;
    }
    Some(RefusalNumbers {
        slot,
        limit: refusal.limit?,
        used: refusal.used,
        requested: refusal.requested,
        wait: refusal.wait,
        apart: refusal.long_context,
    })
}

/// A limit whose window is told is reported with the reset that an evenly refilled bucket of that
/// window has: admission derives the window from it.
fn report(told: &HeaderLimit) -> Option<LimitReport> {
    let (limit, remaining) = (told.limit?, told.remaining?);
    let used = limit.saturating_sub(remaining);
    let reset = match told.window {
        None => told.reset,
        Some(window) if window == MINUTE || window == DAY => {
            told.reset.and(Some(window.mul_f64(used as f64 / limit as f64)))
        }
        Some(_) => return None,
    };
    Some(LimitReport { limit, remaining, reset })
}

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::clock;
    use crate::openai::AnswerHeaders;

    /// Limit and remainder of requests, tokens, requests a day, tokens a day.
    fn told(pairs: &[(&'static str, &'static str)]) -> [Option<(u64, u64)>; 4] {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = pairs.collect();
        let reports = reports(&AnswerHeaders::of(&headers, clock::wall).limits.headers);
        [reports.requests, reports.tokens, reports.requests_a_day, reports.tokens_a_day]
            .map(|report| report.map(|report| (report.limit, report.remaining)))
    }

    #[test]
    fn several_limits_of_one_unit_are_told_apart_by_their_windows() {
        // Cerebras.
        let cerebras = told(&[
            ("x-ratelimit-limit-requests-day", "14400"),
            ("x-ratelimit-remaining-requests-day", "9"),
            ("x-ratelimit-limit-requests-minute", "30"),
            ("x-ratelimit-remaining-requests-minute", "29"),
            ("x-ratelimit-limit-tokens-minute", "60000"),
            ("x-ratelimit-remaining-tokens-minute", "59000"),
            ("x-ratelimit-limit-tokens-day", "1000000"),
            ("x-ratelimit-remaining-tokens-day", "999000"),
        ]);
        assert_eq!(
            cerebras,
            [Some((30, 29)), Some((60_000, 59_000)), Some((14_400, 9)), Some((1_000_000, 999_000))]
        );
        // The IETF's draft, with several policies.
        let policies = told(&[
            (
                "ratelimit-policy",
                r#""burst";q=100;w=60, "daily";q=5000;w=86400, "t";q=9000;w=60;qu="tokens""#,
            ),
            ("ratelimit", r#""daily";r=4000;t=3600, "burst";r=70;t=20, "t";r=8000;t=9"#),
        ]);
        assert_eq!(policies, [Some((100, 70)), Some((9000, 8000)), Some((5000, 4000)), None]);
        // A day alone is a day's, and two of one window are one: the tighter.
        let day = told(&[
            ("x-ratelimit-limit-requests-day", "200"),
            ("x-ratelimit-remaining-requests-day", "150"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-limit-project-tokens", "500"),
            ("x-ratelimit-remaining-project-tokens", "100"),
        ]);
        assert_eq!(day, [None, Some((500, 100)), Some((200, 150)), None]);
    }
}

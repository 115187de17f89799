//! A response's hint when to retry, in every known form.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::limit_message;
use super::moment::When;

/// The longest accepted wait. Limits of a month exist; longer hints are mistakes.
pub const MAX_HINT: Duration = Duration::from_hours(32 * 24);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The headers with a hint, the most precise first, each with the unit of a bare number.
const SOURCES: [(&str, Duration); 10] = [
    ("retry-after-ms", MILLISECOND),
    // Azure's older name for the same.
    ("x-ms-retry-after-ms", MILLISECOND),
    ("retry-after", SECOND),
    // Azure, on some 429s without another hint.
    ("x-rate-limit-reset-tokens", SECOND),
    ("x-ratelimit-retry-after", SECOND),
    ("x-ratelimit-reset-after", SECOND),
    // Kong.
    ("x-ai-ratelimit-retry-after", SECOND),
    // Bucket4j.
    ("x-rate-limit-retry-after-milliseconds", MILLISECOND),
    ("x-rate-limit-retry-after-seconds", SECOND),
    // Traefik.
    ("x-retry-in", SECOND),
];

/// The wait that a response asks for: from its headers, in any notation, else from the message.
///
/// An invalid hint is skipped for the next one: zero, negative, not finite, longer than
/// [`MAX_HINT`], or a past date.
pub fn parse(headers: &HeaderMap, message: Option<&str>, wall_now: SystemTime) -> Option<Duration> {
    let asked = |(name, unit): &(&str, Duration)| {
        let text = headers.get(*name)?.as_bytes().trim_ascii();
        believed(When::read(text, *unit)?.wait(|| wall_now))
    };
    SOURCES.iter().find_map(asked).or_else(|| believed(limit_message::wait(message?)?))
}

/// The wait in the headers alone, if the message was parsed elsewhere.
pub fn in_headers(headers: &HeaderMap, wall_now: SystemTime) -> Option<Duration> {
    parse(headers, None, wall_now)
}

pub(super) fn believed(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait <= MAX_HINT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110

    fn hint(pairs: &[(&'static str, &str)], message: Option<&str>) -> Option<Duration> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        parse(&headers, message, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn reads_every_form_in_order() {
        let message = Some("Rate limit reached. Please try again in 1.574s. Visit");
        for (pairs, message, millis) in [
            (&[("retry-after-ms", "1500"), ("retry-after", "9")][..], message, Some(1500)),
            (&[("retry-after-ms", "0.5")], None, Some(0)),
            (&[("retry-after", "7")], message, Some(7000)),
            (&[("retry-after", "0.25")], None, Some(250)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT")], None, Some(20_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT")], None, None),
            (&[("x-rate-limit-reset-tokens", "55")], None, Some(55_000)),
            (&[("x-ms-retry-after-ms", "700"), ("retry-after", "1")], None, Some(700)),
            (&[], message, Some(1574)),
            (&[], Some("Please retry after 3 seconds."), Some(3000)),
            (&[], Some("no hint here"), None),
            (&[], None, None),
        ] {
            assert_eq!(
                hint(pairs, message).map(|wait| u64::try_from(wait.as_millis()).unwrap()),
                millis,
                "{pairs:?} {message:?}"
            );
        }
    }

    #[test]
    fn absurd_values_are_passed_over() {
        for value in
            ["0", "-3", "NaN", "inf", "1e300", "99999999999999", "soon", "", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(hint(&[("retry-after", value)], None), None, "{value}");
            assert_eq!(
                hint(&[("retry-after-ms", value)], Some("try again in 2s")),
                Some(Duration::from_secs(2)),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_value_is_bounded(value in "[ -~]{0,40}", message in any::<String>()) {
            let wait = hint(&[("retry-after", &value), ("retry-after-ms", &value)], Some(&message));
            prop_assert!(wait.is_none_or(|wait| !wait.is_zero() && wait <= MAX_HINT));
        }
    }
}

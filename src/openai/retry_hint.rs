//! How long an answer asks to wait before another try, in every form that it takes.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use super::limit_message;

/// The longest wait that is believed. Buckets of a month exist; what is longer is a mistake.
pub const MAX_HINT: Duration = Duration::from_hours(32 * 24);

static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Azure's older name of the same.
static MS_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-ms-retry-after-ms");
/// Azure sends this, in seconds, on some 429s that have no other hint.
static RESET_TOKENS_SECONDS: HeaderName = HeaderName::from_static("x-rate-limit-reset-tokens");

/// The wait that an answer asks for: `retry-after-ms`, then `retry-after` (seconds, a fraction, or
/// a date), then Azure's own headers, then the text of the message.
///
/// A form that makes no sense is passed over for the next one: zero, negative, not finite, longer
/// than [`MAX_HINT`], a date that has passed.
pub fn parse(headers: &HeaderMap, message: Option<&str>, wall_now: SystemTime) -> Option<Duration> {
    number(headers, &RETRY_AFTER_MS, 1e-3)
        .or_else(|| number(headers, &MS_RETRY_AFTER_MS, 1e-3))
        .or_else(|| number(headers, &header::RETRY_AFTER, 1.0))
        .or_else(|| date(headers, wall_now))
        .or_else(|| number(headers, &RESET_TOKENS_SECONDS, 1.0))
        .or_else(|| believed(limit_message::wait(message?)?))
}

/// What the headers alone ask for, for answers whose message was read elsewhere.
pub fn in_headers(headers: &HeaderMap, wall_now: SystemTime) -> Option<Duration> {
    parse(headers, None, wall_now)
}

fn number(headers: &HeaderMap, name: &HeaderName, scale: f64) -> Option<Duration> {
    let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    believed(Duration::try_from_secs_f64(number * scale).ok()?)
}

fn date(headers: &HeaderMap, wall_now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(headers.get(&header::RETRY_AFTER)?.to_str().ok()?.trim()).ok()?;
    believed(date.duration_since(wall_now).ok()?)
}

fn believed(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait <= MAX_HINT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
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

//! The retry rules of OpenAI's SDK, as a pure function: the behavior of services without Weir.
//!
//! They are those of openai-python 3.54 (`_base_client.py`: `_should_retry`,
//! `_calculate_retry_timeout`).

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// Retries after the first attempt: the SDK's `max_retries`.
pub const MAX_RETRIES: u32 = 2;
/// The first backoff in seconds; each further one is twice as long.
const INITIAL: f64 = 0.5;
/// The longest backoff in seconds.
const MAX: f64 = 8.0;
/// A `Retry-After` beyond this many seconds ends the call at once.
const MAX_RETRY_AFTER: f64 = 120.0;

/// The result of an attempt, as far as the SDK uses it.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<'a> {
    /// The connection failed, or broke before the response was complete.
    NoAnswer,
    /// A response with this status and these headers.
    Answered(StatusCode, &'a HeaderMap),
}

/// The SDK's wait before its next attempt; `None` if it gives up.
///
/// `retries` is the number of retries it has made for this call. `wall` is needed for a
/// `Retry-After` that is a date.
pub fn wait(
    attempt: Attempt<'_>,
    retries: u32,
    wall: SystemTime,
    rng: &mut fastrand::Rng,
) -> Option<Duration> {
    if retries >= MAX_RETRIES {
        return None;
    }
    let asked = match attempt {
        Attempt::NoAnswer => None,
        Attempt::Answered(status, headers) => {
            let asked = retry_after(headers, wall);
            // The SDK checks this first, even before `x-should-retry`.
            if asked.is_some_and(|seconds| seconds > MAX_RETRY_AFTER) || !should_retry(status, headers) {
                return None;
            }
            asked
        }
    };
    let seconds = asked.filter(|seconds| *seconds > 0.0).unwrap_or_else(|| backoff(retries, rng.f64()));
    Some(Duration::from_secs_f64(seconds))
}

fn should_retry(status: StatusCode, headers: &HeaderMap) -> bool {
    match headers.get("x-should-retry").map(http::HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        Some(_) | None => matches!(status.as_u16(), 408 | 409 | 429 | 500..),
    }
}

/// The backoff in seconds; `random` is from 0 to 1.
fn backoff(retries: u32, random: f64) -> f64 {
    (INITIAL * 2_f64.powi(i32::try_from(retries).unwrap_or(i32::MAX))).min(MAX) * (1.0 - 0.25 * random)
}

/// The wait in seconds that the server requests: `retry-after-ms`, else `retry-after` as a number,
/// else as a date.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<f64> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(milliseconds) = text("retry-after-ms").and_then(number) {
        return Some(milliseconds / 1_000.0);
    }
    let after = text(RETRY_AFTER.as_str())?;
    number(after).or_else(|| {
        let date = httpdate::parse_http_date(after).ok()?;
        Some(date.duration_since(wall).map_or(0.0, |wait| wait.as_secs_f64()))
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn waits(status: u16, pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = headers(pairs);
        let attempt = Attempt::Answered(StatusCode::from_u16(status).unwrap(), &headers);
        wait(attempt, 0, SystemTime::UNIX_EPOCH, &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn three_attempts_and_no_more() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut after = |retries| wait(Attempt::NoAnswer, retries, SystemTime::UNIX_EPOCH, &mut rng);
        assert!(after(0).is_some() && after(1).is_some());
        assert_eq!(after(2), None);
    }

    #[test]
    fn the_statuses_that_it_repeats() {
        for status in [408, 409, 429, 500, 502, 503, 504, 520, 529] {
            assert!(waits(status, &[]).is_some(), "{status}");
        }
        for status in [400, 401, 403, 404, 413, 418, 422] {
            assert_eq!(waits(status, &[]), None, "{status}");
        }
    }

    #[test]
    fn x_should_retry_is_obeyed_for_any_status() {
        assert!(waits(400, &[("x-should-retry", "true")]).is_some());
        assert_eq!(waits(503, &[("x-should-retry", "false")]), None);
        assert_eq!(waits(429, &[("x-should-retry", "true"), ("retry-after", "121")]), None);
        assert!(waits(429, &[("x-should-retry", "maybe")]).is_some());
    }

    #[test]
    fn the_servers_wait_is_taken_as_it_is() {
        assert_eq!(waits(429, &[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(waits(429, &[("retry-after", "1.5")]), Some(Duration::from_millis(1_500)));
        assert_eq!(
            waits(429, &[("retry-after-ms", "250"), ("retry-after", "7")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            waits(503, &[("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT")]),
            Some(Duration::from_secs(9))
        );
        assert_eq!(waits(429, &[("retry-after", "120")]), Some(Duration::from_mins(2)));
        assert_eq!(waits(429, &[("retry-after", "120.5")]), None);
    }

    #[test]
    fn without_a_usable_wait_it_backs_off() {
        for useless in ["0", "-3", "soon", "inf", "NaN"] {
            let wait = waits(429, &[("retry-after", useless)]).unwrap();
            assert!((0.375..=0.5).contains(&wait.as_secs_f64()), "{useless}: {wait:?}");
        }
        for (retries, least, most) in
            [(0, 0.375, 0.5), (1, 0.75, 1.0), (2, 1.5, 2.0), (4, 6.0, 8.0), (9, 6.0, 8.0)]
        {
            assert!((backoff(retries, 0.0) - most).abs() < 1e-9, "{retries}");
            assert!((backoff(retries, 1.0) - least).abs() < 1e-9, "{retries}");
        }
    }
}

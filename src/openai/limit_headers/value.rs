//! The values of limit headers: counts, durations, seconds, and moments in four notations.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::openai::{decimal, duration};

/// The largest number that is believed: thousands of times the largest limit known (180 M tokens a
/// minute), and small enough that no sum or product of a few of them overflows.
pub(super) const MAX_COUNT: u64 = 1_000_000_000_000;
/// The longest reset or window that is believed: the longest known is a month.
pub(super) const MAX_WINDOW: Duration = Duration::from_hours(32 * 24);
/// Numbers from here on are seconds since 1970 (September 2001), and milliseconds since 1970 from
/// the second one on.
const EPOCH_SECONDS: f64 = 1e9;
const EPOCH_MILLISECONDS: f64 = 1e11;

/// A header's value as read.
pub(super) enum Value<T> {
    /// Absent, or a dialect's way to say that it is unknown.
    Unknown,
    /// There, and no value of this header.
    Malformed,
    /// There.
    Known(T),
}

impl<T> Value<T> {
    pub(super) fn or_count(self, malformed: &mut u32) -> Option<T> {
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

/// A value without white space around it, and without what a list or parameters add behind it
/// (`100, 100;w=60`). Bytes that are no text are there all the same, and malformed.
fn text(value: Option<&HeaderValue>) -> Option<&[u8]> {
    let value = value?.as_bytes();
    let end = value.iter().position(|byte| matches!(byte, b',' | b';')).unwrap_or(value.len());
    Some(value[..end].trim_ascii())
}

pub(super) fn count(value: Option<&HeaderValue>) -> Value<u64> {
    // Nearly every value is a number alone.
    if let Some(count @ ..=MAX_COUNT) = value.and_then(|value| decimal::whole(value.as_bytes())) {
        return Value::Known(count);
    }
    match text(value) {
        None | Some(b"-1") => Value::Unknown,
        Some(text) => match decimal::whole(text) {
            Some(count) if count <= MAX_COUNT => Value::Known(count),
            Some(_) | None => Value::Malformed,
        },
    }
}

pub(super) fn renewal(value: Option<&HeaderValue>) -> Value<Duration> {
    match text(value) {
        None | Some(b"-1" | b"0") => Value::Unknown,
        Some(text) => match decimal::whole(text).map(Duration::from_secs) {
            Some(window) if window <= MAX_WINDOW => Value::Known(window),
            Some(_) | None => Value::Malformed,
        },
    }
}

/// How long until a moment: Go's notation, seconds, seconds or milliseconds since 1970, RFC 3339 or
/// an HTTP date.
///
/// A bare number is milliseconds beside a renewal period, which no one but Azure sends. `wall` is
/// asked for moments only.
pub(super) fn reset(
    value: Option<&HeaderValue>,
    renewal: Option<Duration>,
    wall: &dyn Fn() -> SystemTime,
) -> Value<Duration> {
    // A date has commas of its own.
    let Some(whole) = value.map(|value| value.as_bytes().trim_ascii()) else { return Value::Unknown };
    let text = text(value).unwrap_or_default();
    if text == b"-1" {
        return Value::Unknown;
    }
    let reset = duration::parse_bytes(text)
        .or_else(|| number(text, renewal, wall))
        .or_else(|| Some(until(moment(whole)?, wall())));
    match reset {
        Some(reset) if reset <= MAX_WINDOW => Value::Known(reset),
        Some(_) | None => Value::Malformed,
    }
}

fn number(text: &[u8], renewal: Option<Duration>, wall: &dyn Fn() -> SystemTime) -> Option<Duration> {
    if !text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return None;
    }
    let number: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    match since_1970(number) {
        Some(moment) => Some(until(moment, wall())),
        None if renewal.is_some() => Duration::try_from_secs_f64(number / 1e3).ok(),
        None => Duration::try_from_secs_f64(number).ok(),
    }
}

/// The moment that a number of seconds or milliseconds since 1970 stands for; nothing where it is
/// too small to be one.
pub(crate) fn since_1970(number: f64) -> Option<SystemTime> {
    let seconds = if number >= EPOCH_MILLISECONDS { number / 1e3 } else { number };
    let since = (seconds >= EPOCH_SECONDS).then(|| Duration::try_from_secs_f64(seconds).ok())??;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// A moment in RFC 3339 or as an HTTP date.
pub(crate) fn moment(text: &[u8]) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok()?;
    rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok())
}

/// `2026-01-27T12:00:30.5Z`, or with an offset such as `+02:00`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let number = |part: Option<&str>| -> Option<u64> { decimal::whole(part?.as_bytes()) };
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(Some);
    let (year, month, day) = (number(date.next()?)?, number(date.next()?)?, number(date.next()?)?);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (number(parts.next())?, number(parts.next())?);
    let second: f64 = parts.next()?.parse().ok()?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&second);
    if !in_range {
        return None;
    }
    // Days from 1970 by the civil calendar, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = (year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day)
        .checked_sub(719_469)?;
    let at = SystemTime::UNIX_EPOCH
        + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60)
        + Duration::try_from_secs_f64(second).ok()?;
    let Some((hours, minutes)) = zone[1..].split_once(':') else { return Some(at) };
    let offset =
        Duration::from_secs(number(Some(hours))?.min(24) * 3_600 + number(Some(minutes))?.min(60) * 60);
    if zone.starts_with('+') { at.checked_sub(offset) } else { at.checked_add(offset) }
}

/// How long from now until a moment; none once it has passed.
fn until(moment: SystemTime, wall: SystemTime) -> Duration {
    moment.duration_since(wall).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_in_every_notation() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_515_230_500);
        for text in [
            "2026-01-27T12:00:30.5Z",
            "2026-01-27T14:00:30.5+02:00",
            "2026-01-27t07:30:30.5-04:30",
            "2026-01-27 12:00:30.5z",
        ] {
            assert_eq!(moment(text.as_bytes()), Some(expected), "{text}");
        }
        let leap = moment(b"2024-02-29T00:00:00Z").unwrap();
        assert_eq!(leap.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_709_164_800);
        assert_eq!(moment(b"Thu, 29 Feb 2024 00:00:00 GMT"), Some(leap));
        assert_eq!(since_1970(1_709_164_800.0), Some(leap));
        assert_eq!(since_1970(1_709_164_800_000.0), Some(leap));
        assert_eq!(since_1970(86_400.0), None);
        for text in
            ["2026-13-01T00:00:00Z", "1969-01-01T00:00:00Z", "2026-01-27", "soon", "", "2026-01-27T12:00Z"]
        {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[0-9TZ:.+ -]{0,40}", other in any::<String>(), number in any::<f64>()) {
            moment(text.as_bytes());
            moment(other.as_bytes());
            since_1970(number);
        }
    }
}

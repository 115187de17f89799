//! A time in any notation of headers, fields and messages: relative or absolute.

use std::time::{Duration, SystemTime};

use super::limit_message::unit_of_time;
use super::{decimal, duration};

/// A relative or absolute time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// A time from now on.
    After(Duration),
    /// A wall time.
    At(SystemTime),
}

/// Numbers from these on are seconds (September 2001) or milliseconds since 1970.
const EPOCH_SECONDS: f64 = 1e9;
const EPOCH_MILLISECONDS: f64 = 1e11;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

impl When {
    /// Parses Go's notation (`6m0s`), a number with a unit or without (`2 seconds`), or a date, in
    /// quotation marks or without. A small number is in `unit`s from now on; a large one is seconds
    /// or milliseconds since 1970.
    pub(crate) fn read(text: &[u8], unit: Duration) -> Option<Self> {
        let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
        if let Some(time) = duration::parse(text) {
            return Some(Self::After(time));
        }
        let text = str::from_utf8(text).ok()?;
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return with_unit(text).map(Self::After).or_else(|| date(text).map(Self::At));
        }
        let number: f64 = text.parse().ok()?;
        match since_1970(number) {
            Some(moment) => Some(Self::At(moment)),
            None => Duration::try_from_secs_f64(number * unit.as_secs_f64()).ok().map(Self::After),
        }
    }

    /// Time until then; zero once it has passed.
    pub(crate) fn wait(self, wall: impl FnOnce() -> SystemTime) -> Duration {
        match self {
            Self::After(time) => time,
            Self::At(moment) => moment.duration_since(wall()).unwrap_or_default(),
        }
    }
}

/// A number and its unit (`2 seconds`).
fn with_unit(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once(' ')?;
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * unit_of_time(&unit.to_ascii_lowercase())?.as_secs_f64();
    Duration::try_from_secs_f64(seconds).ok()
}

/// The time of a number of seconds or milliseconds since 1970; `None` if the number is too small.
fn since_1970(number: f64) -> Option<SystemTime> {
    let seconds = if number >= EPOCH_MILLISECONDS { number / 1e3 } else { number };
    let since = (seconds >= EPOCH_SECONDS).then(|| Duration::try_from_secs_f64(seconds).ok())??;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// A date with time and zone: RFC 3339 (`2026-01-27T12:00:30.5Z`), HTTP's three forms, RFC 5322
/// (`Tue, 27 Jan 2026 13:00:30 +0100`), JavaScript's (`Tue Jan 27 2026 13:00:30 GMT+0100`).
pub(crate) fn date(text: &str) -> Option<SystemTime> {
    rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok()).or_else(|| in_words(text))
}

fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (time, zone) = time.split_at(time.find(['Z', 'z', '+', '-', ' '])?);
    let mut date = date.splitn(3, '-').map(number);
    civil([date.next()??, date.next()??, date.next()??], clock(time)?, zone.trim())
}

/// A date with its parts in any order, each identified by its form.
fn in_words(text: &str) -> Option<SystemTime> {
    let (mut year, mut month, mut day, mut time, mut zone) = (None, None, None, None, None);
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()).take(8) {
        let named = || MONTHS.iter().zip(1..).find(|(name, _)| word.eq_ignore_ascii_case(name));
        if let Some(number) = number(word) {
            let place = if number > 31 { &mut year } else { &mut day };
            place.get_or_insert(number);
        } else if time.is_none() && word.contains(':') {
            time = Some(clock(word)?);
        } else if let Some((_, number)) = named() {
            month = Some(number);
        } else if time.is_some() {
            zone.get_or_insert(word);
        }
    }
    civil([year?, month?, day?], time?, zone?)
}

fn number(digits: &str) -> Option<u64> {
    decimal::whole(digits.as_bytes())
}

/// `12:00:30.5`.
fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second: f64 = parts.next()?.parse().ok()?;
    if hour >= 24 || minute >= 60 || !(0.0..61.0).contains(&second) {
        return None;
    }
    Some(Duration::from_secs(hour * 3_600 + minute * 60) + Duration::try_from_secs_f64(second).ok()?)
}

/// The time of a year, month, day and time of day in a zone: `Z`, `UTC`, `GMT`, `+01:00`, `+0100`
/// or `GMT+0100`.
fn civil([year, month, day]: [u64; 3], time: Duration, zone: &str) -> Option<SystemTime> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = (year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day)
        .checked_sub(719_469)?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400) + time;
    let names = ["Z", "z", "UTC", "GMT"];
    let offset = names.iter().find_map(|name| zone.strip_prefix(name)).unwrap_or(zone);
    let Some(sign @ ('+' | '-')) = offset.chars().next() else {
        return (offset.is_empty() && !zone.is_empty()).then_some(at);
    };
    let (hours, minutes) = offset[1..].split_at_checked(2)?;
    let minutes = minutes.trim_start_matches(':');
    let minutes = if minutes.is_empty() { 0 } else { number(minutes)? };
    let offset = Duration::from_secs(number(hours)?.min(24) * 3_600 + minutes.min(60) * 60);
    if sign == '+' { at.checked_sub(offset) } else { at.checked_add(offset) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn since(millis: u64) -> When {
        When::At(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    #[test]
    fn moments_are_read_in_every_notation() {
        for text in [
            "2026-01-27T12:00:30.5Z",
            "2026-01-27T14:00:30.5+02:00",
            "2026-01-27t07:30:30.5-04:30",
            "2026-01-27 12:00:30.5z",
            "2026-01-27 12:00:30.5 UTC",
            "2026-01-27T14:00:30.5+0200",
            "Tue, 27 Jan 2026 13:00:30.5 +0100",
            "Tue Jan 27 2026 07:00:30.5 GMT-0500 (Eastern Standard Time)",
            "1769515230.5",
            "1769515230500",
        ] {
            assert_eq!(When::read(text.as_bytes(), SECOND), Some(since(1_769_515_230_500)), "{text}");
        }
        for text in
            ["2024-02-29T00:00:00Z", "Thu, 29 Feb 2024 00:00:00 GMT", "Thursday, 29-Feb-24 00:00:00 GMT"]
        {
            assert_eq!(When::read(text.as_bytes(), SECOND), Some(since(1_709_164_800_000)), "{text}");
        }
        for text in [
            "2026-13-01T00:00:00Z",
            "1969-01-01T00:00:00Z",
            "2026-01-27",
            "2026-01-27 12:00:30",
            "Tue, 27 Jan 2026 13:00:30",
            "soon",
            "2 moons",
            "\"",
            "-3",
            "",
            "2026-01-27T12:00Z",
        ] {
            assert_eq!(When::read(text.as_bytes(), SECOND), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_notation() {
        for (text, unit, millis) in [
            ("0", SECOND, 0),
            ("86400", SECOND, 86_400_000),
            ("0.25", SECOND, 250),
            ("1500", Duration::from_millis(1), 1_500),
            ("1500ms", Duration::from_millis(1), 1_500),
            ("6m0s", SECOND, 360_000),
            ("2 Seconds", SECOND, 2_000),
            ("1.5 min", SECOND, 90_000),
            ("\"2\"", SECOND, 2_000),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(When::read(text.as_bytes(), unit), Some(When::After(time)), "{text}");
        }
        let passed = When::At(SystemTime::UNIX_EPOCH);
        assert_eq!(passed.wait(|| SystemTime::UNIX_EPOCH + SECOND), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[0-9TZ:.+ GMTJan-]{0,40}", other in any::<String>()) {
            When::read(text.as_bytes(), SECOND);
            When::read(other.as_bytes(), SECOND);
        }
    }
}

//! The values of limit headers: counts, windows, and times until a limit is whole again.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::openai::decimal;
use crate::openai::moment::When;

/// The largest number that is believed: thousands of times the largest limit known (180 M tokens a
/// minute), and small enough that no sum or product of a few of them overflows.
pub(super) const MAX_COUNT: u64 = 1_000_000_000_000;
/// The longest reset or window that is believed: the longest known is a month.
pub(super) const MAX_WINDOW: Duration = Duration::from_hours(32 * 24);

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
        Some(text) => match whole_part(text) {
            Some(count) if count <= MAX_COUNT => Value::Known(count),
            Some(_) | None => Value::Malformed,
        },
    }
}

/// Of a number that may have a fraction (`59.0`) the whole part.
fn whole_part(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let is_fraction = text.get(point + 1..).is_none_or(|fraction| decimal::whole(fraction).is_some());
    decimal::whole(&text[..point]).filter(|_| is_fraction)
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

/// How long until a moment, in any notation.
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
    let unit = if renewal.is_some() { Duration::from_millis(1) } else { Duration::from_secs(1) };
    let reset = When::read(text, unit).or_else(|| When::read(whole, unit)).map(|when| when.wait(wall));
    match reset {
        Some(reset) if reset <= MAX_WINDOW => Value::Known(reset),
        Some(_) | None => Value::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_have_a_fraction_and_a_window_behind_it() {
        for (value, count) in [
            ("59", Some(59)),
            ("59.0", Some(59)),
            ("59.7", Some(59)),
            ("100, 100;w=60", Some(100)),
            ("59.", None),
            (".5", None),
            ("5.x", None),
            ("1e3", None),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(super::count(Some(&value)).or_count(&mut 0), count, "{value:?}");
        }
    }
}

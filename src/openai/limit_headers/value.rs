//! The values of limit headers: counts, windows, and times until a limit is restored.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::openai::decimal;
use crate::openai::moment::When;

/// The largest accepted number: thousands of times the largest known limit (180 M tokens a minute),
/// and small enough that sums and products of a few do not overflow.
pub(super) const MAX_COUNT: u64 = 1_000_000_000_000;
/// The longest accepted reset or window; the longest known is a month.
pub(super) const MAX_WINDOW: Duration = Duration::from_hours(32 * 24);

/// A parsed header value.
pub(super) enum Value<T> {
    /// Absent, or a dialect's form of "unknown".
    Unknown,
    /// Present but invalid.
    Malformed,
    /// Present and valid.
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

/// A value without surrounding white space, list elements after the first and parameters (`100,
/// 100;w=60`). A value that is not text counts as malformed.
fn text(value: Option<&HeaderValue>) -> Option<&[u8]> {
    let value = value?.as_bytes();
    let end = value.iter().position(|byte| matches!(byte, b',' | b';')).unwrap_or(value.len());
    Some(value[..end].trim_ascii())
}

pub(super) fn count(value: Option<&HeaderValue>) -> Value<u64> {
    // Most values are just a number.
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

/// The whole part of a number that may have a fraction (`59.0`).
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

/// Time until a reset, in any notation.
///
/// With a renewal period, which only Azure sends, a bare number is in milliseconds. `wall` is
/// called only for dates.
pub(super) fn reset(
    value: Option<&HeaderValue>,
    renewal: Option<Duration>,
    wall: &dyn Fn() -> SystemTime,
) -> Value<Duration> {
    // Dates contain commas.
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

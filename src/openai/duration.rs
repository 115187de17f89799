//! Durations in the API's notation: Go's, truncated to milliseconds.

use std::time::Duration;

use super::decimal;

/// The longest duration text that is parsed; the API's longest is below 20 bytes.
const MAX_LENGTH: usize = 64;

/// Parses a duration such as `6ms`, `8.64s`, `1m13.588s` or `14h29m11.04s`.
///
/// Units are required (except for `0`, as in Go). Negative, unitless and overflowing durations give
/// `None`.
pub(crate) fn parse(text: impl AsRef<[u8]>) -> Option<Duration> {
    let bytes = text.as_ref();
    if bytes == b"0" {
        return Some(Duration::ZERO);
    }
    if bytes.is_empty() || bytes.len() > MAX_LENGTH {
        return None;
    }
    let (mut total, mut rest) = component(bytes)?;
    while !rest.is_empty() {
        let (part, after) = component(rest)?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

/// Formats a duration as the API does: `0s`, `6ms`, `8.64s`, `6m0s`, `14h29m11.04s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let millis = duration.subsec_millis();
    if seconds == 0 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    let fraction = fraction.trim_end_matches('0');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// One number with its unit, and the rest of the text.
fn component(text: &[u8]) -> Option<(Duration, &[u8])> {
    let (whole, mut rest) = digits(text);
    let mut fraction: &[u8] = &[];
    if let Some(after) = rest.strip_prefix(b".") {
        (fraction, rest) = digits(after);
    }
    let (nanos_per_unit, rest) = unit(rest)?;
    let whole = match whole {
        [] if fraction.is_empty() => return None,
        [] => 0,
        whole => decimal::whole(whole)?,
    };
    let whole = Duration::from_nanos(whole.checked_mul(nanos_per_unit)?);
    Some((whole.checked_add(fraction_of(fraction, nanos_per_unit))?, rest))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// The unit at the start of a text, in nanoseconds. Results beyond 64 bits (584 years) are
/// rejected.
fn unit(text: &[u8]) -> Option<(u64, &[u8])> {
    Some(match text {
        // `ms` is not `m` followed by `s`.
        [b'm', b's', rest @ ..] => (1_000_000, rest),
        [b's', rest @ ..] => (NANOS_PER_SECOND, rest),
        [b'm', rest @ ..] => (60 * NANOS_PER_SECOND, rest),
        [b'h', rest @ ..] => (3600 * NANOS_PER_SECOND, rest),
        [b'n', b's', rest @ ..] => (1, rest),
        // Both characters for the micro sign.
        [b'u', b's', rest @ ..] | [0xC2, 0xB5, b's', rest @ ..] | [0xCE, 0xBC, b's', rest @ ..] => {
            (1_000, rest)
        }
        _ => return None,
    })
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The fractional part of a number, in its unit.
fn fraction_of(fraction: &[u8], nanos_per_unit: u64) -> Duration {
    if fraction.is_empty() {
        return Duration::ZERO;
    }
    // Six digits of a second are microseconds; the API writes three. More digits of an hour would
    // exceed 64 bits.
    let (mut numerator, mut denominator) = (0, 1);
    for digit in fraction.iter().take(6) {
        numerator = numerator * 10 + u64::from(digit - b'0');
        denominator *= 10;
    }
    Duration::from_nanos(numerator * nanos_per_unit / denominator)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_every_form_seen() {
        for (text, millis) in [
            ("0s", 0),
            ("1ms", 1),
            ("6ms", 6),
            ("120ms", 120),
            ("8.64s", 8_640),
            ("59.369s", 59_369),
            ("1m13.588s", 73_588),
            ("14m24s", 864_000),
            ("20m52.666s", 1_252_666),
            ("6m0s", 360_000),
            ("28m48s", 1_728_000),
            ("14h29m11.04s", 52_151_040),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", " ", "5", "-5s", "s", "1x", "1s2", "1e3s", "99999999999999999999h", "5124095576030431h1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse("1.5h"), Some(Duration::from_mins(90)));
        assert_eq!(parse("1µs"), Some(Duration::from_micros(1)));
        assert_eq!(parse(".5s"), Some(Duration::from_millis(500)));
    }

    #[test]
    fn writes_truncated_milliseconds() {
        assert_eq!(format(Duration::from_micros(999)), "0s");
        assert_eq!(format(Duration::from_micros(1_999)), "1ms");
        assert_eq!(format(Duration::from_hours(1)), "1h0m0s");
    }

    proptest! {
        #[test]
        fn round_trips(millis in 0_u64..=100 * 24 * 3_600_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(format(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_read_without_harm(text in any::<String>()) {
            parse(&text);
        }

        #[test]
        fn any_text_of_digits_and_units_is_read_without_harm(text in "[0-9.hmsnuµ]{0,70}") {
            parse(&text);
        }
    }
}

//! Numbers with a unit: durations, sizes and ratios.

use std::time::Duration;

use toml::de::DeValue;

use super::key::Kind;
use super::tree::integer;
use super::value::Value;

/// The longest duration of any setting. A sum of a few of these can't overflow a clock.
const LONGEST: Duration = Duration::from_hours(24 * 400);

impl Value for Duration {
    const KIND: Kind = Kind::Duration;

    fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        // Zero needs no unit.
        match integer(value) {
            Some(0) => Ok(Self::ZERO),
            Some(number) => Err(Some(format!("{number} has no unit; write \"{number}s\" or \"{number}ms\""))),
            None => value.as_str().and_then(parse_duration).ok_or(None),
        }
    }

    fn show(&self) -> Option<toml::Value> {
        Some(format_duration(*self).into())
    }
}

/// Units by name, the largest first; a value is formatted with the first name of each size.
type Units = [(&'static str, u64)];

/// Units of time, in nanoseconds.
const TIMES: &Units = &[
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    // Parsed, but never used to format a value: hours are.
    ("d", 86_400_000_000_000),
];

/// Units of size, in bytes.
const SIZES: &Units = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
    // Parsed, but never used to format a value: bytes or powers of 1,024 are.
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
];

/// The unit of this name.
fn unit(name: &str, units: &Units) -> Option<u64> {
    units.iter().find(|(known, _)| *known == name.trim()).map(|(_, unit)| *unit)
}

/// An amount in the largest unit that divides it.
fn written(amount: u64, units: &Units) -> Option<String> {
    let (name, unit) = units.iter().find(|(_, unit)| amount.is_multiple_of(*unit))?;
    Some(format!("{}{name}", amount / unit))
}

/// Parses `"1.5s"`, `"250ms"`, `"1h30m"`; `"0"` needs no unit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let (name, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        total = total.checked_add(scale(&number, unit(name, TIMES)?)?)?;
        rest = after;
    }
    let total = Duration::from_nanos(total);
    (total <= LONGEST).then_some(total)
}

/// Formats a duration in the largest unit that divides it.
pub(crate) fn format_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let whole = u64::try_from(duration.as_nanos()).ok().and_then(|nanos| written(nanos, TIMES));
    whole.unwrap_or_else(|| format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos()))
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The size as an index, limited to the address space.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Value for Size {
    const KIND: Kind = Kind::Size;

    fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let bytes = || integer(value).and_then(|number| u64::try_from(number).ok()).map(Self);
        value.as_str().map_or_else(bytes, parse_size).ok_or(None)
    }

    fn show(&self) -> Option<toml::Value> {
        Some(format_size(*self).into())
    }
}

/// Parses `"64KiB"`, `"8 MiB"`, `"1GB"`, `"512"`.
fn parse_size(text: &str) -> Option<Size> {
    let (number, name) = split_number(text.trim())?;
    scale(&number, unit(name, SIZES)?).map(Size)
}

fn format_size(size: Size) -> String {
    let units = if size.0 == 0 { None } else { written(size.0, SIZES) };
    units.unwrap_or_else(|| "0B".to_owned())
}

/// A ratio: `0.5` or `"50%"`. Always finite.
impl Value for f64 {
    const KIND: Kind = Kind::Ratio;

    fn parse(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        let whole = || integer(value).and_then(|number| i32::try_from(number).ok()).map(Self::from);
        let parsed = match (value.as_float(), value.as_str().map(str::trim)) {
            (Some(number), _) => number.as_str().parse().ok(),
            (None, Some(text)) => match text.strip_suffix('%') {
                Some(percent) => percent.trim().parse().ok().map(|percent: Self| percent / 100.0),
                None => text.parse().ok(),
            },
            (None, None) => whole(),
        };
        parsed.filter(|number: &Self| number.is_finite()).ok_or(None)
    }

    fn show(&self) -> Option<toml::Value> {
        Some((*self).into())
    }
}

/// A decimal number: the digits before and after its point.
struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
}

/// Splits a number from the unit that follows.
fn split_number(text: &str) -> Option<(Decimal<'_>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let valid =
        !whole.is_empty() && !fraction.contains('.') && (number.len() == whole.len() || !fraction.is_empty());
    valid.then_some((Decimal { whole, fraction }, rest))
}

/// The number times a unit, exact, rounded down.
fn scale(number: &Decimal<'_>, unit: u64) -> Option<u64> {
    let whole = number.whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let digits = number.fraction.get(..number.fraction.len().min(12))?;
    let power = 10u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let fraction = format!("0{digits}").parse::<u128>().ok()? * u128::from(unit) / power;
    whole.checked_add(u64::try_from(fraction).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            (" 2 min ", 120_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.s",
            ".5s",
            "1.2.3s",
            "1 fortnight",
            "1e9s",
            "9999999999999h",
            "500d",
            "1s 2",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in
            [("512", 512), ("64KiB", 65_536), ("8 MiB", 8 << 20), ("1GB", 1_000_000_000), ("0.5MiB", 1 << 19)]
        {
            assert_eq!(parse_size(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5.5MiB", "8 mib", "1e3", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_formatted_reads_back(nanos in 0u64..34_560_000_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(Size(nanos))), Some(Size(nanos)));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _duration = parse_duration(&text);
            let _size = parse_size(&text);
        }
    }
}

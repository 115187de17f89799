//! Parsers of durations, fractions and counts, as written on the command line, in `x-simulate` and
//! in `/simulate/set`.

use std::time::Duration;

use thiserror::Error;

/// A parse error, with a message for the user.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    /// Creates an error with this message.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Prefixes the message with the name of the setting.
    pub(super) fn within(self, place: &str) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

/// Parses a duration: a number with `us`, `ms`, `s`, `m` or `h`, or a bare number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let text = text.trim();
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(not_a_time(text)),
    };
    let seconds = number.parse::<f64>().map_err(|_| not_a_time(text))? * scale;
    // At most a year, so that sums of a few durations stay in the range of an instant.
    if !(0.0..=31_536_000.0).contains(&seconds) {
        return Err(not_a_time(text));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| not_a_time(text))
}

fn not_a_time(text: &str) -> Problem {
    Problem::new(format!("`{text}` is not a time: write 50ms, 1.5s, 2m or 1h"))
}

/// Parses a fraction: a number from 0 to 1, or a percentage.
pub(super) fn fraction(text: &str) -> Result<f64, Problem> {
    let text = text.trim();
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    match number.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&(value * scale)) => Ok(value * scale),
        Ok(_) | Err(_) => Err(Problem::new(format!("`{text}` is not a share: write 0.05 or 5%"))),
    }
}

/// Parses a count: digits with optional `_` separators and an optional suffix `k` or `M`.
pub fn count(text: &str) -> Result<u64, Problem> {
    let problem = || Problem::new(format!("`{text}` is not a count: write 500, 30k or 2M"));
    let text = text.trim();
    let (digits, scale) = if let Some(digits) = text.strip_suffix(['k', 'K']) {
        (digits, 1_000)
    } else if let Some(digits) = text.strip_suffix(['m', 'M']) {
        (digits, 1_000_000)
    } else {
        (text, 1)
    };
    let value: u64 = digits.replace('_', "").parse().map_err(|_| problem())?;
    value.checked_mul(scale).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_shares_and_counts() {
        for (text, milliseconds) in
            [("50ms", 50), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000), ("3", 3_000), ("0s", 0)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "NaN", "inf", "1e30h", "5 seconds"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!((fraction("5%").unwrap() - 0.05).abs() < 1e-9);
        assert!(fraction("1.1").is_err() && fraction("NaN").is_err() && fraction("-0.1").is_err());
        assert_eq!((count("30K"), count("2m"), count("1_000")), (Ok(30_000), Ok(2_000_000), Ok(1_000)));
        assert!(count("99999999999999999999").is_err() && count("18446744073709551615k").is_err());
    }
}

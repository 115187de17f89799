//! Wall time in the form that people and support forms expect.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Formats a time in UTC with milliseconds by RFC 3339: `2026-11-22T03:04:05.678Z`.
///
/// Times before 1970 are shown as 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub SystemTime);

impl Rfc3339 {
    /// Parses a UTC time with any number of decimals, as in the log.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let mut time = time.splitn(3, ':');
        let (hour, minute) = (time.next()?.parse::<u64>().ok()?, time.next()?.parse::<u64>().ok()?);
        let second = time.next()?.parse::<f64>().ok()?;
        let is_valid = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && (0.0..61.0).contains(&second);
        let days = is_valid.then(|| days_of(year, month, day))?;
        let seconds = Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60);
        Some(Self(UNIX_EPOCH + seconds + Duration::from_secs_f64(second)))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let millis = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl serde::Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The date of a day number counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows_and_nothing_else() {
        for millis in [0, 951_782_400_000, 1_709_251_199_999, 1_795_316_645_678, 4_102_444_800_000] {
            let time = Rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
            let read = Rfc3339::parse(&time.to_string()).expect("what it shows").0;
            let difference = read.duration_since(time.0).unwrap_or_else(|error| error.duration());
            assert!(difference < Duration::from_micros(1), "{time}");
        }
        assert!(Rfc3339::parse("2026-11-30T06:11:07.123456789Z").is_some());
        for text in
            ["", "Z", "2026-11-30", "2026-13-30T06:11:07Z", "2026-11-30T06:11:07+01:00", "x-1-1T1:1:1Z"]
        {
            assert!(Rfc3339::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn shows_known_moments() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_316_645_678, "2026-11-22T03:04:05.678Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_millis(millis)).to_string(), expected);
        }
    }
}

//! Days and months of UTC, the periods of budgets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metrics::BudgetPeriod;

const DAY: u64 = 24 * 60 * 60;

impl BudgetPeriod {
    /// The number of the period that contains a time: days since 1970, or months since the year 0.
    pub fn number(self, now: SystemTime) -> u64 {
        let days = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY;
        match self {
            Self::Day => days,
            Self::Month => month_of(days),
        }
    }

    /// The time until the next period begins.
    pub fn left(self, now: SystemTime) -> Duration {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut next = since.as_secs() / DAY + 1;
        if self == Self::Month {
            let this = month_of(next - 1);
            while month_of(next) == this {
                next += 1;
            }
        }
        Duration::from_secs(next * DAY).saturating_sub(since)
    }
}

/// The month of a day since 1970, counted from the year 0 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn month_of(days: u64) -> u64 {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March is 0, so that February, with its variable length, is last.
    let month = (5 * day + 2) / 153;
    (era * 400 + year) * 12 + month + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_calendar_says() {
        let at = |text: &str| httpdate::parse_http_date(text).unwrap();
        for (now, days, to_month) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0, 31.0),
            ("Sat, 28 Feb 2026 18:00:00 GMT", 0.25, 0.25),
            ("Mon, 28 Feb 2028 00:00:00 GMT", 1.0, 2.0),
            ("Mon, 30 Nov 2026 12:00:00 GMT", 0.5, 0.5),
            ("Thu, 31 Dec 2026 00:00:00 GMT", 1.0, 1.0),
            ("Mon, 01 Feb 2100 00:00:00 GMT", 1.0, 28.0),
        ] {
            let left = |period: BudgetPeriod| period.left(at(now)).as_secs_f64() / DAY as f64;
            assert!((left(BudgetPeriod::Day) - days).abs() < 1e-9, "{now}");
            assert!(
                (left(BudgetPeriod::Month) - to_month).abs() < 1e-9,
                "{now}: {}",
                left(BudgetPeriod::Month)
            );
        }
        let month = |text| BudgetPeriod::Month.number(at(text));
        assert_eq!(month("Fri, 01 Jan 2027 00:00:00 GMT"), month("Thu, 31 Dec 2026 23:59:59 GMT") + 1);
    }
}

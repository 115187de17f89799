//! The time to wait in a message.

use std::time::{Duration, SystemTime};

use super::words::{Word, cut, unit_of_time};
use crate::openai::moment::date;

/// Phrases that precede a time to wait; a phrase that contains another comes first.
const LEADS: [&str; 15] = [
    "try again in",
    "try again after",
    "retry again in",
    "retry after",
    "retry-after",
    "try after",
    "retry in",
    "retrydelay",
    "wait",
    "resets in",
    "reset in",
    "resets after",
    "reset after",
    "replenished in",
    "available in",
];
/// Phrases after which a number without a unit is in seconds.
const OF_SECONDS: [&str; 2] = ["retry after", "retry-after"];
/// Phrases that precede the time of day or date to come back.
const LEADS_OF_MOMENTS: [&str; 6] =
    ["again at", "retry at", "resets at", "reset at", "available at", "try after"];

/// The time to wait in a message: "try again in 1m26.4s", "Retry after 55 seconds", "wait 1 hour
/// and 5 minutes".
pub fn wait(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    LEADS.iter().find_map(|lead| {
        behind(&lower, lead).find_map(|text| clock(text).or_else(|| time(text, OF_SECONDS.contains(lead))))
    })
}

/// The date in a message: "try again at 2026-01-27T12:00:30Z", "resets at Tue, 27 Jan 2026 12:00:30
/// GMT".
pub fn moment(message: &str) -> Option<SystemTime> {
    let lower = message.to_ascii_lowercase();
    LEADS_OF_MOMENTS.iter().find_map(|lead| {
        behind(&lower, lead).find_map(|text| {
            let text = &message[message.len() - text.len()..];
            let ends = text.match_indices([' ', '\n']).map(|(end, _)| end).chain([text.len()]).take(6);
            ends.filter_map(|end| date(text[..end].trim_end_matches(['.', ',', ';', ')']))).last()
        })
    })
}

/// The text after each occurrence of a phrase as whole words.
fn behind<'a>(lower: &'a str, lead: &'a str) -> impl Iterator<Item = &'a str> {
    let places = lower.match_indices(lead).map(|(at, lead)| &lower[at + lead.len()..]);
    places.filter_map(|text| {
        let rest = text.trim_start_matches([' ', ':', '=', '"']);
        (rest.len() < text.len()).then_some(rest)
    })
}

/// The time at the start of a text in .NET's notation, `[D.]HH:MM:SS` (Azure API Management).
fn clock(text: &str) -> Option<Duration> {
    let end =
        text.find(|sign: char| !(sign.is_ascii_digit() || matches!(sign, ':' | '.'))).unwrap_or(text.len());
    let mut parts = text[..end].trim_end_matches('.').splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (days, hours) = hours.split_once('.').unwrap_or(("0", hours));
    let [days, hours, minutes, seconds] =
        [days, hours, minutes, seconds].map(|part| part.parse::<u32>().ok());
    let hours = u64::from(days?) * 24 + u64::from(hours?);
    Some(Duration::from_secs(hours * 3600 + u64::from(minutes?) * 60 + u64::from(seconds?)))
}

/// The time at the start of a text.
fn time(text: &str, bare_is_seconds: bool) -> Option<Duration> {
    let words = cut(text.get(..text.floor_char_boundary(96))?);
    let mut words = words.as_slice();
    while let [
        Word::Bind | Word::Text("about" | "at" | "least" | "approximately" | "another" | "for" | "up" | "to"),
        rest @ ..,
    ] = words
    {
        words = rest;
    }
    let mut total: Option<Duration> = None;
    loop {
        words = match words {
            [Word::Number(Some(number)), Word::Text(unit), rest @ ..] => {
                let Some(unit) = unit_of_time(unit) else {
                    return total.or_else(|| seconds(*number).filter(|_| bare_is_seconds));
                };
                let part = Duration::try_from_secs_f64(number * unit.as_secs_f64()).ok()?;
                total = Some(total.unwrap_or_default().checked_add(part)?);
                rest
            }
            [Word::Number(Some(number)), ..] if bare_is_seconds && total.is_none() => {
                return seconds(*number);
            }
            [Word::Text("and") | Word::Stop, rest @ ..] if total.is_some() => match rest {
                [Word::Number(_), Word::Text(unit), ..] if unit_of_time(unit).is_some() => rest,
                _ => return total,
            },
            _ => return total,
        };
    }
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_in_every_form() {
        for (message, millis) in [
            ("Please try again in 6ms. Contact us", Some(6)),
            ("Please try again in 1m26.4s.", Some(86_400)),
            ("PLEASE TRY AGAIN IN 14h29m11.04s", Some(52_151_040)),
            ("try again after 1 seconds", Some(1_000)),
            ("Please retry after 55 seconds. Please go here", Some(55_000)),
            ("Retry after 30.", Some(30_000)),
            ("Please wait 53216 seconds before retrying.", Some(53_216_000)),
            ("Please retry in 26.660853464s.", Some(26_660)),
            ("try again in about 2 hours", Some(7_200_000)),
            ("wait for 1 hour and 5 minutes", Some(3_900_000)),
            ("resets in 2 days, 3 hours", Some(183_600_000)),
            ("Your limit resets in 3 days.", Some(259_200_000)),
            ("Quota will be replenished in 01:12:33.", Some(4_353_000)),
            ("Quota will be replenished in 13.00:40:20.", Some(1_125_620_000)),
            ("Quota will be replenished in 01:12", None),
            ("try again in a moment", None),
            ("Rate limit exceeded, retry after: 5s", Some(5_000)),
            ("rate_limited (retry-after=7)", Some(7_000)),
            ("Please upgrade or wait 6 seconds for your limit to reset.", Some(6_000)),
            ("Please wait before trying again. Then wait 9 seconds.", Some(9_000)),
            ("Request was throttled. Expected available in 17 seconds.", Some(17_000)),
            ("It is available in 5 regions", None),
            ("waiting 5 seconds was too short", None),
            ("try again in 5", None),
            ("try again in 5 attempts", None),
            ("try again in 99999999999999999999 days", None),
            ("no hint here", None),
        ] {
            let told = wait(message).map(|wait| u64::try_from(wait.as_millis()).unwrap());
            assert_eq!(told, millis, "{message}");
        }
    }

    #[test]
    fn reads_moments_in_every_form() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_515_230);
        for (message, told) in [
            ("Try again at 2026-01-27T12:00:30Z.", true),
            ("Your limit resets at: 2026-01-27 12:00:30 UTC, as every day", true),
            ("It is available at Tue, 27 Jan 2026 12:00:30 GMT (in a while)", true),
            ("LİMİT: try again at 2026-01-27T12:00:30Z", true),
            ("Your limit will reset at 2026-01-27 12:00:30", false),
            ("try again at noon", false),
            ("at 2026-01-27T12:00:30Z it failed", false),
        ] {
            assert_eq!(moment(message), told.then_some(noon), "{message}");
        }
    }
}

//! The unit and the window in a refusal's message.

use std::time::Duration;

use super::Unit;
use super::words::{Word, unit_of_time};
use crate::openai::{decimal, retry_hint};

/// Chinese words for windows: this day, each day, each week, each month.
const CHINESE_WINDOWS: [(&str, Duration); 4] = [
    ("今日", Duration::from_hours(24)),
    ("每日", Duration::from_hours(24)),
    ("每周", Duration::from_hours(7 * 24)),
    ("每月", Duration::from_hours(30 * 24)),
];

/// The unit and window of the limit: from "tokens per min", else from an acronym (TPM, RPD), else
/// from other words ("call rate limit", "60 / min", "per 10 seconds", "daily").
pub(super) fn unit_and_window(words: &[Word<'_>]) -> (Option<Unit>, Option<Duration>) {
    let (mut unit, mut window) = (None, None);
    for at in 0..words.len() {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        match &words[at..] {
            [Word::Text("per" | "every") | Word::Bind, rest @ ..] => {
                let Some(over) =
                    time_at(rest).filter(|over| !over.is_zero() && *over <= retry_hint::MAX_HINT)
                else {
                    continue;
                };
                match before.and_then(of_noun) {
                    Some(noun) => return (Some(noun), Some(over)),
                    None => window = window.or(Some(over)),
                }
            }
            [noun, Word::Text("in" | "within" | "each" | "a" | "an"), rest @ ..] => {
                if let (Some(noun), Some(over)) = (of_noun(noun), time_at(rest)) {
                    return (Some(noun), Some(over));
                }
            }
            [Word::Text("limit"), Word::Text("reached" | "exceeded"), Word::Text("for"), rest @ ..] => {
                window = window.or_else(|| time_at(rest));
            }
            [Word::Text("daily"), ..] => window = window.or(Some(Duration::from_hours(24))),
            [Word::Text(word @ ("hourly" | "weekly" | "monthly")), ..] => {
                window = window.or_else(|| unit_of_time(word.strip_suffix("ly")?));
            }
            [noun, Word::Text("rate"), Word::Text("limit" | "limiting"), ..]
            | [noun, Word::Text("limit"), ..]
            | [noun, Word::Text("volume"), Word::Text("quota"), ..] => unit = unit.or_else(|| of_noun(noun)),
            [Word::Text("too"), Word::Text("many"), Word::Text("tokens"), ..] => {
                unit = unit.or(Some(Unit::Tokens));
            }
            _ => {}
        }
    }
    let acronym = words.iter().find_map(|word| match word {
        Word::Text(text) => acronym(text),
        Word::Number(_) | Word::Bind | Word::Stop => None,
    });
    acronym.map_or((unit, window), |(unit, window)| (Some(unit), Some(window)))
}

/// The window in a Chinese message: a day, a week, a month, or a number of hours.
pub(super) fn window_in_chinese(message: &str) -> Option<Duration> {
    let named = CHINESE_WINDOWS.iter().find(|(word, _)| message.contains(word));
    named.map(|(_, window)| *window).or_else(|| {
        let (before, _) = message.split_once("小时")?;
        let before = before.trim_end();
        let digits = before.trim_end_matches(|sign: char| sign.is_ascii_digit());
        let hours = decimal::whole(&before.as_bytes()[digits.len()..])?;
        hours.checked_mul(3_600).map(Duration::from_secs).filter(|window| *window <= retry_hint::MAX_HINT)
    })
}

/// The time at the start of some words: `day`, `86400 s`.
pub(super) fn time_at(words: &[Word<'_>]) -> Option<Duration> {
    match words {
        [Word::Text(name), ..] => unit_of_time(name),
        [Word::Number(Some(count)), Word::Text(name), ..] => {
            Duration::try_from_secs_f64(unit_of_time(name)?.as_secs_f64() * count).ok()
        }
        _ => None,
    }
}

/// The unit and the window of TPM, RPD and similar acronyms.
pub(super) fn acronym(word: &str) -> Option<(Unit, Duration)> {
    let unit = match word.as_bytes().first()? {
        b't' => Unit::Tokens,
        b'r' | b'q' => Unit::Requests,
        _ => return None,
    };
    let window = match word.get(1..)? {
        "ps" => Duration::from_secs(1),
        "pm" => Duration::from_mins(1),
        "ph" => Duration::from_hours(1),
        "pd" => Duration::from_hours(24),
        _ => return None,
    };
    Some((unit, window))
}

pub(super) fn is_acronym(words: &[Word<'_>]) -> bool {
    words.iter().any(|word| matches!(word, Word::Text(text) if acronym(text).is_some()))
}

pub(super) fn of_noun(word: &Word<'_>) -> Option<Unit> {
    match word {
        Word::Text("token" | "tokens") => Some(Unit::Tokens),
        Word::Text("request" | "requests" | "call" | "calls" | "queries") => Some(Unit::Requests),
        Word::Text(_) | Word::Number(_) | Word::Bind | Word::Stop => None,
    }
}

//! Splits a refusal's message into lower-case words and numbers.

use std::time::Duration;

use crate::openai::decimal;

/// A word or a number of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word<'a> {
    /// Letters, lower case.
    Text(&'a str),
    /// Digits, with thousands separators or a fraction; `None` if the number is too large.
    Number(Option<f64>),
    /// One of `:`, `/` and `=`, which bind a number to its label or unit.
    Bind,
    /// Any other sign.
    Stop,
}

/// Splits a lower-case message into at most [`MOST`] words.
pub(super) fn cut(lower: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = lower;
    let mut is_apart = true;
    while let Some(first) = rest.bytes().next() {
        if words.len() == MOST {
            break;
        }
        let is_negative = first == b'-' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) && is_apart;
        is_apart = first.is_ascii_whitespace();
        if first.is_ascii_digit() || is_negative {
            let (number, after) = number(rest.trim_start_matches('-'));
            words.push(Word::Number(number.filter(|_| !is_negative)));
            rest = after;
        } else if first.is_ascii_alphabetic() {
            let end = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
            words.push(Word::Text(&rest[..end]));
            rest = &rest[end..];
        } else {
            match first {
                b':' | b'/' | b'=' => words.push(Word::Bind),
                // Characters that separate words without ending a phrase.
                b' ' | b'\t' | b'\n' | b'\r' | b'-' | b'_' | b'(' | b')' | b'*' | b'`' | b'\'' | b'"' => {}
                _ => words.push(Word::Stop),
            }
            let mut letters = rest.chars();
            letters.next();
            rest = letters.as_str();
        }
    }
    words
}

/// Most words of a message; a message is at most 2 KiB.
const MOST: usize = 1024;

/// A number such as `10000`, `1,500,000`, `10_000` or `60.000000`, and the rest of the text.
fn number(text: &str) -> (Option<f64>, &str) {
    let bytes = text.as_bytes();
    let mut end = digits(bytes);
    let mut value = decimal::whole(&bytes[..end]).map(|number| number as f64);
    // Thousands separators: exactly three digits follow each.
    while let Some(b',' | b'_') = bytes.get(end) {
        let group = &bytes[end + 1..];
        if digits(group) != 3 {
            break;
        }
        let group = decimal::whole(&group[..3]).unwrap_or_default();
        value = value.map(|value| value * 1000.0 + group as f64);
        end += 4;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(&bytes[end + 1..]);
        if fraction > 0 {
            let part = text[end..=end + fraction].parse().unwrap_or(0.0_f64);
            value = value.map(|value| value + part);
            end += 1 + fraction;
        }
    }
    (value, &text[end..])
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The duration of a unit of time by its name; a month has thirty days.
pub(in crate::openai) fn unit_of_time(word: &str) -> Option<Duration> {
    Some(match word {
        "ms" | "millisecond" | "milliseconds" => Duration::from_millis(1),
        "s" | "sec" | "secs" | "second" | "seconds" => Duration::from_secs(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Duration::from_mins(1),
        "h" | "hr" | "hrs" | "hour" | "hours" => Duration::from_hours(1),
        "d" | "day" | "days" => Duration::from_hours(24),
        "week" | "weeks" => Duration::from_hours(7 * 24),
        "month" | "months" => Duration::from_hours(30 * 24),
        _ => return None,
    })
}

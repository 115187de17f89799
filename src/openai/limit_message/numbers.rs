//! The numbers in a refusal's message: the limit, and the amount used.

use std::time::Duration;

use super::says;
use super::window::{acronym, is_acronym, of_noun, time_at};
use super::words::{Word, unit_of_time};

/// One of several limits in a message.
#[derive(Clone, Copy)]
pub(super) struct Spent {
    pub(super) window: Duration,
    pub(super) used: u64,
    pub(super) limit: u64,
}

/// The spent limit of "Minute limit: 0 / 1600000 tokens. Day limit: 2105 / 10 tokens." (DIAL); of
/// several the one with the longest window.
pub(super) fn spent_of_several(words: &[Word<'_>]) -> Option<Spent> {
    let spent = words.windows(6).filter_map(|words| match words {
        [
            Word::Text(unit),
            Word::Text("limit"),
            Word::Bind,
            Word::Number(Some(used)),
            Word::Bind,
            Word::Number(Some(limit)),
        ] if used >= limit => {
            Some(Spent { window: unit_of_time(unit)?, used: whole(*used)?, limit: whole(*limit)? })
        }
        _ => None,
    });
    spent.max_by_key(|spent| spent.window)
}

/// The number after a label: `Limit 10000`, `limit: 1,500,000`, `Limit: 60.000000 / min`, `rate
/// limit of 150`. A label without a number is skipped for the next one.
pub(super) fn number_after(words: &[Word<'_>], label: &str) -> Option<u64> {
    if let Some(number) = number_of_pair(words, label) {
        return whole(number);
    }
    let labels = words.iter().enumerate().filter(|(_, word)| **word == Word::Text(label));
    labels
        .map(|(at, _)| &words[at + 1..])
        .find_map(|rest| match rest {
            [Word::Number(number), ..]
            | [Word::Bind | Word::Text("of" | "is" | "usage"), Word::Number(number), ..]
            | [Word::Text("is" | "usage"), Word::Bind, Word::Number(number), ..] => Some(*number),
            _ => None,
        })?
        .and_then(whole)
}

/// The number of a label in "(actual/limit): 65605/16000" (xAI).
fn number_of_pair(words: &[Word<'_>], label: &str) -> Option<f64> {
    words.windows(7).find_map(|pair| match pair {
        [
            Word::Text(one),
            Word::Bind,
            Word::Text(other),
            Word::Bind,
            Word::Number(first),
            Word::Bind,
            Word::Number(second),
        ] => match label {
            label if label == *one => *first,
            label if label == *other => *second,
            _ => None,
        },
        _ => None,
    })
}

/// The number in "max RPM: 20" or "maximum requests per minute: 20".
pub(super) fn number_after_most(words: &[Word<'_>]) -> Option<u64> {
    let most = words.iter().position(|word| matches!(word, Word::Text("max" | "maximum")))?;
    let near = words.get(most + 1..(most + 6).min(words.len()))?;
    // Only for tokens or requests per time: "max concurrency: 3" limits something else.
    if near.iter().all(|word| of_noun(word).is_none()) && !is_acronym(near) {
        return None;
    }
    near.windows(2)
        .find_map(|pair| match pair {
            [Word::Bind | Word::Text("of" | "is"), Word::Number(number)] => Some(*number),
            _ => None,
        })?
        .and_then(whole)
}

/// The number in "limited to 10 API calls / minute", "at most 5 requests in 10 seconds", "only 60
/// RPM" or "5 per 1 minute": a count per time, in a message about a maximum.
pub(super) fn number_of_rate(words: &[Word<'_>]) -> Option<u64> {
    if !says(
        words,
        &["limit", "limits", "limited", "allow", "allows", "allowed", "max", "maximum", "most", "only"],
    ) {
        return None;
    }
    words.iter().enumerate().find_map(|(at, word)| {
        let Word::Number(Some(number)) = *word else { return None };
        let rest = &words[at + 1..];
        let noun = rest.iter().take(3).position(|word| of_noun(word).is_some());
        let is_rate = match (noun.map(|noun| &rest[noun + 1..]), rest) {
            (
                Some(
                    [
                        Word::Text("per" | "every" | "in" | "within" | "each" | "a" | "an") | Word::Bind,
                        time @ ..,
                    ],
                ),
                _,
            )
            // A count without a noun is of requests.
            | (None, [Word::Text("per") | Word::Bind, time @ ..]) => time_at(time).is_some(),
            (None, [Word::Text(text), ..]) => acronym(text).is_some(),
            _ => false,
        };
        is_rate.then(|| whole(number))?
    })
}

/// A count as a whole number; `None` if it is not one.
fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
}

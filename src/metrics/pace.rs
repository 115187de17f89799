//! The time until responses begin, by minute, to detect when an upstream is slower than usual.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Minutes that are kept.
const MINUTES: usize = 60;
/// The newest minutes, whose mean is the present value.
const NOW: u64 = 2;
/// The least number of responses for a mean.
const ENOUGH: u64 = 5;
/// The bits in a slot for its minute, its responses, and its milliseconds.
const MINUTE_BITS: u32 = 16;
const ANSWER_BITS: u32 = 20;
const TIME_BITS: u32 = 28;

/// A ring of minutes; each slot packs its minute (modulo 65,536), its responses and the sum of
/// their milliseconds into one word, so that counting is one atomic exchange.
#[derive(Debug)]
pub struct Pace([AtomicU64; MINUTES]);

/// How slowly a model's responses begin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slowness {
    /// The model.
    pub model: String,
    /// The mean of the last two minutes, seconds.
    pub now_seconds: f64,
    /// The median of the means of the minutes before, within an hour, seconds.
    pub usual_seconds: f64,
    /// Responses in the last two minutes.
    pub answers: u64,
}

#[derive(Clone, Copy)]
struct Minute {
    number: u64,
    answers: u64,
    millis: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; MINUTES])
    }
}

impl Minute {
    fn of(word: u64) -> Self {
        Self {
            number: word >> (ANSWER_BITS + TIME_BITS),
            answers: word >> TIME_BITS & ((1 << ANSWER_BITS) - 1),
            millis: word & ((1 << TIME_BITS) - 1),
        }
    }

    fn word(self) -> u64 {
        self.number << (ANSWER_BITS + TIME_BITS) | self.answers << TIME_BITS | self.millis
    }

    /// Adds one response; a full minute stays unchanged.
    fn with(self, millis: u64) -> Self {
        let (answers, millis) = (self.answers + 1, self.millis + millis);
        if answers >> ANSWER_BITS > 0 || millis >> TIME_BITS > 0 {
            self
        } else {
            Self { answers, millis, ..self }
        }
    }

    fn mean(self) -> f64 {
        self.millis as f64 / self.answers.max(1) as f64 / 1e3
    }
}

impl Pace {
    /// Counts a response whose head took `time` from the start of its attempt; `since` is the time
    /// since the start of the process.
    pub fn observe(&self, time: Duration, since: Duration) {
        // Starts at 1: a slot of zeros was never used.
        let number = (since.as_secs() / 60 + 1) & ((1 << MINUTE_BITS) - 1);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 24);
        let count = |word: u64| {
            let held = Minute::of(word);
            let held = if held.number == number { held } else { Minute { number, answers: 0, millis: 0 } };
            Some(held.with(millis).word())
        };
        // Always succeeds: the closure always returns a value.
        self.0[place(number)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok();
    }

    /// The present and the usual time; `None` if there are too few responses.
    pub fn slowness(&self, model: &str, since: Duration) -> Option<Slowness> {
        let current = (since.as_secs() / 60 + 1) & ((1 << MINUTE_BITS) - 1);
        let age = |minute: &Minute| current.wrapping_sub(minute.number) & ((1 << MINUTE_BITS) - 1);
        let all = self.0.iter().map(|word| Minute::of(word.load(Ordering::Relaxed)));
        let (mut answers, mut millis, mut usual) = (0, 0, Vec::new());
        for minute in all.filter(|minute| minute.answers > 0) {
            match age(&minute) {
                age if age < NOW => {
                    answers += minute.answers;
                    millis += minute.millis;
                }
                age if age < MINUTES as u64 => usual.push(minute.mean()),
                _ => {}
            }
        }
        if answers < ENOUGH || usual.is_empty() {
            return None;
        }
        usual.sort_by(f64::total_cmp);
        let now_seconds = millis as f64 / answers as f64 / 1e3;
        Some(Slowness {
            model: model.to_owned(),
            now_seconds,
            usual_seconds: usual[usual.len() / 2],
            answers,
        })
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_compared_with_the_minutes_before() {
        let pace = Pace::default();
        let minute = |number: u64| Duration::from_mins(number);
        for number in 0..10 {
            for _ in 0..6 {
                pace.observe(Duration::from_millis(400), minute(number));
            }
        }
        let same = pace.slowness("gpt-5", minute(9)).unwrap();
        assert_eq!((same.now_seconds, same.usual_seconds, same.answers), (0.4, 0.4, 12));
        for _ in 0..5 {
            pace.observe(Duration::from_secs(21), minute(12));
        }
        let slow = pace.slowness("gpt-5", minute(12)).unwrap();
        assert_eq!((slow.now_seconds, slow.usual_seconds), (21.0, 0.4));
        assert_eq!(pace.slowness("gpt-5", minute(90)), None, "an hour later nothing is known");
    }

    #[test]
    fn too_few_answers_say_nothing_and_a_flood_overflows_nothing() {
        let pace = Pace::default();
        pace.observe(Duration::from_secs(1), Duration::ZERO);
        assert_eq!(pace.slowness("gpt-5", Duration::from_mins(3)), None);
        for _ in 0..100 {
            pace.observe(Duration::MAX, Duration::ZERO);
        }
        let held = Minute::of(pace.0[1].load(Ordering::Relaxed));
        assert_eq!(held.number, 1);
        assert!(held.answers <= 101);
    }
}

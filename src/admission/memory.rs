//! What was learned of limits, kept over a restart: how credentials are called, families of models,
//! and numbers. Never a secret.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::limits::{FoundRate, Slot};

/// The first line of the text, with its version.
const HEADER: &str = "weir learned 1";
/// Scopes that are remembered at most.
const MOST: usize = 10_000;
/// After this time what was learned counts half, and after the second one nothing: limits are
/// raised and lowered.
const HALF: Duration = Duration::from_hours(6);
const OLDEST: Duration = Duration::from_hours(24);
/// Times are kept this coarsely, so that the text of a scope in use does not change with each
/// second.
const STEP: u64 = 60;

/// What was learned of the limits of one upstream, for one scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Learned {
    /// The upstream's name.
    pub(super) upstream: Box<str>,
    /// The limits that it told of.
    pub(super) limits: Vec<(Slot, f64)>,
    /// What refusals found of limits that it does not tell of.
    pub(super) rates: Vec<FoundRate>,
}

/// How a scope is called over a restart: whose it is, and its models.
pub(super) type ScopeName = (u64, Box<str>);

/// What was learned of each scope, and when it was in use last, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<ScopeName, (u64, Vec<Learned>)>);

impl Memory {
    /// What an earlier process wrote, but for what is too old.
    ///
    /// # Errors
    /// That it is no such text, or of another version.
    pub(super) fn read(text: &str, now: SystemTime) -> Result<Self, Unknown> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(Unknown);
        }
        let mut memory = Self::default();
        for line in lines.take(MOST) {
            let (name, used, learned) = line_of(line).ok_or(Unknown)?;
            if weight(used, now).is_some() {
                memory.0.entry(name).or_insert((used, Vec::new())).1.push(learned);
            }
        }
        Ok(memory)
    }

    /// What is remembered of a scope, and how much it counts, from 0 to 1.
    pub(super) fn of(&self, name: &ScopeName, now: SystemTime) -> Option<(&[Learned], f64)> {
        let (used, learned) = self.0.get(name)?;
        Some((learned, weight(*used, now)?))
    }

    /// Takes what a scope knows, which was in use until `used`. Of a scope that knows nothing yet
    /// the old stays.
    pub(super) fn keep(&mut self, name: ScopeName, learned: Vec<Learned>, used: SystemTime) {
        // Models are named by callers: such a name would be a line of its own.
        let fits =
            !name.1.chars().any(char::is_control) && (self.0.len() < MOST || self.0.contains_key(&name));
        if fits && !learned.is_empty() {
            self.0.insert(name, (seconds(used) / STEP * STEP, learned));
        }
    }

    /// The text that [`Self::read`] reads.
    pub(super) fn text(&self, now: SystemTime) -> String {
        let mut lines: Vec<String> = Vec::new();
        for ((name, family), (used, learned)) in &self.0 {
            if weight(*used, now).is_none() {
                continue;
            }
            for Learned { upstream, limits, rates } in learned {
                let mut items = String::new();
                for (slot, limit) in limits {
                    let _infallible = write!(items, "{}={limit:.0},", slot.as_str());
                }
                for FoundRate { unit, pace, bound, ahead } in rates {
                    let slot = Slot::by_minute(*unit).as_str();
                    let _infallible = write!(items, "{slot}~{pace:.3}/{bound:.0}/{ahead:.0},");
                }
                lines.push(format!("{used} {name:016x} {upstream} {items} {family}\n"));
            }
        }
        lines.sort();
        format!("{HEADER}\n{}", lines.concat())
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How much something counts that was learned then; nothing where it is too old. A clock that was
/// set back makes it new.
fn weight(used: u64, now: SystemTime) -> Option<f64> {
    let age = Duration::from_secs(seconds(now).saturating_sub(used));
    (age <= OLDEST).then(|| 0.5_f64.powf(age.as_secs_f64() / HALF.as_secs_f64()))
}

fn line_of(line: &str) -> Option<(ScopeName, u64, Learned)> {
    let mut words = line.splitn(5, ' ');
    let used = words.next()?.parse().ok()?;
    let name = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut learned = Learned { upstream: words.next()?.into(), ..Learned::default() };
    for item in words.next()?.split_terminator(',').take(2 * Slot::ALL.len()) {
        let (slot, numbers) = item.split_once(['=', '~'])?;
        let slot = Slot::ALL.into_iter().find(|known| known.as_str() == slot)?;
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number > 0.0);
        match numbers.split_once('/') {
            None => learned.limits.push((slot, number(numbers).filter(|limit| limit.is_finite())?)),
            Some((pace, rest)) => {
                let (bound, ahead) = rest.split_once('/')?;
                let ahead = ahead.parse::<f64>().ok().filter(|ahead| (0.0..1e15).contains(ahead))?;
                let (unit, pace, bound) = (slot.unit(), number(pace)?, number(bound)?);
                learned.rates.push(FoundRate { unit, pace, bound, ahead });
            }
        }
    }
    Some(((name, words.next()?.into()), used, learned))
}

/// A text that is not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no record of learned limits that this version can read")]
pub struct Unknown;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::limits::Unit;

    fn at(hours: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000 + hours)
    }

    fn learned() -> Vec<Learned> {
        vec![Learned {
            upstream: "upstream".into(),
            limits: vec![(Slot::TokensPerMinute, 90_000.0)],
            rates: vec![FoundRate { unit: Unit::Requests, pace: 9.75, bound: f64::INFINITY, ahead: 27.0 }],
        }]
    }

    #[test]
    fn what_is_written_is_read_and_counts_less_with_its_age() {
        let mut memory = Memory::default();
        let name: ScopeName = (7, "gpt-5".into());
        memory.keep(name.clone(), learned(), at(0));
        memory.keep(name.clone(), Vec::new(), at(1));
        memory.keep((8, "a\nb".into()), learned(), at(0));
        let text = memory.text(at(0));
        assert_eq!(
            text,
            "weir learned 1\n1800000000 0000000000000007 upstream tokens_per_minute=90000,requests_per_minute~9.750/inf/27, gpt-5\n"
        );
        let read = Memory::read(&text, at(6)).unwrap();
        let (known, weight) = read.of(&name, at(6)).unwrap();
        assert_eq!((known, weight), (&learned()[..], 0.5));
        assert!(read.of(&name, at(25)).is_none() && read.of(&(9, "gpt-5".into()), at(6)).is_none());
        assert_eq!(read.text(at(6)), text, "what is not in use yet is kept");
        assert_eq!(Memory::read(&text, at(25)).unwrap().text(at(25)), "weir learned 1\n");
    }

    #[test]
    fn what_is_no_such_text_is_refused() {
        for text in [
            "",
            "weir learned 2\n",
            "weir learned 1\nx",
            "weir learned 1\n1 2 u x=1, m",
            "weir learned 1\n1 2 u requests_per_minute~-1/1/0, m",
        ] {
            assert_eq!(Memory::read(text, at(0)).err(), Some(Unknown), "{text:?}");
        }
    }
}

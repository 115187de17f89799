//! What replicas tell each other of their upstreams: limits, pauses, outages. Pure.
//!
//! A note is written when something was learned, and read by each replica once. What was heard from another is not told again.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::{Knowledge, Slot, Told};
use crate::clock::Instant;

use super::message::{Note, ScopeKey};

/// A limit is worth telling to replicas that begin within this time; half of it later it is told anew.
const LIMITS_HOLD: Duration = Duration::from_hours(1);
/// An outage is told anew while it lasts.
const OUTAGE_HOLDS: Duration = Duration::from_mins(1);
/// How long the others are told that an outage is over.
const RECOVERY_HOLDS: Duration = Duration::from_secs(10);
/// Pauses that differ by less are one.
const SAME_PAUSE: Duration = Duration::from_millis(250);
/// Notes of one exchange.
const MOST_NOTES: usize = 256;

/// The kinds of notes, by the letter that ends their field.
const LIMITS: char = 'l';
const PAUSE: char = 'p';
const OUTAGE: char = 'o';

/// What was told and heard of one scope.
#[derive(Debug)]
struct Known {
    limits: Vec<(Slot, f64)>,
    limits_at: Instant,
    /// What another said of them last.
    heard: Vec<(Slot, f64)>,
    paused_until: Instant,
    outage: Outage,
}

/// Who said last that the upstream fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outage {
    None,
    /// Another replica; whether it is so here shows later.
    Heard,
    /// It is so here, and the others know it since then.
    Open(Instant),
}

/// What was told and heard.
#[derive(Debug, Default)]
pub(super) struct Notes(HashMap<ScopeKey, Known>);

impl Notes {
    /// What the others don't know yet.
    pub(super) fn news(&mut self, scopes: &[(ScopeKey, Knowledge)], now: Instant) -> Vec<Note> {
        self.0.retain(|key, _| scopes.iter().any(|(of, _)| of == key));
        let mut news = Vec::new();
        for (key, knowledge) in scopes {
            if news.len() >= MOST_NOTES {
                break;
            }
            let known = known(&mut self.0, *key, now);
            let mut tell = |kind: char, ttl: Duration, text: String| {
                news.push(Note { field: format!("{}{kind}", key.text()), ttl, text });
            };
            let again = now.saturating_duration_since(known.limits_at) > LIMITS_HOLD / 2;
            if !knowledge.limits.is_empty() && (again || known.limits != knowledge.limits) {
                (known.limits, known.limits_at) = (knowledge.limits.clone(), now);
                if again || known.limits != known.heard {
                    tell(LIMITS, LIMITS_HOLD, text_of(&known.limits));
                }
            }
            if !knowledge.pause.is_zero() && now + knowledge.pause > known.paused_until + SAME_PAUSE {
                known.paused_until = now + knowledge.pause;
                tell(PAUSE, knowledge.pause, String::new());
            }
            match (known.outage, knowledge.failing_for) {
                (Outage::None | Outage::Heard, None) => known.outage = Outage::None,
                // It was believed: who told it tells it anew.
                (Outage::Heard, Some(_)) => known.outage = Outage::Open(now),
                (Outage::Open(told), Some(_)) if now < told + OUTAGE_HOLDS / 2 => {}
                (Outage::None | Outage::Open(_), Some(failing_for)) => {
                    known.outage = Outage::Open(now);
                    tell(OUTAGE, OUTAGE_HOLDS, failing_for.as_millis().to_string());
                }
                (Outage::Open(_), None) => {
                    known.outage = Outage::None;
                    tell(OUTAGE, RECOVERY_HOLDS, String::new());
                }
            }
        }
        news
    }

    /// What another replica's note says; nothing where it can't be read.
    pub(super) fn heard(&mut self, note: &Note, now: Instant) -> Option<(ScopeKey, Told)> {
        let (scope, kind) = note.field.split_at_checked(note.field.len().checked_sub(1)?)?;
        let key = ScopeKey::read(scope)?;
        let known = self.0.get_mut(&key);
        let told = match (kind.chars().next()?, note.text.as_str()) {
            (LIMITS, text) => {
                let limits = limits_in(text)?;
                if let Some(known) = known {
                    (known.heard, known.limits_at) = (limits.clone(), now);
                }
                Told::Limits(limits)
            }
            (PAUSE, _) => {
                let pause = note.ttl.min(Duration::from_hours(1));
                if let Some(known) = known {
                    known.paused_until = known.paused_until.max(now + pause);
                }
                Told::Pause(pause)
            }
            (OUTAGE, "") => Told::Recovered,
            (OUTAGE, text) => {
                if let Some(known) = known.filter(|known| known.outage == Outage::None) {
                    known.outage = Outage::Heard;
                }
                Told::Failing(Duration::from_millis(text.parse::<u32>().ok()?.into()))
            }
            _ => return None,
        };
        Some((key, told))
    }
}

fn known(all: &mut HashMap<ScopeKey, Known>, key: ScopeKey, now: Instant) -> &mut Known {
    all.entry(key).or_insert_with(|| Known {
        limits: Vec::new(),
        heard: Vec::new(),
        limits_at: now,
        paused_until: now,
        outage: Outage::None,
    })
}

fn text_of(limits: &[(Slot, f64)]) -> String {
    let each = limits.iter().map(|(slot, limit)| format!("{}={limit:.0}", slot.as_str()));
    each.collect::<Vec<_>>().join(" ")
}

fn limits_in(text: &str) -> Option<Vec<(Slot, f64)>> {
    let one = |word: &str| {
        let (name, limit) = word.split_once('=')?;
        let slot = Slot::ALL.into_iter().find(|slot| slot.as_str() == name)?;
        Some((slot, limit.parse::<u64>().ok()? as f64))
    };
    text.split(' ').map(one).take(Slot::ALL.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ScopeKey = ScopeKey { owner: 1, family: 2 };

    fn exchanged(from: &mut Notes, to: &mut Notes, of: &Knowledge, now: Instant) -> Vec<Told> {
        let news = from.news(&[(KEY, of.clone())], now);
        news.iter().filter_map(|note| to.heard(note, now)).map(|(_, told)| told).collect()
    }

    #[test]
    fn what_one_learns_the_other_hears_once_and_does_not_tell_again() {
        let now = crate::clock::now();
        let (mut one, mut other) = (Notes::default(), Notes::default());
        other.news(&[(KEY, Knowledge::default())], now);
        let limits = vec![(Slot::RequestsPerMinute, 500.0), (Slot::TokensPerDay, 90_000.0)];
        let pause = Duration::from_secs(5);
        let knows = Knowledge { limits: limits.clone(), pause, failing_for: Some(Duration::from_secs(3)) };
        let heard = exchanged(&mut one, &mut other, &knows, now);
        let failing = Told::Failing(Duration::from_secs(3));
        assert_eq!(heard, [Told::Limits(limits), Told::Pause(pause), failing]);
        assert_eq!(exchanged(&mut one, &mut other, &knows, now), []);
        // The other believes it all: nothing of it is news.
        assert_eq!(other.news(&[(KEY, knows.clone())], now), []);
        let later = now + Duration::from_secs(6);
        let recovered = Knowledge { pause: Duration::ZERO, failing_for: None, ..knows };
        assert_eq!(exchanged(&mut one, &mut other, &recovered, later), [Told::Recovered]);
    }

    #[test]
    fn a_replica_whose_upstream_answers_does_not_repeat_an_outage_nor_deny_it() {
        let now = crate::clock::now();
        let (mut one, mut other) = (Notes::default(), Notes::default());
        other.news(&[(KEY, Knowledge::default())], now);
        let failing = Knowledge { failing_for: Some(Duration::ZERO), ..Knowledge::default() };
        assert_eq!(exchanged(&mut one, &mut other, &failing, now).len(), 1);
        assert_eq!(other.news(&[(KEY, Knowledge::default())], now), []);
    }

    #[test]
    fn nonsense_is_nothing() {
        let mut notes = Notes::default();
        for (field, text) in [
            ("", ""),
            ("é", "1"),
            ("1.2x", ""),
            ("1.2l", "requests=1"),
            ("1.2l", ""),
            ("1.2o", "long"),
            ("12p", ""),
        ] {
            let note = Note { field: field.to_owned(), ttl: Duration::ZERO, text: text.to_owned() };
            assert_eq!(notes.heard(&note, crate::clock::now()), None, "{field:?} {text:?}");
        }
    }
}

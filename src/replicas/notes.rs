//! Notes: knowledge about upstreams that replicas share, namely limits, pauses, outages and spent
//! quotas. Pure.
//!
//! A note is written when a replica learns something, and each replica reads it once. A replica
//! does not repeat the notes of others.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::{Knowledge, Slot, Told, UpstreamWords};
use crate::clock::Instant;
use crate::telemetry::masked;

use super::message::{LONGEST_NOTE, Note, ScopeKey};

/// The lifetime of a note about limits, for replicas that start later; it is renewed after half of
/// it.
const LIMITS_HOLD: Duration = Duration::from_hours(1);
/// The lifetime of a note about a fault (an outage, a spent quota); it is renewed while the fault
/// lasts.
const FAULT_HOLDS: Duration = Duration::from_mins(1);
/// The lifetime of a note that a fault is over.
const END_HOLDS: Duration = Duration::from_secs(10);
/// The difference below which two pauses count as equal.
const SAME_PAUSE: Duration = Duration::from_millis(250);
/// The most notes in one exchange.
pub(super) const MOST_NOTES: usize = 256;

/// The kinds of notes, by the last letter of their field.
const LIMITS: char = 'l';
const PAUSE: char = 'p';
const OUTAGE: char = 'o';
const QUOTA: char = 'q';

/// The notes sent and received about one scope.
#[derive(Debug)]
struct Known {
    limits: Vec<(Slot, f64)>,
    limits_at: Instant,
    /// The limits in the last note of another replica.
    heard: Vec<(Slot, f64)>,
    paused_until: Instant,
    outage: Fault,
    quota: Fault,
}

/// The source of the last note about a fault of the upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Another replica; whether the fault exists here is not known yet.
    Heard,
    /// This replica, which sent the note at this time.
    Open(Instant),
}

impl Fault {
    /// The lifetime of a note to send; `None` if the others already know.
    fn news(&mut self, is_so: bool, now: Instant) -> Option<Duration> {
        let was = *self;
        *self = match (was, is_so) {
            (_, false) => Self::None,
            (Self::Open(told), true) if now < told + FAULT_HOLDS / 2 => was,
            // Another replica's note is believed here; that replica renews it.
            (Self::None | Self::Heard | Self::Open(_), true) => Self::Open(now),
        };
        match (was, is_so) {
            (Self::Open(_), false) => Some(END_HOLDS),
            (Self::None | Self::Open(_), true) => (*self != was).then_some(FAULT_HOLDS),
            (Self::None | Self::Heard, false) | (Self::Heard, true) => None,
        }
    }

    /// Records another replica's note.
    fn heard(&mut self, is_so: bool) {
        if !is_so {
            *self = Self::None;
        } else if *self == Self::None {
            *self = Self::Heard;
        }
    }
}

/// The notes sent and received, by scope.
#[derive(Debug, Default)]
pub(super) struct Notes(HashMap<ScopeKey, Known>);

impl Notes {
    /// The notes that the others need.
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
            if let Some(ttl) = known.outage.news(knowledge.failing_for.is_some(), now) {
                let lasted = knowledge.failing_for.map(|lasted| lasted.as_millis().to_string());
                tell(OUTAGE, ttl, lasted.unwrap_or_default());
            }
            if let Some(ttl) = known.quota.news(knowledge.spent.is_some(), now) {
                tell(QUOTA, ttl, knowledge.spent.as_deref().map(text_of_words).unwrap_or_default());
            }
        }
        news
    }

    /// Parses another replica's note and records it; `None` if it can't be parsed.
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
            (OUTAGE, text) => {
                let lasted = (!text.is_empty()).then(|| text.parse::<u32>()).transpose().ok()?;
                if let Some(known) = known {
                    known.outage.heard(lasted.is_some());
                }
                let failing = |lasted: u32| Told::Failing(Duration::from_millis(lasted.into()));
                lasted.map_or(Told::Recovered, failing)
            }
            (QUOTA, text) => {
                let spent = (!text.is_empty()).then(|| words_in(text).ok_or(())).transpose().ok()?;
                if let Some(known) = known {
                    known.quota.heard(spent.is_some());
                }
                spent.map_or(Told::Refilled, Told::Spent)
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
        outage: Fault::None,
        quota: Fault::None,
    })
}

fn text_of(limits: &[(Slot, f64)]) -> String {
    let each = limits.iter().map(|(slot, limit)| format!("{}={limit:.0}", slot.as_str()));
    each.collect::<Vec<_>>().join(" ")
}

/// A refusal's error as JSON: its message is masked, and omitted if the whole is too long.
fn text_of_words(words: &UpstreamWords) -> String {
    let text = |message: &str| {
        serde_json::to_string(&(words.status, &words.kind, &words.code, message)).unwrap_or_default()
    };
    let whole = text(&masked(&words.message));
    if whole.len() <= LONGEST_NOTE { whole } else { text("") }
}

fn words_in(text: &str) -> Option<UpstreamWords> {
    let (status, kind, code, message) = serde_json::from_str(text).ok()?;
    Some(UpstreamWords { status, kind, code, message, body: None })
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
    use std::sync::Arc;

    use crate::admission::WordsBody;

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
        let words = UpstreamWords {
            code: Some("insufficient_quota".into()),
            message: "You exceeded your current quota.".into(),
            ..UpstreamWords::of_status(429)
        };
        let knows = Knowledge {
            limits: limits.clone(),
            pause,
            failing_for: Some(Duration::from_secs(3)),
            spent: Some(Arc::new(words.clone())),
        };
        let heard = exchanged(&mut one, &mut other, &knows, now);
        let failing = Told::Failing(Duration::from_secs(3));
        assert_eq!(heard, [Told::Limits(limits), Told::Pause(pause), failing, Told::Spent(words)]);
        assert_eq!(exchanged(&mut one, &mut other, &knows, now), []);
        // The other replica believes it all: none of it is new.
        assert_eq!(other.news(&[(KEY, knows.clone())], now), []);
        let later = now + Duration::from_secs(6);
        let recovered = Knowledge { pause: Duration::ZERO, failing_for: None, spent: None, ..knows };
        assert_eq!(exchanged(&mut one, &mut other, &recovered, later), [Told::Recovered, Told::Refilled]);
        assert_eq!(other.news(&[(KEY, recovered)], later), [], "what was heard to be over is not told again");
    }

    #[test]
    fn a_refusal_is_told_without_a_body_and_without_a_message_that_is_too_long() {
        let body = WordsBody { kind: "text/plain".into(), bytes: b"a prompt".as_slice().into() };
        let told = |message: &str| {
            let words = UpstreamWords {
                message: message.into(),
                body: Some(body.clone()),
                ..UpstreamWords::of_status(402)
            };
            words_in(&text_of_words(&words)).expect("reads")
        };
        assert_eq!(told("spent"), UpstreamWords { message: "spent".into(), ..UpstreamWords::of_status(402) });
        // Four bytes each, and as many as a message may have.
        assert_eq!(told(&"\u{10400}".repeat(5000)), UpstreamWords::of_status(402));
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
            ("1.2q", "spent"),
            ("12p", ""),
        ] {
            let note = Note { field: field.to_owned(), ttl: Duration::ZERO, text: text.to_owned() };
            assert_eq!(notes.heard(&note, crate::clock::now()), None, "{field:?} {text:?}");
        }
    }
}

//! The notes with which replicas share an upstream's limits, pauses, outages and spent quotas.
//! Pure.
//!
//! A replica sends a note when it learns something. Each other replica receives it once and does
//! not repeat it.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::{Knowledge, PeerUpdate, Slot, UpstreamWords};
use crate::clock::Instant;
use crate::telemetry::masked;

use super::message::{LONGEST_NOTE, Note, ScopeKey};

/// The lifetime of a note about limits. It is renewed at half of it, for replicas that start later.
const LIMITS_TTL: Duration = Duration::from_hours(1);
/// The lifetime of a note about an outage or a spent quota. It is renewed while that lasts.
const FAULT_TTL: Duration = Duration::from_mins(1);
/// The lifetime of a note about the end of an outage or a spent quota.
const END_TTL: Duration = Duration::from_secs(10);
/// The difference below which two pauses count as equal.
const SAME_PAUSE: Duration = Duration::from_millis(250);
/// The maximum number of notes in one exchange.
pub(super) const MOST_NOTES: usize = 256;

/// The last letter of a note's field, which is its kind.
const LIMITS: char = 'l';
const PAUSE: char = 'p';
const OUTAGE: char = 'o';
const QUOTA: char = 'q';

/// The notes sent and received about one scope.
#[derive(Debug)]
struct ScopeNotes {
    limits: Vec<(Slot, f64)>,
    limits_at: Instant,
    /// The limits in the last received note.
    received: Vec<(Slot, f64)>,
    paused_until: Instant,
    outage: Fault,
    quota: Fault,
}

/// Which replica announced an outage or a spent quota.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Another replica. This one may not have seen it yet.
    Received,
    /// This replica, with the time of its note.
    Open(Instant),
}

impl Fault {
    /// The lifetime of the note to send; `None` if no note is needed.
    fn note_to_send(&mut self, is_so: bool, now: Instant) -> Option<Duration> {
        let was = *self;
        *self = match (was, is_so) {
            (_, false) => Self::None,
            (Self::Open(sent), true) if now < sent + FAULT_TTL / 2 => was,
            // The other replica renews its own note.
            (Self::None | Self::Received | Self::Open(_), true) => Self::Open(now),
        };
        match (was, is_so) {
            (Self::Open(_), false) => Some(END_TTL),
            (Self::None | Self::Open(_), true) => (*self != was).then_some(FAULT_TTL),
            (Self::None | Self::Received, false) | (Self::Received, true) => None,
        }
    }

    /// Records a received note.
    fn receive(&mut self, is_so: bool) {
        if !is_so {
            *self = Self::None;
        } else if *self == Self::None {
            *self = Self::Received;
        }
    }
}

/// The notes sent and received, by scope.
#[derive(Debug, Default)]
pub(super) struct Notes(HashMap<ScopeKey, ScopeNotes>);

impl Notes {
    /// The notes to send to the other replicas.
    pub(super) fn new_notes(&mut self, scopes: &[(ScopeKey, Knowledge)], now: Instant) -> Vec<Note> {
        self.0.retain(|key, _| scopes.iter().any(|(of, _)| of == key));
        let mut news = Vec::new();
        for (key, knowledge) in scopes {
            if news.len() >= MOST_NOTES {
                break;
            }
            let known = known(&mut self.0, *key, now);
            let mut send = |kind: char, ttl: Duration, text: String| {
                news.push(Note { field: format!("{}{kind}", key.text()), ttl, text });
            };
            let again = now.saturating_duration_since(known.limits_at) > LIMITS_TTL / 2;
            if !knowledge.limits.is_empty() && (again || known.limits != knowledge.limits) {
                (known.limits, known.limits_at) = (knowledge.limits.clone(), now);
                if again || known.limits != known.received {
                    send(LIMITS, LIMITS_TTL, text_of(&known.limits));
                }
            }
            if !knowledge.pause.is_zero() && now + knowledge.pause > known.paused_until + SAME_PAUSE {
                known.paused_until = now + knowledge.pause;
                send(PAUSE, knowledge.pause, String::new());
            }
            if let Some(ttl) = known.outage.note_to_send(knowledge.failing_for.is_some(), now) {
                let lasted = knowledge.failing_for.map(|lasted| lasted.as_millis().to_string());
                send(OUTAGE, ttl, lasted.unwrap_or_default());
            }
            if let Some(ttl) = known.quota.note_to_send(knowledge.spent.is_some(), now) {
                send(QUOTA, ttl, knowledge.spent.as_deref().map(text_of_words).unwrap_or_default());
            }
        }
        news
    }

    /// Parses and records a received note; `None` if it can't be parsed.
    pub(super) fn receive(&mut self, note: &Note, now: Instant) -> Option<(ScopeKey, PeerUpdate)> {
        let (scope, kind) = note.field.split_at_checked(note.field.len().checked_sub(1)?)?;
        let key = ScopeKey::read(scope)?;
        let known = self.0.get_mut(&key);
        let update = match (kind.chars().next()?, note.text.as_str()) {
            (LIMITS, text) => {
                let limits = limits_in(text)?;
                if let Some(known) = known {
                    (known.received, known.limits_at) = (limits.clone(), now);
                }
                PeerUpdate::Limits(limits)
            }
            (PAUSE, _) => {
                let pause = note.ttl.min(Duration::from_hours(1));
                if let Some(known) = known {
                    known.paused_until = known.paused_until.max(now + pause);
                }
                PeerUpdate::Pause(pause)
            }
            (OUTAGE, text) => {
                let lasted = (!text.is_empty()).then(|| text.parse::<u32>()).transpose().ok()?;
                if let Some(known) = known {
                    known.outage.receive(lasted.is_some());
                }
                let failing = |lasted: u32| PeerUpdate::Failing(Duration::from_millis(lasted.into()));
                lasted.map_or(PeerUpdate::Recovered, failing)
            }
            (QUOTA, text) => {
                let spent = (!text.is_empty()).then(|| words_in(text).ok_or(())).transpose().ok()?;
                if let Some(known) = known {
                    known.quota.receive(spent.is_some());
                }
                spent.map_or(PeerUpdate::Refilled, PeerUpdate::Spent)
            }
            _ => return None,
        };
        Some((key, update))
    }
}

fn known(all: &mut HashMap<ScopeKey, ScopeNotes>, key: ScopeKey, now: Instant) -> &mut ScopeNotes {
    all.entry(key).or_insert_with(|| ScopeNotes {
        limits: Vec::new(),
        received: Vec::new(),
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

    fn exchanged(from: &mut Notes, to: &mut Notes, of: &Knowledge, now: Instant) -> Vec<PeerUpdate> {
        let news = from.new_notes(&[(KEY, of.clone())], now);
        news.iter().filter_map(|note| to.receive(note, now)).map(|(_, told)| told).collect()
    }

    #[test]
    fn a_replica_receives_each_note_once_and_does_not_repeat_it() {
        let now = crate::clock::now();
        let (mut one, mut other) = (Notes::default(), Notes::default());
        other.new_notes(&[(KEY, Knowledge::default())], now);
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
        let received = exchanged(&mut one, &mut other, &knows, now);
        let failing = PeerUpdate::Failing(Duration::from_secs(3));
        assert_eq!(
            received,
            [PeerUpdate::Limits(limits), PeerUpdate::Pause(pause), failing, PeerUpdate::Spent(words)]
        );
        assert_eq!(exchanged(&mut one, &mut other, &knows, now), []);
        // The other replica has received all of it, so it sends nothing.
        assert_eq!(other.new_notes(&[(KEY, knows.clone())], now), []);
        let later = now + Duration::from_secs(6);
        let recovered = Knowledge { pause: Duration::ZERO, failing_for: None, spent: None, ..knows };
        assert_eq!(
            exchanged(&mut one, &mut other, &recovered, later),
            [PeerUpdate::Recovered, PeerUpdate::Refilled]
        );
        assert_eq!(other.new_notes(&[(KEY, recovered)], later), [], "a received end is not sent again");
    }

    #[test]
    fn a_note_of_a_refusal_omits_the_body_and_a_message_that_is_too_long() {
        let body = WordsBody { kind: "text/plain".into(), bytes: b"a prompt".as_slice().into() };
        let received = |message: &str| {
            let words = UpstreamWords {
                message: message.into(),
                body: Some(body.clone()),
                ..UpstreamWords::of_status(402)
            };
            words_in(&text_of_words(&words)).expect("reads")
        };
        assert_eq!(
            received("spent"),
            UpstreamWords { message: "spent".into(), ..UpstreamWords::of_status(402) }
        );
        // Four bytes each, and as many as a message may have.
        assert_eq!(received(&"\u{10400}".repeat(5000)), UpstreamWords::of_status(402));
    }

    #[test]
    fn a_replica_without_the_outage_neither_repeats_nor_ends_it() {
        let now = crate::clock::now();
        let (mut one, mut other) = (Notes::default(), Notes::default());
        other.new_notes(&[(KEY, Knowledge::default())], now);
        let failing = Knowledge { failing_for: Some(Duration::ZERO), ..Knowledge::default() };
        assert_eq!(exchanged(&mut one, &mut other, &failing, now).len(), 1);
        assert_eq!(other.new_notes(&[(KEY, Knowledge::default())], now), []);
    }

    #[test]
    fn an_invalid_note_is_ignored() {
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
            assert_eq!(notes.receive(&note, crate::clock::now()), None, "{field:?} {text:?}");
        }
    }
}

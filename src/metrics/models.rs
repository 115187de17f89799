//! The series of each model, created at its first success, so that invalid names never get series.

use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::{Histogram, HistogramVec, IntCounterVec, Registry};

use super::callers::OTHER;
use super::counters::{Counters, counter_vec, histogram_vec};
use super::families;
use super::labels::Outcome;
use super::pace::Pace;

/// The most bytes of a model's name; longer ones are not the API's, and count as `other`.
const MAX_NAME: usize = 64;

/// The series of one model.
#[derive(Debug)]
pub struct ModelSeries {
    name: Box<str>,
    /// Requests that ended, by outcome.
    pub requests: Counters<Outcome>,
    /// Times to the first event, seconds.
    pub first_event: Histogram,
    /// Times per output token, seconds.
    pub per_token: Histogram,
    /// Its index among the models; `None` for `other`.
    pub(super) place: Option<usize>,
    /// The time until its responses begin.
    pub pace: Pace,
}

/// Models by name: a list that only grows, read without a lock, a hash or an allocation.
///
/// A proxy sees only a few models; comparing a few names is cheaper than hashing one.
#[derive(Debug)]
pub(super) struct ModelTable {
    vecs: Vecs,
    slots: Box<[OnceLock<ModelSeries>]>,
    other: ModelSeries,
    /// Patterns of the names that may get series; if empty, all may.
    allowed: Vec<Box<str>>,
    /// The number of used slots; locked while one is added.
    taken: Mutex<usize>,
}

impl ModelSeries {
    /// The `model` label.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl ModelTable {
    pub(super) fn new(registry: &Registry, models: usize, allowed: Vec<Box<str>>) -> Self {
        let vecs = Vecs {
            requests: counter_vec(registry, &families::MODEL_REQUESTS),
            first_event: histogram_vec(registry, &families::TIME_TO_FIRST_EVENT),
            per_token: histogram_vec(registry, &families::TIME_PER_OUTPUT_TOKEN),
        };
        let other = vecs.resolve(OTHER, None);
        let slots = (0..models).map(|_| OnceLock::new()).collect();
        Self { vecs, slots, other, allowed, taken: Mutex::new(0) }
    }

    /// The model's own series, if it has some.
    pub(super) fn find(&self, name: &str) -> Option<&ModelSeries> {
        self.slots.iter().map_while(OnceLock::get).find(|series| *series.name == *name)
    }

    /// The model's series, created now if the bound allows; `None` otherwise.
    pub(super) fn name(&self, name: &str) -> Option<&ModelSeries> {
        if let Some(series) = self.find(name) {
            return Some(series);
        }
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        if !self.allowed.is_empty() && !self.allowed.iter().any(|pattern| fits(pattern, name)) {
            return None;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = self.find(name) {
            return Some(series);
        }
        let place = *taken;
        let slot = self.slots.get(place)?;
        *taken += 1;
        Some(slot.get_or_init(|| self.vecs.resolve(name, Some(place))))
    }

    /// Every model with its own series.
    pub(super) fn each(&self) -> impl Iterator<Item = &ModelSeries> {
        self.slots.iter().map_while(OnceLock::get)
    }

    pub(super) fn other(&self) -> &ModelSeries {
        &self.other
    }
}

/// Whether the name matches the pattern, in which each `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        // The first match is best: it leaves the most text for the rest of the pattern.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

#[derive(Debug)]
struct Vecs {
    requests: IntCounterVec,
    first_event: HistogramVec,
    per_token: HistogramVec,
}

impl Vecs {
    fn resolve(&self, name: &str, place: Option<usize>) -> ModelSeries {
        ModelSeries {
            name: name.into(),
            requests: Counters::resolve(|outcome| self.requests.with_label_values(&[name, outcome])),
            first_event: self.first_event.with_label_values(&[name]),
            per_token: self.per_token.with_label_values(&[name]),
            place,
            pace: Pace::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gpt-5*", "gpt-5", true),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-2", false),
            ("gpt*mini*", "gpt-5-mini-2", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_listed_models_take_a_slot() {
        let table = ModelTable::new(&Registry::new(), 2, vec!["gpt-5*".into()]);
        assert!(table.name("gpt-4").is_none());
        assert_eq!(table.name("gpt-5-mini").map(ModelSeries::name), Some("gpt-5-mini"));
        assert!(table.name("gpt-5").is_some());
        assert!(table.name("gpt-5-nano").is_none(), "the bound holds within the list");
    }
}

//! The series of each model: named with its first success, so that nonsense never takes a name.

use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::{IntCounterVec, Registry};

use super::callers::OTHER;
use super::counters::{Counters, counter_vec};
use super::families;
use super::labels::{Outcome, TokenKind};

/// Longer names than this are not the API's and count as `other`.
const MAX_NAME: usize = 64;

/// The series of one model.
#[derive(Debug)]
pub struct ModelSeries {
    name: Box<str>,
    /// Requests that ended, by outcome.
    pub requests: Counters<Outcome>,
    /// Tokens used, by kind.
    pub tokens: Counters<TokenKind>,
}

/// Models by name: a list that only grows, read without a lock, a hash or an allocation.
///
/// A proxy sees a handful of models; comparing a few names is cheaper than hashing one.
#[derive(Debug)]
pub(super) struct ModelTable {
    requests: IntCounterVec,
    tokens: IntCounterVec,
    slots: Box<[OnceLock<ModelSeries>]>,
    other: ModelSeries,
    /// How many slots are taken; held while one is.
    taken: Mutex<usize>,
}

impl ModelTable {
    pub(super) fn new(registry: &Registry, models: usize) -> Self {
        let requests = counter_vec(registry, &families::MODEL_REQUESTS);
        let tokens = counter_vec(registry, &families::MODEL_TOKENS);
        let other = resolve(&requests, &tokens, OTHER);
        let slots = (0..models).map(|_| OnceLock::new()).collect();
        Self { requests, tokens, slots, other, taken: Mutex::new(0) }
    }

    /// The model's series, or `None` if it has none of its own.
    pub(super) fn find(&self, name: &str) -> Option<&ModelSeries> {
        self.slots.iter().map_while(OnceLock::get).find(|series| *series.name == *name)
    }

    /// The model's series, made now if the bound allows; `other`'s otherwise.
    pub(super) fn name(&self, name: &str) -> Option<&ModelSeries> {
        if let Some(series) = self.find(name) {
            return Some(series);
        }
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = self.find(name) {
            return Some(series);
        }
        let slot = self.slots.get(*taken)?;
        *taken += 1;
        Some(slot.get_or_init(|| resolve(&self.requests, &self.tokens, name)))
    }

    pub(super) fn other(&self) -> &ModelSeries {
        &self.other
    }
}

fn resolve(requests: &IntCounterVec, tokens: &IntCounterVec, name: &str) -> ModelSeries {
    ModelSeries {
        name: name.into(),
        requests: Counters::resolve(|outcome| requests.with_label_values(&[name, outcome])),
        tokens: Counters::resolve(|kind| tokens.with_label_values(&[name, kind])),
    }
}

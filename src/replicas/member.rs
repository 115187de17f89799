//! Another replica, as its heartbeats show it.

use std::collections::HashMap;
use std::time::Duration;

use super::beat::{Beat, Line, ScopeKey};

/// Intervals that a replica's parts are its own after its last exchange.
pub(super) const LEASE: u32 = 10;
/// Intervals after which the others take the parts of one that is silent: later than it has given them up itself, by
/// more than an exchange may take.
pub(super) const PATIENCE: u32 = LEASE + 3;

/// Another replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    number: Option<u64>,
    interval: Duration,
    /// For how long nothing new came, by our own exchanges.
    silent: Duration,
    left: bool,
    /// What could not be read last: another version's beat is a sign of life too.
    strange: Vec<u8>,
    lines: HashMap<ScopeKey, Line>,
}

impl Member {
    /// What an exchange found of it, so long after the last exchange.
    ///
    /// No clock but that of this process counts, and no more of it than passes between two exchanges: neither a clock that is
    /// set nor a process that stood still makes anybody seem gone.
    pub(super) fn found(&mut self, bytes: Option<&[u8]>, passed: Duration) {
        match bytes.and_then(Beat::read) {
            Some(Beat::Here { number, interval, lines }) if self.number != Some(number) => {
                self.number = Some(number);
                self.interval = interval.min(Duration::from_mins(1));
                self.silent = Duration::ZERO;
                self.left = false;
                self.lines = lines.into_iter().map(|line| (line.key, line)).collect();
            }
            Some(Beat::Bye) => {
                self.left = true;
                self.lines.clear();
                self.silent += passed;
            }
            // Nothing new.
            Some(Beat::Here { .. }) => self.silent += passed,
            None => match bytes.filter(|bytes| *bytes != self.strange) {
                Some(strange) => {
                    self.strange = strange.to_vec();
                    self.silent = Duration::ZERO;
                    self.left = false;
                    self.lines.clear();
                }
                // Nothing new, or nothing at all, as after a flush.
                None => self.silent += passed,
            },
        }
    }

    /// Whether it holds parts, as far as is known.
    pub(super) fn is_live(&self) -> bool {
        !self.left
    }

    /// Whether its parts are certainly given up, where the own interval is `interval`.
    pub(super) fn is_gone(&self, interval: Duration) -> bool {
        self.silent > self.interval.max(interval) * PATIENCE
    }

    /// Its lease is over, as ours is.
    pub(super) fn lapse(&mut self, safe: u32) {
        self.lines.values_mut().for_each(|line| line.claim = safe);
    }

    /// What it says of a scope.
    pub(super) fn line(&self, key: ScopeKey) -> Option<&Line> {
        self.lines.get(&key)
    }

    /// Whether it has a scope of this family.
    pub(super) fn has_family(&self, family: u64) -> bool {
        self.lines.keys().any(|key| key.family == family)
    }
}

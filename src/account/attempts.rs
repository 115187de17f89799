//! The attempts of one request, the first kept in place: most requests have no second.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::classify::ErrorClass;
use crate::clock::Instant;
use crate::pool::UpstreamId;

/// Attempts of one request that are kept; later ones are only counted.
const KEPT: u32 = 16;

/// One request sent upstream.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// How long Weir waited on purpose before it.
    pub delay: Duration,
    /// When it began.
    pub started: Instant,
    /// When its answer's head came.
    pub answered: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// The status that the upstream gave.
    pub status: Option<StatusCode>,
    /// What went wrong; nothing if it succeeded or is under way.
    pub class: Option<ErrorClass>,
    /// The upstream's `x-request-id`.
    pub upstream_id: Option<HeaderValue>,
    /// Whether it asked if a failing upstream is back.
    pub probe: bool,
    /// Where it went.
    pub upstream: UpstreamId,
}

impl Attempt {
    pub(super) fn begin(delay: Duration, probe: bool, now: Instant) -> Self {
        Self {
            delay,
            started: now,
            answered: None,
            ended: None,
            status: None,
            class: None,
            upstream_id: None,
            probe,
            upstream: UpstreamId::default(),
        }
    }

    /// From its begin to its answer's head, or to its end without one.
    pub fn time_to_head(&self) -> Option<Duration> {
        Some(self.answered.or(self.ended)?.saturating_duration_since(self.started))
    }

    /// Its name in the log: the class of its error, or how else it went.
    pub fn outcome(&self) -> &'static str {
        match (self.class, self.ended) {
            (Some(class), _) => class.as_str(),
            (None, Some(_)) => "success",
            (None, None) => "under_way",
        }
    }
}

/// The attempts of one request in order.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    first: Option<Attempt>,
    more: Vec<Attempt>,
    count: u32,
}

impl Attempts {
    /// How many were made, kept or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The last one's place among those that are kept, the first being 1.
    pub fn place(&self) -> u32 {
        self.count.min(KEPT)
    }

    /// The number of the one at this place, over all that were made: the last place is the last
    /// attempt's.
    pub fn number(&self, place: u32) -> u32 {
        if place == self.place() { self.count } else { place }
    }

    /// Those that are kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.first.iter().chain(&self.more)
    }

    /// The last one.
    pub fn last(&self) -> Option<&Attempt> {
        self.more.last().or(self.first.as_ref())
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Attempt> {
        self.more.last_mut().or(self.first.as_mut())
    }

    /// Appends an attempt; whether one in the middle had to go for it.
    pub(super) fn push(&mut self, attempt: Attempt) -> bool {
        self.count = self.count.saturating_add(1);
        if self.first.is_none() {
            self.first = Some(attempt);
            return false;
        }
        // The first ones tell how it began, the last how it ended.
        let full = self.count > KEPT;
        if full {
            self.more.pop();
        }
        self.more.push(attempt);
        full
    }
}

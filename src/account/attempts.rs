//! The attempts of one request. The first is stored inline, because most requests have only one.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::classify::ErrorClass;
use crate::clock::Instant;
use crate::pool::UpstreamId;

/// Most attempts of a request that are stored; further ones are only counted.
const KEPT: u32 = 16;

/// One request sent upstream.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Weir's pause before the attempt.
    pub delay: Duration,
    /// When it began.
    pub started: Instant,
    /// When the response's head arrived.
    pub answered: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// The upstream's status.
    pub status: Option<StatusCode>,
    /// The error class; `None` if it succeeded or is in progress.
    pub class: Option<ErrorClass>,
    /// The upstream's `x-request-id`.
    pub upstream_id: Option<HeaderValue>,
    /// Whether it was a probe of a failing upstream.
    pub probe: bool,
    /// The upstream that it was sent to.
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

    /// Time from its start to the response's head, or to its end without one.
    pub fn time_to_head(&self) -> Option<Duration> {
        Some(self.answered.or(self.ended)?.saturating_duration_since(self.started))
    }

    /// Its outcome for the log: the error class, or a word for success or progress.
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
    /// Number of attempts, stored or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The position of the last attempt among the stored ones, starting at 1.
    pub fn place(&self) -> u32 {
        self.count.min(KEPT)
    }

    /// The number of the attempt at a position, over all that were made: the last position is the
    /// last attempt.
    pub fn number(&self, place: u32) -> u32 {
        if place == self.place() { self.count } else { place }
    }

    /// The stored attempts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.first.iter().chain(&self.more)
    }

    /// The last attempt.
    pub fn last(&self) -> Option<&Attempt> {
        self.more.last().or(self.first.as_ref())
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Attempt> {
        self.more.last_mut().or(self.first.as_mut())
    }

    /// Appends an attempt. Returns whether an attempt in the middle was dropped for it.
    pub(super) fn push(&mut self, attempt: Attempt) -> bool {
        self.count = self.count.saturating_add(1);
        if self.first.is_none() {
            self.first = Some(attempt);
            return false;
        }
        // The first attempts show how it began, the last how it ended.
        let full = self.count > KEPT;
        if full {
            self.more.pop();
        }
        self.more.push(attempt);
        full
    }
}

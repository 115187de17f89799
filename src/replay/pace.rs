//! The minimum rate at which a client must send its body.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{self, Instant, Sleep};

use super::Settings;

/// Watches one body: the time between bytes, and the average rate over the time spent waiting.
///
/// Only time in which Weir was ready to read counts, so that a slow upstream is not blamed on the
/// client. While bytes arrive without a wait, no clock is read and no timer is set.
#[derive(Debug)]
pub(super) struct Pace {
    idle: Duration,
    rate: u32,
    grace: Duration,
    received: u64,
    /// Total time spent waiting for the client, without the current wait.
    waited: Duration,
    waiting: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    timer: std::pin::Pin<Box<Sleep>>,
}

/// The limit that a slow client violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    /// No byte for too long.
    Idle,
    /// Too few bytes per second.
    Rate,
}

impl Pace {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            idle: settings.idle,
            rate: settings.rate,
            grace: settings.grace,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// Records received bytes.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if let Some(wait) = self.waiting.take() {
            self.waited += clock::now().saturating_duration_since(wait.since);
        }
    }

    /// Called when no bytes are available; ready once the client is too slow.
    pub(super) fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Slow> {
        let (idle, patience) = (self.idle, self.patience());
        let wait = self.waiting.get_or_insert_with(|| {
            let since = clock::now();
            Wait { since, timer: Box::pin(clock::sleep_until(since + idle.min(patience))) }
        });
        match wait.timer.as_mut().poll(cx) {
            Poll::Ready(()) if patience < idle => Poll::Ready(Slow::Rate),
            Poll::Ready(()) => Poll::Ready(Slow::Idle),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The time for which the client may send nothing before its average rate is too low.
    fn patience(&self) -> Duration {
        if self.rate == 0 {
            return Duration::MAX;
        }
        let earned = Duration::from_secs(self.received / u64::from(self.rate));
        self.grace.max(earned).saturating_sub(self.waited)
    }
}

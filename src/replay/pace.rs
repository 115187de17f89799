//! Whether a client sends its body fast enough.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{self, Instant, Sleep};

use super::Settings;

/// Watches one body: the time between bytes, and the bytes over the time spent waiting for them.
///
/// Only time in which Weir was ready to read counts: an upstream that takes the bytes slowly is not
/// the client's fault. No clock is read and no timer is set while bytes come without a wait.
#[derive(Debug)]
pub(super) struct Pace {
    idle: Duration,
    rate: u32,
    grace: Duration,
    received: u64,
    /// The time spent waiting for the client so far, but for the present wait.
    waited: Duration,
    waiting: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    timer: std::pin::Pin<Box<Sleep>>,
}

/// The rule that a slow client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    /// No byte for too long.
    Idle,
    /// Too few bytes a second.
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

    /// Bytes came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if let Some(wait) = self.waiting.take() {
            self.waited += clock::now().saturating_duration_since(wait.since);
        }
    }

    /// Nothing is there yet: resolves once the client has been too slow.
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

    /// How much longer the client may send nothing before its average is too low.
    fn patience(&self) -> Duration {
        if self.rate == 0 {
            return Duration::MAX;
        }
        let earned = Duration::from_secs(self.received / u64::from(self.rate));
        self.grace.max(earned).saturating_sub(self.waited)
    }
}

//! The deadline for a response's head.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::replay::BodyProgress;

use super::head_timer::HeadTimer;

/// The deadlines for a response's head; the earlier one ends the attempt. By default there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadLimit {
    /// A fixed deadline.
    pub by: Option<Instant>,
    /// Time after the request's last byte was sent: a client's read timeout, or a server's response
    /// time.
    pub after_request: Option<Duration>,
}

impl HeadLimit {
    /// A fixed deadline, independent of the request's progress.
    #[cfg(test)]
    pub fn at(by: Instant) -> Self {
        Self { by: Some(by), after_request: None }
    }

    /// The deadline of an attempt whose request was last written to at `written`, if there is one.
    fn due(&self, written: Option<Instant>) -> Option<Instant> {
        let after = self.after_request.zip(written).map(|(after, written)| written + after);
        match (self.by, after) {
            (Some(by), Some(after)) => Some(by.min(after)),
            (by, after) => by.or(after),
        }
    }
}

/// When a connection was last written to; shared by its byte stream and the waiting request.
#[derive(Clone, Debug)]
pub(super) struct LastWrite {
    since: Instant,
    /// Nanoseconds after `since`. Relaxed: a single task reads and writes it.
    nanos: Arc<AtomicU64>,
}

impl LastWrite {
    pub(super) fn new() -> Self {
        Self { since: clock::now(), nanos: Arc::default() }
    }

    /// Records a write.
    pub(super) fn note(&self) {
        let nanos = u64::try_from((clock::now() - self.since).as_nanos()).unwrap_or(u64::MAX);
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn at(&self) -> Instant {
        self.since + Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// Enforces the head deadlines of a connection's requests, one after another.
#[derive(Debug, Default)]
pub(super) struct HeadClock {
    limit: HeadLimit,
    /// When the request was passed to the connection.
    begun: Option<Instant>,
    /// The progress of a body that the client still sends, or that waits for the HTTP/2 window.
    progress: Option<BodyProgress>,
    timer: HeadTimer,
}

impl HeadClock {
    /// Sets the limit of a new request.
    pub(super) fn begin(&mut self, limit: HeadLimit, progress: Option<BodyProgress>) {
        (self.limit, self.begun, self.progress) = (limit, None, progress);
        if limit.after_request.is_some() {
            self.begun = Some(clock::now());
        }
    }

    /// Ready once the deadline has passed. `written` is the connection's last write, if only this
    /// request writes to it.
    pub(super) fn poll_late(&mut self, written: Option<&LastWrite>, cx: &mut Context<'_>) -> Poll<()> {
        if self.limit == HeadLimit::default() {
            return Poll::Pending;
        }
        let last = self.last_written(written);
        match self.limit.due(last) {
            Some(due) => self.timer.poll_late(due, cx),
            None => Poll::Pending,
        }
    }

    pub(super) fn limit(&self) -> HeadLimit {
        self.limit
    }

    /// Takes the progress of the body that is still being sent, if there is one.
    pub(super) fn take_progress(&mut self) -> Option<BodyProgress> {
        self.progress.take()
    }

    /// When the request's last byte was written, or now if more bytes will follow.
    fn last_written(&mut self, written: Option<&LastWrite>) -> Option<Instant> {
        let begun = self.begun?;
        if self.progress.as_ref().is_some_and(BodyProgress::goes_on) {
            self.begun = Some(clock::now());
            return self.begun;
        }
        Some(written.map_or(begun, |written| written.at().max(begun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_of_both_counts_and_the_second_moves_with_each_write() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let after_request = Some(Duration::from_secs(5));
        assert_eq!(HeadLimit::default().due(Some(start)), None);
        assert_eq!(HeadLimit::at(at(3)).due(Some(at(2))), Some(at(3)));
        let both = HeadLimit { by: Some(at(9)), after_request };
        assert_eq!((both.due(Some(at(2))), both.due(Some(at(6)))), (Some(at(7)), Some(at(9))));
        let written = LastWrite::new();
        let mut clock = HeadClock::default();
        clock.begin(both, None);
        clock::sleep(Duration::from_secs(3)).await;
        written.note();
        std::future::poll_fn(|cx| clock.poll_late(Some(&written), cx)).await;
        assert_eq!(clock::now(), at(8));
    }
}

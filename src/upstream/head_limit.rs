//! Until when the head of an answer may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::replay::Passage;

use super::head_timer::HeadTimer;

/// The latest moments for the head of an answer; the first to pass ends the attempt. The default
/// has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadLimit {
    /// A moment that nothing moves.
    pub by: Option<Instant>,
    /// Time after the last byte of the request was sent: a client's read timeout, or a server's
    /// time to answer.
    pub after_request: Option<Duration>,
}

impl HeadLimit {
    /// A limit at this moment, wherever the request stands then.
    #[cfg(test)]
    pub fn at(by: Instant) -> Self {
        Self { by: Some(by), after_request: None }
    }

    /// The moment that ends an attempt whose request was last written to at `written`; `None` where
    /// nothing does.
    fn due(&self, written: Option<Instant>) -> Option<Instant> {
        let after = self.after_request.zip(written).map(|(after, written)| written + after);
        match (self.by, after) {
            (Some(by), Some(after)) => Some(by.min(after)),
            (by, after) => by.or(after),
        }
    }
}

/// When a connection was last written to; shared by the byte stream and the request that waits for
/// its answer.
#[derive(Clone, Debug)]
pub(super) struct LastWrite {
    since: Instant,
    /// Nanoseconds after `since`. Relaxed: one task does both.
    nanos: Arc<AtomicU64>,
}

impl LastWrite {
    pub(super) fn new() -> Self {
        Self { since: clock::now(), nanos: Arc::default() }
    }

    /// Bytes are written now.
    pub(super) fn note(&self) {
        let nanos = u64::try_from((clock::now() - self.since).as_nanos()).unwrap_or(u64::MAX);
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn at(&self) -> Instant {
        self.since + Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// Ends the wait for the head of one answer after another.
#[derive(Debug, Default)]
pub(super) struct HeadClock {
    limit: HeadLimit,
    /// When the request was handed over.
    begun: Option<Instant>,
    /// Of a body that still comes from the client, or (HTTP/2) that waits for the connection's
    /// window.
    passage: Option<Passage>,
    timer: HeadTimer,
}

impl HeadClock {
    /// A request begins.
    pub(super) fn begin(&mut self, limit: HeadLimit, passage: Option<Passage>) {
        (self.limit, self.begun, self.passage) = (limit, None, passage);
        if limit.after_request.is_some() {
            self.begun = Some(clock::now());
        }
    }

    /// Ready once the head is late, on a connection whose last `written` bytes are those of this
    /// request.
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

    /// The body that is still being sent, if any.
    pub(super) fn take_passage(&mut self) -> Option<Passage> {
        self.passage.take()
    }

    /// When the last byte of the request was written, as far as that is known: now, while more is
    /// to come.
    fn last_written(&mut self, written: Option<&LastWrite>) -> Option<Instant> {
        let begun = self.begun?;
        if self.passage.as_ref().is_some_and(Passage::goes_on) {
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

//! The write timeout of each response over HTTP/2: a client that does not open its window must not
//! keep a permit and an upstream connection.
//!
//! The socket's timeout does not cover this: other streams progress, and hyper does not poll the
//! body of a stream without a window.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::response_guard::ResponseGuard;
use crate::clock::{self, Instant};
use crate::metrics::{Bound, Metrics};
use crate::stream::{Aborted, Relay};
use crate::upstream::AnswerBody;

type Answer = Box<Relay<AnswerBody, ResponseGuard>>;

/// The responses of one worker that wait for their clients.
#[derive(Debug)]
pub(super) struct Stalls {
    answers: Mutex<Vec<Weak<Watched>>>,
    /// Whether the task that checks them runs.
    is_checking: AtomicBool,
    metrics: Arc<Metrics>,
}

/// A relayed response, until its client read nothing for too long.
pub struct Watched {
    state: Mutex<State>,
    allowed: Duration,
}

struct State {
    answer: Option<Answer>,
    /// Since when the client has had data to read; `None` while the upstream is waited for.
    waits_since: Option<Instant>,
}

impl Stalls {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::default(), is_checking: AtomicBool::new(false), metrics })
    }

    /// Watches a response whose client may read nothing for `allowed`.
    pub(super) fn watch(self: &Arc<Self>, answer: Answer, allowed: Duration, now: Instant) -> Arc<Watched> {
        let state = Mutex::new(State { answer: Some(answer), waits_since: Some(now) });
        let watched = Arc::new(Watched { state, allowed });
        lock(&self.answers).push(Arc::downgrade(&watched));
        if !self.is_checking.swap(true, Ordering::Relaxed) {
            clock::spawn(Arc::clone(self).check_periodically(allowed / 4));
        }
        watched
    }

    /// Checks the responses every `period`. Ends with the last response.
    async fn check_periodically(self: Arc<Self>, period: Duration) {
        loop {
            clock::sleep(period.max(Duration::from_millis(10))).await;
            let now = clock::now();
            let mut answers = lock(&self.answers);
            // Dropped after the lock is released, because the end of a response does work.
            let mut given_up = Vec::new();
            answers.retain(|answer| match answer.upgrade() {
                Some(answer) => {
                    given_up.extend(answer.take_if_stalled(now));
                    answer.is_open()
                }
                None => false,
            });
            let is_over = answers.is_empty();
            if is_over {
                self.is_checking.store(false, Ordering::Relaxed);
            }
            drop(answers);
            for answer in given_up {
                self.metrics.limits_reached.inc(Bound::AnswerUnread);
                drop(answer);
            }
            if is_over {
                return;
            }
        }
    }
}

impl Watched {
    fn take_if_stalled(&self, now: Instant) -> Option<Answer> {
        let mut state = lock(&self.state);
        state.waits_since.filter(|since| now >= *since + self.allowed).and_then(|_| state.answer.take())
    }

    fn is_open(&self) -> bool {
        lock(&self.state).answer.is_some()
    }

    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let mut state = lock(&self.state);
        let Some(answer) = &mut state.answer else { return Poll::Ready(Some(Err(Aborted::Unread))) };
        let polled = Pin::new(answer.as_mut()).poll_frame(cx);
        state.waits_since = polled.is_ready().then(clock::now);
        polled
    }

    /// Calls `at` with the response; `None` once it was given up.
    pub(super) fn with<T>(&self, at: impl FnOnce(&Relay<AnswerBody, ResponseGuard>) -> T) -> Option<T> {
        lock(&self.state).answer.as_deref().map(at)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Watched").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The only door to time and to background tasks.
//!
//! Monotonic time is tokio's, everywhere, so that a paused test runtime moves every timer of a
//! whole proxy at once. Wall time is an argument of the few parsers that need it; [`wall`] is
//! called at the edges only.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio::task::coop;
pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

/// The monotonic time now, by the runtime's clock.
pub fn now() -> Instant {
    Instant::now()
}

/// A timer that is armed for long, and looked at often.
///
/// It wakes the task that asked last, so that asking costs a look as long as that stays the same.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    asked: Option<Waker>,
}

impl Timer {
    /// A timer that fires at `deadline`.
    pub fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), asked: None }
    }

    /// When it fires.
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Whether it has fired.
    pub fn has_fired(&self) -> bool {
        self.sleep.is_elapsed()
    }

    /// Arms it again.
    pub fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.asked = None;
    }

    /// Ready once it has fired.
    pub fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_elapsed() {
            return Poll::Ready(());
        }
        if self.asked.as_ref().is_some_and(|asked| asked.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        // A task whose budget is spent comes again, and what it registers before is ignored.
        if coop::has_budget_remaining() {
            self.asked = Some(cx.waker().clone());
        }
        self.sleep.as_mut().poll(cx)
    }
}

/// The wall time now. Call it at the edges and pass the result on.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Starts a background task on the runtime of the calling worker.
///
/// Such a task must end by itself when what it serves is gone: a drain does not wait for it.
///
/// # Panics
/// Outside a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

/// Spends what the task may still do in this turn.
#[cfg(test)]
pub(crate) fn spend_budget(cx: &mut Context<'_>) {
    while let Poll::Ready(progress) = coop::poll_proceed(cx) {
        progress.made_progress();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_also_for_a_task_that_asked_with_its_budget_spent() {
        let due = now() + Duration::from_secs(5);
        let mut timer = Timer::new(due);
        let mut spent = false;
        let fired = poll_fn(|cx| {
            if !std::mem::replace(&mut spent, true) {
                spend_budget(cx);
            }
            timer.poll_fired(cx)
        });
        assert!(timeout_at(due + Duration::from_secs(1), fired).await.is_ok(), "it was never told");
        assert_eq!(now(), due);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_wakes_who_asked_last_and_goes_on_when_it_is_armed_again() {
        let start = now();
        let mut timer = Timer::new(start + Duration::from_secs(1));
        // Asked by one task, which ends; then by this one.
        let mut timer = spawn(async move {
            assert!(poll_fn(|cx| Poll::Ready(timer.poll_fired(cx))).await.is_pending());
            timer
        })
        .await
        .unwrap();
        poll_fn(|cx| timer.poll_fired(cx)).await;
        assert_eq!(now(), start + Duration::from_secs(1));
        assert!(timer.has_fired());
        timer.reset(start + Duration::from_secs(3));
        assert!(!timer.has_fired());
        poll_fn(|cx| timer.poll_fired(cx)).await;
        assert_eq!(now(), start + Duration::from_secs(3));
    }
}

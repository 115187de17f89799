//! A reusable timer for the deadlines of response heads.

use std::task::{Context, Poll, ready};

use crate::clock::{self, Instant, Timer};

/// A timer for consecutive deadlines, of which few are reached.
///
/// It is armed once, and reset only when it fires or must fire earlier, so most responses only
/// check it. A timer for each response would be inserted into and removed from the runtime's timer
/// wheel.
#[derive(Debug, Default)]
pub(super) struct HeadTimer(Option<Timer>);

impl HeadTimer {
    /// Ready once `deadline` has passed.
    pub(super) fn poll_late(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Timer::new(deadline));
        if deadline < timer.deadline() {
            timer.reset(deadline);
        }
        loop {
            ready!(timer.poll_fired(cx));
            if deadline <= clock::now() {
                return Poll::Ready(());
            }
            timer.reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn late(timer: &mut HeadTimer, deadline: Instant) -> Instant {
        poll_fn(|cx| timer.poll_late(deadline, cx)).await;
        clock::now()
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_the_ones_before_it_were() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = HeadTimer::default();
        // Dropped before it fires, as most are.
        assert!(clock::timeout_at(at(1), late(&mut timer, at(600))).await.is_err());
        assert_eq!(late(&mut timer, at(5)).await, at(5), "sooner than the one before");
        assert_eq!(late(&mut timer, at(900)).await, at(900), "later");
        assert_eq!(late(&mut timer, at(900)).await, at(900), "over already");
        assert!(clock::timeout_at(at(901), late(&mut timer, at(2_000))).await.is_err());
        assert_eq!(late(&mut timer, at(3_000)).await, at(3_000), "it fired too early for this one");
    }
}

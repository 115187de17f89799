//! Decides whether an upstream's connections are reused.
//!
//! Some servers close a connection after each response without announcing it. The next request
//! crosses the close, so it is unknown whether it was processed, and a request that must not be
//! repeated fails. After a few such losses in a row each connection is used once. Now and then one
//! is kept as a test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Consecutive losses after which connections are not reused.
const MAX_LOSSES: u32 = 3;
/// Responses until the first connection is kept as a test; the interval doubles up to the maximum.
const FIRST_INTERVAL: u32 = 16;
const MAX_INTERVAL: u32 = 4096;
/// Longest time after sending in which a close is attributed to the idle connection: such a close
/// is noticed within a round trip. A later one ended a request in progress, and says nothing about
/// reuse.
const CLOSE_RACE: Duration = Duration::from_millis(250);

/// One worker's statistics. All orderings are relaxed: a single thread uses it.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    /// Losses since a reused connection delivered a response; at most `MAX_LOSSES`.
    lost: AtomicU32,
    /// Responses left until a connection is kept as a test, and the previous interval.
    left: AtomicU32,
    period: AtomicU32,
}

impl Reuse {
    /// Records a response on a reused connection.
    pub(super) fn answered(&self) {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        if self.lost.swap(0, Ordering::Relaxed) == MAX_LOSSES {
            tracing::info!("the upstream keeps its connections open again; they are reused");
        }
    }

    /// Records that a reused connection was closed `after` sending a request, before any response.
    pub(super) fn lost(&self, after: Duration) {
        let lost = self.lost.load(Ordering::Relaxed);
        if after > CLOSE_RACE || lost == MAX_LOSSES {
            return;
        }
        self.lost.store(lost + 1, Ordering::Relaxed);
        if lost + 1 == MAX_LOSSES {
            self.left.store(FIRST_INTERVAL, Ordering::Relaxed);
            self.period.store(FIRST_INTERVAL, Ordering::Relaxed);
            tracing::warn!(
                "the upstream closes its connections after a response without `Connection: close`; each is used once, for now"
            );
        }
    }

    /// Whether to keep a connection whose response has ended.
    pub(super) fn keeps(&self) -> bool {
        if self.lost.load(Ordering::Relaxed) < MAX_LOSSES {
            return true;
        }
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return false;
        }
        let period = (self.period.load(Ordering::Relaxed) * 2).min(MAX_INTERVAL);
        self.period.store(period, Ordering::Relaxed);
        self.left.store(period, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(2);

    fn unreliable() -> Reuse {
        let reuse = Reuse::default();
        for _ in 0..MAX_LOSSES {
            assert!(reuse.keeps());
            reuse.lost(AT_ONCE);
        }
        reuse
    }

    /// Responses until one is kept.
    fn until_kept(reuse: &Reuse) -> u32 {
        (0..=MAX_INTERVAL).find(|_| reuse.keeps()).unwrap()
    }

    #[test]
    fn after_some_losses_in_a_row_one_in_ever_more_is_kept() {
        let reuse = unreliable();
        let kept: Vec<u32> = (0..11)
            .map(|_| {
                reuse.lost(AT_ONCE);
                until_kept(&reuse)
            })
            .collect();
        assert_eq!(kept, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096]);
    }

    #[test]
    fn an_answer_on_a_used_connection_ends_the_doubt() {
        let reuse = unreliable();
        assert!(!reuse.keeps());
        reuse.answered();
        assert_eq!(until_kept(&reuse), 0);
        reuse.lost(AT_ONCE);
        reuse.lost(AT_ONCE);
        reuse.answered();
        reuse.lost(AT_ONCE);
        assert!(reuse.keeps(), "they were not in a row");
    }

    #[test]
    fn a_request_that_had_begun_says_nothing() {
        let reuse = Reuse::default();
        for _ in 0..9 {
            reuse.lost(Duration::from_millis(251));
        }
        assert!(reuse.keeps());
    }
}

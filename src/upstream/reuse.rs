//! Whether an upstream's connections can be used again.
//!
//! Some servers close a connection right after each answer and do not say so in its head. The next
//! request meets that close on its way: nobody can tell whether it was carried out, and one that
//! must not be repeated fails. After a few losses in a row a connection serves one request; now and
//! then one is kept, to see.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Losses in a row after which connections are no longer kept.
const ENOUGH: u32 = 3;
/// Answers until one is kept again; twice as many each time.
const FIRST: u32 = 16;
const MOST: u32 = 4096;
/// A close that was on its way when the request went out is noticed within a round trip. What
/// comes later ends a request that the upstream had begun, and says nothing about the next.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// What one worker knows of it. All orderings are relaxed: one thread does it all.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    /// Losses since a connection that was used before brought an answer; no more than matter.
    lost: AtomicU32,
    /// Answers until one is kept, and how many it were last time.
    left: AtomicU32,
    period: AtomicU32,
}

impl Reuse {
    /// A connection that was used before brought an answer.
    pub(super) fn answered(&self) {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        if self.lost.swap(0, Ordering::Relaxed) == ENOUGH {
            tracing::info!("the upstream keeps its connections open again: they are used again");
        }
    }

    /// One was closed this long `after` a request went out on it, before any answer.
    pub(super) fn lost(&self, after: Duration) {
        let lost = self.lost.load(Ordering::Relaxed);
        if after > ON_ITS_WAY || lost == ENOUGH {
            return;
        }
        self.lost.store(lost + 1, Ordering::Relaxed);
        if lost + 1 == ENOUGH {
            self.left.store(FIRST, Ordering::Relaxed);
            self.period.store(FIRST, Ordering::Relaxed);
            tracing::warn!(
                "the upstream closes its connections after an answer without `Connection: close`: each is used once, for now"
            );
        }
    }

    /// Whether a connection whose answer has ended is kept for another request.
    pub(super) fn keeps(&self) -> bool {
        if self.lost.load(Ordering::Relaxed) < ENOUGH {
            return true;
        }
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return false;
        }
        let period = (self.period.load(Ordering::Relaxed) * 2).min(MOST);
        self.period.store(period, Ordering::Relaxed);
        self.left.store(period, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(2);

    fn doubted() -> Reuse {
        let reuse = Reuse::default();
        for _ in 0..ENOUGH {
            assert!(reuse.keeps());
            reuse.lost(AT_ONCE);
        }
        reuse
    }

    /// Answers until one is kept.
    fn until_kept(reuse: &Reuse) -> u32 {
        (0..=MOST).find(|_| reuse.keeps()).unwrap()
    }

    #[test]
    fn after_some_losses_in_a_row_one_in_ever_more_is_kept() {
        let reuse = doubted();
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
        let reuse = doubted();
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

//! A pause after a proxy's refusal: repeated attempts would fail too, and could lock the account.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::classify::Failure;
use crate::clock::Instant;

/// The pause after the first refusal; each further refusal doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause, so that a proxy that accepts again is found within a minute.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// The proxy's last refusal; shared by all connections through the proxy.
#[derive(Debug, Default)]
pub(super) struct RefusedByProxy(Mutex<Option<Refusal>>);

#[derive(Clone, Debug)]
struct Refusal {
    failure: Failure,
    since: Instant,
    pause: Duration,
    /// When the next connection may try the proxy.
    ask_again: Instant,
}

impl RefusedByProxy {
    /// Allows one connection after each pause to try the proxy.
    ///
    /// # Errors
    /// The proxy's last refusal.
    pub(super) fn check(&self, now: Instant) -> Result<(), Failure> {
        let mut refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &mut *refusal else { return Ok(()) };
        if now < known.ask_again {
            return Err(known.failure.clone());
        }
        known.ask_again = now + known.pause;
        Ok(())
    }

    /// Records that the proxy refused a connection.
    pub(super) fn refused(&self, failure: &Failure, now: Instant) {
        let mut refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refusal.as_ref().map(|known| known.pause);
        // Concurrent refusals count as one.
        if refusal.as_ref().is_some_and(|known| now < known.since + FIRST_PAUSE / 2) {
            return;
        }
        let pause = before.map_or(FIRST_PAUSE, |before| (before * 2).min(MAX_PAUSE));
        *refusal = Some(Refusal { failure: failure.clone(), since: now, pause, ask_again: now + pause });
    }

    /// Records that the proxy opened a tunnel.
    pub(super) fn opened(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::FailureKind;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_refuses_is_asked_ever_less_often_and_never_given_up() {
        let start = clock::now();
        let known = RefusedByProxy::default();
        let failure = Failure::unsent(FailureKind::Proxy, "407");
        let mut asked = Vec::new();
        for tenth in 0..2_000_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            for _ in 0..3 {
                if known.check(now).is_ok() {
                    asked.push(tenth / 10);
                    known.refused(&failure, now);
                }
            }
        }
        assert_eq!(asked, [0, 2, 6, 14, 30, 62, 122, 182]);
        known.opened();
        assert!(known.check(start).is_ok());
    }
}

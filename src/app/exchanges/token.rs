//! A short-lived token: when to request the next one, and when to retry.

use std::time::Duration;

use crate::caller::Secret;
use crate::clock::Instant;

/// The assumed lifetime of a token if the endpoint does not state it.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// The fraction of its lifetime after which the next token is requested.
const REFRESH_AT: f64 = 2.0 / 3.0;
/// The most by which that is randomly earlier, as a fraction of the lifetime: replicas that started
/// together soon spread their requests.
const JITTER: f64 = 0.05;
/// The backoff after the first failure; it doubles with each further one.
const RETRY: Duration = Duration::from_millis(500);
/// The maximum of that backoff.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// The age from which a token is renewed when the upstream refused a key; a younger one is renewed
/// after a third of its lifetime.
const OLD_ENOUGH: Duration = Duration::from_secs(30);

/// A token with its lifetime.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: Secret,
    /// When it was requested: its lifetime is counted from then.
    pub(super) asked: Instant,
    pub(super) life: Duration,
}

impl Token {
    pub(super) fn ends(&self) -> Instant {
        self.asked + self.life
    }

    /// When the next one is requested; `random` is from 0 to 1.
    pub(super) fn due(&self, random: f64) -> Instant {
        self.asked + self.life.mul_f64(REFRESH_AT - JITTER * random)
    }

    /// Whether to renew the token when the upstream refused a key.
    pub(super) fn is_renewable(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) >= OLD_ENOUGH.min(self.life / 3)
    }
}

/// The backoff after a number of failures in a row: half of it is fixed, half is random.
pub(super) fn retry_after(failures: u32, random: f64) -> Duration {
    let longest = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MAX_RETRY);
    longest.mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn the_next_token_is_due_at_two_thirds_of_the_life_and_tries_grow_to_half_a_minute() {
        let token = Token { secret: "t".into(), asked: clock::now(), life: Duration::from_hours(1) };
        let due = |random| (token.due(random) - token.asked).as_secs();
        assert_eq!([due(0.0), due(1.0)], [2_400, 2_220]);
        assert!(!token.is_renewable(token.asked + Duration::from_secs(29)));
        assert!(token.is_renewable(token.asked + Duration::from_secs(30)));
        let short = Token { life: Duration::from_secs(9), ..token };
        assert!(short.is_renewable(short.asked + Duration::from_secs(3)));
        let waits = [1, 2, 3, 7, 1_000].map(|failures| retry_after(failures, 1.0).as_millis());
        assert_eq!(waits, [500, 1_000, 2_000, 30_000, 30_000]);
        assert_eq!(retry_after(1, 0.0).as_millis(), 250);
    }
}

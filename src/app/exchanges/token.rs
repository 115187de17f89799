//! A token that lives short: when the next one is due, and when it is tried again.

use std::time::Duration;

use crate::caller::Secret;
use crate::clock::Instant;

/// The life of a token whose endpoint does not tell it.
pub(super) const UNTOLD_LIFE: Duration = Duration::from_mins(5);
/// The part of its life after which the next token is asked for, and how much of its life earlier
/// at most: replicas that were started together don't ask together for long.
const REFRESH_AT: f64 = 2.0 / 3.0;
const JITTER: f64 = 0.05;
/// The wait after a failure, which doubles with each, and the longest.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A token of this age is asked for anew when a request's key was refused; a younger one where a
/// third of its life is over.
const OLD_ENOUGH: Duration = Duration::from_secs(30);

/// A token, and how long it lives.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: Secret,
    /// When it was asked for: its life counts from then.
    pub(super) asked: Instant,
    pub(super) life: Duration,
}

impl Token {
    pub(super) fn ends(&self) -> Instant {
        self.asked + self.life
    }

    /// When the next one is asked for; `random` is from 0 to 1.
    pub(super) fn due(&self, random: f64) -> Instant {
        self.asked + self.life.mul_f64(REFRESH_AT - JITTER * random)
    }

    /// Whether it is worth another one when the upstream refused a key.
    pub(super) fn is_worth_another(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) >= OLD_ENOUGH.min(self.life / 3)
    }
}

/// The wait after a number of failures in a row: half of it is certain, the other half by chance.
pub(super) fn retry_after(failures: u32, random: f64) -> Duration {
    let longest = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_RETRY);
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
        assert!(!token.is_worth_another(token.asked + Duration::from_secs(29)));
        assert!(token.is_worth_another(token.asked + Duration::from_secs(30)));
        let short = Token { life: Duration::from_secs(9), ..token };
        assert!(short.is_worth_another(short.asked + Duration::from_secs(3)));
        let waits = [1, 2, 3, 7, 1_000].map(|failures| retry_after(failures, 1.0).as_millis());
        assert_eq!(waits, [500, 1_000, 2_000, 30_000, 30_000]);
        assert_eq!(retry_after(1, 0.0).as_millis(), 250);
    }
}

//! What a scope admitted in the last minute, the figure that a person compares with a limit per
//! minute; and for how long its requests waited and were served, which tells how many more there
//! would be without a wait.

use super::limits::Cost;
use super::moment::Moment;

/// Seconds of one part of the minute.
const PART: u64 = 5;
/// Parts that are kept: those of a minute, and the one that the minute's beginning cuts.
const PARTS: usize = 13;

/// Requests and tokens by part of a minute. Only what is added within a part is told apart from
/// what was before.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted {
    parts: [Part; PARTS],
    pub(super) totals: Totals,
}

/// Sums since the scope was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Seconds that admitted requests waited.
    pub waited: f64,
    /// Seconds from permits to their ends.
    pub served: f64,
    /// Requests that were refused for a wait that was too long.
    pub refused_requests: f64,
    /// Their tokens, as estimated.
    pub refused_tokens: f64,
}

impl Totals {
    /// A request was refused for its predicted wait, or waited in vain.
    pub(super) fn refused(&mut self, cost: Cost) {
        self.refused_requests += f64::from(cost.requests);
        self.refused_tokens += cost.tokens as f64;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Which part since the start of the scope's time, from 1.
    number: u64,
    requests: u32,
    tokens: u64,
}

impl Admitted {
    /// Counts one attempt and its tokens as they were estimated.
    pub(super) fn count(&mut self, requests: u32, tokens: u64, now: Moment) {
        let number = number(now);
        let part = &mut self.parts[place(number)];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.requests = part.requests.saturating_add(requests);
        part.tokens = part.tokens.saturating_add(tokens);
    }

    /// Requests and tokens of the 60 seconds up to now; of the part that the minute's beginning
    /// cuts, what lies within.
    pub(super) fn last_minute(&self, now: Moment) -> (f64, f64) {
        let current = number(now);
        let into = now.since(Moment::START).as_secs_f64() % PART as f64 / PART as f64;
        let mut sum = (0.0, 0.0);
        for part in self.parts.iter().filter(|part| part.number > 0) {
            let weight = match current.saturating_sub(part.number) {
                0..12 => 1.0,
                12 => 1.0 - into,
                _ => 0.0,
            };
            sum.0 += weight * f64::from(part.requests);
            sum.1 += weight * part.tokens as f64;
        }
        sum
    }
}

fn number(now: Moment) -> u64 {
    now.since(Moment::START).as_secs() / PART + 1
}

fn place(number: u64) -> usize {
    usize::try_from(number % PARTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_steady_rate_is_what_a_minute_holds() {
        let at = |millis: u64| Moment::START.plus(Duration::from_millis(millis));
        let mut admitted = Admitted::default();
        for request in 0..600 {
            admitted.count(1, 100, at(request * 500));
            if request > 140 {
                let (requests, tokens) = admitted.last_minute(at(request * 500));
                assert!((119.0..=121.0).contains(&requests), "{request}: {requests}");
                assert!((tokens - 100.0 * requests).abs() < 1e-6);
            }
        }
        assert_eq!(admitted.last_minute(at(600_000)), (0.0, 0.0));
    }
}

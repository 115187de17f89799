//! What this replica needs of each scope's limits, from what its scopes sent and what waits in them.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::Demand;
use crate::clock::Instant;

use super::beat::{ScopeKey, UNKNOWN, WHOLE};

/// What waits shall be gone after so many seconds: a queue makes the need grow at once.
const CLEARED_IN: f64 = 2.0;
/// Two means of a rate, over so many seconds: the greater counts. It rises soon, and a pause between two requests gives
/// nothing away.
const MEANS: [f64; 2] = [1.0, 3.0];
/// A scope without requests for so long is told to nobody.
const QUIET: Duration = Duration::from_secs(30);

/// What one scope needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Millionths of the limit, or [`UNKNOWN`].
    pub(super) part: u32,
    /// Thousandths of requests a second that it sends.
    pub(super) requests: u32,
    /// Thousandths of tokens a second that it sends.
    pub(super) tokens: u64,
}

/// What is remembered of each scope.
#[derive(Debug, Default)]
pub(super) struct Demands(HashMap<ScopeKey, Track>);

#[derive(Clone, Copy, Debug)]
struct Track {
    looked: Instant,
    active: Instant,
    sent: [f64; 2],
    /// By unit, and by the length of the mean.
    rates: [[f64; 2]; 2],
}

impl Demands {
    /// The needs of the scopes that are in use. Of two scopes with one key the sums count.
    pub(super) fn needs(
        &mut self,
        demands: impl IntoIterator<Item = (ScopeKey, Demand)>,
        now: Instant,
    ) -> Vec<(ScopeKey, Need)> {
        let mut sums: HashMap<ScopeKey, Demand> = HashMap::new();
        for (key, demand) in demands {
            sums.entry(key).and_modify(|sum| *sum = joined(sum, &demand)).or_insert(demand);
        }
        self.0.retain(|key, _| sums.contains_key(key));
        let mut needs = Vec::new();
        for (key, demand) in sums {
            if let Some(need) = self.need(key, &demand, now) {
                needs.push((key, need));
            }
        }
        needs
    }

    fn need(&mut self, key: ScopeKey, demand: &Demand, now: Instant) -> Option<Need> {
        let sent = [demand.sent_requests, demand.sent_tokens];
        let first = Track { looked: now, active: now, sent: [0.0; 2], rates: [[0.0; 2]; 2] };
        let track = self.0.entry(key).or_insert(first);
        // Of a scope that is new nobody knows since when it sends.
        let seconds = now.saturating_duration_since(track.looked).as_secs_f64();
        let seconds = if seconds > 0.0 { seconds } else { 1.0 };
        for ((now, before), means) in sent.iter().zip(track.sent).zip(&mut track.rates) {
            let rate = ((now - before) / seconds).max(0.0);
            for (mean, over) in means.iter_mut().zip(MEANS) {
                *mean += (rate - *mean) * (1.0 - (-seconds / over).exp());
            }
        }
        if demand.in_flight > 0 || demand.waiting_requests > 0.0 || sent[0] > track.sent[0] {
            track.active = now;
        }
        (track.looked, track.sent) = (now, sent);
        if now.saturating_duration_since(track.active) > QUIET {
            return None;
        }
        let [requests, tokens] = track.rates.map(|[short, long]| short.max(long));
        let part = |limit: Option<f64>, rate: f64, waiting: f64| {
            limit.filter(|limit| *limit > 0.0).map(|limit| (rate + waiting / CLEARED_IN) / limit)
        };
        let by_requests = part(demand.limit_requests, requests, demand.waiting_requests);
        let ratio = demand.charge_ratio;
        let by_tokens = part(demand.limit_tokens, tokens * ratio, demand.waiting_tokens * ratio);
        let need = match (by_requests, by_tokens) {
            (None, None) => UNKNOWN,
            (requests, tokens) => millionths(requests.unwrap_or(0.0).max(tokens.unwrap_or(0.0))),
        };
        Some(Need {
            part: need,
            requests: thousandths(requests),
            tokens: u64::from(thousandths(tokens * ratio)),
        })
    }
}

fn joined(one: &Demand, other: &Demand) -> Demand {
    Demand {
        sent_requests: one.sent_requests + other.sent_requests,
        sent_tokens: one.sent_tokens + other.sent_tokens,
        waiting_requests: one.waiting_requests + other.waiting_requests,
        waiting_tokens: one.waiting_tokens + other.waiting_tokens,
        in_flight: one.in_flight.saturating_add(other.in_flight),
        limit_requests: one.limit_requests.or(other.limit_requests),
        limit_tokens: one.limit_tokens.or(other.limit_tokens),
        charge_ratio: one.charge_ratio.max(other.charge_ratio),
    }
}

/// At most a hundred times the whole, so that sums of it mean something.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds")]
fn millionths(part: f64) -> u32 {
    (part.clamp(0.0, 100.0) * f64::from(WHOLE)) as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn thousandths(rate: f64) -> u32 {
    (rate * 1000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ScopeKey = ScopeKey { owner: 1, family: 2 };

    fn demand(sent: f64, waiting: f64) -> Demand {
        Demand {
            sent_requests: sent,
            waiting_requests: waiting,
            limit_requests: Some(10.0),
            ..Demand::default()
        }
    }

    /// The needs with ten requests a second until `stop`, and then none.
    fn course(stop: u32, seconds: u32) -> Vec<Option<u32>> {
        let mut demands = Demands::default();
        let start = crate::clock::now();
        let at = |second: u32| start + Duration::from_secs(u64::from(second));
        (0..seconds)
            .map(|second| {
                let sent = f64::from(second.min(stop)) * 10.0;
                let needs = demands.needs([(KEY, demand(sent, 0.0))], at(second));
                needs.first().map(|(_, need)| need.part)
            })
            .collect()
    }

    #[test]
    fn a_need_rises_soon_falls_slowly_and_ends() {
        let needs = course(20, 60);
        assert!(needs[4].unwrap() > 900_000, "{needs:?}");
        assert!(needs[20].unwrap() > 990_000, "{needs:?}");
        assert!((150_000..250_000).contains(&needs[25].unwrap()), "{needs:?}");
        assert_eq!(needs[55], None);
    }

    #[test]
    fn what_waits_counts_at_once_and_a_clock_that_jumps_does_no_harm() {
        let mut demands = Demands::default();
        let start = crate::clock::now();
        let mut need = |sent, waiting, at| demands.needs([(KEY, demand(sent, waiting))], at)[0].1.part;
        assert_eq!(need(0.0, 40.0, start), 2_000_000);
        // The same moment again, and a total that fell since.
        assert!(need(5.0, 0.0, start) < 400_000);
        assert!(need(2.0, 0.0, start + Duration::from_secs(20)) < 10_000);
        assert_eq!(need(f64::NAN, f64::INFINITY, start + Duration::from_secs(21)), 100 * WHOLE);
    }

    #[test]
    fn a_charge_that_becomes_another_is_no_demand() {
        let mut demands = Demands::default();
        let start = crate::clock::now();
        let mut needs = (0..60_u32).map(|second| {
            let demand = Demand {
                sent_requests: f64::from(second),
                sent_tokens: f64::from(second) * 100.0,
                limit_tokens: Some(1000.0),
                charge_ratio: if second < 30 { 1.0 } else { 2.0 },
                ..Demand::default()
            };
            let at = start + Duration::from_secs(second.into());
            demands.needs([(KEY, demand)], at)[0].1
        });
        assert!((99_000..=101_000).contains(&needs.nth(29).unwrap().part));
        assert!(
            needs
                .all(|need| (198_000..=202_000).contains(&need.part) && need.tokens.abs_diff(200_000) < 2000)
        );
    }

    #[test]
    fn without_a_limit_the_need_is_not_known() {
        let unknown = Demand { sent_requests: 5.0, ..Demand::default() };
        let needs = Demands::default().needs([(KEY, unknown), (KEY, unknown)], crate::clock::now());
        assert_eq!(needs, [(KEY, Need { part: UNKNOWN, requests: 6321, tokens: 0 })]);
    }
}

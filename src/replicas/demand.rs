//! This replica's need of each scope's limits: the part that it would use without waiting.

use std::collections::HashMap;
use std::time::Duration;

use crate::admission::Demand;
use crate::clock::Instant;

use super::message::{MOST_WEIGHT, ScopeKey, WHOLE};

/// The time, in seconds, in which a queue should be served. It raises the need at once.
const QUEUE_DRAIN_SECONDS: f64 = 2.0;
/// The time constant, in seconds, with which a need falls. It rises at once.
const DECAY_SECONDS: f64 = 3.0;
/// The time constant, in seconds, of the rate of requests sent recently.
const AVERAGING_SECONDS: f64 = 2.0;
/// The factor by which the reported need exceeds the measured one, so that a small rise need not
/// wait.
const HEADROOM: f64 = 1.03;
/// The time without requests after which a scope is no longer reported to the ledger.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// The need of one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Need {
    /// The needed part, in millionths of the limit. The whole if the limits are unknown.
    pub(super) part: u32,
    /// The sum of the weights of the callers with requests in this scope.
    pub(super) weight: u32,
    /// Requests sent since the scope was first seen, and tokens as charged.
    pub(super) sent: [f64; 2],
    /// The unused fraction of this replica's part.
    pub(super) unused: f64,
}

/// The history of each scope.
#[derive(Debug, Default)]
pub(super) struct Demands(HashMap<ScopeKey, Track>);

/// Totals at one moment: requests and tokens sent, requests refused because of their wait, seconds
/// waited and seconds served.
type Sums = [f64; 6];

#[derive(Clone, Copy, Debug)]
struct Track {
    looked: Instant,
    active: Instant,
    sums: Sums,
    /// Their averages per second.
    rates: Sums,
    charged: [f64; 2],
    part: f64,
    weight: f64,
}

impl Demands {
    /// The needs of the scopes in use. The needs of scopes with the same key are added.
    pub(super) fn needs(
        &mut self,
        demands: impl IntoIterator<Item = (ScopeKey, Demand)>,
        now: Instant,
    ) -> Vec<(ScopeKey, Need)> {
        let mut sums: HashMap<ScopeKey, Demand> = HashMap::new();
        for (key, demand) in demands {
            sums.entry(key).and_modify(|sum| *sum = add(sum, &demand)).or_insert(demand);
        }
        self.0.retain(|key, _| sums.contains_key(key));
        sums.into_iter().filter_map(|(key, demand)| Some((key, self.need(key, &demand, now)?))).collect()
    }

    fn need(&mut self, key: ScopeKey, demand: &Demand, now: Instant) -> Option<Need> {
        let first = Track {
            looked: now,
            active: now,
            // The requests before the first measurement were sent within about a second.
            sums: [0.0; 6],
            rates: [0.0; 6],
            charged: [0.0; 2],
            part: 0.0,
            weight: 0.0,
        };
        let track = self.0.entry(key).or_insert(first);
        let seconds = now.saturating_duration_since(track.looked).as_secs_f64();
        let seconds = if seconds > 0.0 { seconds } else { 1.0 };
        let sums = sums_of(demand);
        let passed: Sums = std::array::from_fn(|of| (sums[of] - track.sums[of]).max(0.0));
        let follow = 1.0 - (-seconds / AVERAGING_SECONDS).exp();
        for (rate, passed) in track.rates.iter_mut().zip(passed) {
            *rate += (passed / seconds - *rate) * follow;
        }
        track.charged[0] += passed[0];
        track.charged[1] += passed[1] * demand.charge_ratio;
        if demand.in_flight > 0 || demand.waiting_requests > 0.0 || passed.iter().any(|of| *of > 0.0) {
            track.active = now;
        }
        (track.looked, track.sums) = (now, sums);
        let decay = (-seconds / DECAY_SECONDS).exp();
        track.part = part(demand, &track.rates).min(1.0).max(track.part * decay);
        track.weight = f64::from(demand.weight).max(track.weight * decay);
        if now.saturating_duration_since(track.active) > IDLE_TIMEOUT {
            return None;
        }
        Some(Need {
            part: whole_part(track.part),
            weight: rounded(track.weight).clamp(1, MOST_WEIGHT),
            sent: track.charged,
            unused: demand.unused,
        })
    }
}

fn sums_of(demand: &Demand) -> Sums {
    let Demand { sent_requests, sent_tokens, totals, .. } = *demand;
    [sent_requests, sent_tokens, totals.refused_requests, totals.refused_tokens, totals.waited, totals.served]
}

/// The needed part of the limits.
///
/// Callers that wait for a response before they send the next request send less if they have to
/// wait, so the rate sent does not show the demand. By Little's law they have `rate · (waited +
/// served)` requests at once; without waiting they would send that many per service time.
fn part(demand: &Demand, rates: &Sums) -> f64 {
    let [requests, tokens, refused_requests, refused_tokens, waited, served] = *rates;
    let freed = if served > 0.0 { 1.0 + waited / served } else { 1.0 };
    let of = |limit: Option<f64>, sent: f64, refused: f64, waiting: f64| {
        let rate = (sent * freed).max(sent + waiting / QUEUE_DRAIN_SECONDS) + refused;
        limit.filter(|limit| *limit > 0.0).map(|limit| rate / limit)
    };
    let ratio = demand.charge_ratio;
    let by_requests = of(demand.limit_requests, requests, refused_requests, demand.waiting_requests);
    let by_tokens =
        of(demand.limit_tokens, tokens * ratio, refused_tokens * ratio, demand.waiting_tokens * ratio);
    let at_once = f64::from(demand.in_flight) + demand.waiting_requests;
    let by_bound = demand.bound.map(|bound| at_once / f64::from(bound.max(1)));
    let known = [by_requests, by_tokens, by_bound];
    match known.into_iter().flatten().reduce(f64::max) {
        Some(part) => part * HEADROOM,
        None if requests > 0.0 || demand.waiting_requests > 0.0 => 1.0,
        None => 0.0,
    }
}

fn add(one: &Demand, other: &Demand) -> Demand {
    let mut totals = one.totals;
    totals.waited += other.totals.waited;
    totals.served += other.totals.served;
    totals.refused_requests += other.totals.refused_requests;
    totals.refused_tokens += other.totals.refused_tokens;
    Demand {
        sent_requests: one.sent_requests + other.sent_requests,
        sent_tokens: one.sent_tokens + other.sent_tokens,
        waiting_requests: one.waiting_requests + other.waiting_requests,
        waiting_tokens: one.waiting_tokens + other.waiting_tokens,
        in_flight: one.in_flight.saturating_add(other.in_flight),
        bound: one.bound.or(other.bound),
        totals,
        weight: one.weight.saturating_add(other.weight),
        unused: one.unused.min(other.unused),
        limit_requests: one.limit_requests.or(other.limit_requests),
        limit_tokens: one.limit_tokens.or(other.limit_tokens),
        charge_ratio: one.charge_ratio.max(other.charge_ratio),
    }
}

fn whole_part(part: f64) -> u32 {
    rounded(part.clamp(0.0, 1.0) * f64::from(WHOLE))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn rounded(number: f64) -> u32 {
    number.round() as u32
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
            charge_ratio: 1.0,
            ..Demand::default()
        }
    }

    /// The need at each of the first `seconds` seconds, for the demand `at` each second.
    fn course(seconds: u32, at: impl Fn(f64) -> Demand) -> Vec<u32> {
        let mut demands = Demands::default();
        let start = crate::clock::now();
        let look = |second: u32| {
            let needs = demands.needs([(KEY, at(second.into()))], start + Duration::from_secs(second.into()));
            needs.first().map_or(0, |(_, need)| need.part)
        };
        (0..seconds).map(look).collect()
    }

    #[test]
    fn a_need_rises_soon_falls_slowly_and_ends() {
        let needs = course(400, |second| demand(second.min(20.0) * 5.0, 0.0));
        assert!(needs[6] > 450_000 && (500_000..530_000).contains(&needs[20]), "{needs:?}");
        assert!((150_000..260_000).contains(&needs[23]), "{needs:?}");
        assert_eq!(needs[399], 0);
    }

    #[test]
    fn a_caller_that_waits_for_each_answer_needs_what_it_would_send_without_a_wait() {
        // One at a time: half a second of waiting, then a tenth of service. Without waiting it
        // would send ten a second.
        let needs = course(20, |second| {
            let requests = second / 0.6;
            let mut demand = demand(requests, 1.0);
            (demand.totals.waited, demand.totals.served) = (requests * 0.5, requests * 0.1);
            demand
        });
        assert_eq!(needs[19], WHOLE);
        // The same with a part that needs no waiting.
        let needs = course(20, |second| {
            let mut demand = demand(second * 5.0, 0.0);
            demand.totals.served = second * 5.0 * 0.2;
            demand
        });
        assert!((500_000..530_000).contains(&needs[19]), "{needs:?}");
    }

    #[test]
    fn what_is_refused_on_arrival_is_demand() {
        let needs = course(4, |second| {
            let mut demand = demand(0.0, 0.0);
            demand.totals.refused_requests = second * 4.0;
            demand
        });
        assert!(needs[2] > 250_000, "{needs:?}");
    }

    #[test]
    fn what_waits_counts_at_once_and_a_clock_that_jumps_does_no_harm() {
        let mut demands = Demands::default();
        let start = crate::clock::now();
        let mut need = |sent, waiting, at| demands.needs([(KEY, demand(sent, waiting))], at)[0].1.part;
        assert_eq!(need(0.0, 40.0, start), WHOLE);
        // The same moment again, and a total that decreased.
        assert!(need(5.0, 0.0, start) > 400_000);
        assert!(need(2.0, 0.0, start + Duration::from_secs(20)) < 10_000);
        assert_eq!(need(f64::NAN, f64::INFINITY, start + Duration::from_secs(21)), WHOLE);
    }

    #[test]
    fn a_charge_that_becomes_another_is_no_demand() {
        let needs = course(60, |second| Demand {
            sent_tokens: second * 100.0,
            limit_tokens: Some(1000.0),
            charge_ratio: if second < 30.0 { 1.0 } else { 2.0 },
            ..demand(second, 0.0)
        });
        assert!((102_000..=104_000).contains(&needs[29]), "{needs:?}");
        assert!(needs[30..].iter().all(|need| (204_000..=207_000).contains(need)), "{needs:?}");
    }

    #[test]
    fn requests_at_once_count_against_their_bound_and_unknown_limits_need_all() {
        let bounded = |_| Demand { in_flight: 6, bound: Some(10), ..demand(0.0, 2.0) };
        assert_eq!(course(2, bounded)[1], 824_000);
        let unknown = |second| Demand { limit_requests: None, ..demand(second, 0.0) };
        assert_eq!(course(3, unknown)[2], WHOLE);
    }
}

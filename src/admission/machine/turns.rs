//! Who may go now: the machine's decisions about turns, waits and outages.

use std::time::Duration;

use crate::admission::breaker::{BreakerState, Gate};
use crate::admission::moment::{Moment, duration};
use crate::admission::queue::{Full, Key, State, Waiter};
use crate::admission::quota::{Charge, Cost};
use crate::admission::refusal::Refused;
use crate::admission::spent::Funds;
use crate::caller::Lane;

use super::attempt::{Attempt, Grant, Would};
use super::member::Offer;
use super::request::{Arrival, Request, Turn};
use super::{Machine, Mode, breaker_refusal};

/// Nearly all answers come within so many times their typical time.
const NEARLY_ALL: u32 = 2;
/// What is due so soon does not need to be looked at with each arrival.
const SOON: Duration = Duration::from_millis(100);

impl<W> Machine<W> {
    /// Offers the request whose turn it is to the member: whether it may go now, at which cost, and as a probe or not; else
    /// when to look again.
    pub(super) fn turn_of(&mut self, key: Key, now: Moment) -> Result<(Cost, bool), Moment> {
        let waiter = self.queue.waiter(key);
        let cost = if waiter.requeued { waiter.cost } else { self.member.affordable(waiter.cost) };
        let charge = self.member.quota.charge(cost);
        match self.member.offer(charge, &self.settings, self.queue.waiting(), now) {
            Offer::Takes(probe) => Ok((cost, probe)),
            Offer::Blocked(at) | Offer::Held(at) => Err(at),
            Offer::Full => Err(Moment::NEVER),
        }
    }

    pub(super) fn grant(&mut self, key: Key, cost: Cost, probe: bool, now: Moment, wake: &mut Vec<W>) {
        let asks = self.queue.waiter(key).asks_quota;
        let quota_probe = asks
            || match self.member.spent.check(self.settings.quota_probe, now) {
                Funds::Pass => false,
                Funds::Probe => true,
                Funds::Spent(answer) => {
                    self.counts.quota_spent += 1;
                    self.refuse(key, Refused::QuotaExhausted(answer), wake);
                    return;
                }
            };
        let charge = self.member.quota.charge(cost);
        self.queue.serve(key, now);
        self.begin(cost, charge, probe, now);
        let waiter = self.queue.waiter_mut(key);
        waiter.cost = cost;
        waiter.state = State::Granted { at: now, charge, probe, quota_probe };
        wake.extend(waiter.waker.take());
    }

    pub(super) fn begin(&mut self, cost: Cost, charge: Charge, probe: bool, now: Moment) {
        self.member.begin(cost, charge, probe, &self.settings, now);
        self.counts.granted += 1;
        self.admitted.count(cost.requests, cost.tokens, now);
    }

    pub(super) fn grant_unpaced(&mut self, request: &Request, would: Would, now: Moment) -> Attempt {
        let charge = self.member.quota.charge(request.cost);
        self.begin(request.cost, charge, false, now);
        let grant =
            Grant { cost: request.cost, charge, at: now, probe: false, quota_probe: false, since: now };
        let mut attempt = grant.at_once();
        attempt.would = (would != Would::Pass).then(|| Box::new(would));
        attempt.counted = request.mode == Mode::Observe;
        attempt
    }

    pub(super) fn would(&mut self, request: &Request, now: Moment) -> Would {
        if let Some(outage) = self.member.breaker.outage() {
            return Would::Refuse(breaker_refusal(outage, now));
        }
        let wait = self.predict(request, now);
        if wait.is_zero() {
            Would::Pass
        } else if now.plus(wait) > request.deadline {
            Would::Refuse(Refused::Deadline { predicted: wait })
        } else {
            Would::Delay(wait)
        }
    }

    pub(super) fn enqueue(
        &mut self,
        request: &Request,
        quota_probe: bool,
        now: Moment,
        wake: &mut Vec<W>,
    ) -> Arrival {
        let (caller, lane) = (request.caller, request.lane);
        if let Some(refused) = self.outage_refusal(request, now) {
            self.counts.breaker_open += 1;
            return Arrival::Refused(refused);
        }
        let back = matches!(request.turn, Turn::Requeued(_));
        if !back
            && let Err(full) = self.queue.room(caller, lane, request.bytes, &self.settings.queue_of(caller))
        {
            let retry_after =
                self.predict(request, now).clamp(Duration::from_secs(1), Duration::from_mins(1));
            return Arrival::Refused(match full {
                Full::Queue => {
                    self.counts.queue_full += 1;
                    Refused::QueueFull { retry_after }
                }
                Full::Caller => {
                    self.counts.caller_limit += 1;
                    Refused::CallerLimit { retry_after }
                }
            });
        }
        let predicted = match request.turn {
            Turn::Requeued(ticket) => ticket.not_before.since(now),
            Turn::First | Turn::Retry => self.predict(request, now),
        };
        let latest = self.latest_turn(request, now);
        if now.plus(predicted) > latest && self.member.breaker.outage().is_none() {
            self.counts.deadline += 1;
            return Arrival::Refused(Refused::Deadline { predicted });
        }
        let since = match request.turn {
            Turn::Requeued(ticket) => ticket.since,
            Turn::First | Turn::Retry => now,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a wait in seconds needs no more than 24 bits")]
        let mut waiter =
            Waiter::new(request.cost, request.bytes, since, latest, predicted.as_secs_f64() as f32);
        waiter.asks_quota = quota_probe;
        waiter.requeued = back;
        let key = match request.turn {
            Turn::Requeued(ticket) => {
                self.queue.push_front(waiter, caller, lane, request.weight, ticket.not_before, now)
            }
            Turn::First | Turn::Retry => self.queue.push_back(waiter, caller, lane, request.weight),
        };
        // Whoever is next was found to wait a moment longer, and it is not the newcomer: nothing has changed for anybody.
        let soon = now < self.next && self.next.since(now) < SOON;
        if soon && !back && self.queue.next(self.settings.queue.background_share) != Some(key) {
            self.next = self.next.min(latest);
        } else {
            self.pump(now, wake);
        }
        Arrival::Waiting(key)
    }

    /// Until when a request that has to wait may do so. An attempt whose answer comes too late takes from the limits for nothing.
    fn latest_turn(&self, request: &Request, now: Moment) -> Moment {
        let typical = self.member.breaker.typical_head().filter(|_| request.head_due).unwrap_or_default();
        // Who is in a hurry still gets a chance.
        let kept = (typical * NEARLY_ALL).min(request.deadline.since(now) / 2);
        request.deadline.minus(kept)
    }

    /// While the upstream fails: whether waiting cannot help this request.
    pub(super) fn outage_refusal(&mut self, request: &Request, now: Moment) -> Option<Refused> {
        let outage = self.member.breaker.outage()?;
        if self.member.gate(&self.settings, self.queue.waiting(), now) == Gate::Probe {
            return None;
        }
        let patience_ends = match request.lane {
            Lane::Interactive => request.deadline.min(outage.opened.plus(self.settings.breaker.max_wait)),
            Lane::Background if self.settings.breaker.max_wait.is_zero() => now,
            Lane::Background => request.deadline,
        };
        (patience_ends <= now || outage.next_probe > patience_ends).then(|| breaker_refusal(outage, now))
    }

    /// Refuses those whose patience with an outage ended.
    pub(super) fn end_waits_of_outage(&mut self, now: Moment, wake: &mut Vec<W>) {
        let Some(outage) = self.member.breaker.outage() else { return };
        if now < outage.opened.plus(self.settings.breaker.max_wait) {
            return;
        }
        let lane = if self.settings.breaker.max_wait.is_zero() { None } else { Some(Lane::Interactive) };
        if self.queue.waiting() == 0 {
            return;
        }
        for key in self.queue.keys(lane) {
            self.counts.breaker_open += 1;
            self.refuse(key, breaker_refusal(outage, now), wake);
        }
    }

    pub(super) fn refuse(&mut self, key: Key, refused: Refused, wake: &mut Vec<W>) {
        self.queue.withdraw(key);
        let waiter = self.queue.waiter_mut(key);
        waiter.state = State::Refused(refused);
        wake.extend(waiter.waker.take());
    }

    /// How long a request that came now would wait for its turn.
    pub fn predict(&self, request: &Request, now: Moment) -> Duration {
        let ahead = self.queue.ahead(request.caller, request.lane, self.settings.queue.background_share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let ahead = self.member.quota.charge_of(ahead.requests as u64, ahead.tokens);
        let by_backlog = self.member.quota.predict(ahead, self.member.quota.charge(request.cost), now);
        // What was measured while the breaker held attempts back, or let them go at a rising pace, is no measure of what comes.
        let calm = self.member.breaker.state(self.queue.waiting(), now) == BreakerState::Closed;
        let measured = calm.then(|| self.queue.measured_wait(request.caller, request.lane, now)).flatten();
        duration(by_backlog.max(measured.unwrap_or(0.0)))
    }
}

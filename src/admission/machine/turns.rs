//! Who may go now: the machine's decisions about turns, waits and outages.

use std::time::Duration;

use crate::admission::breaker::{BreakerState, Gate};
use crate::admission::limits::{Charge, Cost};
use crate::admission::moment::{Moment, duration};
use crate::admission::queue::{Full, Key, Next, State, Waiter};
use crate::admission::refusal::Refused;
use crate::admission::spent::Funds;
use crate::caller::Lane;

use super::attempt::{Attempt, Grant, Would};
use super::member::Offer;
use super::request::{Arrival, Request, Turn};
use super::shadow::Shadow;
use super::{Machine, Mode, breaker_refusal, hold};

/// Nearly all answers come within so many times their typical time.
const NEARLY_ALL: u32 = 2;
/// For this time after requests waited, those that need not wait are counted in their callers' shares, too: a minute, for what
/// they take of the limits is missing for that long.
pub(super) const CONTENDED: Duration = Duration::from_mins(1);
/// The longest wait for what was sent without waiting: no longer than bursts of a moment.
const MOST_OWED: Duration = Duration::from_secs(5);
/// What is due so soon does not need to be looked at with each arrival.
const SOON: Duration = Duration::from_millis(100);

impl<W> Machine<W> {
    /// The request whose turn it is.
    pub(super) fn next_turn(&self) -> Option<Next> {
        self.queue.next(self.settings.queue.background_share, |cost| self.member.share(cost))
    }

    /// Offers the request whose turn it is to the member: the cost at which it may go now, and whether as a probe; else what
    /// holds it.
    pub(super) fn turn_of(&mut self, next: Next, now: Moment) -> Result<(Cost, bool), Offer> {
        let waiter = self.queue.waiter(next.key);
        let back = waiter.requeued;
        let cost = if back { waiter.cost } else { self.member.affordable(waiter.cost) };
        let charge = self.member.limits.charge(cost);
        // What was refused once leaves nothing free for others: it has waited for the time that it was told.
        match self.member.offer(charge, next.sparse || back, &self.settings, self.queue.waiting(), now) {
            Offer::Takes(probe) => Ok((cost, probe)),
            offer @ (Offer::Blocked(_) | Offer::Held { .. } | Offer::Full) => Err(offer),
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
        let charge = self.member.limits.charge(cost);
        let share = self.member.share_of(charge);
        self.queue.serve(key, share, self.settings.queue.background_share, now);
        let waiter = self.queue.waiter(key);
        let since = waiter.since;
        if !waiter.requeued {
            self.forecast.happened(waiter.predicted, since, now);
        }
        self.begin(cost, charge, probe, now.since(since), now);
        let waiter = self.queue.waiter_mut(key);
        waiter.cost = cost;
        waiter.state = State::Granted { at: now, charge, probe, quota_probe };
        wake.extend(waiter.waker.take());
    }

    pub(super) fn begin(&mut self, cost: Cost, charge: Charge, probe: bool, waited: Duration, now: Moment) {
        self.member.begin(cost, charge, probe, waited, &self.settings, now);
        self.counts.granted += 1;
        self.admitted.totals.waited += waited.as_secs_f64();
        self.admitted.count(cost.requests, cost.tokens, now);
    }

    pub(super) fn grant_unpaced(&mut self, request: &Request, would: Would, now: Moment) -> Attempt {
        let charge = self.member.limits.charge(request.cost);
        // What is sent without waiting is owed to the limits, up to a bound: enforced requests, now or after a reload, wait for
        // no more of it. The upstream's answers tell the true level.
        let owed = self.member.limits.wait(charge, true, self.member.in_flight, now);
        let charge = if owed > MOST_OWED { Charge::default() } else { charge };
        self.begin(request.cost, charge, false, Duration::ZERO, now);
        let grant =
            Grant { cost: request.cost, charge, at: now, probe: false, quota_probe: false, since: now };
        let mut attempt = grant.at_once();
        attempt.would = (would != Would::Pass).then(|| Box::new(would));
        attempt.counted = request.mode == Mode::Observe;
        attempt
    }

    /// What enforcing would do with a request of the observe mode.
    pub(super) fn would(&mut self, request: &Request, now: Moment) -> Would {
        if let Some(outage) = self.member.breaker.outage() {
            return Would::Refuse(breaker_refusal(outage, now));
        }
        let limits = &self.settings.limits;
        let shadow = self.shadow.get_or_insert_with(|| Box::new(Shadow::new(limits, now)));
        shadow.learn(&self.member.limits, now);
        shadow.arrive(request, &self.settings, |cost| self.member.share(cost), now)
    }

    pub(super) fn enqueue(
        &mut self,
        request: &Request,
        quota_probe: bool,
        now: Moment,
        wake: &mut Vec<W>,
    ) -> Arrival {
        if let Some(refused) = self.outage_refusal(request, now) {
            self.counts.breaker_open += 1;
            return Arrival::Refused(refused);
        }
        let back = matches!(request.turn, Turn::Requeued(_));
        if !back && let Err(refused) = self.make_place(request, now, wake) {
            return Arrival::Refused(refused);
        }
        let (since, not_before, predicted) = match request.turn {
            Turn::Requeued(ticket) => (ticket.since, ticket.not_before, ticket.not_before.since(now)),
            Turn::First | Turn::Retry => (now, now, self.predict(request, now)),
        };
        let latest = self.latest_turn(request, now);
        let least = if back { predicted } else { self.least_wait(predicted, now) };
        if now.plus(least) > latest && self.member.breaker.outage().is_none() {
            self.counts.deadline += 1;
            self.admitted.totals.refused(request.cost);
            let predicted = predicted.max(least);
            return Arrival::Refused(self.too_late(request.deadline, predicted, predicted, now));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a wait in seconds needs no more than 24 bits")]
        let mut waiter =
            Waiter::new(request.cost, request.bytes, since, latest, predicted.as_secs_f64() as f32);
        waiter.asks_quota = quota_probe;
        waiter.requeued = back;
        waiter.behind = request.turn == Turn::Retry && self.member.breaker.outage().is_some();
        let share = self.member.share(request.cost);
        let owner = (request.caller, request.lane, request.weight);
        let key = self.queue.push(waiter, owner, share, not_before, now);
        self.contended_until = now.plus(CONTENDED);
        // The request that is next was found to wait a moment longer, and it is not the new one: nothing has changed.
        let soon = now < self.next && self.next.since(now) < SOON;
        let is_next = || self.next_turn().is_some_and(|next| next.key == key);
        if soon && !back && !is_next() {
            self.next = self.next.min(latest);
        } else {
            self.pump(now, wake);
        }
        Arrival::Waiting(key)
    }

    /// Sees to it that one more request fits the bounds: where the queue is full, the youngest background requests give way to
    /// an interactive one.
    fn make_place(&mut self, request: &Request, now: Moment, wake: &mut Vec<W>) -> Result<(), Refused> {
        let settings = self.settings.queue_of(request.caller);
        loop {
            let full = match self.queue.room(request.caller, request.lane, request.bytes, &settings) {
                Ok(()) => return Ok(()),
                Err(full) => full,
            };
            let victim = (full == Full::Queue && request.lane == Lane::Interactive)
                .then(|| self.queue.displaceable(request.bytes, &settings))
                .flatten();
            let retry_after = self.predict(request, now);
            let Some(victim) = victim else {
                return Err(match full {
                    Full::Queue => {
                        self.counts.queue_full += 1;
                        Refused::QueueFull { retry_after }
                    }
                    Full::Caller => {
                        self.counts.caller_limit += 1;
                        Refused::CallerLimit { retry_after }
                    }
                });
            };
            self.counts.queue_full += 1;
            let retry_after = self.predict_for(victim, now);
            self.refuse(victim, Refused::QueueFull { retry_after }, wake);
        }
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

    /// Refuses what waited out an outage in vain.
    pub(super) fn end_waits_of_outage(&mut self, now: Moment, wake: &mut Vec<W>) {
        let Some(outage) = self.member.breaker.outage() else { return };
        let max_wait = self.settings.breaker.max_wait;
        if now < outage.opened.plus(max_wait) {
            return;
        }
        for lane in Lane::ALL {
            // Background work waits on, unless nothing is to wait.
            while (lane == Lane::Interactive || max_wait.is_zero())
                && let Some(key) = self.queue.oldest(lane)
            {
                self.counts.breaker_open += 1;
                self.refuse(key, breaker_refusal(outage, now), wake);
            }
        }
    }

    /// Refuses what can't be served before its deadline, for the limits hold everything until a moment that is far away or that the
    /// upstream named.
    pub(super) fn end_waits_of_hold(&mut self, until: Moment, now: Moment, wake: &mut Vec<W>) {
        if until.since(now) <= hold::LONG && self.member.hold.told_beyond(now).is_none() {
            return;
        }
        while let Some(key) = self.queue.expired(until) {
            self.counts.deadline += 1;
            let since = self.queue.waiter(key).since;
            let (predicted, retry_after) = (until.since(since), until.since(now));
            let deadline = self.queue.waiter(key).deadline;
            self.refuse(key, self.too_late(deadline, predicted, retry_after, now), wake);
        }
    }

    /// The answer to a request whose turn would come, or came, after its deadline: the upstream's own words where it named a time
    /// beyond that.
    pub(super) fn too_late(
        &self,
        deadline: Moment,
        predicted: Duration,
        retry_after: Duration,
        now: Moment,
    ) -> Refused {
        match self.member.hold.told_beyond(deadline.max(now)) {
            Some((words, until)) => Refused::Told { words, retry_after: until.since(now) },
            None => Refused::Deadline { predicted, retry_after },
        }
    }

    /// Refuses a request whose deadline came before its turn.
    pub(super) fn expire(&mut self, key: Key, now: Moment, wake: &mut Vec<W>) {
        self.counts.deadline += 1;
        self.admitted.totals.refused(self.queue.waiter(key).cost);
        let refusal = if let Some(outage) = self.member.breaker.outage() {
            breaker_refusal(outage, now)
        } else {
            let retry_after = self.predict_for(key, now);
            let waited = now.since(self.queue.waiter(key).since);
            self.too_late(now, waited + retry_after, retry_after, now)
        };
        self.refuse(key, refusal, wake);
    }

    pub(super) fn refuse(&mut self, key: Key, refused: Refused, wake: &mut Vec<W>) {
        self.queue.withdraw(key);
        let waiter = self.queue.waiter_mut(key);
        waiter.state = State::Refused(refused);
        wake.extend(waiter.waker.take());
    }

    /// How long a request that came now would wait for its turn.
    pub fn predict(&self, request: &Request, now: Moment) -> Duration {
        let Request { caller, lane, deadline, .. } = *request;
        // What was measured while the breaker held attempts back, or let them go at a rising pace, is no measure of what comes.
        // Nor is what was measured with a part of the limits that will grow.
        let calm = self.member.breaker.state(self.queue.waiting(), now) == BreakerState::Closed
            && self.member.limits.has_its_part();
        let measured = calm.then(|| self.queue.measured_wait(caller, lane, deadline, now)).flatten();
        let queued = duration(self.backlog_wait(request, now).max(measured.unwrap_or(0.0)));
        queued.max(self.member.hold.until().since(now))
    }

    /// The lower bound of the wait that is predicted for a request that came now.
    fn least_wait(&self, predicted: Duration, now: Moment) -> Duration {
        self.forecast.lower_bound(predicted).max(self.member.hold.until().since(now))
    }

    /// Seconds until what is ahead of a request that came now has gone, and then it, were nothing else to come.
    fn backlog_wait(&self, request: &Request, now: Moment) -> f64 {
        let Request { caller, lane, deadline, .. } = *request;
        let ahead = self.queue.ahead(caller, lane, deadline, self.settings.queue.background_share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let ahead = self.member.limits.charge_of(ahead.requests as u64, ahead.tokens);
        self.member.limits.predict(ahead, self.member.limits.charge(request.cost), now)
    }

    /// How long a request like one that waits would wait if it came now.
    fn predict_for(&self, key: Key, now: Moment) -> Duration {
        let (caller, lane, weight) = self.queue.owner(key);
        let waiter = self.queue.waiter(key);
        let request = Request {
            caller,
            weight,
            lane,
            cost: waiter.cost,
            bytes: 0,
            deadline: Moment::NEVER,
            head_due: false,
            turn: Turn::First,
            mode: Mode::Enforce,
        };
        self.predict(&request, now)
    }
}

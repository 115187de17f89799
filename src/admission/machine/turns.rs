//! Who may go now: the machine's decisions about turns, waits and outages.

use std::time::Duration;

use crate::admission::limits::{Charge, USUAL_WINDOW};
use crate::admission::moment::{Moment, duration};
use crate::admission::queue::{Full, Key, Next, Precedence, State, Waiter};
use crate::admission::refusal::Refused;
use crate::caller::Lane;

use super::attempt::{Attempt, Grant, Would};
use super::member::{LOOK_AGAIN, Offer};
use super::members::{Choice, Query, Route, Taken};
use super::request::{Arrival, Request, Turn};
use super::shadow::Shadow;
use super::{Machine, Mode, breaker_refusal, hold};

/// The lower bound of a wait, as a part of the predicted one. A lower one lets more wait in vain,
/// and those behind them wait for less than they were told.
const LOWER_BOUND: f64 = 0.95;
/// The multiple of their typical time within which nearly all answers come.
const NEARLY_ALL: u32 = 2;
/// The longest wait for what was sent without waiting: no longer than bursts of a moment.
const MOST_OWED: Duration = Duration::from_secs(5);
/// A request that only one member can serve looks this often whether an attempt in flight to it has
/// ended.
const FULL_LOOK: Duration = Duration::from_millis(20);
/// What is due so soon does not need to be looked at with each arrival.
const SOON: Duration = Duration::from_millis(100);

impl<W> Machine<W> {
    /// The request whose turn it is.
    pub(super) fn next_turn(&self) -> Option<Next> {
        let member = self.members.typical();
        self.queue.next(self.settings.queue.background_share, |cost| member.share(cost))
    }

    /// Offers the request whose turn it is to the members.
    pub(super) fn turn_of(&mut self, next: Next, now: Moment) -> Choice {
        let waiter = self.queue.waiter(next.key);
        let query = Query {
            cost: waiter.cost,
            full_price: waiter.is_requeued(),
            // What was refused once leaves nothing free for others: it has waited for the time that
            // it was told.
            sparse: next.sparse || waiter.is_requeued(),
            asks_quota: waiter.asks_quota,
            since: waiter.since,
            deadline: waiter.deadline,
            route: waiter.route,
            barred_until: waiter.barred_until,
        };
        self.members.choose(&query, &self.settings, self.queue.waiting(), now)
    }

    /// Where several members serve: a request that can't go to all of them, and waits, lets those
    /// behind it go to the others. Returns whether it stood aside.
    pub(super) fn stands_aside(&mut self, key: Key, offer: Offer, now: Moment, wake: &mut Vec<W>) -> bool {
        let (_, lane, _) = self.queue.owner(key);
        let waiter = self.queue.waiter(key);
        let (route, since, requeued) = (waiter.route, waiter.since, waiter.is_requeued());
        let is_barred = route.after.is_some() && waiter.barred_until > now;
        if !self.members.is_pool() || (route.pin.is_none() && !is_barred) {
            return false;
        }
        // Background work waits on, unless nothing is to wait.
        let ends = lane == Lane::Interactive || self.settings.breaker.max_wait.is_zero();
        if let Some(outage) = self.members.outage(route.pin).filter(|_| ends)
            && outage.opened.plus(self.settings.breaker.max_wait) <= now
        {
            self.counts.breaker_open += 1;
            self.refuse(key, breaker_refusal(outage, now), wake);
            return true;
        }
        let until = match offer {
            Offer::Blocked(at) => at,
            Offer::Held { until, look } => {
                if until.since(now) > hold::LONG && until > self.queue.waiter(key).deadline {
                    self.counts.deadline += 1;
                    let (predicted, retry_after) = (until.since(since), until.since(now));
                    self.refuse(key, Refused::Deadline { predicted, retry_after }, wake);
                    return true;
                }
                look
            }
            Offer::Full | Offer::Takes(_) => now.plus(FULL_LOOK),
        };
        let until = until.max(now.plus(LOOK_AGAIN));
        if let Some(pin) = route.pin.filter(|_| !requeued || !is_barred) {
            self.members.claim(pin, until);
        }
        self.queue.park(key, until);
        true
    }

    /// Until when a request that comes waits whatever the limits say.
    pub(super) fn held_until(&self, request: &Request, now: Moment) -> Moment {
        let barred = request.barred_until();
        let has_choice = self.members.is_pool() && request.route.after.is_some();
        if has_choice && request.route.pin.is_none() { now } else { barred }
    }

    pub(super) fn grant(&mut self, key: Key, taken: &Taken, now: Moment, wake: &mut Vec<W>) {
        let usual = self.members.typical().share(self.queue.waiter(key).cost);
        self.queue.compare_share(key, usual);
        let share = self.members.of(taken.member).share_of(taken.charge);
        self.queue.serve(key, share, self.settings.queue.background_share, now);
        let since = self.queue.waiter(key).since;
        self.begin(taken, now.since(since), now);
        let waiter = self.queue.waiter_mut(key);
        waiter.cost = taken.cost;
        let Taken { charge, member, probe, quota_probe, .. } = *taken;
        waiter.state = State::Granted { at: now, charge, member, probe, quota_probe };
        wake.extend(waiter.waker.take());
    }

    pub(super) fn begin(&mut self, taken: &Taken, waited: Duration, now: Moment) {
        let Taken { member, cost, charge, probe, .. } = *taken;
        self.members.of_mut(member).begin(cost, charge, probe, waited, &self.settings, now);
        self.counts.granted += 1;
        self.admitted.totals.waited += waited.as_secs_f64();
        self.admitted.count(cost.requests, cost.tokens, now);
    }

    pub(super) fn grant_unpaced(&mut self, request: &Request, would: Would, now: Moment) -> Attempt {
        let index = self.members.any(request.route);
        let member = self.members.of(index);
        let charge = member.limits.charge(request.cost);
        // What is sent without waiting is owed to the limits, up to a bound: enforced requests, now
        // or after a reload, wait for no more of it. The upstream's answers tell the true level.
        let owed = member.limits.wait(charge, true, member.in_flight, now);
        let charge = if owed > MOST_OWED { Charge::default() } else { charge };
        let (upstream, cost) = (member.id, request.cost);
        let taken = Taken { member: index, upstream, cost, charge, probe: false, quota_probe: false };
        self.begin(&taken, Duration::ZERO, now);
        let mut attempt = Grant { taken, at: now, since: now }.at_once();
        attempt.would = (would != Would::Pass).then(|| Box::new(would));
        attempt.counted = request.mode == Mode::Observe;
        attempt
    }

    /// What enforcing would do with a request of the observe mode.
    pub(super) fn would(&mut self, request: &Request, now: Moment) -> Would {
        if let Some(outage) = self.members.outage(None) {
            return Would::Refuse(breaker_refusal(outage, now));
        }
        let limits = &self.settings.limits;
        let shadow = self.shadow.get_or_insert_with(|| Box::new(Shadow::new(limits, now)));
        let member = self.members.typical();
        shadow.learn(&member.limits, now);
        shadow.arrive(request, &self.settings, |cost| member.share(cost), now)
    }

    pub(super) fn enqueue(
        &mut self,
        request: &Request,
        quota_probe: bool,
        tries: bool,
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
        let not_before = self.held_until(request, now).max(now);
        let first = Request { deadline: Moment::START, ..*request };
        let placed = if tries { &first } else { request };
        let predicted = if back { not_before.since(now) } else { self.predict(placed, now) };
        let since = request.since(now);
        let latest = self.latest_turn(request, now);
        let least = if back { predicted } else { self.least_wait(predicted, now) };
        if now.plus(least) > latest && self.members.outage(request.route.pin).is_none() {
            self.counts.deadline += 1;
            self.admitted.totals.refused(request.cost);
            let predicted = predicted.max(least);
            return Arrival::Refused(self.too_late(request.deadline, predicted, predicted, now));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a wait in seconds needs no more than 24 bits")]
        let mut waiter =
            Waiter::new(request.cost, request.bytes, since, latest, predicted.as_secs_f64() as f32);
        waiter.asks_quota = quota_probe;
        waiter.precedence = match request.turn {
            Turn::First if tries => Precedence::Try,
            Turn::Requeued(_) => Precedence::Requeued,
            Turn::Retry if self.members.outage(None).is_some() => Precedence::Behind,
            Turn::First | Turn::Retry => Precedence::ByDeadline,
        };
        (waiter.route, waiter.barred_until) = (request.route, request.barred_until());
        if let Some(patience) = self.members.patience(request.deadline, &self.settings, now)
            && duration(self.backlog_waits(placed, now).0) > patience
        {
            self.members.spill(self.queue.waiting() + 1);
        }
        let share = self.members.typical().share(request.cost);
        let owner = (request.caller, request.lane, request.weight);
        let key = self.queue.push(waiter, owner, share, not_before, now);
        // What those that need not wait take of the limits is missing for that long.
        self.contended_until = now.plus(USUAL_WINDOW);
        // The request that is next was found to wait a moment longer, and it is not the new one:
        // nothing has changed.
        let soon = now < self.next && self.next.since(now) < SOON;
        let is_next = || self.next_turn().is_some_and(|next| next.key == key);
        if soon && !back && !is_next() {
            self.next = self.next.min(latest);
        } else {
            self.pump(now, wake);
        }
        Arrival::Waiting(key)
    }

    /// Sees to it that one more request fits the bounds: where the queue is full, the youngest
    /// background requests give way to an interactive one.
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

    /// Until when a request that has to wait may do so. An attempt whose answer comes too late
    /// takes from the limits for nothing.
    fn latest_turn(&self, request: &Request, now: Moment) -> Moment {
        let typical = self.typical_head().filter(|_| request.head_due).unwrap_or_default();
        // Who is in a hurry still gets a chance.
        let kept = (typical * NEARLY_ALL).min(request.deadline.since(now) / 2);
        request.deadline.minus(kept)
    }

    /// While the upstream fails: whether waiting cannot help this request.
    pub(super) fn outage_refusal(&mut self, request: &Request, now: Moment) -> Option<Refused> {
        let outage = self.members.outage(request.route.pin)?;
        if self.members.may_probe(&self.settings, self.queue.waiting(), now) {
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
        let Some(outage) = self.members.outage(None) else { return };
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

    /// Refuses what can't be served before its deadline, for the limits hold everything until a
    /// moment that is far away or that the upstream named.
    pub(super) fn end_waits_of_hold(&mut self, until: Moment, now: Moment, wake: &mut Vec<W>) {
        if until.since(now) <= hold::LONG && self.members.told_beyond(now).is_none() {
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

    /// The answer to a request whose turn would come, or came, after its deadline: the upstream's
    /// own words where it named a time beyond that.
    pub(super) fn too_late(
        &self,
        deadline: Moment,
        predicted: Duration,
        retry_after: Duration,
        now: Moment,
    ) -> Refused {
        match self.members.told_beyond(deadline.max(now)) {
            Some((words, until)) => Refused::Told { words, retry_after: until.since(now) },
            None => Refused::Deadline { predicted, retry_after },
        }
    }

    /// Refuses a request whose deadline came before its turn.
    pub(super) fn expire(&mut self, key: Key, now: Moment, wake: &mut Vec<W>) {
        self.counts.deadline += 1;
        self.admitted.totals.refused(self.queue.waiter(key).cost);
        let refusal = if let Some(outage) = self.members.outage(self.queue.waiter(key).route.pin) {
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
        // What was measured while the breaker held attempts back, or let them go at a rising pace,
        // is no measure of what comes. Nor is what was measured with a part of the limits that will
        // grow.
        let calm =
            self.members.are_calm(self.queue.waiting(), now) && self.members.typical().limits.has_its_part();
        let measured = calm.then(|| self.queue.measured_wait(caller, lane, deadline, now)).flatten();
        let (best, all) = self.backlog_waits(request, now);
        let patience = self.members.patience(deadline, &self.settings, now);
        let spills = patience.is_some_and(|patience| duration(best) > patience);
        let queued = duration(if spills { all } else { best.max(measured.unwrap_or(0.0)) });
        queued.max(self.members.held_until().since(now))
    }

    /// The lower bound of the wait that is predicted for a request that came now.
    fn least_wait(&self, predicted: Duration, now: Moment) -> Duration {
        predicted.mul_f64(LOWER_BOUND).max(self.members.held_until().since(now))
    }

    /// Seconds until what is ahead of a request that came now has gone, and then it, were nothing
    /// else to come: by the members of the best priority, and by all.
    fn backlog_waits(&self, request: &Request, now: Moment) -> (f64, f64) {
        let Request { caller, lane, deadline, .. } = *request;
        let ahead = self.queue.ahead(caller, lane, deadline, self.settings.queue.background_share);
        self.members.predict((ahead.requests, ahead.tokens), request.cost, request.route.pin, now)
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
            route: Route { pin: waiter.route.pin, ..Route::default() },
        };
        self.predict(&request, now)
    }
}

//! Limits, queue, breaker and budget of one scope under one roof: the pure machine behind its lock.
//!
//! Every method takes the time and does all that is due; nothing here waits. `W` is what wakes a
//! waiter: a `Waker` in the proxy, a number in a simulation.

mod attempt;
mod course;
mod hold;
mod member;
mod members;
mod memory;
mod replicas;
mod request;
mod shadow;
mod status;
mod turns;

#[cfg(test)]
mod pool_tests;

use std::sync::Arc;
use std::time::Duration;

use crate::caller::{Lane, Mode};
use crate::classify::ErrorClass;
use crate::pool::UpstreamId;

use super::admitted::Admitted;
use super::breaker::Outage;
use super::budget::Budget;
use super::limits::Cost;
use super::moment::{Moment, duration};
use super::queue::{Key, Queue, State};
use super::refusal::Refused;
use super::settings::Settings;
use super::spent::{Funds, QuotaBreaker};
use super::status::Counts;

use attempt::Grant;
pub use attempt::{Attempt, HeadReport, Outcome, Would};
use member::Offer;
pub use members::Route;
use members::Taken;
use members::{Choice, Members, Query};
pub use request::{Arrival, Claim, Request, Ticket, Turn};
use shadow::Shadow;

/// No request has more tokens: an absurd price must not spoil the sums.
const MOST_TOKENS: u64 = 1 << 30;

/// The machine of one scope. Its fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub struct Machine<W> {
    /// The next moment at which something is due.
    next: Moment,
    settings: Arc<Settings>,
    draining: bool,
    /// When a request asked last.
    asked: Moment,
    /// Until when requests that need not wait are counted in their callers' shares.
    contended_until: Moment,
    /// What enforcing would do, where a request observes.
    shadow: Option<Box<Shadow>>,
    last_failure: Option<ErrorClass>,
    budget: Budget,
    members: Members,
    queue: Queue<W>,
    rng: fastrand::Rng,
    counts: Box<Counts>,
    /// Boxed, as the counts: an attempt touches each once, and the scope keeps within its cache
    /// lines.
    admitted: Box<Admitted>,
}

impl<W> Machine<W> {
    /// A machine that knows nothing but the settings, of all upstreams that these name.
    pub fn new(settings: Arc<Settings>, family: &str, seed: u64, now: Moment) -> Self {
        let members = settings.members_for(None).map(|id| (id, Arc::default())).collect();
        Self::with_members(settings, family, seed, members, now)
    }

    /// The same, of these members, each with the quota breaker of its credential.
    pub(crate) fn with_members(
        settings: Arc<Settings>,
        family: &str,
        seed: u64,
        members: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
        now: Moment,
    ) -> Self {
        Self {
            members: Members::new(&settings, family, members, now),
            queue: {
                let mut queue = Queue::new();
                queue.guarantee(settings.guarantees_of(family));
                queue
            },
            budget: Budget::new(&settings.budget),
            settings,
            draining: false,
            asked: now,
            contended_until: Moment::START,
            shadow: None,
            counts: Box::default(),
            admitted: Box::default(),
            last_failure: None,
            rng: fastrand::Rng::with_seed(seed),
            next: Moment::NEVER,
        }
    }

    /// A request comes.
    pub fn arrive(&mut self, request: &Request, now: Moment, wake: &mut Vec<W>) -> Arrival {
        self.asked = now;
        let bounded = Cost { tokens: request.cost.tokens.min(MOST_TOKENS), ..request.cost };
        let cost = self.members.typical().limits.expected(bounded);
        // What is larger than a limit of every upstream goes once at no price: nobody is to be told
        // that it waits for what that would cost.
        let tries = request.turn == Turn::First && self.members.all().all(|member| member.is_oversize(cost));
        let request = &request.at(if tries { Cost { tokens: 0, ..cost } } else { cost });
        if request.turn == Turn::First {
            self.budget.received();
        }
        match request.mode {
            Mode::Bypass => {
                return Arrival::Granted(self.grant_unpaced(request, Would::Pass, now));
            }
            Mode::Observe => {
                let would = self.would(request, now);
                return Arrival::Granted(self.grant_unpaced(request, would, now));
            }
            Mode::Enforce => {}
        }
        self.seek(request, tries, now, wake)
    }

    /// A request comes at the price that it has: what [`Machine::arrive`] prices, and what waited
    /// in a scope that was merged into this one.
    pub fn adopt(&mut self, request: &Request, now: Moment, wake: &mut Vec<W>) -> Arrival {
        self.seek(request, false, now, wake)
    }

    /// A request asks for a permit; `tries` says that it is larger than a limit.
    fn seek(&mut self, request: &Request, tries: bool, now: Moment, wake: &mut Vec<W>) -> Arrival {
        let cost = request.cost;
        if self.draining {
            self.counts.draining += 1;
            return Arrival::Refused(Refused::Draining);
        }
        let quota_probe = match self.members.funds(request.route, self.settings.quota_probe, now) {
            Funds::Pass => false,
            Funds::Probe => true,
            Funds::Spent(answer) => {
                self.counts.quota_spent += 1;
                return Arrival::Refused(Refused::QuotaExhausted(answer));
            }
        };
        if now > request.deadline {
            // It comes back too late from an attempt that was refused.
            self.counts.deadline += 1;
            let retry_after = self.predict(request, now);
            return Arrival::Refused(self.too_late(request.deadline, retry_after, retry_after, now));
        }
        let early = self.held_until(request, now) > now;
        if self.queue.is_empty() && !early {
            let query = Query {
                cost,
                full_price: request.turn != Turn::First,
                sparse: matches!(request.turn, Turn::Requeued(_)),
                asks_quota: quota_probe,
                since: request.since(now),
                deadline: request.deadline,
                route: request.route,
                barred_until: request.barred_until(),
            };
            if let Choice::Takes(taken) = self.members.choose(&query, &self.settings, 0, now) {
                if now < self.contended_until {
                    let share = self.members.of(taken.member).share_of(taken.charge);
                    let background = self.settings.queue.background_share;
                    self.queue.charge(request.caller, request.lane, request.weight, share, background);
                }
                self.begin(&taken, Duration::ZERO, now);
                let grant = Grant { taken, at: now, since: query.since };
                return Arrival::Granted(grant.at_once());
            }
        }
        self.enqueue(request, quota_probe, tries, now, wake)
    }

    /// Does all that is due: grants, refuses, drops what expired. Returns when something is due
    /// next.
    pub fn pump(&mut self, now: Moment, wake: &mut Vec<W>) -> Moment {
        if self.queue.waiting() == 0 {
            self.next = Moment::NEVER;
            return Moment::NEVER;
        }
        self.queue.unpark(now);
        while let Some(key) = self.queue.expired(now) {
            self.expire(key, now, wake);
        }
        self.end_waits_of_outage(now, wake);
        let mut next = Moment::NEVER;
        while let Some(turn) = self.next_turn() {
            match self.turn_of(turn, now) {
                Choice::Takes(taken) => self.grant(turn.key, &taken, now, wake),
                Choice::Spent(answer) => {
                    self.counts.quota_spent += 1;
                    self.refuse(turn.key, Refused::QuotaExhausted(answer), wake);
                }
                Choice::Waits(offer) if self.stands_aside(turn.key, offer, now, wake) => {}
                Choice::Waits(offer) => {
                    next = match offer {
                        Offer::Blocked(at) => at,
                        Offer::Held { until, look } => {
                            self.end_waits_of_hold(until, now, wake);
                            look
                        }
                        Offer::Full | Offer::Takes(_) => Moment::NEVER,
                    };
                    break;
                }
            }
        }
        for due in [
            self.queue.next_deadline(),
            self.queue.next_unpark(),
            self.members.stall_at(&self.settings.breaker, now),
        ] {
            next = next.min(due.unwrap_or(Moment::NEVER));
        }
        if let Some(outage) = self.members.outage(None) {
            let end = outage.opened.plus(self.settings.breaker.max_wait);
            if end > now {
                next = next.min(end);
            }
        }
        self.next = if self.queue.waiting() == 0 { Moment::NEVER } else { next };
        self.next
    }

    /// When something is due next; [`Moment::NEVER`] while nothing waits.
    pub fn due(&self) -> Moment {
        self.next
    }

    /// Asks what became of a waiting request, and leaves what wakes it when it still waits.
    pub fn claim(&mut self, key: Key, waker: impl FnOnce(&mut Option<W>)) -> Claim {
        let Some(waiter) = self.queue.find(key) else { return Claim::Refused(Refused::Draining) };
        if waiter.waits() {
            waker(&mut waiter.waker);
            return Claim::Pending;
        }
        let Some(waiter) = self.queue.remove(key) else { return Claim::Pending };
        match waiter.state {
            State::Granted { at, charge, member, probe, quota_probe } => {
                let upstream = self.members.of(member).id;
                let taken = Taken { member, upstream, cost: waiter.cost, charge, probe, quota_probe };
                let grant = Grant { taken, at, since: waiter.since };
                Claim::Granted(grant.after_waiting(duration(f64::from(waiter.predicted))))
            }
            State::Refused(refused) => Claim::Refused(refused),
            State::Moved(request) => Claim::Moved(request),
            State::Queued | State::Parked { .. } => Claim::Pending,
        }
    }

    /// A waiting request leaves; what was granted and not claimed is given back.
    pub fn cancel(&mut self, key: Key, now: Moment) {
        if self.queue.find(key).is_none() {
            return;
        }
        self.queue.withdraw(key);
        let Some(waiter) = self.queue.remove(key) else { return };
        self.counts.cancelled += 1;
        if let State::Granted { at, charge, member, probe, quota_probe } = waiter.state {
            let upstream = self.members.of(member).id;
            let taken = Taken { member, upstream, cost: waiter.cost, charge, probe, quota_probe };
            let grant = Grant { taken, at, since: waiter.since };
            self.settle(grant.at_once(), Outcome::Dropped, now);
        }
    }

    /// What waits goes to another machine: each is told so when it claims its turn.
    pub fn evacuate(&mut self, wake: &mut Vec<W>) {
        while let Some(key) = Lane::ALL.iter().find_map(|lane| self.queue.oldest(*lane)) {
            let (caller, lane, weight) = self.queue.owner(key);
            let waiter = self.queue.waiter(key);
            let not_before = match waiter.state {
                State::Parked { until } => until,
                State::Queued | State::Granted { .. } | State::Refused(_) | State::Moved(_) => Moment::START,
            };
            let request = Request {
                caller,
                weight,
                lane,
                cost: waiter.cost,
                bytes: waiter.bytes as usize,
                deadline: waiter.deadline,
                head_due: false,
                turn: Turn::Requeued(Ticket { since: waiter.since, not_before }),
                mode: Mode::Enforce,
                route: waiter.route,
            };
            self.queue.withdraw(key);
            let waiter = self.queue.waiter_mut(key);
            waiter.state = State::Moved(Box::new(request));
            wake.extend(waiter.waker.take());
        }
    }

    /// When a request asked last.
    pub(crate) fn asked(&self) -> Moment {
        self.asked
    }

    /// No further permits; what waits is refused.
    pub fn drain(&mut self, wake: &mut Vec<W>) {
        self.draining = true;
        while let Some(key) = Lane::ALL.iter().find_map(|lane| self.queue.oldest(*lane)) {
            self.counts.draining += 1;
            self.refuse(key, Refused::Draining, wake);
        }
    }

    /// Applies other settings; what was learned stays.
    pub(crate) fn configure(
        &mut self,
        settings: Arc<Settings>,
        family: &str,
        members: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
        now: Moment,
    ) {
        self.members.configure(&settings, family, members, now);
        self.budget.configure(&settings.budget);
        self.queue.guarantee(settings.guarantees_of(family));
        self.settings = settings;
    }

    /// The wakers of all waiting requests: for when whoever keeps the time is gone.
    pub fn take_wakers(&mut self) -> Vec<W> {
        self.queue.take_wakers()
    }

    /// Permits in flight.
    pub fn in_flight(&self) -> u32 {
        self.members.in_flight()
    }

    /// Whether requests have a choice of upstreams.
    pub(crate) fn is_pool(&self) -> bool {
        self.members.is_pool()
    }

    /// Whether a request that failed at one member can go to another one at once.
    pub(crate) fn has_other(&self, than: UpstreamId) -> bool {
        self.members.has_other(than)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

/// The answer to a request that an outage turns away.
fn breaker_refusal(outage: Outage, now: Moment) -> Refused {
    Refused::BreakerOpen { failing_for: now.since(outage.since), next_probe: outage.next_probe.since(now) }
}

//! Quota, queue, breaker and budget of one scope under one roof: the pure machine behind its lock.
//!
//! Every method takes the time and does all that is due; nothing here waits. `W` is what wakes a waiter: a `Waker` in the
//! proxy, a number in a simulation.

mod attempt;
mod request;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use crate::caller::{CallerId, Lane, Mode};
use crate::classify::ErrorClass;
use crate::retry::MilliTokens;

use super::breaker::{self, Breaker, Health};
use super::budget::{Budget, BudgetExhausted};
use super::moment::{Moment, duration};
use super::queue::{Key, Queue, State};
use super::quota::{Cost, Quota, Refusal, Times, Unit};
use super::refusal::Refused;
use super::settings::{LimitSettings, Settings};
use super::spent::{Funds, QuotaBreaker};
use super::status::{Counts, QueueStatus, ScopeStatus};

use attempt::Grant;
pub use attempt::{Attempt, HeadReport, Outcome, Would};
pub use request::{Arrival, Claim, Request, Ticket, Turn};

/// How far apart those come back who were told the same time.
const LEAST_SPREAD: Duration = Duration::from_millis(250);
const MOST_SPREAD: Duration = Duration::from_secs(1);
/// No request has more tokens: an absurd price must not spoil the sums.
const MOST_TOKENS: u64 = 1 << 30;

/// The machine of one scope.
#[derive(Debug)]
pub struct Machine<W> {
    settings: Arc<Settings>,
    limits: LimitSettings,
    quota: Quota,
    queue: Queue<W>,
    breaker: Breaker,
    budget: Budget,
    spent: Arc<QuotaBreaker>,
    in_flight: u32,
    draining: bool,
    counts: Counts,
    last_failure: Option<ErrorClass>,
    rng: fastrand::Rng,
    /// The next moment at which something is due.
    next: Moment,
}

impl<W> Machine<W> {
    /// A machine that knows nothing but the settings.
    pub fn new(settings: Arc<Settings>, family: &str, seed: u64, now: Moment) -> Self {
        Self::with_quota_breaker(settings, family, seed, Arc::default(), now)
    }

    pub(crate) fn with_quota_breaker(
        settings: Arc<Settings>,
        family: &str,
        seed: u64,
        spent: Arc<QuotaBreaker>,
        now: Moment,
    ) -> Self {
        let limits = settings.limits_of(family);
        Self {
            quota: Quota::new(&limits, now),
            queue: Queue::new(),
            breaker: Breaker::new(now),
            budget: Budget::new(&settings.budget),
            settings,
            limits,
            spent,
            in_flight: 0,
            draining: false,
            counts: Counts::default(),
            last_failure: None,
            rng: fastrand::Rng::with_seed(seed),
            next: Moment::NEVER,
        }
    }

    /// A request comes.
    pub fn arrive(&mut self, request: &Request, now: Moment, wake: &mut Vec<W>) -> Arrival {
        let cost = Cost { tokens: request.cost.tokens.min(MOST_TOKENS), ..request.cost };
        let request = &Request { cost: self.quota.expected(cost), ..*request };
        if request.turn == Turn::First {
            self.budget.received();
        }
        self.breaker.asked(now);
        match request.mode {
            Mode::Bypass => return Arrival::Granted(self.grant_unpaced(request, Would::Pass, now)),
            Mode::Observe => {
                let would = self.would(request, now);
                return Arrival::Granted(self.grant_unpaced(request, would, now));
            }
            Mode::Enforce => {}
        }
        if self.draining {
            self.counts.draining += 1;
            return Arrival::Refused(Refused::Draining);
        }
        let quota_probe = match self.spent.check(self.settings.quota_probe, now) {
            Funds::Pass => false,
            Funds::Probe => true,
            Funds::Spent(answer) => {
                self.counts.quota_spent += 1;
                return Arrival::Refused(Refused::QuotaExhausted(answer));
            }
        };
        if self.breaker.outage().is_none() && self.quota.exceeded(request.cost) {
            // Nothing is gained by a wait: the upstream says at once that it is too large, and knows better if it is not. It
            // charges nothing then, and room that can never be must not hold up everybody else.
            let cost = Cost { tokens: 0, ..request.cost };
            let charge = self.quota.charge(cost);
            self.begin(cost, charge, false, now);
            let grant = Grant { cost, charge, at: now, probe: quota_probe, since: now };
            return Arrival::Granted(grant.at_once());
        }
        if now > request.deadline {
            // It comes back too late from an attempt that was refused.
            self.counts.deadline += 1;
            return Arrival::Refused(Refused::Deadline { predicted: Duration::ZERO });
        }
        if self.queue.is_empty() && !matches!(request.turn, Turn::Requeued(ticket) if ticket.not_before > now)
        {
            let charge = self.quota.charge(request.cost);
            if let Some(probe) = self.passes(charge, now) {
                let since = match request.turn {
                    Turn::Requeued(ticket) => ticket.since,
                    Turn::First | Turn::Retry => now,
                };
                self.begin(request.cost, charge, probe, now);
                let probe = probe || quota_probe;
                let grant = Grant { cost: request.cost, charge, at: now, probe, since };
                return Arrival::Granted(grant.at_once());
            }
        }
        self.enqueue(request, quota_probe, now, wake)
    }

    /// Does all that is due: grants, refuses, drops what expired. Returns when something is due next.
    pub fn pump(&mut self, now: Moment, wake: &mut Vec<W>) -> Moment {
        if self.queue.waiting() == 0 {
            self.next = Moment::NEVER;
            return Moment::NEVER;
        }
        self.queue.unpark(now);
        while let Some(key) = self.queue.expired(now) {
            self.counts.deadline += 1;
            let predicted = self.queue.waiter(key).since;
            let refusal = match self.breaker.outage() {
                Some(outage) => Self::breaker_refusal(outage, now),
                None => Refused::Deadline { predicted: now.since(predicted) },
            };
            self.refuse(key, refusal, wake);
        }
        self.end_waits_of_outage(now, wake);
        let mut next = Moment::NEVER;
        while let Some(key) = self.queue.next(self.settings.queue.background_share) {
            match self.turn_of(key, now) {
                Ok(probe) => self.grant(key, probe, now, wake),
                Err(at) => {
                    next = at;
                    break;
                }
            }
        }
        for due in [
            self.queue.next_deadline(),
            self.queue.next_unpark(),
            self.breaker.stall_at(&self.settings.breaker),
        ] {
            next = next.min(due.unwrap_or(Moment::NEVER));
        }
        if let Some((since, _)) = self.breaker.outage() {
            let end = since.plus(self.settings.breaker.max_wait);
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
        if matches!(waiter.state, State::Queued | State::Parked { .. }) {
            waker(&mut waiter.waker);
            return Claim::Pending;
        }
        let Some(waiter) = self.queue.remove(key) else { return Claim::Pending };
        match waiter.state {
            State::Granted { at, charge, probe } => {
                let grant = Grant { cost: waiter.cost, charge, at, probe, since: waiter.since };
                Claim::Granted(grant.after_waiting(duration(f64::from(waiter.predicted))))
            }
            State::Refused(refused) => Claim::Refused(refused),
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
        if let State::Granted { charge, probe, at } = waiter.state {
            let grant = Grant { cost: waiter.cost, charge, at, probe, since: waiter.since };
            self.settle(grant.at_once(), Outcome::Dropped, now);
        }
    }

    /// The first byte of an attempt goes upstream.
    pub fn sent(&mut self, attempt: &mut Attempt, now: Moment) {
        if attempt.sent.is_some() {
            return;
        }
        attempt.sent = Some(now);
        attempt.marks = self.quota.sent(attempt.cost, now);
        self.breaker.sent(now);
    }

    /// The head of the answer came.
    pub fn head(&mut self, attempt: &mut Attempt, report: &HeadReport, now: Moment) {
        let Some(sent) = attempt.sent.filter(|_| attempt.head.is_none()) else { return };
        attempt.head = Some(now);
        attempt.processing = report.processing;
        self.breaker.no_longer_headless(Some(now.since(sent)), now);
        let times = Times { sent, head: now, processing: report.processing };
        self.quota.told(&report.limits, attempt.cost, attempt.marks, &times, now);
        if !report.rate_limited {
            self.quota.accepted(attempt.charge, attempt.paced, sent, now);
        }
    }

    /// The answer is a good one. Its body may take minutes; that the upstream works is known now.
    pub fn accepted(&mut self, attempt: &mut Attempt, now: Moment) {
        if std::mem::replace(&mut attempt.accepted, true) {
            return;
        }
        self.budget.succeeded();
        self.spent.charged(attempt.granted);
        if attempt.counted {
            let probe = std::mem::take(&mut attempt.probe);
            let settings = &self.settings.breaker;
            self.breaker.ended(Health::Alive, probe, attempt.granted, settings, &mut self.rng, now);
        }
    }

    /// How long the head of an answer usually takes.
    pub fn typical_head(&self) -> Option<Duration> {
        self.breaker.typical_head()
    }

    /// An attempt ended. A rate limit gives a ticket for the head of the queue.
    pub fn settle(&mut self, mut attempt: Attempt, outcome: Outcome, now: Moment) -> Option<Ticket> {
        self.end(&mut attempt, outcome, now)
    }

    /// [`Machine::settle`], without moving the attempt: only for who makes sure that it ends once.
    pub(crate) fn end(&mut self, attempt: &mut Attempt, outcome: Outcome, now: Moment) -> Option<Ticket> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let began = attempt.granted;
        if attempt.sent.is_some() && attempt.head.is_none() {
            self.breaker.no_longer_headless(None, now);
        }
        if attempt.sent.is_none() {
            self.quota.give_back(attempt.cost, attempt.charge, now);
        }
        let (health, ticket) = match outcome {
            Outcome::Dropped => (Health::Unknown, None),
            Outcome::Done => {
                self.accepted(attempt, now);
                if let (Some(input), Some(sent)) = (attempt.input, attempt.sent) {
                    self.quota.used(attempt.cost, input, sent, now);
                }
                (Health::Unknown, None)
            }
            // A caller in a hurry says nothing about the upstream.
            Outcome::Failed(ErrorClass::TimeoutResponse)
                if !attempt.probe && now.since(began) < self.settings.breaker.stall =>
            {
                (Health::Unknown, None)
            }
            Outcome::Failed(class) => {
                let health = breaker::health(class);
                if health == Health::Failing {
                    self.last_failure = Some(class);
                }
                (health, None)
            }
            Outcome::QuotaExhausted(answer) => {
                self.spent.trip(answer, self.settings.quota_probe, now);
                (Health::Alive, None)
            }
            Outcome::RateLimited { class, numbers, hint } => {
                self.counts.rate_limited += 1;
                let sent = attempt.sent.unwrap_or(began);
                let head = attempt.head.unwrap_or(now);
                let times = Times { sent, head, processing: attempt.processing };
                let unit = if class == ErrorClass::RateLimitTokens { Unit::Tokens } else { Unit::Requests };
                let refusal = Refusal {
                    unit,
                    numbers: numbers.as_ref(),
                    hint,
                    cost: attempt.cost,
                    charge: attempt.charge,
                    marks: attempt.marks,
                    times: &times,
                };
                let verdict = self.quota.refused(&refusal, &mut self.rng, now);
                // Those who were told the same time do not come back together. Numbers tell each its own.
                let not_before = match (hint, numbers) {
                    (Some(hint), None) => {
                        let spread = (hint / 2).clamp(LEAST_SPREAD, MOST_SPREAD).mul_f64(self.rng.f64());
                        verdict.not_before.max(now.plus(hint)).plus(spread)
                    }
                    (None, _) | (Some(_), Some(_)) => verdict.not_before,
                };
                (breaker::health(class), Some(Ticket { since: attempt.since, not_before }))
            }
        };
        if attempt.counted {
            self.breaker.ended(health, attempt.probe, began, &self.settings.breaker, &mut self.rng, now);
        }
        ticket
    }

    /// Pays `cost` for a retry. While the breaker blocks it costs nothing: it waits for a probe's success.
    pub fn withdraw(&mut self, cost: MilliTokens, now: Moment) -> Result<(), BudgetExhausted> {
        if self.breaker.outage().is_some() {
            return Ok(());
        }
        if self.rng.f64() < self.breaker.denies_retries(&self.settings.breaker, now) {
            return Err(BudgetExhausted);
        }
        self.budget.withdraw(cost, self.in_flight, &self.settings.budget)
    }

    /// A retry that was paid for goes upstream.
    pub fn retry_began(&mut self) {
        self.budget.began();
    }

    /// A retry that went upstream ended.
    pub fn retry_ended(&mut self) {
        self.budget.returned();
    }

    /// No further permits; what waits is refused.
    pub fn drain(&mut self, wake: &mut Vec<W>) {
        self.draining = true;
        for key in self.queue.keys(None) {
            self.counts.draining += 1;
            self.refuse(key, Refused::Draining, wake);
        }
    }

    /// Applies other settings; what was learned stays.
    pub fn configure(&mut self, settings: Arc<Settings>, family: &str, now: Moment) {
        self.limits = settings.limits_of(family);
        self.budget.configure(&settings.budget);
        self.settings = settings;
        self.quota.configure(&self.limits, now);
    }

    /// The wakers of all waiting requests: for when whoever keeps the time is gone.
    pub fn take_wakers(&mut self) -> Vec<W> {
        self.queue.take_wakers()
    }

    /// Permits in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How the scope stands.
    pub fn status(&self, name: &str, now: Moment) -> ScopeStatus {
        let probe = Request {
            caller: CallerId(u16::MAX),
            weight: 1,
            lane: Lane::Interactive,
            cost: Cost { requests: 1, tokens: 1, ..Cost::default() },
            bytes: 0,
            deadline: Moment::NEVER,
            turn: Turn::First,
            mode: Mode::Enforce,
        };
        ScopeStatus {
            name: name.into(),
            dimensions: self.quota.status(now),
            charge_ratio: self.quota.charge_ratio(),
            unknown_rate: if self.quota.is_known() { None } else { self.quota.request_rate() },
            held_by: self.queue.next(self.settings.queue.background_share).and_then(|next| {
                let charge = self.quota.charge(self.queue.waiter(next).cost);
                self.quota.holding(charge, now)
            }),
            paused_for: self.quota.paused_until().since(now),
            queue: self
                .queue
                .rows()
                .map(|(caller, lane, waiting, oldest)| QueueStatus {
                    caller,
                    lane,
                    waiting,
                    oldest: now.since(oldest),
                    predicted: self.predict(&Request { caller, lane, ..probe }, now),
                })
                .collect(),
            queue_bytes: self.queue.bytes(),
            predicted_wait: self.predict(&probe, now),
            breaker: self.breaker.state(now),
            outage: self.breaker.outage().map(|(since, probe)| (now.since(since), probe.since(now))),
            last_failure: self.last_failure,
            breaker_opened: self.breaker.opened(),
            quota_spent_for: self.spent.since().map(|since| now.since(since)),
            quota_spent: self.spent.told().map(|(code, probe)| (code, probe.since(now))),
            quota_probes: self.spent.probes(),
            budget: self.budget.level(),
            budget_exhausted: self.budget.exhausted(),
            in_flight: self.in_flight,
            counts: self.counts,
        }
    }
}

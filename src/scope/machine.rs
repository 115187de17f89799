//! Quota, queue, breaker and budget of one scope under one roof: the pure machine behind its lock.
//!
//! Every method takes the time and does all that is due; nothing here waits. `W` is what wakes a waiter: a `Waker` in the
//! proxy, a number in a simulation.

use std::sync::Arc;
use std::time::Duration;

use crate::caller::{CallerId, Lane, Mode};
use crate::classify::ErrorClass;

use super::breaker::{self, Breaker, Gate, Health};
use super::budget::{Budget, BudgetExhausted};
use super::moment::{Moment, duration};
use super::queue::{Full, Key, Queue, State, Waiter};
use super::quota::{Charge, Cost, LimitReports, Marks, Quota, RefusalNumbers, Times};
use super::refusal::{Refused, SpentQuota};
use super::settings::{LimitSettings, Settings};
use super::spent::{Funds, QuotaBreaker};
use super::status::{Counts, QueueStatus, ScopeStatus};

/// A request for a permit, as the machine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whose it is.
    pub caller: CallerId,
    /// The caller's share relative to others, at least 1.
    pub weight: u32,
    /// The lane.
    pub lane: Lane,
    /// What it is expected to cost.
    pub cost: Cost,
    /// Bytes of its body, for the queue's bound.
    pub bytes: usize,
    /// Its turn must come before that.
    pub deadline: Moment,
    /// Whether it was here before.
    pub turn: Turn,
    /// How much of its work Weir does for it.
    pub mode: Mode,
}

/// Whether a request was here before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Its first time.
    #[default]
    First,
    /// Back after a rate limit, with its ticket: to the head of its queue.
    Requeued(Ticket),
    /// Back after a failure: like any other, and not counted as received again.
    Retry,
}

/// What a request keeps from an attempt that met a rate limit: its place at the head of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) since: Moment,
    pub(crate) not_before: Moment,
}

impl Ticket {
    /// The upstream will not admit the request before that.
    pub fn not_before(&self) -> Moment {
        self.not_before
    }
}

/// What became of a request on arrival.
#[derive(Debug)]
pub enum Arrival {
    /// It may go now.
    Granted(Attempt),
    /// It waits; ask [`Machine::claim`] when woken.
    Waiting(Key),
    /// It may not.
    Refused(Refused),
}

/// What became of a waiting request.
#[derive(Debug)]
pub enum Claim {
    /// It still waits.
    Pending,
    /// It may go now.
    Granted(Attempt),
    /// It may not.
    Refused(Refused),
}

/// One admitted attempt: to be settled exactly once.
#[derive(Debug)]
pub struct Attempt {
    charge: Charge,
    granted: Moment,
    sent: Option<Moment>,
    head: Option<Moment>,
    marks: Marks,
    probe: bool,
    counted: bool,
    since: Moment,
    queued: Duration,
    predicted: Option<Duration>,
    would: Would,
    paced: bool,
}

/// What the observe mode would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Would {
    /// Let it pass.
    #[default]
    Pass,
    /// Delayed it.
    Delay(Duration),
    /// Refused it.
    Refuse(Refused),
}

impl Attempt {
    /// How long it waited.
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// How long it was expected to wait when it came; absent where it did not wait.
    pub fn predicted(&self) -> Option<Duration> {
        self.predicted
    }

    /// Whether it asks a failing upstream, or a spent quota, if it is back.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// What would have been done with it, were the mode not to observe.
    pub fn would(&self) -> &Would {
        &self.would
    }
}

/// What the head of an answer told.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReport {
    /// The limit headers.
    pub limits: LimitReports,
    /// How long the upstream says that it worked on it.
    pub processing: Option<Duration>,
    /// Whether the status is a refusal for rate: then the level is the refusal's business.
    pub rate_limited: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was never sent, or its end is unknown.
    Dropped,
    /// It succeeded.
    Done,
    /// It failed.
    Failed(ErrorClass),
    /// The credential's quota is spent.
    QuotaExhausted(SpentQuota),
    /// It met a rate limit.
    RateLimited {
        /// The class.
        class: ErrorClass,
        /// The numbers in its message.
        numbers: Option<RefusalNumbers>,
        /// When the upstream wants to see it again.
        hint: Option<Duration>,
    },
}

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
        if request.turn == Turn::First {
            self.budget.received(&self.settings.budget);
        }
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
        if self.queue.is_empty() && !matches!(request.turn, Turn::Requeued(ticket) if ticket.not_before > now)
        {
            let charge = self.quota.charge(request.cost);
            if let Some(probe) = self.passes(charge, now) {
                let (queued, since) = match request.turn {
                    Turn::Requeued(ticket) => (now.since(ticket.since), ticket.since),
                    Turn::First | Turn::Retry => (Duration::ZERO, now),
                };
                self.begin(charge, probe, now);
                let predicted = None;
                let attempt = attempt(charge, now, probe || quota_probe, since, queued, predicted, false);
                return Arrival::Granted(attempt);
            }
        }
        self.enqueue(request, quota_probe, now, wake)
    }

    /// Does all that is due: grants, refuses, drops what expired. Returns when something is due next.
    pub fn pump(&mut self, now: Moment, wake: &mut Vec<W>) -> Moment {
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
            State::Granted { at, charge, probe, .. } => {
                let predicted = Some(duration(f64::from(waiter.predicted)));
                let queued = at.since(waiter.since);
                Claim::Granted(attempt(charge, at, probe, waiter.since, queued, predicted, true))
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
        if let State::Granted { charge, probe, at, .. } = waiter.state {
            let attempt = attempt(charge, at, probe, waiter.since, Duration::ZERO, None, true);
            self.settle(attempt, Outcome::Dropped, now);
        }
    }

    /// The first byte of an attempt goes upstream.
    pub fn sent(&mut self, attempt: &mut Attempt, now: Moment) {
        if attempt.sent.is_some() {
            return;
        }
        attempt.sent = Some(now);
        attempt.marks = self.quota.sent(attempt.charge, now);
        self.breaker.sent(now);
    }

    /// The head of the answer came.
    pub fn head(&mut self, attempt: &mut Attempt, report: &HeadReport, now: Moment) {
        let Some(sent) = attempt.sent.filter(|_| attempt.head.is_none()) else { return };
        attempt.head = Some(now);
        self.breaker.no_longer_headless(Some(now.since(sent)), now);
        let times = Times { sent, head: now, processing: report.processing };
        self.quota.told(&report.limits, &attempt.marks, &times, now);
        if !report.rate_limited {
            self.quota.accepted(attempt.charge, attempt.paced, now);
        }
    }

    /// An attempt ended. A rate limit gives a ticket for the head of the queue.
    pub fn settle(&mut self, attempt: Attempt, outcome: Outcome, now: Moment) -> Option<Ticket> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let began = attempt.granted;
        if attempt.sent.is_some() && attempt.head.is_none() {
            self.breaker.no_longer_headless(None, now);
        }
        if attempt.sent.is_none() {
            self.quota.give_back(attempt.charge, now);
        }
        let (health, ticket) = match outcome {
            Outcome::Dropped => (Health::Unknown, None),
            Outcome::Done => {
                self.budget.succeeded(&self.settings.budget);
                self.spent.charged(began);
                (Health::Alive, None)
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
                let times = Times { sent, head, processing: None };
                let verdict = self.quota.refused(
                    numbers.as_ref(),
                    hint,
                    attempt.charge,
                    &attempt.marks,
                    &times,
                    &mut self.rng,
                    now,
                );
                (
                    breaker::health(class),
                    Some(Ticket { since: attempt.since, not_before: verdict.not_before }),
                )
            }
        };
        if attempt.counted {
            self.breaker.ended(health, attempt.probe, began, &self.settings.breaker, &mut self.rng, now);
        }
        ticket
    }

    /// Pays for a retry after `class`. While the breaker blocks it costs nothing: it waits for a probe's success.
    pub fn withdraw(&mut self, class: ErrorClass) -> Result<(), BudgetExhausted> {
        if self.breaker.outage().is_some() {
            self.budget.waive();
            return Ok(());
        }
        self.budget.withdraw(class, self.in_flight, &self.settings.budget)
    }

    /// A retry that was paid for ended.
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
        self.settings = settings;
        self.quota.configure(&self.limits, now);
    }

    /// The waker of some waiting request: for when whoever keeps the time is gone.
    pub fn any_waker(&mut self) -> Option<W> {
        self.queue.any_waker()
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
            cost: Cost { requests: 1, tokens: 1 },
            bytes: 0,
            deadline: Moment::NEVER,
            turn: Turn::First,
            mode: Mode::Enforce,
        };
        ScopeStatus {
            name: name.into(),
            dimensions: self.quota.status(now),
            unknown_rate: if self.quota.is_known() { None } else { self.quota.request_rate() },
            held_by: self.queue.next(self.settings.queue.background_share).and_then(|next| {
                let charge = self.quota.charge(self.queue.waiter(next).cost);
                self.quota.holding(charge, now)
            }),
            paused_for: self.quota.paused_until().since(now),
            queue: self
                .queue
                .lines()
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

    /// Whether a charge may go this moment: `Some(true)` as a probe.
    fn passes(&mut self, charge: Charge, now: Moment) -> Option<bool> {
        let probe = match self.breaker.gate(&self.settings.breaker, now) {
            Gate::Pass => false,
            Gate::Probe => true,
            Gate::At(_) | Gate::Blocked(_) => return None,
        };
        self.ready_in(charge, now).is_some_and(|wait| wait.is_zero()).then_some(probe)
    }

    /// How long the limits hold a charge; nothing where an attempt in flight must end first.
    fn ready_in(&self, charge: Charge, now: Moment) -> Option<Duration> {
        if self.limits.in_flight.is_some_and(|bound| self.in_flight >= bound.max(1)) {
            return None;
        }
        self.quota.wait(charge, self.in_flight, now)
    }

    /// Whether the request whose turn it is may go now, as a probe or not; else when to look again.
    fn turn_of(&mut self, key: Key, now: Moment) -> Result<bool, Moment> {
        let gate = self.breaker.gate(&self.settings.breaker, now);
        let probe = match gate {
            Gate::Pass => false,
            Gate::Probe => true,
            Gate::At(at) | Gate::Blocked(at) => return Err(at.max(now.plus(Duration::from_millis(1)))),
        };
        let charge = self.quota.charge(self.queue.waiter(key).cost);
        match self.ready_in(charge, now) {
            Some(wait) if wait.is_zero() => Ok(probe),
            Some(wait) => Err(now.plus(wait)),
            None => Err(Moment::NEVER),
        }
    }

    fn grant(&mut self, key: Key, probe: bool, now: Moment, wake: &mut Vec<W>) {
        let quota_probe = match self.spent.check(self.settings.quota_probe, now) {
            Funds::Pass => false,
            Funds::Probe => true,
            Funds::Spent(answer) => {
                self.counts.quota_spent += 1;
                self.refuse(key, Refused::QuotaExhausted(answer), wake);
                return;
            }
        };
        let charge = self.quota.charge(self.queue.waiter(key).cost);
        self.queue.serve(key);
        self.begin(charge, probe, now);
        let waiter = self.queue.waiter_mut(key);
        waiter.state = State::Granted { at: now, charge, probe: probe || quota_probe, quota_probe };
        wake.extend(waiter.waker.take());
    }

    fn begin(&mut self, charge: Charge, probe: bool, now: Moment) {
        self.quota.take(charge, now);
        self.breaker.passed(probe, now);
        self.in_flight += 1;
        self.counts.granted += 1;
    }

    fn grant_unpaced(&mut self, request: &Request, would: Would, now: Moment) -> Attempt {
        let charge = self.quota.charge(request.cost);
        self.begin(charge, false, now);
        let mut attempt = attempt(charge, now, false, now, Duration::ZERO, None, false);
        attempt.would = would;
        attempt.counted = request.mode == Mode::Observe;
        attempt
    }

    fn would(&mut self, request: &Request, now: Moment) -> Would {
        if let Some(outage) = self.breaker.outage() {
            return Would::Refuse(Self::breaker_refusal(outage, now));
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

    fn enqueue(&mut self, request: &Request, quota_probe: bool, now: Moment, wake: &mut Vec<W>) -> Arrival {
        let (caller, lane) = (request.caller, request.lane);
        if let Some(refused) = self.outage_refusal(request, now) {
            self.counts.breaker_open += 1;
            return Arrival::Refused(refused);
        }
        let back = matches!(request.turn, Turn::Requeued(_));
        if !back && let Err(full) = self.queue.room(caller, lane, request.bytes, &self.settings.queue) {
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
        if now.plus(predicted) > request.deadline && self.breaker.outage().is_none() {
            self.counts.deadline += 1;
            return Arrival::Refused(Refused::Deadline { predicted });
        }
        // The prediction is for the wait from now on; a quota probe waits like any other.
        let _ = quota_probe;
        let since = match request.turn {
            Turn::Requeued(ticket) => ticket.since,
            Turn::First | Turn::Retry => now,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a wait in seconds needs no more than 24 bits")]
        let waiter =
            Waiter::new(request.cost, request.bytes, since, request.deadline, predicted.as_secs_f64() as f32);
        let key = match request.turn {
            Turn::Requeued(ticket) => {
                self.queue.push_front(waiter, caller, lane, request.weight, ticket.not_before, now)
            }
            Turn::First | Turn::Retry => self.queue.push_back(waiter, caller, lane, request.weight),
        };
        self.pump(now, wake);
        Arrival::Waiting(key)
    }

    /// While the upstream fails: whether waiting cannot help this request.
    fn outage_refusal(&mut self, request: &Request, now: Moment) -> Option<Refused> {
        let outage = self.breaker.outage()?;
        let (since, next_probe) = outage;
        if self.breaker.gate(&self.settings.breaker, now) == Gate::Probe {
            return None;
        }
        let patience_ends = match request.lane {
            Lane::Interactive => request.deadline.min(since.plus(self.settings.breaker.max_wait)),
            Lane::Background if self.settings.breaker.max_wait.is_zero() => now,
            Lane::Background => request.deadline,
        };
        (patience_ends <= now || next_probe > patience_ends).then(|| Self::breaker_refusal(outage, now))
    }

    fn breaker_refusal((since, next_probe): (Moment, Moment), now: Moment) -> Refused {
        Refused::BreakerOpen { failing_for: now.since(since), next_probe: next_probe.since(now) }
    }

    /// Refuses those whose patience with an outage ended.
    fn end_waits_of_outage(&mut self, now: Moment, wake: &mut Vec<W>) {
        let Some(outage) = self.breaker.outage() else { return };
        if now < outage.0.plus(self.settings.breaker.max_wait) {
            return;
        }
        let lane = if self.settings.breaker.max_wait.is_zero() { None } else { Some(Lane::Interactive) };
        if self.queue.waiting() == 0 {
            return;
        }
        for key in self.queue.keys(lane) {
            self.counts.breaker_open += 1;
            self.refuse(key, Self::breaker_refusal(outage, now), wake);
        }
    }

    fn refuse(&mut self, key: Key, refused: Refused, wake: &mut Vec<W>) {
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
        let ahead = self.quota.charge_of(ahead.requests as u64, ahead.tokens);
        duration(self.quota.predict(ahead, self.quota.charge(request.cost), now))
    }
}

fn attempt(
    charge: Charge,
    granted: Moment,
    probe: bool,
    since: Moment,
    queued: Duration,
    predicted: Option<Duration>,
    paced: bool,
) -> Attempt {
    Attempt {
        charge,
        granted,
        sent: None,
        head: None,
        marks: Marks::default(),
        probe,
        counted: true,
        since,
        queued,
        predicted,
        would: Would::Pass,
        paced,
    }
}

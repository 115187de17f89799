//! The async front of a scope: one lock around the machine, futures that wait for their turn, and a
//! driver that keeps time.

mod ask;
mod driver;
mod sharing;
mod waiting;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use foldhash::quality::RandomState;
use tokio::sync::Notify;

use crate::caller::shared_name;
use crate::clock::{self, Instant};
use crate::pool::UpstreamId;
use crate::retry::MilliTokens;

use crate::admission::budget::BudgetExhausted;
use crate::admission::directory::Directory;
use crate::admission::machine::{Arrival, Machine, Request};
use crate::admission::moment::Moment;
use crate::admission::permit::{Permit, RetryTicket};
use crate::admission::refusal::Refused;
use crate::admission::settings::Settings;
use crate::admission::spent::QuotaBreaker;
use crate::admission::status::ScopeStatus;

pub use ask::{Admission, Ask};
use driver::{Driver, drive};
pub use waiting::Waiting;

/// How all replicas name the one scope of all credentials.
pub const EVERYBODY: u64 = 1;

/// What shares one set of upstream limits.
///
/// Here and in the machine the fields lie as they are written: what every request touches comes
/// first and side by side. With hundreds of busy scopes each such cache line is a way to memory.
#[derive(Debug)]
#[repr(C)]
pub struct Scope {
    pub(in crate::admission) epoch: Instant,
    /// The hash of the organization and project that the upstream named last; 0 before.
    owner: AtomicU64,
    hasher: RandomState,
    /// The scope that holds the same limits, once this one was found to share them: requests go
    /// there.
    merged_into: OnceLock<Arc<Scope>>,
    inner: Mutex<Inner>,
    /// Tells the driver that something is due earlier than it thinks.
    earlier: Notify,
    directory: Weak<Directory>,
    pub(in crate::admission) name: Box<str>,
    pub(in crate::admission) family: Box<str>,
    /// A model of the family, where upstreams serve different ones.
    pub(in crate::admission) model: Option<Box<str>>,
    pub(in crate::admission) credential: u64,
    /// Whose limits these are, as all replicas name it; 0 where nobody asks.
    shared_name: AtomicU64,
    /// Whether any answer was a good one.
    succeeded: AtomicBool,
    /// Whether several upstreams serve it: then no upstream's word says whose limits these are.
    is_pool: AtomicBool,
}

/// With the two counts of its `Arc` it takes at most 40 cache lines, of which the allocator makes a
/// class.
const _: () = assert!(size_of::<Scope>() + 2 * size_of::<usize>() <= 40 * 64);

#[derive(Debug)]
#[repr(C)]
struct Inner {
    /// The moment that the driver sleeps until, while there is one.
    driver: Option<Moment>,
    machine: Machine<Waker>,
}

impl Scope {
    pub(in crate::admission) fn new(
        name: Box<str>,
        family: Box<str>,
        credential: u64,
        epoch: Instant,
        directory: Weak<Directory>,
        hasher: RandomState,
        machine: Machine<Waker>,
    ) -> Self {
        let is_pool = AtomicBool::new(machine.is_pool());
        let inner = Mutex::new(Inner { machine, driver: None });
        let (owner, shared_name) = (AtomicU64::new(0), AtomicU64::new(0));
        let earlier = Notify::new();
        let (merged_into, succeeded) = (OnceLock::new(), AtomicBool::new(false));
        Self {
            epoch,
            owner,
            hasher,
            merged_into,
            inner,
            earlier,
            directory,
            name,
            family,
            model: None,
            credential,
            shared_name,
            succeeded,
            is_pool,
        }
    }

    /// The same with the name that all replicas call it by.
    pub(in crate::admission) fn with_shared_name(self, name: u64) -> Self {
        self.shared_name.store(name, Relaxed);
        self
    }

    /// The same for a model that tells which upstreams serve it.
    pub(in crate::admission) fn of_model(self, model: Option<&str>) -> Self {
        Self { model: model.map(Into::into), ..self }
    }

    /// The scope's name in metrics and the status.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for the request's turn: most have it at once, and never become a future.
    pub fn ask(self: &Arc<Self>, ask: &Ask, now: Instant) -> Admission {
        let scope = self.current();
        let arrival =
            scope.with(now, |machine, moment, wake| machine.arrive(&scope.request(ask), moment, wake));
        match arrival {
            Arrival::Granted(attempt) => Admission::Granted(Permit::new(Arc::clone(scope), attempt)),
            Arrival::Refused(refused) => Admission::Refused(refused),
            Arrival::Waiting(key) => {
                if scope.merged_into.get().is_some() {
                    // Merged since it was looked up: its queue may have been emptied just before.
                    scope.evacuate(now);
                }
                Admission::Waits(Waiting { scope: Arc::clone(scope), key: Some(key) })
            }
        }
    }

    /// The scope that requests of this one go to: itself, or the one that it was merged into.
    fn current(self: &Arc<Self>) -> &Arc<Self> {
        let mut scope = self;
        // It ends: a scope is merged once, into one that was not merged at the time.
        while let Some(other) = scope.merged_into.get() {
            scope = other;
        }
        scope
    }

    /// Sends what waits here to the scope that this one was merged into.
    fn evacuate(self: &Arc<Self>, now: Instant) {
        self.with(now, |machine, _, wake| machine.evacuate(wake));
    }

    /// Notes that an answer was a good one.
    pub(in crate::admission) fn succeeded(&self) {
        if !self.succeeded.load(Relaxed) {
            self.succeeded.store(true, Relaxed);
        }
    }

    /// Whether any answer was a good one.
    pub(in crate::admission) fn has_succeeded(&self) -> bool {
        self.succeeded.load(Relaxed)
    }

    /// How long nobody has asked for a turn here.
    pub(in crate::admission) fn unused_since(&self, now: Moment) -> std::time::Duration {
        now.since(self.lock().machine.asked())
    }

    /// Waits for the request's turn: [`Scope::ask`], and what follows from it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue at once and gives back what was granted meanwhile.
    pub async fn admit(self: &Arc<Self>, ask: Ask) -> Result<Permit, Refused> {
        match self.ask(&ask, clock::now()) {
            Admission::Granted(permit) => Ok(permit),
            Admission::Refused(refused) => Err(refused),
            Admission::Waits(waiting) => waiting.await,
        }
    }

    /// How long a request would wait for its turn if it came now.
    pub fn expected_wait(self: &Arc<Self>, ask: &Ask) -> std::time::Duration {
        let scope = self.current();
        let now = scope.moment(clock::now());
        scope.lock().machine.predict(&scope.request(ask), now)
    }

    /// How long the head of an answer usually takes here; nothing where none came yet.
    pub fn typical_head(self: &Arc<Self>) -> Option<std::time::Duration> {
        self.current().lock().machine.typical_head()
    }

    /// Pays what [`retry::decide`](crate::retry::decide) says that a retry costs. While the breaker
    /// blocks it costs nothing: the retry will wait.
    ///
    /// # Errors
    /// When the budget allows none now.
    pub fn retry_ticket(self: &Arc<Self>, cost: MilliTokens) -> Result<RetryTicket, BudgetExhausted> {
        let scope = self.current();
        let moment = scope.moment(clock::now());
        let payment = scope.lock().machine.withdraw(cost, moment)?;
        Ok(RetryTicket::new(Arc::clone(scope), payment))
    }

    /// How the scope stands.
    pub fn status(&self) -> ScopeStatus {
        let moment = self.moment(clock::now());
        self.lock().machine.status(&self.name, &self.family, moment)
    }

    /// Permits in flight.
    #[cfg(any(test, feature = "internals"))]
    pub fn in_flight(&self) -> u32 {
        self.lock().machine.in_flight()
    }

    /// Whether nothing is in flight and nothing waits.
    pub(in crate::admission) fn is_idle(&self) -> bool {
        let inner = self.lock();
        inner.machine.in_flight() == 0 && inner.machine.waiting() == 0
    }

    /// The upstream named the organization and project that the scope belongs to. It does so with
    /// every answer: the directory is told when they are others than the last ones.
    pub(in crate::admission) fn identified(self: &Arc<Self>, organization: &str, project: &str) {
        let (organization, project) =
            if self.is_pool.load(Relaxed) { ("", "") } else { (organization, project) };
        let owner = self.hasher.hash_one((organization, project)).max(1);
        if self.owner.load(Relaxed) == owner {
            return;
        }
        if let Some(directory) = self.directory.upgrade() {
            if let Some(canonical) = directory.identified(self, organization, project)
                && self.merged_into.set(canonical).is_ok()
            {
                self.evacuate(clock::now());
            }
            let is_pool = self.is_pool.load(Relaxed);
            if directory.is_shared() && self.shared_name() != EVERYBODY && !is_pool {
                let parts = [organization.as_bytes(), project.as_bytes()];
                self.shared_name.store(shared_name(parts), Relaxed);
            }
        }
        self.owner.store(owner, Relaxed);
    }

    pub(in crate::admission) fn configure(
        self: &Arc<Self>,
        settings: &Arc<Settings>,
        members: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
    ) {
        let now = clock::now();
        self.with(now, |machine, moment, wake| {
            machine.configure(Arc::clone(settings), &self.family, members, moment);
            machine.pump(moment, wake);
            self.is_pool.store(machine.is_pool(), Relaxed);
        });
    }

    /// Whether several upstreams serve it.
    pub fn is_pool(&self) -> bool {
        self.is_pool.load(Relaxed)
    }

    /// Whether a request that failed at one upstream can go to another one at once.
    pub fn has_other(self: &Arc<Self>, than: UpstreamId) -> bool {
        self.is_pool() && self.current().lock().machine.has_other(than)
    }

    pub(in crate::admission) fn drain(self: &Arc<Self>) {
        self.with(clock::now(), |machine, _, wake| machine.drain(wake));
    }

    /// Does something to the machine, then wakes whom it concerns and sees to it that time is kept.
    pub(in crate::admission) fn with<T>(
        self: &Arc<Self>,
        now: Instant,
        act: impl FnOnce(&mut Machine<Waker>, Moment, &mut Vec<Waker>) -> T,
    ) -> T {
        let mut wake = Vec::new();
        let moment = self.moment(now);
        let mut inner = self.lock();
        let result = act(&mut inner.machine, moment, &mut wake);
        let keeps_time = self.keep_time(&mut inner);
        drop(inner);
        if !keeps_time || !wake.is_empty() {
            self.follow_up(wake, !keeps_time);
        }
        result
    }

    /// Sees to it that somebody looks when something is due: `false` says that a driver has to be
    /// started for it.
    fn keep_time(&self, inner: &mut Inner) -> bool {
        let due = inner.machine.due();
        match inner.driver {
            None if due < Moment::NEVER => {
                inner.driver = Some(due);
                return false;
            }
            Some(asleep_until) if due < asleep_until => self.earlier.notify_one(),
            None | Some(_) => {}
        }
        true
    }

    /// What is not done under the lock: waking another thread takes microseconds. Apart, because
    /// mostly there is nothing to do.
    #[cold]
    fn follow_up(self: &Arc<Self>, wake: Vec<Waker>, start: bool) {
        for waker in wake {
            waker.wake();
        }
        if start {
            let driver = Driver { scope: Arc::clone(self), ended: false };
            if tokio::runtime::Handle::try_current().is_ok() {
                clock::spawn(drive(driver));
            }
            // Else its end wakes those who wait, and they start another where there is a runtime.
        }
    }

    fn request(&self, ask: &Ask) -> Request {
        Request {
            caller: ask.caller,
            weight: ask.weight,
            lane: ask.lane,
            cost: ask.cost,
            bytes: ask.body_bytes,
            deadline: self.moment(ask.deadline),
            head_due: ask.head_due,
            turn: ask.turn,
            mode: ask.mode,
            route: ask.route,
        }
    }

    pub(in crate::admission) fn moment(&self, instant: Instant) -> Moment {
        Moment::START.plus(instant.saturating_duration_since(self.epoch))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock leaves numbers that are still numbers; the next snapshot corrects
        // them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What can be set about admission, with the defaults and the reasons for them.

use std::time::Duration;

use super::ceilings::Ceiling;
use super::family;
use super::limits::Slot;
use crate::caller::CallerId;
use crate::pool::UpstreamId;

/// Everything about scopes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scopes kept at most; past it the longest idle one is forgotten. 1,000: a company has tens of
    /// keys and models.
    pub max_scopes: usize,
    /// Families by model name: the first pattern that matches wins; `*` stands for any characters.
    /// A model that no pattern matches is its own family, less a date at the end of its name (dated
    /// snapshots share their model's limits).
    pub families: Vec<Family>,
    /// Families of one credential that no pattern names; past it they share one. 64.
    pub max_unnamed_families: usize,
    /// The limits of every scope, where they are known beforehand.
    pub limits: LimitSettings,
    /// The upstreams that serve the same requests; without any there is one, of which nothing is
    /// set here.
    pub members: Vec<MemberSettings>,
    /// How long a request waits at most for an upstream of a better priority, where others serve it
    /// too. Absent means until its deadline.
    pub spill_after: Option<Duration>,
    /// The queue's bounds.
    pub queue: QueueSettings,
    /// Waiting requests of single callers, by id, where fewer than the queue's bound for each.
    pub max_waiting_of: Vec<Option<usize>>,
    /// How fast single callers may go.
    pub ceilings: Vec<Ceiling>,
    /// The parts of the limits that single callers have for certain.
    pub guarantees: Vec<Guarantee>,
    /// When an upstream counts as failing, and what happens then.
    pub breaker: BreakerSettings,
    /// What bounds retries.
    pub budget: BudgetSettings,
    /// The longest time between two probes of a spent quota; the first come sooner. A minute.
    pub quota_probe: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_scopes: 1000,
            families: Vec::new(),
            max_unnamed_families: 64,
            limits: LimitSettings::default(),
            members: Vec::new(),
            spill_after: None,
            queue: QueueSettings::default(),
            max_waiting_of: Vec::new(),
            ceilings: Vec::new(),
            guarantees: Vec::new(),
            breaker: BreakerSettings::default(),
            budget: BudgetSettings::default(),
            quota_probe: Duration::from_mins(1),
        }
    }
}

impl Settings {
    /// The queue's bounds as they hold for a caller.
    pub(crate) fn queue_of(&self, caller: CallerId) -> QueueSettings {
        let own = self.max_waiting_of.get(usize::from(caller.0)).copied().flatten();
        let most = self.queue.max_waiting_per_caller;
        QueueSettings { max_waiting_per_caller: own.map_or(most, |own| own.min(most)), ..self.queue }
    }

    /// Who has how much of a family's limits for certain: the part of the family itself counts over
    /// the one for all.
    pub(crate) fn guarantees_of(&self, family: &str) -> Vec<(CallerId, f64)> {
        let mut found: Vec<(CallerId, f64)> = Vec::new();
        for own in [true, false] {
            let of = self.guarantees.iter().filter(|guarantee| match &guarantee.family {
                Some(name) => own && **name == *family,
                None => !own,
            });
            for guarantee in of {
                if found.iter().all(|(caller, _)| *caller != guarantee.caller) {
                    found.push((guarantee.caller, guarantee.part));
                }
            }
        }
        found
    }

    /// One upstream of the pool.
    pub(crate) fn member(&self, id: UpstreamId) -> Option<&MemberSettings> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The upstreams that serve a model. One that none names goes to the first, the pool's home:
    /// its answer says what is wrong.
    pub(crate) fn members_for(&self, model: Option<&str>) -> impl Iterator<Item = UpstreamId> {
        let serves = move |member: &&MemberSettings| model.is_none_or(|model| member.serves(model));
        let none = !self.members.iter().any(|member| serves(&member));
        let home = self.members.first().filter(|_| none);
        self.members.iter().filter(serves).chain(home).map(|member| member.id)
    }

    /// The limits that hold for a family at an upstream.
    pub(crate) fn limits_of(&self, family: &str, id: UpstreamId) -> LimitSettings {
        if let Some(own) = self.member(id).and_then(|member| member.limits) {
            return own;
        }
        let named = self.families.iter().find(|candidate| &*candidate.name == family);
        named.and_then(|family| family.limits).unwrap_or(self.limits)
    }
}

/// A part of the limits that a caller has for certain. Others borrow it while the caller needs
/// less.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarantee {
    /// Whose it is.
    pub caller: CallerId,
    /// The family of models that it is for, where not all.
    pub family: Option<Box<str>>,
    /// Above 0, below 1.
    pub part: f64,
}

/// One of the upstreams that serve the same requests.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// Its number.
    pub id: UpstreamId,
    /// Its name.
    pub name: Box<str>,
    /// Those of the lowest number go first.
    pub priority: u32,
    /// Its own limits, for each family, instead of everybody's.
    pub limits: Option<LimitSettings>,
    /// The models that it serves, `*` standing for any characters; all where there is none.
    pub models: Vec<Box<str>>,
}

impl MemberSettings {
    fn serves(&self, model: &str) -> bool {
        let mut patterns = self.models.iter().map(|pattern| pattern.as_bytes());
        self.models.is_empty() || patterns.any(|pattern| family::matches(pattern, model.as_bytes()))
    }
}

/// Models that share one set of limits.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name in the status and the metrics.
    pub name: Box<str>,
    /// Model names, `*` standing for any characters.
    pub patterns: Vec<Box<str>>,
    /// Its limits, where they differ from everybody's.
    pub limits: Option<LimitSettings>,
}

/// Limits known beforehand; what is absent is learned.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests a day.
    pub requests_per_day: Option<u64>,
    /// Tokens a day.
    pub tokens_per_day: Option<u64>,
    /// The part of every limit that this instance takes, for sidecars that share one key; above 0,
    /// at most 1.
    pub share: f64,
    /// Attempts in flight at most; absent means no bound.
    pub in_flight: Option<u32>,
    /// Whether that bound is found by the times to first events, for an upstream that queues.
    pub finds_in_flight: bool,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            requests_per_day: None,
            tokens_per_day: None,
            share: 1.0,
            in_flight: None,
            finds_in_flight: false,
        }
    }
}

impl LimitSettings {
    /// The limit for a slot, where one is set.
    pub fn of(&self, slot: Slot) -> Option<u64> {
        match slot {
            Slot::RequestsPerMinute => self.requests_per_minute,
            Slot::TokensPerMinute => self.tokens_per_minute,
            Slot::RequestsPerDay => self.requests_per_day,
            Slot::TokensPerDay => self.tokens_per_day,
        }
    }
}

/// Bounds of a scope's queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// Waiting requests in all. 200,000; what they hold in memory is bounded by the bytes below.
    pub max_waiting: usize,
    /// Bytes of the bodies that wait, in all. 256 MiB.
    pub max_bytes: usize,
    /// Waiting requests of one caller. 100,000: a batch may throw all it has at once.
    pub max_waiting_per_caller: usize,
    /// Bytes of one caller's waiting bodies. 128 MiB: no caller can fill the queue alone.
    pub max_bytes_per_caller: usize,
    /// The background lane's part of the service while others wait too, above 0. 5 %: it never
    /// starves.
    pub background_share: f64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_waiting: 200_000,
            max_bytes: 256 << 20,
            max_waiting_per_caller: 100_000,
            max_bytes_per_caller: 128 << 20,
            background_share: 0.05,
        }
    }
}

/// When an upstream counts as failing.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSettings {
    /// Off: nothing is ever held back or thinned out.
    pub enabled: bool,
    /// Failures in a row that block. 10: five would trip ten times in 10,000 calls at 25 %
    /// failures. More are needed where the failure rate before makes such a run likely by chance.
    pub consecutive: u32,
    /// The time without any response head that blocks, where heads normally come faster. 30 s.
    pub stall: Duration,
    /// How long requests wait out an outage; zero answers at once. 30 s: longer than a deployment's
    /// hiccup, and short of most callers' patience.
    pub max_wait: Duration,
    /// The first wait for a probe. 500 ms.
    pub probe_first: Duration,
    /// The longest wait for a probe. 4 s: traffic is back within 10 s of the upstream's return.
    pub probe_longest: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive: 10,
            stall: Duration::from_secs(30),
            max_wait: Duration::from_secs(30),
            probe_first: Duration::from_millis(500),
            probe_longest: Duration::from_secs(4),
        }
    }
}

/// What bounds retries.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSettings {
    /// The most that can be saved, in retries. 20.
    pub capacity: f64,
    /// What a success earns, in retries. 0.5: enough for a quarter of attempts failing, where 0.1
    /// would not be.
    pub per_success: f64,
    /// What a received request earns, in retries. 0.02: a trickle that keeps probing alive when
    /// everything fails.
    pub per_request: f64,
    /// Retries at once, their backoff included, as a part of the attempts in flight. 1: at 25 %
    /// failing a third are retries, and half of a retry's time is backoff.
    pub concurrent: f64,
    /// Retries at once that are always allowed. 1,000: the balance bounds their rate, this bounds
    /// only their pile.
    pub concurrent_least: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { capacity: 20.0, per_success: 0.5, per_request: 0.02, concurrent: 1.0, concurrent_least: 1000 }
    }
}

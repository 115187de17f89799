//! The mirror of the upstream's limits for one scope: a pure machine, with time as an argument.

mod asking;
mod at_once;
mod bounds;
mod bucket;
mod calibrate;
mod chance;
mod charge;
mod depth;
mod ends;
mod filing;
mod foreign;
mod learning;
mod limit;
mod measured;
mod outcomes;
mod own;
mod owners;
mod rate;
mod refusal;
mod report;
mod part;
mod search;
mod sent_log;
mod shape;
mod shedding;
mod sliding;
mod slot;
mod standing;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod untold_tests;

use std::time::Duration;

use crate::admission::moment::Moment;
use crate::admission::settings::LimitSettings;

pub(in crate::admission) use bucket::Bucket;
use charge::{ChargeRatio, EndpointRatios};
use limit::Limit;
pub use own::Cost;
use own::OwnUse;
pub(crate) use own::{Charge, Marks};
use owners::Owners;
use part::Held;
pub use part::{Demand, Part};
pub(in crate::admission) use rate::FoundRate;
use rate::Rate;
pub(crate) use refusal::{Refusal, Times, Verdict};
pub use report::{LimitReport, LimitReports, RefusalNumbers, Source, StatedLimit, WindowReport};
use shedding::Shedding;
pub use slot::{Slot, Unit};

/// The window of most limits. No pause of a whole scope is longer, whatever a refusal names; what
/// seems spent for longer is asked about again this often; what happened longer ago says nothing
/// of such a limit.
pub(in crate::admission) const USUAL_WINDOW: Duration = Duration::from_mins(1);
/// How long it counts that an upstream contradicted itself: until then nothing is built on what it
/// said.
const DISTRUSTED: Duration = Duration::from_mins(20);
/// The first wait after a refusal, where it names none.
pub(in crate::admission) const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The least time between two snapshots that say more about use than about delays, in seconds.
const LEAST_SPAN: f64 = 3.0;

/// A refusal is no surprise when a limit is used to this part.
const FORETOLD: f64 = 0.9;
/// How far apart two reports of one limit may be, as a factor: further apart they are of two
/// limits.
const SAME_LIMIT: f64 = 2.0;
/// The most limits that are kept of one scope. What else is reported is counted, and not kept.
const MOST_LIMITS: usize = 8;
/// How long a limit that only refusals tell of holds before it is raised: the first time and at
/// most. Each refusal doubles it.
const HOLD: (Duration, Duration) = (Duration::from_mins(10), Duration::from_hours(4));
/// How much such a limit is raised, once in each window.
const RAISE: f64 = 1.25;

/// Who told of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The configuration: it stays as it is until a header or a refusal names nearly the same
    /// limit.
    Configured,
    /// The headers of answers.
    Headers,
    /// Refusals alone: at the time it may be raised, and after the wait that the next refusal
    /// doubles.
    Refusals { raise_at: Moment, hold: Duration },
}

impl Origin {
    fn may_be_raised(self, now: Moment) -> bool {
        matches!(self, Self::Refusals { raise_at, .. } if now >= raise_at)
    }
}

/// One limit with its name. Reports are filed by what they describe, never by which place is empty.
#[derive(Debug)]
struct Entry {
    slot: Slot,
    origin: Origin,
    /// Whose limit it is, where answers name owners.
    owner: Option<u64>,
    limit: Box<Limit>,
}

/// All limits of one scope. The fields lie as they are written, as those of the scope.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Limits {
    entries: Vec<Entry>,
    /// What is found of limits that nobody tells of, by unit.
    rates: [Option<Box<Rate>>; 2],
    /// The last permit.
    asked: Moment,
    /// Attempts in flight at the last permit.
    in_flight: u32,
    own: OwnUse,
    ratio: ChargeRatio,
    endpoints: EndpointRatios,
    share: f64,
    part: Held,
    /// Until when another replica was told to pause.
    paused_until: Moment,
    /// The last refusal where little was used of what is told; the start of time before the first.
    unexplained: Moment,
    /// Absent where answers name no owner.
    owners: Option<Box<Owners>>,
    /// Whether failures lead the rate of requests.
    shedding: Shedding,
}

impl Limits {
    pub(crate) fn new(limits: &LimitSettings, now: Moment) -> Self {
        let mut new = Self {
            entries: Vec::new(),
            own: OwnUse::new(),
            rates: [None, None],
            shedding: Shedding::default(),
            asked: now,
            share: limits.share,
            part: Held::default(),
            paused_until: Moment::START,
            ratio: ChargeRatio::new(),
            endpoints: EndpointRatios::new(),
            in_flight: 0,
            unexplained: Moment::START,
            owners: None,
        };
        new.configure(limits, now);
        if new.entries.is_empty() {
            new.rates[0] = Some(Box::new(Rate::new(now)));
        }
        new
    }

    /// A cost as its endpoint's requests were charged so far. Everything else here takes costs that
    /// went through this.
    pub(crate) fn expected(&self, cost: Cost) -> Cost {
        self.endpoints.expected(cost)
    }

    /// An answer to a request of that cost, sent at `sent`, says how many tokens its input was.
    pub(crate) fn used(&mut self, cost: Cost, input: u64, sent: Moment, now: Moment) {
        self.endpoints.used(cost, input, self.ratio.value(), sent, now);
    }

    /// What `cost` takes, by what is known of the upstream's charges.
    pub(crate) fn charge(&self, cost: Cost) -> Charge {
        let tokens = cost.tokens as f64 * self.ratio.value();
        Charge { requests: u64::from(cost.requests), tokens: ceil(tokens) }
    }

    /// What waiting work takes: requests, and tokens as they were estimated.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
    pub(crate) fn charge_of(&self, requests: f64, tokens: f64) -> Charge {
        Charge { requests: requests as u64, tokens: ceil(tokens * self.ratio.value()) }
    }

    /// How long until `charge` may go, all limits considered; a `sparse` one may use what others
    /// leave free for it.
    pub(crate) fn wait(&self, charge: Charge, sparse: bool, in_flight: u32, now: Moment) -> Duration {
        let mut wait = self.paused_until.since(now).max(self.lapsed(now));
        for rate in self.rates.iter().flatten() {
            let (charge, in_flight) = self.part.of_all(rate, charge, in_flight);
            wait = wait.max(rate.wait(charge, in_flight, now));
        }
        let (mut doubtful, mut named) = (wait, wait);
        for (slot, limit) in self.each() {
            let own = self.own.of(slot.unit(), self.ratio.value());
            let held = limit.wait(charge.of(slot), sparse, in_flight, &own, now);
            wait = wait.max(held);
            doubtful = if limit.proven() { doubtful } else { doubtful.max(held) };
            named = named.max(if limit.assumes() { held.min(USUAL_WINDOW) } else { held });
        }
        if wait.is_zero() {
            return wait;
        }
        // A limit that seems spent for long is asked about now and then: it may have been raised,
        // or never have been so low.
        let quiet = now.since(self.asked);
        let asks = doubtful > USUAL_WINDOW && quiet >= USUAL_WINDOW
            || wait > USUAL_WINDOW && quiet >= USUAL_WINDOW * 10;
        // For an assumed window nobody is told to come back in hours.
        if asks { Duration::ZERO } else { named }
    }

    /// Takes `charge` from every limit, for a request that waited for `waited`.
    pub(crate) fn take(&mut self, cost: Cost, charge: Charge, waited: Duration, in_flight: u32, now: Moment) {
        self.own.granted(cost);
        self.asked = now;
        self.in_flight = in_flight;
        for rate in self.rates.iter_mut().flatten() {
            // It is the last of those that the others send meanwhile.
            let (charge, in_flight) = self.part.of_all(rate, charge, in_flight.saturating_add(1));
            rate.take(charge, in_flight.saturating_sub(1), now);
        }
        let ratio = self.ratio.value();
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.take(charge.of(*slot), &self.own.of(slot.unit(), ratio), waited, now);
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, cost: Cost, charge: Charge, now: Moment) {
        self.own.no_longer_unsent(cost);
        for rate in self.rates.iter_mut().flatten() {
            rate.give_back(self.part.of_all(rate, charge, 0).0, now);
        }
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.give_back(charge.of(*slot), now);
        }
    }

    /// The upstream refused an attempt as larger than the limit itself: it took nothing, and its
    /// price is no debt.
    pub(crate) fn too_large(&mut self, cost: Cost, charge: Charge, marks: Marks, sent: Moment, now: Moment) {
        self.own.retract(cost, marks, sent);
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.give_back(charge.of(*slot), now);
        }
    }

    /// Notes that what was taken goes upstream now.
    pub(crate) fn sent(&mut self, cost: Cost, now: Moment) -> Marks {
        self.own.no_longer_unsent(cost);
        Marks { in_flight: self.in_flight, ..self.own.send(cost, now) }
    }

    /// Applies other settings; what was learned stays. A configured limit that is no longer stated
    /// is gone.
    pub(crate) fn configure(&mut self, limits: &LimitSettings, now: Moment) {
        self.share = limits.share;
        for slot in Slot::ALL {
            let stated = limits.of(slot).filter(|limit| *limit > 0).map(|limit| limit as f64);
            let configured = |entry: &Entry| entry.slot == slot && entry.origin == Origin::Configured;
            match (self.entries.iter().position(configured), stated) {
                (Some(index), Some(limit)) => self.entries[index].limit.set_limit(limit, now),
                (Some(index), None) => {
                    self.entries.swap_remove(index);
                }
                (None, Some(limit)) => {
                    let told = |entry: &Entry| entry.slot == slot && is_near(entry.limit.stated, limit);
                    if !self.entries.iter().any(told) {
                        self.open(slot, Origin::Configured, limit, Source::Configured, now);
                        self.found(slot.unit());
                    }
                }
                (None, None) => {}
            }
        }
        self.divide(1.0, now);
        if self.entries.is_empty() && self.rates.iter().all(Option::is_none) {
            self.rates[0] = Some(Box::new(Rate::new(now)));
        }
    }

    /// The part of a limit that may be used here. Replicas agree on parts by the second: a day's
    /// limit is not divided by them.
    fn part_of(&self, slot: Slot) -> f64 {
        match slot {
            Slot::RequestsPerMinute | Slot::TokensPerMinute => self.share * self.part.part,
            Slot::RequestsPerDay | Slot::TokensPerDay => self.share,
        }
    }

    /// Applies the parts that hold now to all limits.
    fn divide(&mut self, fresh: f64, now: Moment) {
        let parts = Slot::ALL.map(|slot| self.part_of(slot));
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.set_part(parts[slot.index()], fresh, now);
        }
    }

    fn each(&self) -> impl Iterator<Item = (Slot, &Limit)> {
        self.entries.iter().map(|entry| (entry.slot, &*entry.limit))
    }
}

/// Whether a report is of a minute's limit, as what is used and when none of it is any more show:
/// then the upstream has told otherwise than the configuration.
fn is_of_a_minute(report: &LimitReport) -> bool {
    let used = report.limit.saturating_sub(report.remaining) as f64;
    let window = report.reset.unwrap_or_default().as_secs_f64() * report.limit as f64 / used.max(1.0);
    (30.0..=120.0).contains(&window)
}

/// Whether two reports may be of one limit.
fn is_near(one: f64, other: f64) -> bool {
    (1.0 / SAME_LIMIT..=SAME_LIMIT).contains(&(one / other))
}

/// A named wait is a minimum; those who were told the same time do not come back together.
fn jittered(hint: Duration, rng: &mut fastrand::Rng) -> Duration {
    let hint = hint.min(USUAL_WINDOW);
    hint + FIRST_WAIT.min(hint / 4).mul_f64(rng.f64())
}

/// A count that is rounded up; what is not a number is 0. By casts: where the processor may be an
/// old one, `f64::ceil` is a call, and signed casts are shorter than others.
#[expect(clippy::cast_possible_truncation, reason = "a float's cast saturates")]
fn ceil(value: f64) -> u64 {
    let whole = value as i64;
    u64::try_from(whole).unwrap_or(0) + u64::from((whole as f64) < value)
}

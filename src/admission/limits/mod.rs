//! The mirror of the upstream's limits for one scope: a pure machine, with time as an argument.

mod asking;
mod at_once;
mod bounds;
mod bucket;
mod calibrate;
mod charge;
mod depth;
mod ends;
mod foreign;
mod limit;
mod measured;
mod own;
mod owners;
mod rate;
mod refusal;
mod report;
mod part;
mod sent_log;
mod shape;
mod shedding;
mod slot;
mod standing;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod untold_tests;

use std::time::Duration;

use crate::admission::moment::{Moment, duration};
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
use refusal::Numbers;
pub(crate) use refusal::{Refusal, Times, Verdict};
pub use report::{LimitReport, LimitReports, RefusalNumbers, Source, WindowReport};
use shedding::Shedding;
pub use slot::{Slot, Unit};

/// No pause of a whole scope is longer, whatever a refusal names: it is asked again then.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A refusal is no surprise when a limit is used to this part.
const FORETOLD: f64 = 0.9;
/// A refusal without numbers, where every limit that is told allows the request, is of an untold
/// limit when it happens again within this time: one alone may be a storm.
const AGAIN: Duration = Duration::from_mins(1);
/// The longest time without a permit; then one is given although no limit allows it.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// How far apart two reports of one limit may be, as a factor: further apart they are of two
/// limits.
const SAME_LIMIT: f64 = 2.0;
/// The most limits that are kept of one scope. What else is reported is counted, and not kept.
const MOST_LIMITS: usize = 8;
/// How long a limit that only refusals tell of holds before it is raised: the first time and at
/// most. Each refusal doubles it.
const HOLD: (Duration, Duration) = (Duration::from_mins(10), Duration::from_hours(4));
/// How much such a limit is raised, and how often.
const RAISE: f64 = 1.25;
const RAISED_AGAIN: Duration = Duration::from_mins(1);

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

    /// What so much waiting work takes.
    pub(crate) fn charge_of(&self, requests: u64, tokens: f64) -> Charge {
        Charge { requests, tokens: ceil(tokens * self.ratio.value()) }
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
            let held = limit.wait(charge.of(slot), sparse, &own, now);
            wait = wait.max(held);
            doubtful = if limit.proven() { doubtful } else { doubtful.max(held) };
            named = named.max(if limit.assumes() { held.min(LONGEST_PAUSE) } else { held });
        }
        if wait.is_zero() {
            return wait;
        }
        // A limit that seems spent for long is asked about now and then: it may have been raised,
        // or never have been so low.
        let quiet = now.since(self.asked);
        let asks =
            doubtful > LONGEST_PAUSE && quiet >= ASK_AGAIN || wait > LONGEST_PAUSE && quiet >= ASK_AGAIN * 10;
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

    /// Learns from the headers of an answer to an attempt. Returns how many reports found no place.
    pub(crate) fn told(
        &mut self,
        reports: &LimitReports,
        cost: Cost,
        charge: Charge,
        marks: Marks,
        times: &Times,
        now: Moment,
    ) -> u32 {
        let Some(part) = self.part_of_owner(reports.owner) else {
            return u32::try_from(reports.each().count()).unwrap_or(u32::MAX);
        };
        let mut unfiled = 0;
        for (unit, window, report) in reports.each() {
            let report = if part < 1.0 { report.of_part(part) } else { report };
            let Some(index) = self.place_of_report((unit, window, reports), &report, now) else {
                unfiled += u32::from(!reports.of_error);
                continue;
            };
            let entry = &mut self.entries[index];
            let own = self.own.of(unit, self.ratio.value());
            entry.limit.told(&report, charge.of(entry.slot), &own, marks.of(unit), times, now);
            let slot = entry.slot.of_window(entry.limit.window);
            if slot != entry.slot {
                entry.slot = slot;
                self.divide(1.0, now);
            }
        }
        if part >= 1.0 {
            self.calibrate(reports, cost, marks, times);
        }
        unfiled
    }

    /// The part of all requests that the limits of this owner count; nothing where it has no place.
    fn part_of_owner(&mut self, owner: Option<u64>) -> Option<f64> {
        let Some(owner) = owner else { return Some(1.0) };
        let owners = self.owners.get_or_insert_default();
        let part = owners.answered(owner);
        if let Some(gone) = owners.gone() {
            self.entries.retain(|entry| entry.owner != Some(gone));
        }
        part
    }

    /// The entry that a header's report is filed in: the one of the headers, else a configured or
    /// refused one of nearly the same limit, else a new one.
    fn place_of_report(
        &mut self,
        (unit, window, reports): (Unit, Option<Duration>, &LimitReports),
        report: &LimitReport,
        now: Moment,
    ) -> Option<usize> {
        let owner = reports.owner;
        let limit = report.limit as f64;
        let minute = Slot::by_minute(unit);
        let slot = window.map_or(minute, |window| minute.of_window(window.as_secs_f64()));
        // A window that is told describes the limit; one that is not is found by the resets.
        let is_of = |entry: &Entry| {
            entry.slot.unit() == unit
                && match window {
                    Some(window) => duration(entry.limit.window) == window,
                    None => !entry.limit.window_is_told(),
                }
        };
        let of_headers =
            |entry: &Entry| is_of(entry) && entry.origin == Origin::Headers && entry.owner == owner;
        if let Some(index) = self.entries.iter().position(of_headers) {
            return Some(index);
        }
        let is_its_own = window.is_some() || is_of_a_minute(report);
        let other = |entry: &Entry| entry.origin == Origin::Configured && is_its_own && entry.slot == slot;
        let near = |entry: &Entry| {
            is_of(entry)
                && entry.origin != Origin::Headers
                && (is_near(entry.limit.stated, limit) || other(entry))
        };
        let index = match self.entries.iter().position(near) {
            Some(index) => index,
            None if reports.of_error => return None,
            None => self.open(slot, Origin::Headers, limit, Source::Learned, now)?,
        };
        self.found(unit);
        let entry = &mut self.entries[index];
        (entry.origin, entry.owner) = (Origin::Headers, owner);
        if let Some(window) = window {
            entry.limit.tell_window(window, now);
        }
        Some(index)
    }

    /// The entry that a refusal's numbers are filed in: one of the same window that is known, or of
    /// nearly the same limit; else a new one.
    fn place_of_refusal(&mut self, slot: Slot, limit: f64, now: Moment) -> Option<usize> {
        let same = |entry: &Entry| {
            entry.slot == slot
                && (is_near(entry.limit.stated, limit)
                    || matches!(entry.origin, Origin::Refusals { .. })
                    || entry.origin == Origin::Headers && entry.limit.window_is_proven())
                && (!entry.limit.window_is_told() || duration(entry.limit.window) == slot.window())
        };
        self.entries.iter().position(same).or_else(|| {
            let origin = Origin::Refusals { raise_at: now.plus(HOLD.0), hold: HOLD.0 };
            self.open(slot, origin, limit, Source::Learned, now)
        })
    }

    /// Opens a place for another limit, if there is one left.
    fn open(&mut self, slot: Slot, origin: Origin, limit: f64, source: Source, now: Moment) -> Option<usize> {
        if self.entries.len() >= MOST_LIMITS {
            return None;
        }
        let part = self.part_of(slot);
        let mut limit = Box::new(Limit::new(limit, slot.window().as_secs_f64(), source, part, now));
        limit.divide_rest(self.part.part, now);
        self.entries.push(Entry { slot, origin, owner: None, limit });
        Some(self.entries.len() - 1)
    }

    /// Raises limits that only refusals told of where no refusal came for long, up to what headers
    /// tell: they may be no more. Where none tells, only a limit that holds somebody back is
    /// raised.
    fn raise_refused(&mut self, paced: bool, now: Moment) {
        let told = |unit: Unit| {
            let told = self.entries.iter().filter(|entry| entry.origin == Origin::Headers);
            told.filter(|entry| entry.slot.unit() == unit).map(|entry| entry.limit.stated).reduce(f64::max)
        };
        let told = [Unit::Requests, Unit::Tokens].map(told);
        self.entries.retain_mut(|Entry { slot, origin, limit, .. }| {
            let told = told[slot.unit().index()].unwrap_or(if paced { f64::INFINITY } else { 0.0 });
            if let Origin::Refusals { raise_at, .. } = origin
                && now >= *raise_at
                && told > limit.stated
            {
                *raise_at = now.plus(RAISED_AGAIN);
                limit.set_limit(limit.stated * RAISE, now);
                return limit.stated < told;
            }
            true
        });
    }

    /// An answer that was no refusal came; `paced` says that the queue was waiting when its attempt
    /// went.
    pub(crate) fn accepted(&mut self, charge: Charge, marks: Marks, paced: bool, sent: Moment, now: Moment) {
        self.shedding.answered(false, sent, &mut self.rates[0], now);
        self.took(charge, marks, paced, sent, now);
    }

    /// An attempt was answered with a failure that may be for the load: whether failures lead the
    /// rate, so that it counts as refused. In an outage they never do.
    pub(crate) fn failed(
        &mut self,
        refusal: &Refusal<'_>,
        is_outage: bool,
        paced: bool,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) -> bool {
        let Refusal { cost, charge, marks, times, .. } = *refusal;
        if is_outage {
            self.shedding.gives_up(&mut self.rates[0], now);
        } else {
            self.shedding.answered(true, times.sent, &mut self.rates[0], now);
        }
        if !self.shedding.leads() {
            self.took(charge, marks, paced, times.sent, now);
            return false;
        }
        self.own.retract(cost, marks, times.sent);
        self.entries.iter_mut().for_each(|entry| entry.limit.refund(charge.of(entry.slot), now));
        let rate = self.rates[0].get_or_insert_with(|| Box::new(Rate::beside(Unit::Requests, now)));
        rate.refused(true, marks.in_flight, times.sent, refusal.hint, rng, now);
        true
    }

    /// Whether failures lead the rate: then what is repeated goes at a pace that is found to be
    /// taken, and adds nothing to the load.
    pub(crate) fn sheds(&self) -> bool {
        self.shedding.leads()
    }

    fn took(&mut self, charge: Charge, marks: Marks, paced: bool, sent: Moment, now: Moment) {
        self.own.accepted(charge, sent, now);
        for rate in self.rates.iter_mut().flatten() {
            rate.accepted(&self.own.of(rate.unit(), self.ratio.value()), marks.in_flight, sent, now);
        }
        for Entry { slot, limit, .. } in &mut self.entries {
            limit.accepted(charge.of(*slot), paced, sent, now);
        }
        if self.entries.iter().any(|entry| entry.origin.may_be_raised(now)) {
            self.raise_refused(paced, now);
        }
    }

    /// Learns from a refusal.
    pub(crate) fn refused(&mut self, refusal: &Refusal<'_>, rng: &mut fastrand::Rng, now: Moment) -> Verdict {
        let Refusal { numbers, hint, cost, charge, marks, times, .. } = *refusal;
        // A refused attempt takes nothing. Where it does, the next snapshot tells.
        self.own.retract(cost, marks, times.sent);
        if let Some(numbers) = numbers.filter(|numbers| numbers.apart) {
            // It says nothing of the limits that are kept here: nobody else waits for it.
            for Entry { slot, limit, .. } in &mut self.entries {
                limit.give_back(charge.of(*slot), now);
            }
            let wait = numbers.wait.or(hint).unwrap_or(LONGEST_PAUSE).min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if let Some(numbers) = numbers.filter(|numbers| numbers.limit > 0 && numbers.are_borne_out(hint))
            && let Some(index) = self.place_of_refusal(numbers.slot, numbers.limit as f64, now)
        {
            self.refused_by(index, numbers, refusal, now);
            let wait = numbers.wait.or(hint).unwrap_or_default().min(Duration::from_hours(1));
            return Verdict { not_before: times.refused().plus(wait) };
        }
        if refusal.by_load {
            let rate = self.rates[0].get_or_insert_with(|| Box::new(Rate::beside(Unit::Requests, now)));
            rate.refused(false, marks.in_flight, times.sent, hint, rng, now);
            return Verdict { not_before: now };
        }
        self.shedding.is_of_429s();
        // What was sent before the last such refusal was known says nothing new.
        let fresh = times.sent >= self.unexplained;
        let (unit, learns) = self.untold(refusal.unit, charge, times.sent, now);
        if fresh && !self.each().any(|(slot, limit)| limit.expected_refusal(charge.of(slot), now)) {
            self.entries.iter_mut().for_each(|entry| entry.limit.surprised(now));
        }
        self.entries.iter_mut().for_each(|entry| entry.limit.refused_blindly(times.sent, now));
        let rate = self.rates[unit.index()].get_or_insert_with(|| Box::new(Rate::beside(unit, now)));
        rate.refused(learns, marks.in_flight, times.sent, hint, rng, now);
        Verdict { not_before: now }
    }

    /// The unit of the limit that refused without numbers, and whether it is one that nobody tells
    /// of.
    fn untold(&mut self, said: Option<Unit>, charge: Charge, sent: Moment, now: Moment) -> (Unit, bool) {
        // The fullest of a unit's limits.
        let fullest = |unit: Unit| {
            let limits = self.each().filter(move |(slot, _)| unit == slot.unit());
            limits.map(|(slot, limit)| limit.part_used(charge.of(slot), now)).reduce(f64::max)
        };
        let used = [Unit::Requests, Unit::Tokens].map(fullest);
        let searched = self.rates.iter().flatten().find(|rate| rate.searches()).map(|rate| rate.unit());
        let other = || [Unit::Tokens, Unit::Requests].into_iter().find(|unit| used[unit.index()].is_none());
        let unit = said.or(searched).or_else(|| other().filter(|_| self.is_known()));
        let explains = |part: &Option<f64>| part.is_some_and(|part| part > FORETOLD);
        if said.map_or(used.iter().any(explains), |unit| explains(&used[unit.index()])) {
            return (unit.unwrap_or(Unit::Requests), false);
        }
        let again = self.unexplained > Moment::START && now.since(self.unexplained) <= AGAIN;
        let again = again && sent >= self.unexplained;
        if sent >= self.unexplained {
            self.unexplained = now;
        }
        let unit = unit.unwrap_or(Unit::Requests);
        (unit, again || used[unit.index()].is_none() || searched == Some(unit))
    }

    /// A limit of this unit is known now: only of the other unit, and only what refusals found, is
    /// still kept beside it.
    fn found(&mut self, unit: Unit) {
        for rate in &mut self.rates {
            *rate = rate.take().filter(|rate| rate.searches() && rate.unit() != unit);
        }
    }

    /// Learns from a refusal with numbers, of the limit at `index`.
    fn refused_by(&mut self, index: usize, numbers: &RefusalNumbers, refusal: &Refusal<'_>, now: Moment) {
        let Refusal { cost, charge, marks, times, .. } = *refusal;
        let slot = self.entries[index].slot;
        if slot.unit() == Unit::Tokens
            && let Some(requested) = numbers.requested
        {
            let ratio = self.ratio.value();
            if !self.ratio.exact(requested, cost.tokens) {
                self.endpoints.refused(cost, requested, ratio);
            }
        }
        let told = Numbers {
            limit: numbers.limit as f64,
            // Some tell only the limit: what was refused found it full.
            used: numbers.used.unwrap_or(numbers.limit) as f64,
            requested: numbers.requested.unwrap_or(charge.of(slot)) as f64,
            wait: numbers.wait,
        };
        let own = self.own.of(slot.unit(), self.ratio.value());
        for (other, Entry { slot, limit, origin, .. }) in self.entries.iter_mut().enumerate() {
            let cells = charge.of(*slot);
            if other != index {
                limit.refund(cells, now);
                continue;
            }
            // A limit that became another explains the refusal.
            let is_another = told.limit.total_cmp(&limit.stated).is_ne();
            if !is_another && !limit.expected_refusal(cells, now) {
                limit.surprised(now);
            }
            limit.refused(&told, &own, marks.of(slot.unit()), times, now);
            limit.refund_debt(cells, now);
            if let Origin::Refusals { raise_at, hold } = origin {
                *raise_at = now.plus(*hold);
                *hold = (*hold * 2).min(HOLD.1);
            }
        }
        self.found(slot.unit());
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
    let hint = hint.min(LONGEST_PAUSE);
    hint + Duration::from_millis(250).min(hint / 4).mul_f64(rng.f64())
}

/// A count that is rounded up; what is not a number is 0. By casts: where the processor may be an
/// old one, `f64::ceil` is a call, and signed casts are shorter than others.
#[expect(clippy::cast_possible_truncation, reason = "a float's cast saturates")]
fn ceil(value: f64) -> u64 {
    let whole = value as i64;
    u64::try_from(whole).unwrap_or(0) + u64::from((whole as f64) < value)
}

//! The mirror of the upstream's limits for one scope: a pure machine, with time as an argument.

mod bucket;
mod dimension;
mod foreign;
mod ramp;
mod sent_log;
mod shape;

use std::time::Duration;

use crate::scope::moment::Moment;
use crate::scope::settings::LimitSettings;

use dimension::Dimension;
pub(crate) use dimension::{Mark, Times};
use ramp::Ramp;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The configuration.
    Configured,
    /// The upstream's headers or refusals.
    Learned,
}

impl Source {
    /// The source's name in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Learned => "learned",
        }
    }
}

/// A place for one limit of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Requests a minute, or an hour.
    RequestsPerMinute,
    /// Tokens a minute, or an hour.
    TokensPerMinute,
    /// Requests a day, or a month.
    RequestsPerDay,
    /// Tokens a day, or a month.
    TokensPerDay,
}

impl Slot {
    /// Every slot, in order.
    pub const ALL: [Self; 4] =
        [Self::RequestsPerMinute, Self::TokensPerMinute, Self::RequestsPerDay, Self::TokensPerDay];

    /// What it counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute | Self::RequestsPerDay => Unit::Requests,
            Self::TokensPerMinute | Self::TokensPerDay => Unit::Tokens,
        }
    }

    /// The window that it assumes until something tells otherwise.
    pub const fn window(self) -> Duration {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => Duration::from_mins(1),
            Self::RequestsPerDay | Self::TokensPerDay => Duration::from_hours(24),
        }
    }

    /// Its name in metrics and the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerDay => "tokens_per_day",
        }
    }

    /// Its place in [`Slot::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What the headers of one answer say about one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReport {
    /// The limit per window.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until nothing is used, where told.
    pub reset: Option<Duration>,
}

/// What the headers of one answer say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitReports {
    /// `x-ratelimit-*-requests`.
    pub requests: Option<LimitReport>,
    /// `x-ratelimit-*-tokens`.
    pub tokens: Option<LimitReport>,
}

/// The numbers in a 429's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalNumbers {
    /// Which limit refused.
    pub slot: Slot,
    /// The limit.
    pub limit: u64,
    /// What was used, where told.
    pub used: Option<u64>,
    /// What the request asked for, where told.
    pub requested: Option<u64>,
    /// When it would pass, where told.
    pub wait: Option<Duration>,
}

pub use crate::estimate::Cost;

/// What was taken from the buckets for one attempt, in cells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

impl Charge {
    fn of(self, slot: Slot) -> u64 {
        match slot.unit() {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }
}

/// What an attempt remembers of each limit.
pub(crate) type Marks = [Mark; 4];

/// All limits of one scope.
#[derive(Debug)]
pub(crate) struct Quota {
    dimensions: [Option<Dimension>; 4],
    ramp: Option<Ramp>,
    paused_until: Moment,
    pauses: u32,
    share: f64,
    ratio: ChargeRatio,
}

/// How many tokens the upstream charges for one that was estimated.
#[derive(Clone, Copy, Debug)]
struct ChargeRatio {
    value: f64,
}

/// What a refusal asks of the request that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It need not be tried before that.
    pub(crate) not_before: Moment,
}

impl Quota {
    pub(crate) fn new(limits: &LimitSettings, now: Moment) -> Self {
        let mut quota = Self {
            dimensions: [None, None, None, None],
            ramp: None,
            paused_until: Moment::START,
            pauses: 0,
            share: limits.share,
            ratio: ChargeRatio { value: 1.0 },
        };
        for slot in Slot::ALL {
            quota.dimensions[slot.index()] = limits.of(slot).filter(|limit| *limit > 0).map(|limit| {
                Dimension::new(
                    limit as f64,
                    slot.window().as_secs_f64(),
                    Source::Configured,
                    limits.share,
                    now,
                )
            });
        }
        if quota.dimensions.iter().all(Option::is_none) {
            quota.ramp = Some(Ramp::new(now));
        }
        quota
    }

    /// What `cost` takes, by what is known of the upstream's charges.
    pub(crate) fn charge(&self, cost: Cost) -> Charge {
        let tokens = cost.tokens as f64 * self.ratio.value;
        Charge { requests: u64::from(cost.requests), tokens: ceil(tokens) }
    }

    /// What so much waiting work takes.
    pub(crate) fn charge_of(&self, requests: u64, tokens: f64) -> Charge {
        Charge { requests, tokens: ceil(tokens * self.ratio.value) }
    }

    /// How long until `charge` may go, all limits considered; `None` where an attempt in flight must end first.
    pub(crate) fn wait(&self, charge: Charge, in_flight: u32, now: Moment) -> Option<Duration> {
        let mut wait = self.paused_until.since(now);
        if let Some(ramp) = &self.ramp {
            wait = wait.max(ramp.wait(in_flight, now)?);
        }
        for (slot, dimension) in self.each() {
            wait = wait.max(dimension.wait(charge.of(slot), now));
        }
        Some(wait)
    }

    /// The limit that holds `charge` longest, if one does.
    pub(crate) fn holding(&self, charge: Charge, now: Moment) -> Option<Slot> {
        let waits = self.each().map(|(slot, dimension)| (slot, dimension.wait(charge.of(slot), now)));
        waits.filter(|(_, wait)| !wait.is_zero()).max_by_key(|(_, wait)| *wait).map(|(slot, _)| slot)
    }

    /// Takes `charge` from every limit.
    pub(crate) fn take(&mut self, charge: Charge, now: Moment) {
        if let Some(ramp) = &mut self.ramp {
            ramp.take(now);
        }
        for (slot, dimension) in self.each_mut() {
            dimension.take(charge.of(slot), now);
        }
    }

    /// Gives back what was taken and not sent.
    pub(crate) fn give_back(&mut self, charge: Charge, now: Moment) {
        if let Some(ramp) = &self.ramp {
            ramp.give_back(now);
        }
        for (slot, dimension) in self.each_mut() {
            dimension.give_back(charge.of(slot), now);
        }
    }

    /// Notes that what was taken goes upstream now.
    pub(crate) fn sent(&mut self, charge: Charge, now: Moment) -> Marks {
        let mut marks = Marks::default();
        for (slot, dimension) in self.each_mut() {
            marks[slot.index()] = dimension.sent(charge.of(slot), now);
        }
        marks
    }

    /// Learns from the headers of an answer.
    pub(crate) fn told(&mut self, reports: &LimitReports, marks: &Marks, times: &Times, now: Moment) {
        for (unit, report) in [(Unit::Requests, reports.requests), (Unit::Tokens, reports.tokens)] {
            // 0 and −1 mean "unknown" in some dialects.
            let Some(report) = report.filter(|report| report.limit > 0) else { continue };
            let slot = self.header_slot(unit);
            let share = self.share;
            let dimension = self.dimensions[slot.index()].get_or_insert_with(|| {
                Dimension::new(report.limit as f64, slot.window().as_secs_f64(), Source::Learned, share, now)
            });
            dimension.told(&report, marks[slot.index()], times, now);
            if dimension.window > 3600.0 && slot.window() < Duration::from_hours(1) {
                let day = if unit == Unit::Requests { Slot::RequestsPerDay } else { Slot::TokensPerDay };
                self.dimensions[day.index()] = self.dimensions[slot.index()].take();
            }
            self.ramp = None;
        }
    }

    /// An answer that was no refusal came; `paced` says that the queue was waiting when its attempt went.
    pub(crate) fn accepted(&mut self, charge: Charge, paced: bool, now: Moment) {
        self.pauses = 0;
        if let Some(ramp) = &mut self.ramp {
            ramp.accepted(now);
        }
        if paced {
            for (slot, dimension) in self.each_mut() {
                dimension.accepted(charge.of(slot), now);
            }
        }
    }

    /// Learns from a refusal.
    pub(crate) fn refused(
        &mut self,
        numbers: Option<&RefusalNumbers>,
        hint: Option<Duration>,
        charge: Charge,
        marks: &Marks,
        times: &Times,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) -> Verdict {
        if let Some(numbers) = numbers.filter(|numbers| numbers.limit > 0 && numbers.used.is_some()) {
            let slot = numbers.slot;
            let share = self.share;
            let limit = numbers.limit as f64;
            let used = numbers.used.unwrap_or(numbers.limit) as f64;
            let dimension = self.dimensions[slot.index()].get_or_insert_with(|| {
                Dimension::new(limit, slot.window().as_secs_f64(), Source::Learned, share, now)
            });
            if !dimension.foretold(charge.of(slot), now) {
                dimension.surprised(now);
            }
            dimension.refused(limit, used, marks[slot.index()], times, now);
            self.ramp = None;
            let wait = numbers.wait.or(hint).unwrap_or_default().min(Duration::from_hours(1));
            return Verdict { not_before: times.admitted().plus(wait) };
        }
        let foretold = self.each().any(|(slot, dimension)| dimension.foretold(charge.of(slot), now));
        if !foretold {
            for (_, dimension) in self.each_mut() {
                dimension.surprised(now);
            }
        }
        if let Some(ramp) = &mut self.ramp {
            ramp.refused(now);
        }
        let pause = match hint {
            Some(hint) => hint.mul_f64(1.0 + 0.1 * rng.f64()),
            None => ramp::pause(self.pauses, rng),
        };
        if self.paused_until <= now {
            self.pauses += 1;
            self.paused_until = now.plus(pause.min(Duration::from_mins(1)));
        }
        Verdict { not_before: self.paused_until }
    }

    /// Applies other settings; what was learned stays.
    pub(crate) fn configure(&mut self, limits: &LimitSettings, now: Moment) {
        self.share = limits.share;
        for slot in Slot::ALL {
            let stated = limits.of(slot).filter(|limit| *limit > 0).map(|limit| limit as f64);
            match (&mut self.dimensions[slot.index()], stated) {
                (Some(dimension), stated) => {
                    let stated = stated.filter(|_| dimension.source == Source::Configured);
                    dimension.configure(stated, limits.share, now);
                }
                (place @ None, Some(limit)) => {
                    let window = slot.window().as_secs_f64();
                    *place = Some(Dimension::new(limit, window, Source::Configured, limits.share, now));
                    self.ramp = None;
                }
                (None, None) => {}
            }
        }
    }

    /// Seconds until `ahead` and then `charge` have passed, were nothing else to come.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, now: Moment) -> f64 {
        let mut wait = self.paused_until.seconds_since(now);
        if let Some(ramp) = &self.ramp {
            wait = wait.max(ramp.predict(ahead.requests as f64, now));
        }
        for (slot, dimension) in self.each() {
            wait = wait.max(dimension.predict(ahead.of(slot) as f64, charge.of(slot) as f64, now));
        }
        wait.max(0.0)
    }

    /// Requests a second at the present pace, where one holds.
    pub(crate) fn request_rate(&self) -> Option<f64> {
        let ramp = self.ramp.as_ref().and_then(Ramp::rate);
        let paced = self.dimensions[Slot::RequestsPerMinute.index()].as_ref().map(Dimension::pace);
        ramp.or(paced)
    }

    /// The bound on requests in flight while nothing is known.
    pub(crate) fn in_flight_bound(&self) -> Option<u32> {
        self.ramp.as_ref().and_then(Ramp::bound)
    }

    /// Whether any limit is known.
    pub(crate) fn is_known(&self) -> bool {
        self.dimensions.iter().any(Option::is_some)
    }

    /// The limits as the status shows them.
    pub(crate) fn status(&self, now: Moment) -> Vec<crate::scope::status::DimensionStatus> {
        self.each()
            .map(|(slot, dimension)| crate::scope::status::DimensionStatus {
                slot,
                limit: dimension.limit,
                level: dimension.level(now),
                window: crate::scope::moment::duration(dimension.window),
                source: dimension.source,
                pacer_burst: dimension.pacer_burst(),
                foreign_use: dimension.foreign.ratio(),
            })
            .collect()
    }

    /// The scope's pause after a refusal without numbers ends then.
    pub(crate) fn paused_until(&self) -> Moment {
        self.paused_until
    }

    fn header_slot(&self, unit: Unit) -> Slot {
        let (minute, day) = match unit {
            Unit::Requests => (Slot::RequestsPerMinute, Slot::RequestsPerDay),
            Unit::Tokens => (Slot::TokensPerMinute, Slot::TokensPerDay),
        };
        let learned_day =
            self.dimensions[day.index()].as_ref().is_some_and(|day| day.source == Source::Learned);
        if learned_day && self.dimensions[minute.index()].is_none() { day } else { minute }
    }

    fn each(&self) -> impl Iterator<Item = (Slot, &Dimension)> {
        Slot::ALL
            .into_iter()
            .zip(&self.dimensions)
            .filter_map(|(slot, dimension)| dimension.as_ref().map(|dimension| (slot, dimension)))
    }

    fn each_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Dimension)> {
        Slot::ALL
            .into_iter()
            .zip(&mut self.dimensions)
            .filter_map(|(slot, dimension)| dimension.as_mut().map(|dimension| (slot, dimension)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float's cast saturates")]
fn ceil(value: f64) -> u64 {
    value.ceil() as u64
}

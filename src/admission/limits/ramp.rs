//! The pace of a scope of which no limit is known: it starts gently and follows refusals alone.
//!
//! Until the first refusal it grows as long as it is what holds: twofold each second, or in the time in which nearly all
//! answers come where that is longer, so that a refusal is heard before the pace is far beyond what met it, and an upstream
//! without a limit is soon not held back. A refusal stops everything; single probes ask, with growing pauses, whether the
//! limiter lets through again. Then the search for the limit goes on, each step finer than the one before:
//! - Where the limiter was shut for seconds it counts by the minute, and what it took in the last minute is the limit, unless
//!   it took much more in another: then it counts by a shorter window.
//! - Where the pace had been held for a minute, what was taken in that minute is the limit, whatever the shape: a full bucket
//!   drains so much, a log holds so much.
//! - Else only the pace that met the refusal is known. A cubic curve, flat where it nears that pace, finds it roughly, a nudge
//!   in small steps closely, one in smaller steps exactly.
//!
//! What a single refusal found may have been a storm, or a shorter window: the pace goes on as before until it is met again.
//! Then the pace holds just below, and is nudged up: the more rarely the more often that met the same limit, for each time
//! costs a few refusals.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};
use crate::admission::status::DimensionStatus;

use super::bucket::Bucket;
use super::own::Own;
use super::search::{BELOW, Episode, Known, Phase, WINDOW};
use super::{Charge, Slot, Source, Unit};

/// The first rate, in requests a second, and the first bound on requests in flight.
const FIRST_RATE: f64 = 10.0;
const FIRST_IN_FLIGHT: f64 = 10.0;
/// Both double in so many seconds without a refusal, at least and at most: in the time in which nearly all answers come,
const DOUBLING: (f64, f64) = (1.0, 4.0);
/// by their mean;
const NEARLY_ALL: f64 = 2.0;
/// and in small steps: a tenth more at once would be a burst of its own.
const FINE_STEP: Duration = Duration::from_millis(50);
/// Refusals are quick. Where nothing at all is heard for so long, more may be in flight: answers just take long.
const SILENCE: Duration = Duration::from_secs(2);
/// From this rate on the scope counts as unlimited.
const UNLIMITED: f64 = 100_000.0;
/// What was sent of late.
const LATELY: Duration = Duration::from_secs(2);
/// After a refusal of which nothing can be concluded yet the pace aims at this part of what it was,
const DECREASE: f64 = 0.8;
/// from this part of the aim on,
const START: f64 = 0.6;
/// along a cubic curve that is flat when it gets there after so many seconds, and steepens beyond.
const FLAT_AFTER: f64 = 15.0;
/// A nudge raises the pace by this part.
const NUDGE: f64 = 0.01;
/// A nudge that went so far without a refusal goes on as the curve: the limit became another.
const NUDGED_FAR: f64 = 0.3;
/// A probe that is not answered for so long is followed by another.
pub(super) const UNANSWERED: Duration = Duration::from_secs(3);
/// Never slower than a request in half a minute.
const SLOWEST: f64 = 1.0 / 30.0;
/// After a refusal the pace goes on so many seconds late.
const AFTERWARD: f64 = 1.5;

/// The pace without any knowledge of limits.
#[derive(Debug)]
pub(crate) struct Ramp {
    unit: Unit,
    pacer: Bucket,
    rate: f64,
    in_flight: f64,
    phase: Phase,
    /// The last change of the rate.
    changed: Moment,
    /// Whether the rate, and the bound on requests in flight, held anything back since then.
    binding: (bool, bool),
    began: Option<Moment>,
    /// The last answer, or the first permit.
    heard: Moment,
    /// Smoothed time from send to answer, in seconds.
    trip: f64,
    /// The most in flight so far: in silence it may be more than the bound.
    reached: f64,
    /// The last refusal that ended a time of going.
    episode: Option<Episode>,
    /// When the pace went on after it.
    resumed: Moment,
    /// How well the limit is known by now.
    known: Known,
    beside: bool,
}

impl Ramp {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            unit: Unit::Requests,
            pacer: Bucket::new(FIRST_RATE, FIRST_RATE),
            rate: FIRST_RATE,
            in_flight: FIRST_IN_FLIGHT,
            phase: Phase::Growing,
            changed: now,
            binding: (false, false),
            began: None,
            heard: now,
            trip: 0.0,
            reached: 0.0,
            episode: None,
            resumed: Moment::START,
            known: Known::default(),
            beside: false,
        }
    }

    /// The search for a limit of `unit` that nobody tells of, beside others that are known: so far they were all that held.
    pub(crate) fn beside(unit: Unit, now: Moment) -> Self {
        Self { unit, rate: UNLIMITED, beside: true, ..Self::new(now) }
    }

    /// Whether there are known limits beside it.
    pub(crate) fn is_beside(&self) -> bool {
        self.beside
    }

    /// Whether something was refused: the pace is what was found of a limit.
    pub(crate) fn has_found(&self) -> bool {
        self.phase != Phase::Growing
    }

    /// What was found, as if it were a limit by the minute.
    pub(crate) fn status(&self, own: &Own<'_>, now: Moment) -> DimensionStatus {
        DimensionStatus {
            slot: Slot::by_minute(self.unit),
            limit: (self.rate * WINDOW.as_secs_f64()).round(),
            level: own.log.trailing(WINDOW, now) * own.ratio,
            window: WINDOW,
            source: Source::Found,
            pacer_burst: self.pacer.burst(),
            foreign_use: 0.0,
        }
    }

    /// What it counts.
    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// How long until `charge` may go: where one in flight must end first, until it is silent for long.
    pub(crate) fn wait(&self, charge: Charge, own: &Own<'_>, in_flight: u32, now: Moment) -> Duration {
        match self.phase {
            Phase::Growing if self.rate >= UNLIMITED => Duration::ZERO,
            Phase::Growing if f64::from(in_flight) >= self.in_flight => {
                let doublings = duration(DOUBLING.0 * (f64::from(in_flight) / self.in_flight).log2());
                let silent = self.heard.plus(SILENCE + doublings).since(now);
                silent.max(self.pacer.wait(self.cells(charge), now))
            }
            Phase::Probing { out: Some(sent), .. } => sent.plus(UNANSWERED).since(now),
            Phase::Probing { next, .. } => next.since(now),
            Phase::Holding { .. } if self.waits_for_room() => {
                self.pacer.wait(self.cells(charge), now).max(self.trailing_wait(own, now))
            }
            Phase::Growing | Phase::Climbing { .. } | Phase::Holding { .. } | Phase::Nudging { .. } => {
                self.pacer.wait(self.cells(charge), now)
            }
        }
    }

    /// What met the refusal came faster than the pace is now: a window or a log that was full has to get rid of it first.
    fn trailing_wait(&self, own: &Own<'_>, now: Moment) -> Duration {
        let most = self.rate / BELOW * WINDOW.as_secs_f64() / own.ratio;
        if own.log.trailing(WINDOW, now) <= most {
            return Duration::ZERO;
        }
        own.log.trailing_falls_to(most, WINDOW).since(now)
    }

    pub(crate) fn take(&mut self, charge: Charge, in_flight: u32, now: Moment) {
        if self.began.is_none() {
            (self.began, self.heard) = (Some(now), now);
        }
        if let Phase::Probing { out, .. } = &mut self.phase {
            *out = Some(now);
        }
        self.pacer.take(self.cells(charge), now);
        // Half of what is allowed is in use: it is what holds, or soon will.
        self.binding.0 |= self.pacer.used(now) > self.pacer.burst() * 0.5;
        self.binding.1 |= f64::from(in_flight) > self.in_flight * 0.5;
        self.reached = self.reached.max(f64::from(in_flight));
    }

    pub(crate) fn give_back(&mut self, charge: Charge, now: Moment) {
        if let Phase::Probing { out, .. } = &mut self.phase {
            *out = None;
        }
        self.pacer.credit(self.cells(charge) as f64, now);
    }

    /// An attempt that was sent at `sent` was answered without a refusal.
    pub(crate) fn accepted(&mut self, own: &Own<'_>, sent: Moment, now: Moment) {
        self.heard = now;
        self.in_flight = self.in_flight.max(self.reached);
        let trip = now.seconds_since(sent);
        self.trip += (trip - self.trip) * if self.trip > 0.0 { 0.1 } else { 1.0 };
        match (self.phase, self.episode) {
            // What was sent before the refusal proves nothing.
            (Phase::Probing { .. }, Some(episode)) if sent >= episode.at => self.resume(episode, own, now),
            (Phase::Probing { .. }, _) => {}
            _ => self.grow(now),
        }
    }

    /// An attempt that was sent at `sent` was refused without numbers.
    pub(crate) fn refused(
        &mut self,
        unit: Unit,
        own: &Own<'_>,
        sent: Moment,
        hint: Option<Duration>,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        if let Phase::Probing { refused, .. } = self.phase {
            if let Some(episode) = self.episode.as_mut().filter(|episode| sent >= episode.at) {
                episode.shut = episode.shut.max(sent);
                let next = now.plus(pause(refused + 1, rng));
                self.phase = Phase::Probing { next, out: None, refused: refused + 1 };
            }
            return;
        }
        // What was sent before the pace went on is old news.
        if sent < self.resumed {
            return;
        }
        let switched = unit != self.unit;
        if switched {
            self.unit = unit;
            self.episode = None;
            self.known = Known::default();
        }
        let in_last = |span: Duration| own.log.trailing(span, now) * own.ratio / span.as_secs_f64();
        let pace = match self.phase {
            // The pace may be far above what is asked for.
            Phase::Growing => self.rate.min(in_last(LATELY).max(FIRST_RATE)),
            Phase::Probing { .. }
            | Phase::Climbing { .. }
            | Phase::Holding { .. }
            | Phase::Nudging { .. } => self.rate,
        };
        // It was of requests and is of tokens now, or the other way round: only what was sent tells.
        let pace = if switched { in_last(LATELY).max(in_last(WINDOW)) } else { pace };
        let since = self.resumed.max(self.began.unwrap_or(now));
        self.episode = Some(Episode {
            at: now,
            pace,
            phase: self.phase,
            gone: now.since(since),
            before: self.episode.map(|episode| episode.at),
            shut: now.plus(hint.unwrap_or_default()),
        });
        self.phase = Phase::Probing { next: now.plus(pause(0, rng)), out: None, refused: 0 };
        self.changed = now;
        self.reshape(now);
    }

    /// A probe passed: the limiter lets through again.
    fn resume(&mut self, episode: Episode, own: &Own<'_>, now: Moment) {
        self.changed = now;
        self.resumed = now;
        let limit = self.known.learn(&episode, own, now);
        if self.known.is_doubtful() {
            let aim = (episode.pace * DECREASE).max(SLOWEST);
            self.rate = aim;
            // The rising half of the curve.
            self.phase = Phase::Climbing { since: now.minus(duration(FLAT_AFTER)), aim };
        } else if let Some(limit) = limit {
            self.rate = (limit * BELOW).max(SLOWEST);
            self.phase = Phase::Holding { until: now.plus(self.known.hold()) };
        } else {
            let aim = (episode.pace * DECREASE).max(SLOWEST);
            self.rate = (aim * START).max(SLOWEST);
            self.phase = Phase::Climbing { since: now, aim };
        }
        self.reshape(now);
        // What is on its way when a full bucket is met again would be refused.
        self.pacer.set_used(self.pacer.burst() + self.rate * AFTERWARD, now);
    }

    /// Requests a second at the present pace, where one holds.
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.rate < UNLIMITED && self.unit == Unit::Requests).then_some(self.rate)
    }

    /// Seconds until `ahead` and then `charge` have passed.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, own: &Own<'_>, now: Moment) -> f64 {
        if self.rate >= UNLIMITED || matches!(self.phase, Phase::Growing) {
            return 0.0;
        }
        let (ahead, cells) = (self.cells(ahead) as f64, self.cells(charge) as f64);
        let paced = (self.pacer.used(now) + ahead + cells - self.pacer.burst()) / self.rate;
        let full = if self.waits_for_room() { self.trailing_wait(own, now) } else { Duration::ZERO };
        if full.is_zero() { paced } else { paced.max(full.as_secs_f64() + (ahead + cells) / self.rate) }
    }

    /// Whether what was sent in the last minute may hold the next, too.
    fn waits_for_room(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. }) && self.known.may_be_full()
    }

    fn cells(&self, charge: Charge) -> u64 {
        match self.unit {
            Unit::Requests => charge.requests,
            Unit::Tokens => charge.tokens,
        }
    }

    /// Time passes without a refusal.
    fn grow(&mut self, now: Moment) {
        let since = now.since(self.changed);
        let (rate, in_flight) = match self.phase {
            Phase::Growing if self.rate >= UNLIMITED => return,
            Phase::Growing if since < FINE_STEP => return,
            Phase::Growing => {
                let doubling = (self.trip * NEARLY_ALL).clamp(DOUBLING.0, DOUBLING.1);
                let factor = (since.as_secs_f64().min(DOUBLING.0) / doubling).exp2();
                (self.rate * factor, self.in_flight * factor)
            }
            Phase::Climbing { since, aim } if now.since(self.changed) >= FINE_STEP => {
                let way = now.seconds_since(since) / FLAT_AFTER - 1.0;
                (self.rate.max(aim * (1.0 + (1.0 - START) * way.powi(3))), self.in_flight)
            }
            Phase::Holding { until } if now >= until => {
                self.phase = Phase::Nudging { from: self.rate };
                return;
            }
            Phase::Nudging { from } if self.rate > from * (1.0 + NUDGED_FAR) => {
                // The rising half of the curve.
                let since = now.minus(duration(FLAT_AFTER));
                self.phase = Phase::Climbing { since, aim: self.rate };
                self.known.is_outgrown();
                return;
            }
            Phase::Nudging { .. } if since >= self.known.nudged_each() => {
                (self.rate * (1.0 + NUDGE), self.in_flight)
            }
            Phase::Probing { .. }
            | Phase::Climbing { .. }
            | Phase::Holding { .. }
            | Phase::Nudging { .. } => return,
        };
        if let Phase::Climbing { since, .. } = &mut self.phase
            && !self.binding.0
        {
            // Nobody asks for more: the curve waits.
            *since = since.plus(now.since(self.changed));
            self.changed = now;
            return;
        }
        if self.binding == (false, false) {
            return;
        }
        if self.binding.0 {
            self.rate = rate;
        }
        if self.binding.1 {
            self.in_flight = in_flight;
        }
        self.changed = now;
        self.binding = (false, false);
        self.reshape(now);
    }

    fn reshape(&mut self, now: Moment) {
        let burst = match self.phase {
            Phase::Growing => self.rate,
            Phase::Probing { .. }
            | Phase::Climbing { .. }
            | Phase::Holding { .. }
            | Phase::Nudging { .. } => (self.rate * 0.1).max(1.0),
        };
        self.pacer.reshape(self.rate, burst, now);
    }
}

/// A pause after a refusal that named no time: growing, with jitter.
pub(crate) fn pause(count: u32, rng: &mut fastrand::Rng) -> Duration {
    let base = 0.25 * f64::from(2_u32.saturating_pow(count.min(6)));
    duration(base * (0.75 + 0.5 * rng.f64()))
}

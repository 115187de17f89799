//! The adaptive rate of one unit, for limits that nobody tells of: slow start, decrease at a
//! refusal, hold, probe.
//!
//! Until the first refusal the rate and the bound on attempts in flight double each second, while
//! they are what holds requests back. A refusal stops everything; single probes ask, with growing
//! pauses, when the limiter takes requests again. What it took from one such episode to the next is
//! its limit, whatever its shape: a bucket was full at both, a window was new at both. The rate
//! then holds just below that, and grows along a cubic curve, flat at first, until it is refused
//! again.
//!
//! Where a bound on attempts in flight explains the refusals, that bound holds instead of the rate.

use std::time::Duration;

use crate::admission::moment::{Moment, duration};
use crate::admission::status::DimensionStatus;

use super::at_once::AtOnce;
use super::bucket::Bucket;
use super::chance::Chance;
use super::measured::{BELOW, Episode, Measured};
use super::own::Own;
use super::{Charge, Slot, Source, USUAL_WINDOW, Unit};

/// The first rate, in requests a second, and the first bound on attempts in flight.
pub(super) const FIRST: f64 = 10.0;
/// Seconds in which both double, at least and at most: between them, twice the mean time to an
/// answer, so that a refusal is known before the rate is far beyond what met it.
pub(super) const DOUBLING: (f64, f64) = (1.0, 4.0);
/// Refusals are quick. Where no answer at all comes for this time, more may be in flight: answers
/// just take long.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// From this rate on nothing is held back.
pub(super) const UNLIMITED: f64 = 100_000.0;
/// A rate that grew by this factor since the last refusal is no limit that was found.
const OUTGROWN: f64 = 2.0;
/// A probe that is not answered for this time is followed by another.
const UNANSWERED: Duration = Duration::from_secs(3);
/// How long a rate holds that an earlier process found just before: it need not be tried again at
/// once.
const RECALLED: Duration = Duration::from_mins(2);
/// The part of a rate that is kept: it was measured to a few percent, and who starts anew can't see
/// the window that it is in.
const KEPT: f64 = 0.96;
/// What counts more than this was learned within some minutes.
const FRESH: f64 = 0.98;
/// The lowest rate: one request in half a minute.
pub(super) const SLOWEST: f64 = 1.0 / 30.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// No refusal yet.
    SlowStart,
    /// Refused: one probe at a time; or none, where all were told when to come back, and no limit
    /// is to be learned.
    Blocked { next: Moment, out: Option<Moment>, refused: u32, learns: bool, probes: bool },
    /// Holding since the last refusal at these, and growing later.
    Steady { rate: f64, in_flight: f64 },
}

/// What refusals found of a limit, to be kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::admission) struct FoundRate {
    pub(in crate::admission) unit: Unit,
    /// Cells a second.
    pub(in crate::admission) pace: f64,
    /// Attempts at once.
    pub(in crate::admission) bound: f64,
    /// Cells that were sent beyond the pace in the last minute.
    pub(in crate::admission) ahead: f64,
}

/// The adaptive rate of one unit.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    pub(super) unit: Unit,
    pub(super) pacer: Bucket,
    /// Cells a second.
    pub(super) pace: f64,
    /// Attempts in flight at most.
    pub(super) bound: f64,
    pub(super) phase: Phase,
    /// The last change of the rate in slow start.
    pub(super) changed: Moment,
    /// Until when the rate holds in the steady phase.
    pub(super) held_until: Moment,
    /// Since when the rate has been what holds requests back.
    pub(super) pressed: Option<Moment>,
    /// The bound in flight held something back since the last change.
    pub(super) bounded: bool,
    /// A refusal told of a limit.
    pub(super) found: bool,
    pub(super) measured: Measured,
    /// The last answer, or the first permit.
    pub(super) heard: Option<Moment>,
    /// Smoothed time from send to answer, in seconds.
    pub(super) trip: f64,
    /// Smoothed cells of a request.
    pub(super) typical: f64,
    pub(super) at_once: AtOnce,
    pub(super) chance: Chance,
    /// When the bound in flight was lowered.
    pub(super) lowered: Moment,
    /// The present episode, or the last one; and the one before it.
    pub(super) episode: Option<Episode>,
    pub(super) before: Option<Episode>,
}

impl Rate {
    /// The rate of a scope of which nothing is known.
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            unit: Unit::Requests,
            pacer: Bucket::new(FIRST, FIRST),
            pace: FIRST,
            bound: FIRST,
            phase: Phase::SlowStart,
            changed: now,
            held_until: now,
            pressed: None,
            bounded: false,
            found: false,
            measured: Measured::default(),
            heard: None,
            trip: 0.0,
            typical: 1.0,
            at_once: AtOnce::default(),
            chance: Chance::default(),
            lowered: Moment::START,
            episode: None,
            before: None,
        }
    }

    /// The rate of a unit that was not held back by it so far.
    pub(crate) fn beside(unit: Unit, now: Moment) -> Self {
        Self { unit, pace: UNLIMITED, bound: f64::INFINITY, ..Self::new(now) }
    }

    /// The rate that an earlier process found: it holds at once, for [`RECALLED`], and then grows
    /// as after a refusal. What is old counts less: it is held for less, and at half of it at
    /// least.
    pub(in crate::admission) fn recalled(found: &FoundRate, weight: f64, now: Moment) -> Self {
        let FoundRate { unit, pace, bound, ahead } = *found;
        let part = 0.5 + 0.5 * weight.clamp(0.0, 1.0);
        let pace = if pace < UNLIMITED { (pace * part).max(SLOWEST) } else { UNLIMITED };
        let mut rate = Self { unit, pace, bound: (bound * part).max(1.0), found: true, ..Self::new(now) };
        rate.hold((0, 0.0), now);
        rate.held_until = rate.held_until.max(now.plus(RECALLED.mul_f64(weight.clamp(0.0, 1.0))));
        rate.reshape(now);
        // The earlier process may have sent a full burst, and what it sent beyond the rate is in
        // the present window.
        let ahead = if weight > FRESH { ahead.min(pace * USUAL_WINDOW.as_secs_f64()) } else { 0.0 };
        rate.pacer.set_used(rate.pacer.burst() + ahead, now);
        rate
    }

    /// Its unit, its cells a second and its attempts at once, where refusals told of them: those
    /// that held, rather than those that are tried now.
    pub(in crate::admission) fn learned(&self, own: &Own<'_>, now: Moment) -> Option<FoundRate> {
        let (pace, bound) = match self.phase {
            Phase::SlowStart => return None,
            Phase::Steady { rate, in_flight } => (rate.min(self.pace), in_flight.min(self.bound)),
            Phase::Blocked { .. } => (self.measured.known().unwrap_or(self.pace).min(self.pace), self.bound),
        };
        let pace = if pace < UNLIMITED { pace * KEPT } else { pace };
        let sent = own.log.trailing(USUAL_WINDOW, now) * own.ratio;
        let ahead = (sent - pace * USUAL_WINDOW.as_secs_f64()).max(0.0);
        (self.found && self.has_found()).then_some(FoundRate { unit: self.unit, pace, bound, ahead })
    }

    /// Whether a limit was found.
    pub(crate) fn has_found(&self) -> bool {
        match self.phase {
            Phase::SlowStart => false,
            Phase::Blocked { .. } => self.found,
            Phase::Steady { rate, .. } => {
                self.bound.is_finite() || rate < UNLIMITED && self.pace <= rate * OUTGROWN
            }
        }
    }

    /// Whether a refusal told of a limit before: the next one needs no confirmation.
    pub(crate) fn searches(&self) -> bool {
        self.found
    }

    /// What it counts.
    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// What was found, as if it were a limit by the minute.
    pub(crate) fn status(&self, own: &Own<'_>, now: Moment) -> DimensionStatus {
        DimensionStatus {
            slot: Slot::by_minute(self.unit),
            limit: (self.pace / BELOW * USUAL_WINDOW.as_secs_f64()).round(),
            level: own.log.trailing(USUAL_WINDOW, now) * own.ratio,
            window: USUAL_WINDOW,
            source: Source::Found,
            pacer_burst: self.pacer.burst(),
            foreign_use: 0.0,
        }
    }

    /// Cells a second at the present rate, where it holds anything back.
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.pace < UNLIMITED).then_some(self.pace)
    }

    /// Since when attempts go at a rate that was found, while they do.
    pub(super) fn steady_since(&self) -> Option<Moment> {
        let reopened = self.episode.and_then(|episode| episode.ended).unwrap_or(Moment::START);
        matches!(self.phase, Phase::Steady { .. }).then(|| reopened.max(self.lowered))
    }

    /// Until when everything is stopped.
    pub(crate) fn blocked_until(&self) -> Moment {
        match self.phase {
            Phase::Blocked { next, .. } => next,
            Phase::SlowStart | Phase::Steady { .. } => Moment::START,
        }
    }

    /// How long until `charge` may go.
    pub(crate) fn wait(&self, charge: Charge, in_flight: u32, now: Moment) -> Duration {
        match self.phase {
            // What observes goes whenever it comes, and ends no pause.
            Phase::Blocked { next, out: Some(sent), probes: true, .. } => {
                sent.plus(UNANSWERED).max(next).since(now)
            }
            Phase::Blocked { next, .. } => next.since(now),
            Phase::SlowStart | Phase::Steady { .. } => {
                let flying = f64::from(in_flight);
                let paced = if self.pace < UNLIMITED {
                    self.pacer.wait(charge.of_unit(self.unit), now)
                } else {
                    Duration::ZERO
                };
                if flying < self.bound {
                    return paced;
                }
                // One in flight must end first, unless it is silent for long.
                let doublings = duration(DOUBLING.0 * (flying / self.bound).log2());
                paced.max(self.heard.unwrap_or(now).plus(SILENCE + doublings).since(now))
            }
        }
    }

    pub(crate) fn take(&mut self, charge: Charge, in_flight: u32, now: Moment) {
        self.heard.get_or_insert(now);
        if let Phase::Blocked { out, .. } = &mut self.phase {
            *out = Some(now);
        }
        let cells = charge.of_unit(self.unit);
        self.pacer.take(cells, now);
        self.typical += (cells as f64 - self.typical) * 0.1;
        // Half of what is allowed is in use: it is what holds, or soon will.
        let presses = self.pace < UNLIMITED && self.pacer.used(now) > self.pacer.burst() * 0.5;
        self.pressed = if presses { self.pressed.or(Some(now)) } else { None };
        self.bounded |= f64::from(in_flight) > self.bound * 0.5;
    }

    pub(crate) fn give_back(&mut self, charge: Charge, now: Moment) {
        if let Phase::Blocked { out, .. } = &mut self.phase {
            *out = None;
        }
        self.pacer.credit(charge.of_unit(self.unit) as f64, now);
    }

    /// Seconds until `ahead` and then `charge` have passed.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, now: Moment) -> f64 {
        let blocked = self.blocked_until().seconds_since(now);
        if self.pace >= UNLIMITED || matches!(self.phase, Phase::SlowStart) {
            return blocked;
        }
        let (ahead, cells) = (ahead.of_unit(self.unit) as f64, charge.of_unit(self.unit) as f64);
        blocked + (self.pacer.used(now) + ahead + cells - self.pacer.burst()).max(0.0) / self.pace
    }

    pub(super) fn reshape(&mut self, now: Moment) {
        let seconds = if matches!(self.phase, Phase::SlowStart) { 1.0 } else { 0.1 };
        self.pacer.reshape(self.pace, (self.pace * seconds).max(1.0), now);
    }
}

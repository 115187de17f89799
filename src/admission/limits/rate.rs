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
use super::measured::{BELOW, Episode, Measured, Pace};
use super::own::Own;
use super::{Charge, Slot, Source, Unit, jittered};

/// The first rate, in requests a second, and the first bound on attempts in flight.
pub(super) const FIRST: f64 = 10.0;
/// Seconds in which both double, at least and at most: between them, twice the mean time to an
/// answer, so that a refusal is known before the rate is far beyond what met it.
const DOUBLING: (f64, f64) = (1.0, 4.0);
/// Answers that come within a multiple of their mean time: nearly all.
const NEARLY_ALL: f64 = 2.0;
/// The rate grows in steps of this time: a tenth more at once would be a burst of its own.
const FINE_STEP: Duration = Duration::from_millis(50);
/// Refusals are quick. Where no answer at all comes for this time, more may be in flight: answers
/// just take long.
const SILENCE: Duration = Duration::from_secs(2);
/// From this rate on nothing is held back.
const UNLIMITED: f64 = 100_000.0;
/// How long the rate holds after a refusal, in seconds at least; until this number of requests went
/// for each that was refused; and for this many times the time for which nothing was taken. So
/// probes cost half a percent of the requests and a percent of the time.
const HOLD: (f64, f64, f64) = (15.0, 200.0, 100.0);
/// The cubic curve after it doubles the rate in this time: a limit that was doubled is used within
/// a minute.
const DOUBLED_AFTER: f64 = 46.0;
/// A limit that counts by windows is shut until the end of one that was filled early: the rate
/// grows by this part of it in the first [`WINDOWED_DOUBLING`] seconds, by twice as much in the
/// next ones, and so on. A minute's limit is then met a second before its end.
const WINDOWED_PROBE: f64 = 0.005;
const WINDOWED_DOUBLING: f64 = 70.0;
/// A rate that grew by this factor since the last refusal is no limit that was found.
const OUTGROWN: f64 = 2.0;
/// What was sent longer ago says nothing of a limit by the minute.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// A probe that is not answered for this time is followed by another.
const UNANSWERED: Duration = Duration::from_secs(3);
/// The pauses between probes, in seconds: the first, and how often it doubles. A limit by the
/// minute is found open again within an eighth of its window.
const PAUSE: (f64, u32) = (0.25, 5);
/// From this hint on the requests' own times to come back are spread over a second: no probe has to
/// go first.
const SPREAD: Duration = Duration::from_secs(2);
/// How long a rate holds that an earlier process found just before: it need not be tried again at
/// once.
const RECALLED: Duration = Duration::from_mins(2);
/// The part of a rate that is kept: it was measured to a few percent, and who starts anew can't see
/// the window that it is in.
const KEPT: f64 = 0.96;
/// What counts more than this was learned within some minutes.
const FRESH: f64 = 0.98;
/// The lowest rate: one request in half a minute.
const SLOWEST: f64 = 1.0 / 30.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
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
    unit: Unit,
    pacer: Bucket,
    /// Cells a second.
    pace: f64,
    /// Attempts in flight at most.
    bound: f64,
    phase: Phase,
    /// The last change of the rate in slow start.
    changed: Moment,
    /// Until when the rate holds in the steady phase.
    held_until: Moment,
    /// Since when the rate has been what holds requests back.
    pressed: Option<Moment>,
    /// The bound in flight held something back since the last change.
    bounded: bool,
    /// A refusal told of a limit.
    found: bool,
    measured: Measured,
    /// The last answer, or the first permit.
    heard: Option<Moment>,
    /// Smoothed time from send to answer, in seconds.
    trip: f64,
    /// The most in flight so far: in silence it may be more than the bound.
    reached: f64,
    /// Smoothed cells of a request.
    typical: f64,
    at_once: AtOnce,
    /// When the bound in flight was lowered.
    lowered: Moment,
    /// The present episode, or the last one; and the one before it.
    episode: Option<Episode>,
    before: Option<Episode>,
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
            reached: 0.0,
            typical: 1.0,
            at_once: AtOnce::default(),
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
        let ahead = if weight > FRESH { ahead.min(pace * WINDOW.as_secs_f64()) } else { 0.0 };
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
        let sent = own.log.trailing(WINDOW, now) * own.ratio;
        let ahead = (sent - pace * WINDOW.as_secs_f64()).max(0.0);
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
            limit: (self.pace / BELOW * WINDOW.as_secs_f64()).round(),
            level: own.log.trailing(WINDOW, now) * own.ratio,
            window: WINDOW,
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
                    self.pacer.wait(self.cells(charge), now)
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
        let cells = self.cells(charge);
        self.pacer.take(cells, now);
        self.typical += (cells as f64 - self.typical) * 0.1;
        // Half of what is allowed is in use: it is what holds, or soon will.
        let presses = self.pace < UNLIMITED && self.pacer.used(now) > self.pacer.burst() * 0.5;
        self.pressed = if presses { self.pressed.or(Some(now)) } else { None };
        self.bounded |= f64::from(in_flight) > self.bound * 0.5;
        self.reached = self.reached.max(f64::from(in_flight));
    }

    pub(crate) fn give_back(&mut self, charge: Charge, now: Moment) {
        if let Phase::Blocked { out, .. } = &mut self.phase {
            *out = None;
        }
        self.pacer.credit(self.cells(charge) as f64, now);
    }

    /// An attempt that was sent at `sent` was not refused.
    pub(crate) fn accepted(&mut self, own: &Own<'_>, in_flight: u32, sent: Moment, now: Moment) {
        self.heard = Some(now);
        self.at_once.taken(in_flight);
        let trip = now.seconds_since(sent);
        self.trip += (trip - self.trip) * if self.trip > 0.0 { 0.1 } else { 1.0 };
        match (self.phase, self.episode) {
            // What was sent before the refusal proves nothing.
            (Phase::Blocked { learns, .. }, Some(episode)) if sent >= episode.began => {
                self.reopen(episode, learns, own, sent, now);
            }
            (Phase::Blocked { .. }, _) => {}
            (Phase::SlowStart, _) => self.grow(now),
            (Phase::Steady { rate, in_flight }, _) => self.probe(rate, in_flight, now),
        }
    }

    /// An attempt that was sent at `sent` was refused; `learns` says that no known limit explains
    /// it.
    pub(crate) fn refused(
        &mut self,
        learns: bool,
        in_flight: u32,
        sent: Moment,
        hint: Option<Duration>,
        rng: &mut fastrand::Rng,
        now: Moment,
    ) {
        let mut wait = |refused: u32| match hint {
            Some(hint) => jittered(hint, rng),
            None => duration(PAUSE.0 * f64::from(1 << refused.min(PAUSE.1)) * (0.75 + 0.5 * rng.f64())),
        };
        let hinted = now.plus(hint.unwrap_or_default().min(WINDOW));
        match (&mut self.phase, &mut self.episode) {
            (Phase::Blocked { next, out, refused, .. }, Some(episode)) => {
                episode.refused += 1;
                // What was sent before the refusal says nothing new, and what was on its way to it
                // with others is one answer to one question.
                if sent >= episode.began {
                    *refused += u32::from(out.take().is_some());
                    *next = now.plus(wait(*refused)).max(*next);
                    episode.shut = episode.shut.max(if hint.is_some() { hinted } else { sent });
                }
            }
            (Phase::SlowStart | Phase::Steady { .. } | Phase::Blocked { .. }, episode) => {
                if let Some(last) = episode
                    && last.ended.is_some_and(|ended| sent < ended)
                {
                    last.refused += 1;
                    return;
                }
                if sent < self.lowered {
                    return;
                }
                let next = now.plus(wait(0));
                if learns && self.at_once.explains(in_flight) {
                    (self.pace, self.bound) = (UNLIMITED, self.bound.min(f64::from(in_flight)));
                    self.lowered = now;
                    self.hold((1, 0.0), now);
                    return;
                }
                self.before = self.episode.replace(Episode {
                    began: now,
                    shut: hinted,
                    ended: None,
                    refused: 1,
                    first: !self.found,
                });
                self.found |= learns;
                let probes = learns || hint.is_none_or(|hint| hint < SPREAD);
                self.phase = Phase::Blocked { next, out: None, refused: 0, learns, probes };
            }
        }
    }

    /// A probe that was sent at `sent` was taken: the limiter takes requests again.
    fn reopen(&mut self, mut episode: Episode, learns: bool, own: &Own<'_>, sent: Moment, now: Moment) {
        let shut = episode.shut.since(episode.began);
        // It opened at some moment between the last probe that was refused and the first that was
        // not.
        let opened = episode.shut.plus(sent.since(episode.shut) / 2);
        episode.ended = Some(now);
        self.episode = Some(Episode { shut: opened, ..episode });
        if learns {
            let met = Pace { cells: self.pace, since: self.pressed, typical: self.typical };
            let episode = Episode { shut: opened, ..episode };
            let rate = self.measured.after(&episode, self.before, shut, &met, own);
            self.pace = rate.clamp(SLOWEST, UNLIMITED);
            self.bound = f64::INFINITY;
        }
        if self.found {
            // What the slow start cost, or what a measurement that contradicts the last one did, is
            // no price of the next probe.
            let cost = if episode.first || self.measured.doubtful {
                (0, 0.0)
            } else {
                (episode.refused, shut.as_secs_f64())
            };
            self.hold(cost, now);
        } else {
            self.phase = Phase::SlowStart;
        }
        // While nothing went, everything was held back.
        (self.changed, self.pressed) = (now, self.pressed.map(|_| episode.began));
        self.reshape(now);
        // What is on its way when a full bucket is met again would be refused.
        self.pacer.set_used(self.pacer.burst() + self.pace * self.trip, now);
    }

    /// Slow start: both double while they hold requests back.
    fn grow(&mut self, now: Moment) {
        let since = now.since(self.changed);
        if self.pace >= UNLIMITED && !self.bound.is_finite() || since < FINE_STEP {
            return;
        }
        self.bound = self.bound.max(self.reached);
        let doubling = (self.trip * NEARLY_ALL).clamp(DOUBLING.0, DOUBLING.1);
        let factor = (since.as_secs_f64().min(DOUBLING.0) / doubling).exp2();
        if self.pressed.is_some() {
            self.pace = (self.pace * factor).min(UNLIMITED);
        }
        if self.bounded {
            self.bound = (self.bound * factor).min(UNLIMITED);
        }
        (self.changed, self.bounded) = (now, false);
        self.reshape(now);
    }

    /// The steady phase: after a while what holds requests back grows.
    fn probe(&mut self, rate: f64, in_flight: f64, now: Moment) {
        if now < self.held_until {
            return;
        }
        let beyond = now.seconds_since(self.held_until);
        let factor = if self.measured.by_the_minute && !self.measured.doubtful {
            1.0 + WINDOWED_PROBE * ((beyond / WINDOWED_DOUBLING).exp2() - 1.0)
        } else {
            1.0 + (beyond / DOUBLED_AFTER).powi(3)
        };
        if self.pressed.is_none() && !self.bounded {
            // Nothing is held back: what is allowed need not grow.
            self.held_until = now;
            self.phase = Phase::Steady { rate: self.pace, in_flight: self.bound };
            return;
        }
        self.measured.kept = self.pressed.map(|since| (rate, since));
        self.pace = self.pace.max(rate * factor);
        if self.bounded {
            self.bound = self.bound.max(in_flight * factor);
        }
        self.reshape(now);
    }

    /// The steady phase begins: the rate holds for a while.
    ///
    /// `cost` is what the last refusals cost: their number, and the seconds for which nothing was
    /// taken.
    fn hold(&mut self, cost: (u32, f64), now: Moment) {
        let (refused, shut) = cost;
        let price = f64::from(refused) * HOLD.1 * self.typical / self.pace;
        let seconds = HOLD.0.max(price).max(shut * HOLD.2);
        self.held_until = now.plus_seconds(seconds);
        self.phase = Phase::Steady { rate: self.pace, in_flight: self.bound };
        self.bounded = false;
        self.at_once.restart();
    }

    /// Seconds until `ahead` and then `charge` have passed.
    pub(crate) fn predict(&self, ahead: Charge, charge: Charge, now: Moment) -> f64 {
        let blocked = self.blocked_until().seconds_since(now);
        if self.pace >= UNLIMITED || matches!(self.phase, Phase::SlowStart) {
            return blocked;
        }
        let (ahead, cells) = (self.cells(ahead) as f64, self.cells(charge) as f64);
        blocked + (self.pacer.used(now) + ahead + cells - self.pacer.burst()).max(0.0) / self.pace
    }

    fn cells(&self, charge: Charge) -> u64 {
        match self.unit {
            Unit::Requests => charge.requests,
            Unit::Tokens => charge.tokens,
        }
    }

    fn reshape(&mut self, now: Moment) {
        let seconds = if matches!(self.phase, Phase::SlowStart) { 1.0 } else { 0.1 };
        self.pacer.reshape(self.pace, (self.pace * seconds).max(1.0), now);
    }
}

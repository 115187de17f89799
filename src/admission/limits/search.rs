//! How the adaptive rate moves: slow start, decrease at a refusal, hold, probe.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::measured::{Episode, Pace};
use super::own::Own;
use super::rate::{DOUBLING, Phase, Rate, SLOWEST, UNLIMITED};
use super::{FIRST_WAIT, USUAL_WINDOW, jittered};

/// Answers that come within a multiple of their mean time: nearly all.
const NEARLY_ALL: f64 = 2.0;
/// The rate grows in steps of this time: a tenth more at once would be a burst of its own.
const FINE_STEP: Duration = Duration::from_millis(50);
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
/// How often the pause between probes doubles: a limit by the minute is found open again within an
/// eighth of its window.
const DOUBLINGS: u32 = 5;
/// From this hint on the requests' own times to come back are spread over a second: no probe has to
/// go first.
const SPREAD: Duration = Duration::from_secs(2);

impl Rate {
    /// An attempt that was sent at `sent` was not refused.
    pub(crate) fn accepted(&mut self, own: &Own<'_>, in_flight: u32, sent: Moment, now: Moment) {
        self.heard = Some(now);
        self.at_once.taken(in_flight);
        self.chance.taken();
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
            None => (FIRST_WAIT * (1 << refused.min(DOUBLINGS))).mul_f64(0.75 + 0.5 * rng.f64()),
        };
        let hinted = now.plus(hint.unwrap_or_default().min(USUAL_WINDOW));
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
                if sent < self.lowered || self.chance.bears(now) {
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
                    held: matches!(self.phase, Phase::Steady { .. }) && now < self.held_until,
                });
                self.found |= learns;
                let probes = learns || hint.is_none_or(|hint| hint < SPREAD);
                self.phase = Phase::Blocked { next, out: None, refused: 0, learns, probes };
            }
        }
    }

    /// A probe that was sent at `sent` was taken: the limiter takes requests again.
    pub(super) fn reopen(
        &mut self,
        mut episode: Episode,
        learns: bool,
        own: &Own<'_>,
        sent: Moment,
        now: Moment,
    ) {
        let shut = episode.shut.since(episode.began);
        // It opened at some moment between the last probe that was refused and the first that was
        // not.
        let opened = episode.shut.plus(sent.since(episode.shut) / 2);
        episode.ended = Some(now);
        self.episode = Some(Episode { shut: opened, ..episode });
        let by_chance = if learns && episode.is_in_vain() {
            self.chance.lowered(self.pace, !self.measured.doubtful, now)
        } else {
            self.chance.restart();
            None
        };
        if let Some(rate) = by_chance {
            self.pace = rate;
        } else if learns {
            let met = Pace { cells: self.pace, since: self.pressed, typical: self.typical };
            let episode = Episode { shut: opened, ..episode };
            let rate = self.measured.after(&episode, self.before, shut, &met, own);
            self.pace = rate.clamp(SLOWEST, UNLIMITED);
            self.bound = f64::INFINITY;
        }
        if by_chance.is_some() {
            self.phase = Phase::SlowStart;
        } else if self.found {
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
    pub(super) fn grow(&mut self, now: Moment) {
        let since = now.since(self.changed);
        if self.pace >= UNLIMITED && !self.bound.is_finite() || since < FINE_STEP {
            return;
        }
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
    pub(super) fn probe(&mut self, rate: f64, in_flight: f64, now: Moment) {
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
    pub(super) fn hold(&mut self, cost: (u32, f64), now: Moment) {
        let (refused, shut) = cost;
        let price = f64::from(refused) * HOLD.1 * self.typical / self.pace;
        let seconds = HOLD.0.max(price).max(shut * HOLD.2);
        self.held_until = now.plus_seconds(seconds);
        self.phase = Phase::Steady { rate: self.pace, in_flight: self.bound };
        self.bounded = false;
        self.at_once.restart();
    }
}

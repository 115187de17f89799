//! What a bare refusal tells of a limit, by what went before it and how long it lasted.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::own::Own;

/// Still shut so long after a refusal, the limiter counts by windows. What was on the way keeps a full bucket shut for less.
const SHUT: Duration = Duration::from_secs(3);
/// What went for so long between two refusals tells what a full bucket drained meanwhile,
const BASELINE: Duration = Duration::from_secs(10);
/// within these parts of the pace.
const DRAINED: (f64, f64) = (0.7, 0.97);
/// What a limiter that is shut for seconds by windows shorter than a minute took on average since the last time, within these
/// parts of the pace.
const SHORT: (f64, f64) = (0.2, 0.975);
/// The part of the pace that a coarse nudge met a refusal at that the limit is.
const COARSELY: f64 = 0.96;
/// So much of a window without a refusal stands for all of it.
const MOST_OF_WINDOW: Duration = Duration::from_secs(45);
/// Shut for longer than this, it counts by the minute after all; or it is a storm.
const LONG_SHUT: Duration = Duration::from_secs(15);
/// It took this much more in a minute than it was found to take in any: it does not count by the minute.
const REFUTED: f64 = 1.3;
/// A limit that is found again is within these parts of what was found before.
const AGAIN: (f64, f64) = (0.8, 1.25);
/// The same whatever else is seen: what a minute took was within these parts of it.
const SAME: (f64, f64) = (0.95, 1.12);
/// As much of it is believed of a rising pace.
const RISEN: f64 = 1.01;
/// How long the pace holds before it is nudged up: while the limit is not found exactly, and by how often it was found again.
const HOLD: (Duration, [Duration; 3]) =
    (Duration::from_secs(30), [Duration::from_mins(2), Duration::from_mins(8), Duration::from_mins(30)]);
/// How long the pace stays after each nudge: while the limit is found roughly, and then.
const NUDGED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));
/// The pace below the limit that was found.
pub(super) const BELOW: f64 = 0.975;
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// A refusal that ended a time of going.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    pub(super) at: Moment,
    /// The pace that met it, and in which phase.
    pub(super) pace: f64,
    pub(super) phase: Phase,
    /// How long it had gone.
    pub(super) gone: Duration,
    /// When the one before was.
    pub(super) before: Option<Moment>,
    /// When the last probe that was refused too was sent, or would have been: until the time that the refusal named.
    pub(super) shut: Moment,
}

/// How a scope of which no limit is known goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// No refusal yet.
    Growing,
    /// Refused: one probe at a time, the next at a moment, after so many that were refused too.
    Probing { next: Moment, out: Option<Moment>, refused: u32 },
    /// Going again since a moment, toward an aim and beyond.
    Climbing { since: Moment, aim: f64 },
    /// Just below the limit as it was found.
    Holding { until: Moment },
    /// Asking whether the limit is higher than this pace by now.
    Nudging { from: f64 },
}

/// How well the limit is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    #[default]
    Not,
    Roughly,
    Closely,
    Exactly,
}

/// What refusals have told of the limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    found: Found,
    /// The limit that was found by what a minute took, or exactly, a second.
    limit: f64,
    /// How often it was found again since.
    again: usize,
    /// The limiter was shut for the first time, for long or soon after the start: it may be a storm, and no limit at all.
    doubtful: bool,
    /// It was shut for seconds, and yet took more in a minute than before it was.
    short: bool,
    /// It seems to count by the minute, and may still be full of what came before the pace was this.
    full: bool,
}

impl Known {
    /// Learns from a refusal when the limiter lets through again, and returns the limit, a second, if it is known now. Each
    /// refusal adds to what was known before.
    pub(super) fn learn(&mut self, episode: &Episode, own: &Own<'_>, now: Moment) -> Option<f64> {
        let sent = |from: Moment| (own.log.before(episode.at) - own.log.before(from)) * own.ratio;
        let in_minute = sent(episode.at.minus(WINDOW));
        let long = episode.gone >= MOST_OF_WINDOW;
        let shut = episode.shut.since(episode.at);
        // Where it takes more although nothing of the last minute has left it yet, it does not count the last minute.
        self.full = (long || shut >= SHUT) && own.log.trailing(WINDOW, now) * own.ratio < in_minute - 0.5;
        self.doubtful = false;
        let by_minute = (in_minute / WINDOW.as_secs_f64()).min(episode.pace);
        let same = (SAME.0..=SAME.1).contains(&(by_minute / self.limit));
        let since_before = || {
            let before = episode.before.filter(|before| episode.at.since(*before) >= BASELINE)?;
            Some(sent(before) / episode.at.seconds_since(before))
        };
        if shut >= SHUT {
            // A window that ended when it was let through again had begun a minute before that.
            let in_window = sent(episode.at.minus(WINDOW.saturating_sub(shut))) / WINDOW.as_secs_f64();
            let in_window = in_window.min(by_minute);
            let known = self.limit > 0.0;
            self.short = shut < LONG_SHUT && (self.short || known && in_window > self.limit * REFUTED);
            let limit = match since_before().filter(|_| self.short) {
                Some(took) => took.clamp(episode.pace * SHORT.0, episode.pace * SHORT.1),
                None if known => self.limit.min(by_minute).max(in_window),
                None => in_window,
            };
            self.exactly(limit, self.limit.min(limit));
            self.doubtful = self.again == 0 && (!long || shut >= LONG_SHUT);
            return Some(self.limit);
        }
        if same {
            let again = match episode.phase {
                // It may be more than the limit: of two windows, each taken in part.
                Phase::Climbing { .. } => by_minute.min(self.limit * RISEN),
                // What is on its way is not counted: it may be a little less.
                Phase::Nudging { .. } => by_minute.max(self.limit),
                Phase::Growing | Phase::Probing { .. } | Phase::Holding { .. } => by_minute,
            };
            self.exactly(by_minute, again);
            return Some(self.limit);
        }
        match (self.found, episode.phase) {
            (Found::Roughly, Phase::Nudging { .. }) => {
                self.found = Found::Closely;
                return Some(episode.pace * COARSELY);
            }
            (Found::Closely | Found::Exactly, _) => {
                let limit = if long { by_minute } else { episode.pace * BELOW };
                self.exactly(limit, limit);
                return Some(self.limit);
            }
            (Found::Not | Found::Roughly, _) => {}
        }
        let limit = if long {
            (self.limit, self.again) = (by_minute, 0);
            by_minute
        } else {
            since_before()?.clamp(episode.pace * DRAINED.0, episode.pace * DRAINED.1)
        };
        self.found = Found::Roughly;
        Some(limit)
    }

    /// The limit was found exactly; where it is what was found before, it is `again`.
    fn exactly(&mut self, limit: f64, again: f64) {
        self.found = Found::Exactly;
        if (AGAIN.0..=AGAIN.1).contains(&(limit / self.limit)) {
            self.limit = again;
            self.again += 1;
        } else {
            (self.limit, self.again) = (limit, 0);
        }
    }

    /// The pace went far beyond what was found, and was not refused.
    pub(super) fn is_outgrown(&mut self) {
        self.found = Found::Not;
    }

    /// Whether what was found may be no limit at all.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Whether what was sent in the last minute may still hold the next.
    pub(super) fn may_be_full(&self) -> bool {
        self.full
    }

    /// How long the pace holds before it is nudged up.
    pub(super) fn hold(&self) -> Duration {
        let exactly = HOLD.1[self.again.saturating_sub(1).min(HOLD.1.len() - 1)];
        if self.found == Found::Exactly { exactly } else { HOLD.0 }
    }

    /// How long the pace stays after each nudge.
    pub(super) fn nudged_each(&self) -> Duration {
        match self.found {
            Found::Not | Found::Roughly => NUDGED.0,
            Found::Closely | Found::Exactly => NUDGED.1,
        }
    }
}

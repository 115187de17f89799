//! What a bare refusal tells of a limit, by what went before it and how long it lasted.

use std::time::Duration;

use crate::scope::moment::Moment;

use super::own::Own;

/// Still shut so long after a refusal, the limiter counts by windows. What was on the way keeps a full bucket shut for less.
const SHUT: Duration = Duration::from_secs(3);
/// What went for so long between two refusals tells what a full bucket drained meanwhile,
const BASELINE: Duration = Duration::from_secs(10);
/// within these parts of the pace.
const DRAINED: (f64, f64) = (0.7, 0.97);
/// The part of the pace that a coarse nudge met a refusal at that the limit is.
const COARSELY: f64 = 0.96;
/// So much of a window without a refusal stands for all of it.
const MOST_OF_WINDOW: Duration = Duration::from_secs(45);
/// Shut for longer than this, it counts by the minute after all.
const LONG_SHUT: Duration = Duration::from_secs(15);
/// It took this much more in a minute than it was found to take in any: it does not count by the minute.
const REFUTED: f64 = 1.3;
/// A limit that is found again is within these parts of what was found before.
const AGAIN: (f64, f64) = (0.8, 1.25);
/// How long the pace holds before it is nudged up: while the limit is not found exactly, and by how often it was found again.
const HOLD: (Duration, [Duration; 4]) = (
    Duration::from_secs(30),
    [Duration::from_secs(30), Duration::from_mins(2), Duration::from_mins(8), Duration::from_mins(30)],
);
/// How long the pace stays after each nudge: while the limit is found roughly; while a single refusal found it, which may have
/// been of no limit at all (and yet so long that no window passes by before the pace is far beyond it); and then.
const NUDGED: (Duration, Duration, Duration) =
    (Duration::from_secs(5), Duration::from_millis(2500), Duration::from_secs(20));
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
    /// The limit that was found exactly, a second.
    limit: f64,
    /// How often it was found again since.
    again: usize,
    /// It was shut for seconds, and yet took more in a minute than before it was.
    short: bool,
}

impl Known {
    /// Learns from a refusal, and returns the limit, a second, if it is known now. Each refusal adds to what was known before.
    pub(super) fn learn(&mut self, episode: &Episode, own: &Own<'_>) -> Option<f64> {
        let (limit, found) = self.found_by(episode, own)?;
        self.found = found;
        if found != Found::Exactly {
            return Some(limit);
        }
        if (AGAIN.0..=AGAIN.1).contains(&(limit / self.limit)) {
            // What the rising pace met it at is more than the limit.
            self.limit = self.limit.min(limit);
            self.again += 1;
        } else {
            (self.limit, self.again) = (limit, 0);
        }
        Some(self.limit)
    }

    /// The pace went far beyond what was found, and was not refused.
    pub(super) fn is_outgrown(&mut self) {
        self.found = Found::Not;
    }

    /// How long the pace holds before it is nudged up.
    pub(super) fn hold(&self) -> Duration {
        let exactly = HOLD.1[self.again.min(HOLD.1.len() - 1)];
        if self.found == Found::Exactly { exactly } else { HOLD.0 }
    }

    /// How long the pace stays after each nudge.
    pub(super) fn nudged_each(&self) -> Duration {
        match self.found {
            Found::Not | Found::Roughly => NUDGED.0,
            Found::Exactly if self.again == 0 => NUDGED.1,
            Found::Closely | Found::Exactly => NUDGED.2,
        }
    }

    /// What a refusal tells of the limit, a second, and how well.
    fn found_by(&mut self, episode: &Episode, own: &Own<'_>) -> Option<(f64, Found)> {
        let sent = |from: Moment| (own.log.before(episode.at) - own.log.before(from)) * own.ratio;
        let in_last =
            |span: Duration| (sent(episode.at.minus(span)) / WINDOW.as_secs_f64()).min(episode.pace);
        let shut = episode.shut.since(episode.at);
        if shut >= SHUT {
            // A window that ended when it was let through again had begun a minute before that; a log is as full as it was.
            let (least, most) = (in_last(WINDOW.saturating_sub(shut)), in_last(WINDOW));
            self.short = shut < LONG_SHUT && (self.short || self.limit > 0.0 && least > self.limit * REFUTED);
            let limit = match (self.short, self.limit > 0.0) {
                (true, _) => episode.pace,
                (false, true) => self.limit.clamp(least, most),
                (false, false) => least,
            };
            return Some((limit, Found::Exactly));
        }
        let long = episode.gone >= MOST_OF_WINDOW;
        let in_window = in_last(WINDOW);
        match (self.found, episode.phase) {
            (Found::Roughly, Phase::Nudging { .. }) => Some((episode.pace * COARSELY, Found::Closely)),
            (Found::Closely | Found::Exactly, _) if long => Some((in_window, Found::Exactly)),
            (Found::Closely | Found::Exactly, _) => Some((episode.pace * BELOW, Found::Exactly)),
            (Found::Not | Found::Roughly, _) if long => Some((in_window, Found::Roughly)),
            (Found::Not | Found::Roughly, _) => {
                let before = episode.before.filter(|before| episode.at.since(*before) >= BASELINE)?;
                let drained = sent(before) / episode.at.seconds_since(before);
                Some((drained.clamp(episode.pace * DRAINED.0, episode.pace * DRAINED.1), Found::Roughly))
            }
        }
    }
}

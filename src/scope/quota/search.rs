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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    Not,
    Roughly,
    Closely,
    Exactly,
}

/// What a refusal tells of the limit, a second, and how well. Each refusal adds to what was known before.
pub(super) fn found(episode: &Episode, known: Found, own: &Own<'_>) -> Option<(f64, Found)> {
    let sent = |from: Moment| (own.log.before(episode.at) - own.log.before(from)) * own.ratio;
    let in_window = (sent(episode.at.minus(WINDOW)) / WINDOW.as_secs_f64()).min(episode.pace);
    if episode.shut.since(episode.at) >= SHUT {
        return Some((in_window, Found::Exactly));
    }
    let long = episode.gone >= MOST_OF_WINDOW;
    match (known, episode.phase) {
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

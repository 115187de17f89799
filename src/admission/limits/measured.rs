//! The limit as refusals measure it: what was taken from one time of being refused to the next.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::own::Own;
use super::rate::{FIRST, WINDOW};

/// The part of the limit that is used, as measured: what the measurement and random delays are off
/// by.
pub(super) const BELOW: f64 = 0.975;
/// The same after an episode of no more than this number of refusals: random delays explain it.
const FEW: (u32, f64) = (2, 0.99);
/// The least part of the rate that is left after a window: one that counts a part of the window
/// before it took less than its limit for that, and not for the rate.
const LEAST_LEFT: f64 = 0.5;
/// What is left of the rate after a refusal that allows no measurement: CUBIC's 0.7 would lose more
/// than it saves where the next refusal measures.
const DECREASE: f64 = 0.8;
/// A limiter that is shut for longer counts by windows; a bucket takes the next request as soon as
/// one has drained.
const SHUT: Duration = Duration::from_secs(3);
/// Requests between two refusals that make a measurement, good to an eighth.
const ENOUGH: f64 = 8.0;

/// A time of being refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    /// The first refusal.
    pub(super) began: Moment,
    /// The last probe that was refused, or the end of the wait that a refusal named.
    pub(super) shut: Moment,
    /// When it was over; absent while it lasts.
    pub(super) ended: Option<Moment>,
    /// Requests that were refused in it.
    pub(super) refused: u32,
    /// Nothing was found before it.
    pub(super) first: bool,
}

/// The same before the first time that a window was full.
const COUNTED: f64 = 2.5;

/// What met a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Cells a second.
    pub(super) cells: f64,
    /// Since when it held requests back, if it did.
    pub(super) since: Option<Moment>,
    /// Cells of a usual request.
    pub(super) typical: f64,
}

/// What was measured so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    /// The limit as it was measured last, in cells a second; 0 before.
    limit: f64,
    /// That measurement contradicted the one before.
    pub(super) doubtful: bool,
    /// A rate that was kept for the whole of the hold without a refusal; 0 where none was.
    pub(super) kept: f64,
}

impl Measured {
    /// The rate below the limit that was measured last, in cells a second.
    pub(super) fn known(&self) -> Option<f64> {
        (self.limit > 0.0).then_some(self.limit * BELOW)
    }

    /// The rate after an episode: the limit as it was measured since the one before, or a part of
    /// what met the refusal.
    ///
    /// `met` is what met the refusal, and since when it held requests back.
    pub(super) fn after(
        &mut self,
        episode: &Episode,
        before: Option<Episode>,
        shut: Duration,
        met: &Pace,
        own: &Own<'_>,
    ) -> f64 {
        let (at, opened) = (episode.began, episode.shut);
        let begin = met.since.unwrap_or(at.minus(WINDOW)).max(own.log.begin());
        let windowed = shut >= SHUT;
        // A window was new when the last episode ended, a bucket was full when it began.
        let (from, until) = match before {
            Some(before) if windowed => (before.shut.max(begin), opened),
            Some(before) => (before.began.max(begin), at),
            None if windowed => (begin, opened),
            None => (begin, at),
        };
        let sent = (own.log.before(until) - own.log.before(from)) * own.ratio;
        let measured = sent / until.seconds_since(from).max(1e-3);
        let kept = if met.cells > self.kept * 1.02 { self.kept } else { 0.0 };
        self.kept = 0.0;
        // A window's count is exact; but one or two requests before the first refusal are no count
        // of a window.
        let enough = if windowed && before.is_some() {
            0.0
        } else if windowed {
            COUNTED
        } else {
            ENOUGH
        };
        if sent < met.typical * enough {
            (met.cells.min(measured.max(FIRST * met.typical)) * DECREASE).max(kept)
        } else if before.is_none() && !windowed {
            // The bucket was not full before.
            measured.min(met.cells) * DECREASE
        } else {
            let least = if windowed { self.limit * LEAST_LEFT } else { kept };
            let below = if episode.refused <= FEW.0 { FEW.1 } else { BELOW };
            self.doubtful = windowed && measured < least;
            self.limit = measured.max(least).min(met.cells);
            self.limit * below
        }
    }
}

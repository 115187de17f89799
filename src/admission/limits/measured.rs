//! The limit as refusals measure it: what was taken from one time of being refused to the next.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::USUAL_WINDOW;
use super::depth::Depth;
use super::own::Own;
use super::rate::FIRST;

/// The part of the limit that is used, as measured: what the measurement and random delays are off
/// by.
pub(super) const BELOW: f64 = 1.0 - Depth::UNTOLD_MARGIN;
/// The same after an episode of no more than this number of refusals: random delays explain it.
const FEW: (u32, f64) = (2, 0.99);
/// The least part of the rate that is left after a window: one that counts a part of the window
/// before it took less than its limit for that, and not for the rate.
const LEAST_LEFT: f64 = 0.5;
/// What is left of the rate after a refusal that allows no measurement: CUBIC's 0.7 would lose more
/// than it saves where the next refusal measures.
const DECREASE: f64 = 0.8;
/// The same where several refusals soon follow others: the limit fell by far.
const FELL: f64 = 0.5;
/// A limiter that is shut for longer counts by windows; a bucket takes the next request as soon as
/// one has drained.
const SHUT: Duration = Duration::from_secs(3);
/// One that is shut for longer counts by the minute.
pub(super) const LONG: Duration = Duration::from_secs(15);
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
    /// It began at a rate that had not been raised since the one before.
    pub(super) held: bool,
}

impl Episode {
    /// Random delays explain that it was refused.
    fn is_few(&self) -> bool {
        self.refused <= FEW.0
    }

    /// Whether the rate was lowered in vain before it: a limit takes what goes below it, unless it
    /// counts by windows.
    pub(super) fn is_in_vain(&self) -> bool {
        self.held && self.is_few() && self.shut.since(self.began) < SHUT
    }
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
    /// The limiter was once shut for longer than [`LONG`]: it counts by the minute.
    pub(super) by_the_minute: bool,
    /// A rate that was kept for the whole of the hold without a refusal, and since when.
    pub(super) kept: Option<(f64, Moment)>,
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
        let windowed = shut >= SHUT;
        self.by_the_minute |= shut >= LONG;
        let begin = met.since.unwrap_or(at.minus(USUAL_WINDOW)).max(own.log.begin());
        let average = |from: Moment, until: Moment| {
            let sent = (own.log.before(until) - own.log.before(from)) * own.ratio;
            (sent, sent / until.seconds_since(from).max(1e-3))
        };
        // What was kept through a window, wherever that began, is no more than the limit.
        let lasted = |since: Moment| !windowed || at.since(since) >= USUAL_WINDOW * 2;
        let kept = self.kept.take().filter(|(kept, since)| met.cells > kept * 1.02 && lasted(*since));
        let kept = kept.map_or(0.0, |(kept, _)| kept);
        let last_minute = || average(at.minus(USUAL_WINDOW), at).0;
        let Some(before) = before else {
            let (sent, measured) = average(begin, if windowed { opened } else { at });
            // One or two requests are no count of a window, and a bucket was not full before.
            if windowed && sent >= met.typical * COUNTED {
                // No window explains a refusal after a minute that took no more than the one
                // before.
                let minute_before = average(at.minus(USUAL_WINDOW * 2), at.minus(USUAL_WINDOW)).0;
                self.doubtful = minute_before * 1.1 > last_minute();
                self.limit = measured.min(met.cells);
                return self.limit * BELOW;
            }
            // As little, refused as soon as it was sent, is no count of a bucket.
            let counted = sent >= met.typical * ENOUGH;
            let least = if counted { measured } else { FIRST * met.typical };
            return met.cells.min(measured.max(least)) * DECREASE;
        };
        // A window was new when the last episode ended, a bucket was full when it began. A log
        // holds as much in any minute.
        let (sent, measured) = if windowed && self.by_the_minute {
            average(before.shut.min(opened.minus(USUAL_WINDOW)).max(own.log.begin()), opened)
        } else if windowed {
            average(before.shut.max(begin), opened)
        } else {
            average(before.began.max(begin), at)
        };
        let is_few = episode.is_few();
        let lasted = before.ended.map_or(Duration::ZERO, |ended| at.since(ended));
        let known = match (windowed, self.by_the_minute) {
            (true, false) => sent >= met.typical,
            (true, true) => opened.since(own.log.begin()) >= USUAL_WINDOW,
            (false, true) => lasted >= USUAL_WINDOW / 2 && at.since(own.log.begin()) >= USUAL_WINDOW,
            (false, false) => sent >= met.typical * ENOUGH,
        };
        if !known {
            self.doubtful = true;
            return (met.cells * if is_few { DECREASE } else { FELL }).max(kept);
        }
        // A counter that weighs the window before took as much in the last minute before it
        // refused.
        let lately =
            if self.by_the_minute { last_minute() / USUAL_WINDOW.as_secs_f64() * BELOW } else { 0.0 };
        let measured = measured.max(lately);
        let least = if windowed { self.limit * LEAST_LEFT } else { 0.0 };
        self.doubtful = windowed && measured < least;
        self.limit = measured.max(least).max(kept).min(met.cells);
        let proven = if windowed { kept } else { 0.0 };
        (self.limit * if is_few { FEW.1 } else { BELOW }).max(proven)
    }
}

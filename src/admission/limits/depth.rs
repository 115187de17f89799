//! How deep a limiter was seen to be, and how far refusals have slowed it down: the parameters of
//! its shaper.

use std::time::Duration;

use crate::admission::moment::Moment;

use super::{DISTRUSTED, USUAL_WINDOW};

/// The pacer's first burst, in seconds of the rate. A bucket a second deep must hold it together
/// with what random delays push into the same second.
const FIRST_BURST: f64 = 0.5;
/// The least that refusals make of it, in seconds of the rate: less saves nothing, and loses what
/// wakes a little late.
const LEAST_BURST: f64 = 0.1;
/// What is left of the pace after a refusal where the shape is not proven, at most and at least,
/// and what comes back of it each second. Others may use the limit unseen.
const EASE: (f64, f64) = (0.95, 0.5);
/// The shortest time over which outcomes are counted before the pace is eased again.
const COUNTED: Duration = Duration::from_millis(500);
/// The number of good outcomes that are assumed beside those counted: one refusal among few is weak
/// evidence.
const ASSUMED: f64 = 2.0;
/// At a small part of it less comes back: many that share a limit take what is freed together.
const EASE_BACK: f64 = 0.02;
/// The least part: two hundred may share a limit and know nothing of each other.
const LEAST_EASE: f64 = 0.005;

/// The least part of the rate, whatever others use. Of many that share a limit all go at this pace:
/// that makes them equal, and those who come late get their part.
pub(super) const LEAST_PACE: f64 = 0.05;
/// The part of the rate that each refusal that nothing foretold adds to what is kept free: of a
/// bucket, and of what may count by windows.
const MARGIN: (f64, f64) = (0.01, Depth::UNTOLD_MARGIN);
/// Refusals within this time are one.
const ONE_REFUSAL: Duration = Duration::from_secs(5);

/// What is learned about a limit's pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// The burst where the bucket is proven, in cells; it starts small and grows. Not rounded up to
    /// one cell: it is scaled with the part of the limit that may be used here, and a part may be
    /// next to nothing at first.
    burst: f64,
    no_growth_before: Moment,
    /// How long it does not grow after the next refusal: each doubles it.
    growth_pause: Duration,
    /// The last time that a refusal halved it: what was sent before says nothing new.
    shrunk: Moment,
    /// Headers and refusals contradict each other: the limiter is not as deep as it says.
    distrusted: bool,
    /// The part of the rate that refusals made it keep free.
    margin: f64,
    surprised_at: Moment,
    ease: f64,
    eased: Moment,
    recovered: Moment,
    /// What came of attempts sent since then.
    accepted: u32,
    refused: u32,
}

impl Depth {
    pub(crate) fn new(rate: f64, now: Moment) -> Self {
        Self {
            burst: rate * FIRST_BURST,
            no_growth_before: Moment::START,
            growth_pause: USUAL_WINDOW,
            shrunk: Moment::START,
            distrusted: false,
            margin: 0.0,
            surprised_at: Moment::START,
            ease: 1.0,
            eased: now,
            recovered: now,
            accepted: 0,
            refused: 0,
        }
    }

    /// The part of a limit's rate that is kept free where no header tells of its level. A fixed
    /// window and a sliding log hold a window's worth and no more, so what the burst and random
    /// delays add must fit into the rest.
    pub(crate) const UNTOLD_MARGIN: f64 = 0.025;

    /// The most that refusals and delays make of it.
    pub(crate) const MOST_MARGIN: f64 = 0.05;

    /// Cells a second, and the burst. `margin` is the part of the rate that is kept free, `part`
    /// the one that may be used here, `foreign` the one that others use: what they take is theirs
    /// first, and only what they take of our part lessens it.
    pub(crate) fn parameters(
        &self,
        rate: f64,
        told: bool,
        margin: f64,
        part: f64,
        foreign: f64,
    ) -> (f64, f64) {
        let trusted = told && !self.distrusted;
        let pace = if trusted && margin <= 0.0 {
            rate * part
        } else {
            let pace = ((1.0 - margin) * part).min((1.0 - margin - foreign).max(LEAST_PACE));
            rate * pace * self.ease
        };
        let burst = if trusted { self.burst } else { self.burst.min(first_burst(rate * part)) };
        (pace, burst.max(1.0))
    }

    /// The burst, in cells.
    pub(crate) fn burst(&self) -> f64 {
        self.burst
    }

    /// The part of the rate that refusals made it keep free.
    pub(crate) fn margin(&self) -> f64 {
        self.margin
    }

    /// Whether a proven bucket may be trusted to be as deep as it says.
    pub(crate) fn trusts(&self) -> bool {
        !self.distrusted
    }

    /// The upstream took `cells` while the queue was waiting: the burst grows, up to `deepest`
    /// cells.
    pub(crate) fn accepted(&mut self, cells: f64, deepest: f64, now: Moment) {
        if now >= self.no_growth_before {
            self.distrusted = false;
            self.burst = (self.burst + cells).min(deepest);
        }
    }

    /// A refusal that nothing foretold: the limiter is shallower than it seems.
    pub(crate) fn surprised(&mut self, rate: f64, drains: bool, now: Moment) {
        self.distrusted = true;
        if self.margin <= 0.0 || now.since(self.surprised_at) > ONE_REFUSAL {
            self.margin = (self.margin + if drains { MARGIN.0 } else { MARGIN.1 }).min(Self::MOST_MARGIN);
        }
        self.surprised_at = now;
        self.burst = (self.burst / 2.0).min(rate * FIRST_BURST).max(rate * LEAST_BURST);
        self.no_growth_before = now.plus(DISTRUSTED);
    }

    /// What was sent at `sent` was taken. What was sent before the pace was last eased says nothing
    /// of the present one.
    pub(crate) fn taken(&mut self, sent: Moment) {
        if sent >= self.eased {
            self.accepted = self.accepted.saturating_add(1);
        }
    }

    /// What was sent at `sent` was refused: the more of it, the more the pace gives way.
    /// `rate` is the limit's, in cells a second.
    pub(crate) fn refused(&mut self, rate: f64, sent: Moment, now: Moment) {
        if sent < self.eased {
            return;
        }
        if sent >= self.shrunk {
            self.burst = (self.burst / 2.0).max(self.burst.min(rate * FIRST_BURST));
            self.no_growth_before = self.no_growth_before.max(now.plus(self.growth_pause));
            self.growth_pause = (self.growth_pause * 2).min(DISTRUSTED);
            self.shrunk = now;
        }
        self.refused = self.refused.saturating_add(1);
        if now.since(self.eased) >= COUNTED {
            let outcomes = f64::from(self.refused.saturating_add(self.accepted)) + ASSUMED;
            let refused = f64::from(self.refused) / outcomes;
            self.ease = (self.ease * (1.0 - refused).clamp(EASE.1, EASE.0)).max(LEAST_EASE);
            self.restart_count(now);
        }
    }

    fn restart_count(&mut self, now: Moment) {
        self.eased = now;
        self.accepted = 0;
        self.refused = 0;
    }

    /// Time passes without a refusal. Says whether anything changed enough to matter.
    pub(crate) fn recover(&mut self, now: Moment) -> bool {
        let seconds = now.seconds_since(self.recovered.max(self.eased));
        if self.ease < 1.0 && seconds >= 1.0 {
            self.ease = (self.ease + EASE_BACK * self.ease.sqrt() * seconds).min(1.0);
            self.recovered = now;
            return true;
        }
        false
    }

    /// The limit became another.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.burst *= factor;
    }

    /// The window became another.
    pub(crate) fn restart(&mut self, rate: f64, now: Moment) {
        *self = Self::new(rate, now);
    }
}

pub(super) fn first_burst(rate: f64) -> f64 {
    (rate * FIRST_BURST).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace as a part of an unproven limit's.
    fn part(pace: &Depth) -> f64 {
        pace.parameters(100.0, false, 0.025, 1.0, 0.0).0 / (100.0 * 0.975)
    }

    #[test]
    fn the_pace_gives_way_as_outcomes_ask_and_not_for_one_refusal_alone() {
        let at = |seconds: f64| Moment::START.plus_seconds(seconds);
        for (accepted, refused, least, most) in
            [(0, 1, 0.62, 0.7), (20, 1, 0.94, 0.96), (20, 20, 0.5, 0.55), (0, 40, 0.49, 0.51)]
        {
            let mut pace = Depth::new(100.0, at(0.0));
            for _ in 0..accepted {
                pace.taken(at(1.0));
            }
            for _ in 1..refused {
                pace.refused(100.0, at(1.0), at(0.4));
            }
            pace.refused(100.0, at(1.0), at(1.2));
            let part = part(&pace);
            assert!((least..=most).contains(&part), "{accepted} accepted, {refused} refused: {part}");
        }
    }

    #[test]
    fn what_others_take_beyond_their_part_lessens_ours_and_nothing_else_does() {
        let pace = Depth::new(100.0, Moment::START);
        for (share, foreign, part) in
            [(1.0, 0.0, 0.975), (1.0, 0.3, 0.675), (0.5, 0.49, 0.485), (0.5, 0.3, 0.4875), (0.2, 0.9, 0.075)]
        {
            let paced = pace.parameters(100.0, false, 0.025, share, foreign).0 / 100.0;
            assert!((paced - part).abs() < 1e-9, "{share} {foreign}: {paced}");
        }
    }
}

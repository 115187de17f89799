//! How much of a limit somebody else uses, from what our own use cannot explain.

use crate::admission::moment::Moment;

use super::LEAST_SPAN;

/// What one sample may be off by, as a part of the limit: one standard deviation.
const DOUBT: f64 = 0.08;
/// No sample waits longer than that for certainty, in seconds.
const LONGEST_SPAN: f64 = 15.0;
/// Below this part of the limit a bucket may have run empty in between, and what drained is not
/// known.
const LEAST_LEVEL: f64 = 0.03;
/// The weight of a new estimate.
const WEIGHT: f64 = 0.5;
/// What noise explains, as a part of the limit.
const NOISE: f64 = 0.05;

/// The estimate for one dimension.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Foreign {
    anchor: Option<Anchor>,
    /// As a part of the limit's rate.
    ratio: f64,
    /// The same before the last sample: one alone says little.
    before: f64,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Moment,
    used: f64,
    own: f64,
    doubt: f64,
}

impl Anchor {
    /// The shortest span of a measurement, in seconds: the doubt about what is under way at its
    /// ends stays a small part of it.
    fn least_span(&self, now: &Use) -> f64 {
        let doubt = self.doubt.hypot(now.doubt);
        LEAST_SPAN.max((doubt / (DOUBT * now.rate)).min(LONGEST_SPAN))
    }
}

/// What is known at a snapshot, in cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) at: Moment,
    /// Used, as told.
    pub(crate) used: f64,
    /// Our own running total by then.
    pub(crate) own: f64,
    /// How far that may be off, for what was on its way: one standard deviation.
    pub(crate) doubt: f64,
    pub(crate) limit: f64,
    /// The limit a second.
    pub(crate) rate: f64,
}

impl Foreign {
    /// Whether a snapshot of that moment may be far enough from the last one for
    /// [`Foreign::by_drain`] and [`Foreign::by_count`] to tell anything.
    pub(crate) fn is_due(&self, at: Moment) -> bool {
        self.anchor.is_none_or(|then| at.seconds_since(then.at) >= LEAST_SPAN)
    }

    /// In a bucket: what was used more, and what drained, less our own.
    pub(crate) fn by_drain(&mut self, now: &Use) {
        let Some(then) = self.anchored(now) else { return };
        let span = now.at.seconds_since(then.at);
        if now.used.min(then.used) < now.limit * LEAST_LEVEL {
            self.before = self.ratio;
            self.ratio *= 1.0 - WEIGHT;
            return;
        }
        self.blend((now.used - then.used + now.rate * span - (now.own - then.own)) / span / now.rate);
    }

    /// In a counter: what was used more, less our own; a new window tells nothing.
    pub(crate) fn by_count(&mut self, now: &Use) {
        let Some(then) = self.anchored(now) else { return };
        if now.used >= then.used {
            self.blend(
                (now.used - then.used - (now.own - then.own)) / now.at.seconds_since(then.at) / now.rate,
            );
        }
    }

    /// In a log: what is used, less our own of the last window.
    pub(crate) fn by_level(&mut self, used: f64, own: f64, limit: f64) {
        let sample = ((used - own) / limit).clamp(-1.0, 1.0);
        self.before = self.ratio;
        self.ratio += (sample - self.ratio) * WEIGHT / 4.0;
    }

    /// Others' use as a part of the limit, between 0 and 1.
    pub(crate) fn ratio(&self) -> f64 {
        self.ratio.min(self.before).max(0.0)
    }

    /// The same, without what noise explains.
    pub(crate) fn certain(&self) -> f64 {
        if self.ratio < NOISE { 0.0 } else { self.ratio }
    }

    fn anchored(&mut self, now: &Use) -> Option<Anchor> {
        let anchor = Anchor { at: now.at, used: now.used, own: now.own, doubt: now.doubt };
        match self.anchor {
            Some(then) if now.at.seconds_since(then.at) < then.least_span(now) => None,
            then => {
                self.anchor = Some(anchor);
                then
            }
        }
    }

    fn blend(&mut self, sample: f64) {
        self.before = self.ratio;
        // Negative samples count too, or noise would add up to somebody.
        self.ratio += (sample.clamp(-1.0, 1.0) - self.ratio) * WEIGHT;
    }
}

//! How much of a limit somebody else uses, from what the snapshots cannot explain.

use crate::scope::moment::Moment;

/// Snapshots nearer to each other than this say more about delays than about use, in seconds.
const LEAST_SPAN: f64 = 3.0;
/// Below this part of the limit a bucket may have run empty in between, and what drained is not known.
const LEAST_LEVEL: f64 = 0.03;
/// The weight of a new estimate.
const WEIGHT: f64 = 0.4;

/// The estimate for one dimension.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Foreign {
    anchor: Option<(Moment, f64, f64)>,
    rate: f64,
    limit_rate: f64,
}

impl Foreign {
    /// Weighs a snapshot: what was used at a moment, and our own running total by then.
    pub(crate) fn observe(&mut self, at: Moment, used: f64, own: f64, limit_rate: f64, limit: f64) {
        self.limit_rate = limit_rate;
        let Some((since, used_then, own_then)) = self.anchor else {
            self.anchor = Some((at, used, own));
            return;
        };
        let span = at.seconds_since(since);
        if span < LEAST_SPAN {
            return;
        }
        self.anchor = Some((at, used, own));
        if used.min(used_then) < limit * LEAST_LEVEL {
            self.rate *= 1.0 - WEIGHT;
            return;
        }
        let unexplained = (used - used_then + limit_rate * span - (own - own_then)) / span;
        let sample = unexplained.clamp(0.0, limit_rate);
        self.rate += (sample - self.rate) * WEIGHT;
    }

    /// Cells a second that others take; nothing below what noise explains.
    pub(crate) fn rate(&self) -> f64 {
        if self.rate < self.limit_rate * 0.05 { 0.0 } else { self.rate }
    }

    /// The same as a part of the limit, between 0 and 1.
    pub(crate) fn ratio(&self) -> f64 {
        if self.limit_rate > 0.0 { (self.rate / self.limit_rate).clamp(0.0, 1.0) } else { 0.0 }
    }
}

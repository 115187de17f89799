//! How long first events usually take beside the shortest ones.

use crate::admission::moment::Moment;

use super::TYPICAL;

/// A least value is believed to be twice as high after this number of seconds in which no lower one
/// was seen.
const FORGOTTEN: f64 = 600.0;

/// How many times as long as the shortest first events of their size the usual ones take: some
/// prompts are in the server's cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    pub(super) count: f64,
    pub(super) mean: f64,
    /// The least mean, and when it was.
    pub(super) least: (f64, Moment),
}

impl Usual {
    /// A round was on time: the mean of its ratios, and their number.
    pub(super) fn add(&mut self, ratio: f64, count: f64, now: Moment) {
        self.count = (self.count + count).min(TYPICAL);
        self.mean += (ratio - self.mean) * (count / self.count).min(1.0);
        if self.mean < self.value(now) {
            self.least = (self.mean, now);
        }
    }

    pub(super) fn value(&self, now: Moment) -> f64 {
        forgotten(self.least, now).max(1.0)
    }
}

/// A least value, believed to be higher the older it is.
pub(super) fn forgotten((value, at): (f64, Moment), now: Moment) -> f64 {
    value * (1.0 + now.seconds_since(at) / FORGOTTEN)
}

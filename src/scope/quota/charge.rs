//! How many tokens the upstream charges for one that was estimated.

use std::collections::VecDeque;
use std::time::Duration;

use crate::scope::moment::Moment;

use super::shape::Rule;

/// Nothing charges more, or less, than this for an estimated token.
const BOUNDS: (f64, f64) = (0.05, 20.0);
/// Snapshots of a bucket at least so far apart tell what was charged between them, in seconds.
const LEAST_SPAN: f64 = 2.0;
/// Below this part of the limit a bucket may have run empty in between.
const LEAST_LEVEL: f64 = 0.02;
/// Requests that a window must have counted before its mean charge says something.
const LEAST_REQUESTS: f64 = 30.0;
/// From so many on it says all that it can.
const ENOUGH_REQUESTS: f64 = 500.0;
/// Answers whose least charge counts, in a bucket too shallow to be anything but empty now and then.
const ENVELOPE: usize = 64;
/// What a header's duration leaves off.
const CUT: Duration = Duration::from_millis(1);
/// The least weight of a new sample: (between two levels, by count).
const WEIGHTS: (f64, f64) = (0.3, 0.05);

/// The ratio, learned from the headers, and exactly from a refusal that names what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct ChargeRatio {
    value: f64,
    samples: f64,
    /// A snapshot of a proven bucket: when, used, our own estimated running total.
    anchor: Option<(Moment, f64, f64)>,
    envelope: VecDeque<f64>,
}

/// What one snapshot says about charges, in the upstream's tokens; `own` and `mean` in estimated ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) at: Moment,
    pub(crate) used: f64,
    pub(crate) limit: f64,
    /// Tokens a second that the limit gives.
    pub(crate) rate: f64,
    pub(crate) reset: Option<Duration>,
    pub(crate) rule: Rule,
    /// Our own running total by then.
    pub(crate) own: f64,
    /// What the answered request was estimated at.
    pub(crate) estimated: f64,
    /// Requests that the upstream counts as used in the same window.
    pub(crate) used_requests: Option<f64>,
    /// Our mean estimate of a request over the last window.
    pub(crate) mean: f64,
    /// Others use the limit too: what is unexplained may be theirs.
    pub(crate) foreign: bool,
}

impl ChargeRatio {
    pub(crate) fn new() -> Self {
        Self { value: 1.0, samples: 0.0, anchor: None, envelope: VecDeque::new() }
    }

    /// Charged tokens for an estimated one.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// A refusal named what it was asked for.
    pub(crate) fn exact(&mut self, requested: u64, estimated: u64) {
        if requested > 0 && estimated > 0 {
            self.blend(requested as f64 / estimated as f64, 0.5);
        }
    }

    /// Weighs a snapshot.
    pub(crate) fn observe(&mut self, evidence: &Evidence) {
        if evidence.foreign {
            self.anchor = None;
            return;
        }
        match evidence.rule {
            Rule::Bucket => self.between_levels(evidence),
            Rule::Shallow => self.by_envelope(evidence),
            Rule::Fixed | Rule::Log => self.by_count(evidence),
            Rule::Unknown => {}
        }
    }

    /// In a bucket: what was used more, and what drained, is what was charged.
    fn between_levels(&mut self, evidence: &Evidence) {
        let Some((since, used, own)) = self.anchor else {
            self.anchor = Some((evidence.at, evidence.used, evidence.own));
            return;
        };
        let span = evidence.at.seconds_since(since);
        if span < LEAST_SPAN {
            return;
        }
        self.anchor = Some((evidence.at, evidence.used, evidence.own));
        let ours = evidence.own - own;
        if ours > 0.0 && evidence.used.min(used) > evidence.limit * LEAST_LEVEL {
            self.blend((evidence.used - used + evidence.rate * span) / ours, WEIGHTS.0);
        } else {
            self.by_envelope(evidence);
        }
    }

    /// In a bucket that is empty now and then: the least that is in it just after a request is that request's
    /// charge, or more.
    fn by_envelope(&mut self, evidence: &Evidence) {
        // Headers cut off what is below a millisecond.
        let level = evidence.reset.map_or(0.0, |reset| (reset + CUT).as_secs_f64()) * evidence.rate;
        if level <= 0.0 || evidence.estimated < evidence.mean * 0.5 {
            return;
        }
        if self.envelope.len() == ENVELOPE {
            self.envelope.pop_front();
        }
        self.envelope.push_back(level / evidence.estimated);
        if self.envelope.len() * 4 >= ENVELOPE {
            let least = self.envelope.iter().copied().fold(f64::INFINITY, f64::min);
            // A bucket that was not empty overstates: it may lower the ratio, never raise it.
            if least < self.value {
                self.blend(least, WEIGHTS.0);
            }
        }
    }

    /// In a window: tokens used for each request used, against our own mean.
    fn by_count(&mut self, evidence: &Evidence) {
        let Some(requests) = evidence.used_requests.filter(|requests| *requests >= LEAST_REQUESTS) else {
            return;
        };
        if evidence.mean > 0.0 {
            let certainty = (requests / ENOUGH_REQUESTS).min(1.0);
            self.blend(evidence.used / (requests * evidence.mean), WEIGHTS.1 * certainty);
        }
    }

    fn blend(&mut self, sample: f64, least_weight: f64) {
        if !sample.is_finite() || sample <= 0.0 {
            return;
        }
        self.samples += 1.0;
        // The first few count in full: a wrong estimate is mostly wrong from the start.
        let weight = (1.0 / self.samples).max(least_weight);
        let sample = sample.clamp(BOUNDS.0, BOUNDS.1);
        self.value *= (sample / self.value).powf(weight);
    }
}

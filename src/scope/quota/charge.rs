//! How many tokens the upstream charges for one that was estimated.

use std::time::Duration;

use crate::scope::moment::Moment;

/// Nothing charges more, or less, than this for an estimated token.
const BOUNDS: (f64, f64) = (0.05, 20.0);
/// One correction is at most this factor up or down.
const STEP: f64 = 2.0;
/// Snapshots of a bucket at least so far apart tell what was charged between them, in seconds.
const LEAST_SPAN: f64 = 2.0;
/// Below this part of the limit a bucket may have run empty in between.
const LEAST_LEVEL: f64 = 0.02;
/// A reset below this may be a shallow bucket's, whose used amount is no count of what was charged.
const LEAST_RESET: Duration = Duration::from_secs(5);
/// Requests that a window must have counted before its mean charge says something.
const LEAST_REQUESTS: f64 = 5.0;

/// The ratio, learned from the headers, and exactly from a refusal that names what was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChargeRatio {
    value: f64,
    samples: u32,
    /// A snapshot of a proven bucket: when, used, our own running total.
    anchor: Option<(Moment, f64, f64)>,
}

/// What one snapshot says about charges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) at: Moment,
    pub(crate) used_tokens: f64,
    pub(crate) limit: f64,
    pub(crate) reset: Option<Duration>,
    /// Tokens a second that drain, where the limiter is proven to be a bucket.
    pub(crate) drain: Option<f64>,
    /// Our own running total of tokens by then, as charged.
    pub(crate) own: f64,
    /// Requests that the upstream counts as used in the same window.
    pub(crate) used_requests: Option<f64>,
    /// Our mean charge of a request of late.
    pub(crate) mean: f64,
    /// Others use the limit too: what is unexplained may be theirs.
    pub(crate) foreign: bool,
}

impl ChargeRatio {
    pub(crate) fn new() -> Self {
        Self { value: 1.0, samples: 0, anchor: None }
    }

    /// Charged tokens for an estimated one.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// A refusal named what it was asked for.
    pub(crate) fn exact(&mut self, requested: u64, estimated: u64) {
        if requested > 0 && estimated > 0 {
            let value = requested as f64 / estimated as f64;
            self.value = value.clamp(BOUNDS.0, BOUNDS.1);
            self.samples = self.samples.saturating_add(4);
            self.anchor = None;
        }
    }

    /// Weighs a snapshot.
    pub(crate) fn observe(&mut self, evidence: &Evidence) {
        if evidence.foreign {
            self.anchor = None;
            return;
        }
        match evidence.drain {
            Some(drain) => self.by_drain(evidence, drain),
            None => self.by_count(evidence),
        }
    }

    /// In a bucket: what was used more, and what drained, is what was charged.
    fn by_drain(&mut self, evidence: &Evidence, drain: f64) {
        let Some((since, used, own)) = self.anchor else {
            self.anchor = Some((evidence.at, evidence.used_tokens, evidence.own));
            return;
        };
        let span = evidence.at.seconds_since(since);
        if span < LEAST_SPAN {
            return;
        }
        self.anchor = Some((evidence.at, evidence.used_tokens, evidence.own));
        let ours = evidence.own - own;
        if ours > 0.0 && evidence.used_tokens.min(used) > evidence.limit * LEAST_LEVEL {
            self.correct((evidence.used_tokens - used + drain * span) / ours, 0.5);
        }
    }

    /// In a window: tokens used for each request used, against our own mean.
    fn by_count(&mut self, evidence: &Evidence) {
        let Some(requests) = evidence.used_requests.filter(|requests| *requests >= LEAST_REQUESTS) else { return };
        if evidence.mean > 0.0 && evidence.reset.is_some_and(|reset| reset >= LEAST_RESET) {
            self.correct(evidence.used_tokens / (requests * evidence.mean), 0.1);
        }
    }

    fn correct(&mut self, factor: f64, weight: f64) {
        if !factor.is_finite() || factor <= 0.0 {
            return;
        }
        // The first few samples count in full: a wrong estimate is mostly wrong from the start.
        let weight = weight.max(1.0 / f64::from(self.samples + 1));
        self.samples = self.samples.saturating_add(1);
        let factor = factor.clamp(1.0 / STEP, STEP).powf(weight);
        self.value = (self.value * factor).clamp(BOUNDS.0, BOUNDS.1);
    }
}

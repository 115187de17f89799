//! How many tokens the upstream charges for one that was estimated.

use std::collections::VecDeque;
use std::time::Duration;

use crate::admission::moment::Moment;
use crate::openai::Endpoint;

use super::ceil;
use super::own::Cost;
use super::shape::Rule;

/// The least and the most that is charged for an estimated token. The estimate counts a quarter of
/// the bytes: no text has more than a token a byte.
const BOUNDS: (f64, f64) = (0.05, 4.0);
/// How much of what a refusal names beyond the estimate is taken for what Weir does not see, each
/// time.
const UNSEEN_WEIGHT: f64 = 0.5;
/// The most tokens of a request that Weir does not see.
const MOST_UNSEEN: f64 = 20_000.0;
/// Snapshots of a bucket at least so far apart tell what was charged between them, in seconds.
const LEAST_SPAN: f64 = 2.0;
/// Below this part of the limit a bucket may have run empty in between.
const LEAST_LEVEL: f64 = 0.02;
/// Requests that a window must have counted before its mean charge says something.
const LEAST_REQUESTS: f64 = 30.0;
/// Answers whose least charge counts, in a bucket too shallow to be anything but empty now and
/// then.
const ENVELOPE: usize = 64;
/// The least part of the requests that a window counts which must be our own.
const OWN_REQUESTS: f64 = 0.8;
/// What a header's duration leaves off.
const CUT: Duration = Duration::from_millis(1);
/// The least weight of a new sample: (between two levels, by count).
const WEIGHTS: (f64, f64) = (0.3, 0.05);

/// What an endpoint's requests are charged is believed to be no further from what the scope's are.
const ENDPOINT_BOUNDS: (f32, f32) = (0.3, 3.0);
/// The weight of a charge that is known of one request: upward, downward. Estimates stay on the
/// safe side.
const ALONE_WEIGHTS: (f64, f64) = (0.5, 0.15);
/// A smaller request's charge is mostly rounding, in tokens.
const LEAST_ALONE: u64 = 50;

/// How far each endpoint's charges are from the scope's, learned from what single requests were
/// charged.
#[derive(Clone, Debug)]
pub(crate) struct EndpointRatios {
    values: [f32; Endpoint::ALL.len()],
    /// Tokens of each request that Weir does not see, in estimated ones: what refusals named beyond
    /// small estimates.
    unseen: [f32; Endpoint::ALL.len()],
    last: Option<Level>,
    /// The last change: what was sent before was expected by other values.
    changed: Moment,
    /// Headers tell of charges.
    told: bool,
}

/// What a bucket was told to hold, and our own running total when that request was sent.
#[derive(Clone, Copy, Debug)]
struct Level {
    at: Moment,
    used: f64,
    own: f64,
}

impl EndpointRatios {
    pub(crate) fn new() -> Self {
        Self {
            values: [1.0; Endpoint::ALL.len()],
            unseen: [0.0; Endpoint::ALL.len()],
            last: None,
            changed: Moment::START,
            told: false,
        }
    }

    /// What `cost` is expected to be charged before the scope's own ratio.
    pub(crate) fn expected(&self, cost: Cost) -> Cost {
        let of =
            |values: &[f32], none: f32| f64::from(values.get(cost.endpoint.index()).copied().unwrap_or(none));
        Cost { tokens: ceil(cost.tokens as f64 * of(&self.values, 1.0) + of(&self.unseen, 0.0)), ..cost }
    }

    /// A refusal named `requested` tokens for a request that was expected to cost `cost`. What
    /// small requests cost beyond their estimate does not grow with it: it is a history, tools or
    /// instructions that the API keeps. `ratio` is the scope's.
    pub(crate) fn refused(&mut self, cost: Cost, requested: u64, ratio: f64) {
        let Some(unseen) = self.unseen.get_mut(cost.endpoint.index()) else { return };
        let beyond = requested as f64 / ratio - cost.tokens as f64;
        #[expect(clippy::cast_possible_truncation, reason = "tokens need no more")]
        let raised = (f64::from(*unseen) + beyond * UNSEEN_WEIGHT).clamp(0.0, MOST_UNSEEN) as f32;
        *unseen = raised;
    }

    /// An answer says that a request which was expected to cost `cost` had `input` tokens: what it
    /// had less was not unseen.
    fn seen(&mut self, cost: Cost, input: u64, ratio: f64) {
        let Some(unseen) = self.unseen.get_mut(cost.endpoint.index()).filter(|unseen| **unseen > 0.0) else {
            return;
        };
        let less = (cost.tokens as f64 - input as f64 / ratio).max(0.0);
        #[expect(clippy::cast_possible_truncation, reason = "tokens need no more")]
        let lowered = (f64::from(*unseen) - less * ALONE_WEIGHTS.1).max(0.0) as f32;
        *unseen = lowered;
    }

    /// A request that was sent at `sent`, and expected to be charged `cost`, was charged so much.
    fn charged(&mut self, cost: Cost, charged: f64, ratio: f64, sent: Moment, now: Moment) {
        let sample = charged / (cost.tokens as f64 * ratio);
        let Some(value) = self.values.get_mut(cost.endpoint.index()) else { return };
        if !sample.is_finite() || sample <= 0.0 || cost.tokens < LEAST_ALONE || sent < self.changed {
            return;
        }
        self.changed = now;
        let weight = if sample > 1.0 { ALONE_WEIGHTS.0 } else { ALONE_WEIGHTS.1 };
        let wanted = f64::from(*value) * sample.clamp(BOUNDS.0, BOUNDS.1).powf(weight);
        #[expect(clippy::cast_possible_truncation, reason = "a factor needs no more")]
        let wanted = wanted as f32;
        *value = wanted.clamp(ENDPOINT_BOUNDS.0, ENDPOINT_BOUNDS.1);
    }

    /// An answer says how many tokens its input was. Where no header tells of charges this raises a
    /// price that was too low, and takes that back when it was too much; it never lowers the
    /// estimate, which may be of more than the input.
    pub(crate) fn used(&mut self, cost: Cost, input: u64, ratio: f64, sent: Moment, now: Moment) {
        self.seen(cost, input, ratio);
        if self.told {
            return;
        }
        self.charged(cost, input as f64, ratio, sent, now);
        if let Some(value) = self.values.get_mut(cost.endpoint.index()) {
            *value = value.max(1.0);
        }
    }

    /// Several attempts are in flight: what each is charged doesn't show.
    pub(crate) fn crowded(&mut self) {
        self.told = true;
        self.last = None;
    }

    /// Weighs a snapshot of a proven bucket, of an attempt that was in flight alone: with the one
    /// before it tells what that attempt was charged.
    pub(crate) fn observe(&mut self, evidence: &Evidence, cost: Cost, ratio: f64, sent: Moment, now: Moment) {
        self.told = true;
        let level = Level { at: evidence.at, used: evidence.used, own: evidence.own };
        let last = self.last.replace(level);
        if evidence.foreign || evidence.rule != Rule::Bucket {
            self.last = None;
            return;
        }
        let Some(last) = last.filter(|last| last.at <= evidence.at) else { return };
        // Nothing else was sent since.
        if (evidence.own - evidence.estimated - last.own).abs() < 0.5 {
            let drained = evidence.rate * evidence.at.seconds_since(last.at);
            let charged = evidence.used - (last.used - drained).max(0.0);
            self.charged(cost, charged, ratio, sent, now);
        }
    }
}

/// The ratio, learned from the headers, and exactly from a refusal that names what was asked for.
#[derive(Clone, Debug)]
pub(crate) struct ChargeRatio {
    value: f64,
    samples: f64,
    /// A snapshot of a proven bucket: when, used, our own estimated running total.
    anchor: Option<(Moment, f64, f64)>,
    envelope: VecDeque<f64>,
}

/// What one snapshot says about charges, in the upstream's tokens; `own` and `mean` in estimated
/// ones.
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
    /// Our mean estimate of a request over the last window; 0 where [`ChargeRatio::weighs_mean`]
    /// says no.
    pub(crate) mean: f64,
    /// Requests that we sent ourselves in that time.
    pub(crate) own_requests: f64,
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

    /// A refusal named what it was asked for. Returns whether that can be a price for each
    /// estimated token: what is more than any text costs is something that Weir does not see, and
    /// leaves the ratio as it is.
    pub(crate) fn exact(&mut self, requested: u64, estimated: u64) -> bool {
        // A request that was tried at no price says nothing of prices.
        if requested == 0 || estimated == 0 {
            return true;
        }
        let sample = requested as f64 / estimated as f64;
        if sample > BOUNDS.1 {
            return false;
        }
        self.blend(sample, 0.5);
        true
    }

    /// Whether a snapshot of that moment is weighed against our mean estimate, which takes two
    /// searches of a log.
    pub(crate) fn weighs_mean(&self, rule: Rule, at: Moment) -> bool {
        match rule {
            Rule::Unknown => false,
            Rule::Bucket => self.anchor.is_some_and(|(since, ..)| at.seconds_since(since) >= LEAST_SPAN),
            Rule::Shallow | Rule::Fixed | Rule::Log => true,
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
        // Where all that was used may have drained meanwhile, it ran empty, and what drained is not
        // known.
        let stayed = used > evidence.rate * span && evidence.used > evidence.limit * LEAST_LEVEL;
        if ours > 0.0 && stayed {
            self.blend((evidence.used - used + evidence.rate * span) / ours, WEIGHTS.0);
        } else {
            self.by_envelope(evidence);
        }
    }

    /// In a bucket that is empty now and then: the least that is in it just after a request is that
    /// request's charge, or more.
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
        // More requests than our own are somebody else's: their mean is not known.
        if evidence.mean > 0.0 && evidence.own_requests >= requests * OWN_REQUESTS {
            self.blend(evidence.used / (requests * evidence.mean), WEIGHTS.1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What 1,000 estimated tokens are expected to be charged after 20 answers whose input was
    /// `input` tokens.
    fn expected_after(ratios: &mut EndpointRatios, input: u64, from: u64) -> u64 {
        let asked = Cost { requests: 1, tokens: 1000, endpoint: Endpoint::ChatCompletions };
        for second in from..from + 20 {
            let cost = ratios.expected(asked);
            let sent = Moment::from_nanos(second * 1_000_000_000);
            ratios.used(cost, input, 1.0, sent, sent.plus(Duration::from_millis(500)));
        }
        ratios.expected(asked).tokens
    }

    #[test]
    fn without_headers_usage_raises_a_price_and_takes_that_back() {
        let mut ratios = EndpointRatios::new();
        let raised = expected_after(&mut ratios, 2000, 0);
        assert!((1990..=2001).contains(&raised), "{raised}");
        let other = Cost { requests: 1, tokens: 1000, endpoint: Endpoint::Embeddings };
        assert_eq!(ratios.expected(other).tokens, 1000);
        assert_eq!(expected_after(&mut ratios, 900_000, 100), 3000, "no further than the bounds");
        assert_eq!(expected_after(&mut ratios, 10, 200), 1000, "never below the estimate");
        assert_eq!(expected_after(&mut ratios, 0, 300), 1000);
    }

    #[test]
    fn where_headers_tell_usage_says_nothing() {
        let mut ratios = EndpointRatios::new();
        ratios.crowded();
        assert_eq!(expected_after(&mut ratios, 2000, 0), 1000);
    }
}

//! The limit on a stream's time to its first event.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// The longest time from sending a streaming request to its first output event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstEventTimeout {
    /// A fixed limit.
    After(Duration),
    /// A limit learned from streams of the same model and prompt size, with a margin.
    Learned,
}

/// The first event that an attempt waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// When the attempt was admitted.
    pub(super) since: Instant,
    /// The limit; `None` until one is learned.
    pub(super) limit: Option<Duration>,
}

/// The times to first event of one worker's streams, by model and prompt size.
#[derive(Debug, Default)]
pub(super) struct FirstEvents(Mutex<HashMap<Box<str>, Box<[Times; PROMPT_SIZES.len() + 1]>>>);

/// Most models with an entry; all others share one.
const MAX_MODELS: usize = 256;
/// Lower bounds of the prompt size classes, in tokens.
const PROMPT_SIZES: [u64; 3] = [1_000, 10_000, 100_000];
/// Streams of a class before its times are used.
const MIN_STREAMS: u32 = 100;
/// Streams after which all counts are halved, so that a model that becomes slower is followed.
const HALVED_AT: u32 = 20_000;
/// Shortest learned limit: a short pause of the network is not a stall.
const MIN_LIMIT: Duration = Duration::from_secs(5);
/// One stream in this many is ignored as an outlier.
const OUTLIER_PER: u32 = 1_000;
/// Upper bound of the first histogram bucket, in milliseconds; each four buckets double it.
const FIRST_BUCKET_MS: f64 = 10.0;
const BUCKETS: usize = 64;

/// A histogram of times.
#[derive(Debug)]
struct Times {
    counts: [u32; BUCKETS],
    all: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], all: 0 }
    }
}

impl FirstEvents {
    /// The first-event limit of a stream of this model; `None` if there is none, or none yet.
    pub(super) fn timeout(
        &self,
        configured: FirstEventTimeout,
        model: Option<&str>,
        tokens: u64,
    ) -> Option<Duration> {
        match configured {
            FirstEventTimeout::After(time) => Some(time),
            FirstEventTimeout::Learned => {
                let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                models.get(model.unwrap_or_default())?[class_of(tokens)].limit()
            }
        }
    }

    /// Records a stream's time to its first event, or the time at which it was ended without one,
    /// so that a limit that is too short grows.
    pub(super) fn observe(&self, model: Option<&str>, tokens: u64, took: Duration) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let model = model.filter(|model| models.len() < MAX_MODELS || models.contains_key(*model));
        let model = model.unwrap_or_default();
        if !models.contains_key(model) {
            models.insert(model.into(), Box::default());
        }
        if let Some(classes) = models.get_mut(model) {
            classes[class_of(tokens)].observe(took);
        }
    }
}

fn class_of(tokens: u64) -> usize {
    PROMPT_SIZES.iter().filter(|size| tokens >= **size).count()
}

impl Times {
    fn observe(&mut self, took: Duration) {
        let doublings = (took.as_secs_f64() * 1e3 / FIRST_BUCKET_MS).max(1.0).log2();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is small and not negative"
        )]
        let place = ((doublings * 4.0).ceil() as usize).min(BUCKETS - 1);
        self.counts[place] += 1;
        self.all += 1;
        if self.all >= HALVED_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().sum();
        }
    }

    /// Twice the time in which all but one of 1,000 streams begin.
    fn limit(&self) -> Option<Duration> {
        if self.all < MIN_STREAMS {
            return None;
        }
        let mut left_out = self.all / OUTLIER_PER;
        let slowest = self.counts.iter().rposition(|count| {
            let reached = *count > left_out;
            left_out = left_out.saturating_sub(*count);
            reached
        })?;
        let edge = FIRST_BUCKET_MS / 1e3 * (slowest as f64 / 4.0).exp2();
        Some(Duration::from_secs_f64(edge * 2.0).max(MIN_LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNED: FirstEventTimeout = FirstEventTimeout::Learned;

    #[test]
    fn what_is_learned_is_twice_what_nearly_all_streams_take_and_grows_with_those_that_it_ends() {
        let seconds = Duration::from_secs;
        let events = FirstEvents::default();
        let limit = |tokens| events.timeout(LEARNED, Some("m"), tokens);
        assert_eq!(limit(10), None);
        (0..99).for_each(|_| events.observe(Some("m"), 10, seconds(8)));
        assert_eq!(limit(10), None, "too few");
        (0..901).for_each(|_| events.observe(Some("m"), 10, seconds(8)));
        let learned = limit(10).unwrap();
        assert!((seconds(16)..seconds(20)).contains(&learned), "{learned:?}");
        assert_eq!((limit(5_000), events.timeout(LEARNED, Some("other"), 10)), (None, None));
        // One outlier in a thousand is ignored, a second is not.
        events.observe(Some("m"), 10, seconds(100));
        assert_eq!(limit(10), Some(learned));
        events.observe(Some("m"), 10, seconds(100));
        assert!(limit(10).unwrap() > seconds(200));
        // Fast streams get the shortest limit.
        (0..100).for_each(|_| events.observe(Some("m"), 5_000, Duration::from_millis(3)));
        assert_eq!(limit(5_000), Some(MIN_LIMIT));
        let fixed = FirstEventTimeout::After(seconds(3));
        assert_eq!(events.timeout(fixed, None, 0), Some(seconds(3)));
    }

    #[test]
    fn models_and_counts_are_bounded() {
        let events = FirstEvents::default();
        for number in 0..MAX_MODELS + 50 {
            events.observe(Some(&format!("model-{number}")), 0, Duration::from_secs(1));
        }
        assert!(events.0.lock().unwrap().len() <= MAX_MODELS + 1);
        let mut times = Times::default();
        for _ in 0..3 * HALVED_AT {
            times.observe(Duration::from_secs(1 << 30));
        }
        assert!(times.all < HALVED_AT && times.limit().is_some());
    }
}

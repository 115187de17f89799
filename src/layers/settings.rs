//! The settings of the layers.

use std::time::Duration;

use crate::{admission, retry};

/// Known limits, and the longest wait of a request. Everything else has the proxy's default.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) admission: admission::Settings,
    pub(super) max_wait: Duration,
    pub(super) max_priced_bytes: u64,
    pub(super) max_attempts: u32,
}

impl Settings {
    /// No known limits, at most a minute of waiting, six attempts.
    pub fn new() -> Self {
        Self {
            admission: admission::Settings::default(),
            max_wait: Duration::from_mins(1),
            max_priced_bytes: 8 << 20,
            max_attempts: retry::Settings::default().max_attempts,
        }
    }

    /// Requests per minute. Without it the limit is learned.
    #[must_use]
    pub fn requests_per_minute(mut self, limit: u64) -> Self {
        self.admission.limits.requests_per_minute = Some(limit);
        self
    }

    /// Tokens per minute. Without it the limit is learned.
    #[must_use]
    pub fn tokens_per_minute(mut self, limit: u64) -> Self {
        self.admission.limits.tokens_per_minute = Some(limit);
        self
    }

    /// Most attempts in flight.
    #[must_use]
    pub fn in_flight(mut self, most: u32) -> Self {
        self.admission.limits.in_flight = Some(most);
        self
    }

    /// This service's fraction of every limit, above 0 and at most 1, if others use the same key.
    #[must_use]
    pub fn share(mut self, part: f64) -> Self {
        self.admission.limits.share = part.clamp(f64::MIN_POSITIVE, 1.0);
        self
    }

    /// The longest wait of a request for admission, over all attempts. A request that would wait
    /// longer is refused at once.
    #[must_use]
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = longest;
        self
    }

    /// Most attempts of one request, the first included.
    #[must_use]
    pub fn max_attempts(mut self, most: u32) -> Self {
        self.max_attempts = most.max(1);
        self
    }

    /// Most bytes of a request's body that are parsed for its price. A larger body, or one of
    /// unknown length, counts as one request without tokens. The default is 8 MiB.
    #[must_use]
    pub fn max_priced_bytes(mut self, most: u64) -> Self {
        self.max_priced_bytes = most;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

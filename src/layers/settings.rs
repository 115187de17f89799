//! What the layers are told.

use std::time::Duration;

use crate::{admission, retry};

/// Limits that are known beforehand, and how long a request may wait. Whatever is left out has the
/// proxy's default.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) admission: admission::Settings,
    pub(super) max_wait: Duration,
    pub(super) max_priced_bytes: u64,
    pub(super) max_attempts: u32,
}

impl Settings {
    /// No limits known, turns awaited for a minute, six attempts.
    pub fn new() -> Self {
        Self {
            admission: admission::Settings::default(),
            max_wait: Duration::from_mins(1),
            max_priced_bytes: 8 << 20,
            max_attempts: retry::Settings::default().max_attempts,
        }
    }

    /// Requests a minute. Without it the limit is learned.
    #[must_use]
    pub fn requests_per_minute(mut self, limit: u64) -> Self {
        self.admission.limits.requests_per_minute = Some(limit);
        self
    }

    /// Tokens a minute. Without it the limit is learned.
    #[must_use]
    pub fn tokens_per_minute(mut self, limit: u64) -> Self {
        self.admission.limits.tokens_per_minute = Some(limit);
        self
    }

    /// Attempts in flight at most.
    #[must_use]
    pub fn in_flight(mut self, most: u32) -> Self {
        self.admission.limits.in_flight = Some(most);
        self
    }

    /// The part of every limit that is this service's, above 0 and at most 1, where others use the
    /// same key.
    #[must_use]
    pub fn share(mut self, part: f64) -> Self {
        self.admission.limits.share = part.clamp(f64::MIN_POSITIVE, 1.0);
        self
    }

    /// The longest wait of a request for its turn, all attempts together. A request that would wait
    /// longer is refused at once.
    #[must_use]
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = longest;
        self
    }

    /// Attempts of one request at most, the first included.
    #[must_use]
    pub fn max_attempts(mut self, most: u32) -> Self {
        self.max_attempts = most.max(1);
        self
    }

    /// Bytes of a request's body that are read for its price. A larger body, or one of unknown
    /// length, counts as one request without tokens. 8 MiB.
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

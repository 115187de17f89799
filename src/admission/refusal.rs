//! Why a request gets no permit, with all that its answer must say.

use std::sync::Arc;
use std::time::Duration;

/// No permit, and why.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The queue of the scope is full.
    QueueFull {
        /// When another try makes sense.
        retry_after: Duration,
    },
    /// The caller has too much waiting.
    CallerLimit {
        /// When another try makes sense.
        retry_after: Duration,
    },
    /// The turn would come, or came, too late.
    Deadline {
        /// How long the request would have had to wait in all.
        predicted: Duration,
        /// How long a request like it would wait if it came now.
        retry_after: Duration,
    },
    /// The upstream is failing, and waiting does not help.
    BreakerOpen {
        /// How long it has been failing.
        failing_for: Duration,
        /// When it is asked next whether it is back.
        next_probe: Duration,
    },
    /// The credential's quota is spent.
    QuotaExhausted(Arc<SpentQuota>),
    /// Weir is shutting down.
    Draining,
}

/// The upstream's own words about a spent quota, repeated to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentQuota {
    /// The upstream's status.
    pub status: u16,
    /// `error.type`.
    pub kind: Option<Box<str>>,
    /// `error.code`.
    pub code: Option<Box<str>>,
    /// `error.message`.
    pub message: Box<str>,
}

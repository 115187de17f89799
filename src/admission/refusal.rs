//! Why a request gets no permit, with all that its answer must say.

use std::fmt;
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
    /// The upstream said that the limit comes back after the request's deadline.
    Told {
        /// What it said.
        words: Arc<UpstreamWords>,
        /// How long it is until the time that it named.
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
    QuotaExhausted(Arc<UpstreamWords>),
    /// Weir is shutting down.
    Draining,
}

/// The upstream's own words of a refusal, repeated to callers whom asking again would not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamWords {
    /// The upstream's status.
    pub status: u16,
    /// `error.type`.
    pub kind: Option<Box<str>>,
    /// `error.code`.
    pub code: Option<Box<str>>,
    /// `error.message`.
    pub message: Box<str>,
    /// The body as it came, decoded; absent where it came in a stream, or is larger than is kept.
    pub body: Option<WordsBody>,
}

/// The body of a refusal, for [`UpstreamWords`].
#[derive(Clone, PartialEq, Eq)]
pub struct WordsBody {
    /// Its content type.
    pub kind: Box<str>,
    /// Its bytes.
    pub bytes: Box<[u8]>,
}

impl UpstreamWords {
    /// A refusal that said nothing but its status.
    #[cfg(test)]
    pub fn of_status(status: u16) -> Self {
        Self { status, kind: None, code: None, message: "".into(), body: None }
    }
}

/// Without the bytes, which may echo a prompt.
impl fmt::Debug for WordsBody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WordsBody").field("kind", &self.kind).field("bytes", &self.bytes.len()).finish()
    }
}

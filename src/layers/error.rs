//! The error of the layers.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::BoxError;

use crate::admission::{Refused, Scope};

/// The reason why a request has no response: admission refused it before it was sent, or the inner
/// service failed.
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug)]
enum Kind {
    Refused(Refused),
    /// With the scope of the request, if it was resolved.
    Service(BoxError, Option<Arc<Scope>>),
}

impl Error {
    pub(super) fn refused(refused: Refused) -> Self {
        Self(Kind::Refused(refused))
    }

    /// An error of the inner service, for a request of this scope.
    pub(super) fn service(error: impl Into<BoxError>, scope: Option<Arc<Scope>>) -> Self {
        Self(Kind::Service(error.into(), scope))
    }

    /// The scope of the request, if the inner service failed.
    pub(super) fn scope(&self) -> Option<&Arc<Scope>> {
        match &self.0 {
            Kind::Service(_, scope) => scope.as_ref(),
            Kind::Refused(_) => None,
        }
    }

    fn refusal(&self) -> Option<&Refused> {
        match &self.0 {
            Kind::Refused(refused) => Some(refused),
            Kind::Service(..) => None,
        }
    }

    /// Whether admission refused the request, so that nothing was sent.
    pub fn is_refused(&self) -> bool {
        self.refusal().is_some()
    }

    /// Whether admission came, or would come, after the longest wait.
    pub fn is_deadline(&self) -> bool {
        matches!(self.refusal(), Some(Refused::Deadline { .. } | Refused::Told { .. }))
    }

    /// Whether the queue was full.
    pub fn is_queue_full(&self) -> bool {
        matches!(self.refusal(), Some(Refused::QueueFull { .. } | Refused::CallerLimit { .. }))
    }

    /// Whether the API is failing, so that waiting does not help.
    pub fn is_outage(&self) -> bool {
        matches!(self.refusal(), Some(Refused::BreakerOpen { .. }))
    }

    /// Whether the key's quota is spent.
    pub fn is_quota_spent(&self) -> bool {
        matches!(self.refusal(), Some(Refused::QuotaExhausted(_)))
    }

    /// When to retry, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.refusal()? {
            Refused::QueueFull { retry_after }
            | Refused::CallerLimit { retry_after }
            | Refused::Deadline { retry_after, .. }
            | Refused::Told { retry_after, .. } => Some(*retry_after),
            Refused::BreakerOpen { next_probe, .. } => Some(*next_probe),
            Refused::QuotaExhausted(_) | Refused::Draining => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Service(..) => formatter.write_str("the request failed"),
            Kind::Refused(Refused::QueueFull { .. }) => formatter.write_str("the queue is full"),
            Kind::Refused(Refused::CallerLimit { .. }) => {
                formatter.write_str("too many requests wait already")
            }
            Kind::Refused(Refused::Deadline { predicted, .. }) => {
                write!(formatter, "the request would wait {:.1} s for its turn", predicted.as_secs_f64())
            }
            Kind::Refused(Refused::Told { words, .. }) => {
                write!(formatter, "the limit comes back after the deadline: {}", words.message)
            }
            Kind::Refused(Refused::BreakerOpen { failing_for, .. }) => {
                write!(formatter, "the API has been failing for {:.1} s", failing_for.as_secs_f64())
            }
            Kind::Refused(Refused::QuotaExhausted(spent)) => {
                write!(formatter, "the quota is spent: {}", spent.message)
            }
            Kind::Refused(Refused::Draining) => formatter.write_str("no further requests are sent"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Kind::Service(error, _) => Some(&**error),
            Kind::Refused(_) => None,
        }
    }
}

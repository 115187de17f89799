//! Metric labels for the decisions of admission and retry.

use crate::admission::{Refused, Would};
use crate::metrics::{QueueRefusal, RetryStop, WouldHave};
use crate::retry::StopReason;

pub(super) fn would_have(would: &Would) -> Option<WouldHave> {
    match would {
        Would::Pass => None,
        Would::Delay(_) => Some(WouldHave::Delayed),
        Would::Refuse(Refused::BreakerOpen { .. }) => Some(WouldHave::Held),
        Would::Refuse(
            Refused::QueueFull { .. }
            | Refused::CallerLimit { .. }
            | Refused::Deadline { .. }
            | Refused::Told { .. }
            | Refused::QuotaExhausted(_)
            | Refused::Draining,
        ) => Some(WouldHave::Refused),
    }
}

pub(super) fn queue_refusal(refused: &Refused) -> QueueRefusal {
    match refused {
        Refused::QueueFull { .. } => QueueRefusal::QueueFull,
        Refused::CallerLimit { .. } => QueueRefusal::CallerLimit,
        Refused::Deadline { .. } | Refused::Told { .. } => QueueRefusal::PredictedDeadline,
        Refused::BreakerOpen { .. } => QueueRefusal::BreakerOpen,
        Refused::QuotaExhausted(_) => QueueRefusal::BillingBlock,
        Refused::Draining => QueueRefusal::Draining,
    }
}

/// The label of a retry that admission refused; `None` if the queue's own refusal metric covers it.
pub(super) fn no_turn_label(refused: &Refused) -> Option<RetryStop> {
    match refused {
        Refused::Draining => Some(RetryStop::Draining),
        Refused::Deadline { .. } | Refused::Told { .. } => Some(RetryStop::Deadline),
        Refused::QueueFull { .. }
        | Refused::CallerLimit { .. }
        | Refused::BreakerOpen { .. }
        | Refused::QuotaExhausted(_) => None,
    }
}

/// The label of a retry that was not made; `None` for classes that are never retried.
pub(super) fn stop_label(reason: StopReason) -> Option<RetryStop> {
    match reason {
        StopReason::Final => None,
        StopReason::Unsafe => Some(RetryStop::Unsafe),
        StopReason::Committed => Some(RetryStop::Committed),
        StopReason::NotReplayable => Some(RetryStop::BodyNotKept),
        StopReason::Forbidden => Some(RetryStop::Forbidden),
        StopReason::Excluded => Some(RetryStop::Excluded),
        StopReason::Attempts => Some(RetryStop::AttemptsSpent),
        StopReason::Deadline => Some(RetryStop::Deadline),
        StopReason::Budget => Some(RetryStop::Budget),
    }
}

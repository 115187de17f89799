//! What a scope is told of an attempt that failed.

use crate::account::ErrorDetail;
use crate::admission::{Permit, SpentQuota, Ticket};
use crate::classify::{Classified, ErrorClass, Failure};
use crate::retry;

use super::attempt::Answer;
use super::limits;

/// Settles the permit of an attempt that failed.
pub(super) fn failed(
    permit: Permit,
    class: ErrorClass,
    came: &Result<Answer, Failure>,
    classified: Option<&Classified>,
) {
    match classified {
        // The client broke off, or a proxy refused: that says nothing about the upstream.
        None if came.as_ref().is_err_and(|failure| failure.kind.is_of_the_client() || failure.is_final()) => {
            drop(permit);
        }
        None => permit.fail(class),
        Some(classified) => refused(permit, class, classified),
    }
}

/// Settles the permit of an attempt that ended in an error of the upstream's.
pub(crate) fn refused(permit: Permit, class: ErrorClass, classified: &Classified) {
    if classified.class.is_quota() {
        permit.quota_exhausted(SpentQuota {
            status: classified.status.as_u16(),
            kind: classified.body.kind.clone(),
            code: classified.body.code.clone(),
            message: classified.body.message.clone().unwrap_or_default(),
        });
    } else if retry::is_rate_limit(classified.class) {
        // The place at the head of the queue goes with the ticket: nobody comes back for it.
        let _: Ticket = rate_limited(permit, classified.class, Some(classified), 0);
    } else {
        permit.fail(class);
    }
}

/// Settles the permit of an attempt that met a rate limit, with the upstream's numbers where it gave some. The ticket is the
/// request's place.
pub(crate) fn rate_limited(
    permit: Permit,
    class: ErrorClass,
    classified: Option<&Classified>,
    earlier: u32,
) -> Ticket {
    let refusal = classified.and_then(|classified| classified.refusal.as_ref());
    let hint = classified.and_then(|classified| classified.hint);
    permit.rate_limited(class, refusal.and_then(limits::numbers), hint, earlier)
}

/// What is kept of an error's body.
pub(super) fn detail(classified: &Classified, mask_messages: bool) -> ErrorDetail {
    let body = &classified.body;
    ErrorDetail::of(
        body.message.as_deref(),
        body.kind.as_deref(),
        body.code.as_deref(),
        body.param.as_deref(),
        mask_messages,
    )
}

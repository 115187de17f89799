//! Reports failed attempts to their scope.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;

use crate::account::ErrorDetail;
use crate::admission::{Permit, Ticket, UpstreamWords, WordsBody};
use crate::classify::{Classified, ErrorClass, Failure};
use crate::retry;
use crate::stream::copy;

use super::attempt::Answer;
use super::limits;

/// The largest refusal body that is repeated unchanged to other callers.
const MAX_WORDS: usize = 8 << 10;

/// A hint shorter than this is not kept: no deadline is that near.
const MIN_HINT: Duration = Duration::from_secs(1);

/// Settles the permit of a failed attempt.
pub(super) fn failed(
    permit: Permit,
    class: ErrorClass,
    result: &Result<Answer, Failure>,
    classified: Option<&Classified>,
) {
    match classified {
        // The client broke off, or a proxy refused: neither concerns the upstream.
        None if result
            .as_ref()
            .is_err_and(|failure| failure.kind.is_of_the_client() || failure.is_final()) =>
        {
            drop(permit);
        }
        None => permit.fail(class),
        Some(classified) => refused(permit, class, classified, || body_of(result.as_ref().ok())),
    }
}

/// Settles the permit of an attempt that ended with an upstream error. `body` returns its body, if
/// it is still available.
pub(crate) fn refused(
    permit: Permit,
    class: ErrorClass,
    classified: &Classified,
    body: impl FnOnce() -> Option<WordsBody>,
) {
    if classified.class.is_quota() {
        permit.quota_exhausted(classified.of_account.then(|| words(classified, body())));
    } else if retry::is_rate_limit(classified.class) {
        // Dropping the ticket gives up the place at the head of the queue, which is not needed.
        let _: Ticket = rate_limited(permit, classified.class, Some(classified), body, 0);
    } else {
        permit.fail(class);
    }
}

/// Settles the permit of an attempt that a pool member refused whatever the request: the member is
/// out of service until a probe succeeds.
pub(super) fn out_of_service(permit: Permit, classified: &Classified) {
    let mut said = words(classified, None);
    said.code = said.code.or_else(|| Some(classified.class.as_str().into()));
    permit.quota_exhausted(Some(said));
}

/// Settles the permit of a rate-limited attempt, with the upstream's numbers if it sent any.
/// Returns the request's place in the queue.
pub(crate) fn rate_limited(
    permit: Permit,
    class: ErrorClass,
    classified: Option<&Classified>,
    body: impl FnOnce() -> Option<WordsBody>,
    earlier: u32,
) -> Ticket {
    let refusal = classified.and_then(|classified| classified.refusal.as_ref());
    let hint = classified.and_then(|classified| classified.hint);
    let telling = classified.filter(|_| hint.is_some_and(|hint| hint > MIN_HINT));
    let words = telling.map(|classified| Arc::new(words(classified, body())));
    permit.rate_limited(class, refusal.and_then(limits::numbers), hint, words, earlier)
}

/// The upstream's words, to be repeated to other callers. An error inside a stream has no body to
/// repeat.
fn words(classified: &Classified, body: Option<WordsBody>) -> UpstreamWords {
    let said = &classified.body;
    UpstreamWords {
        status: classified.status.as_u16(),
        kind: said.kind.clone(),
        code: said.code.clone(),
        message: said.message.clone().unwrap_or_default(),
        body: body.filter(|_| !classified.hidden),
    }
}

/// The decoded body of a small, complete response.
pub(super) fn body_of(answer: Option<&Answer>) -> Option<WordsBody> {
    let answer = answer.filter(|answer| answer.body.is_over())?;
    let bytes = copy(&answer.head.headers, answer.body.held(), MAX_WORDS + 1);
    let kind = answer.head.headers.get(CONTENT_TYPE)?.to_str().ok()?.into();
    (!bytes.is_empty() && bytes.len() <= MAX_WORDS)
        .then(|| WordsBody { kind, bytes: bytes.into_owned().into() })
}

/// The part of an error's body that is kept.
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

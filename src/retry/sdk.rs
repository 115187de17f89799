//! When Weir tells the client's SDK not to retry.

use std::time::Duration;

use super::StopReason;
use super::verdict::is_rate_limit;
use crate::classify::ErrorClass;

/// The longest hint that all SDKs obey: with a longer one they retry within seconds.
pub const OBEYED_HINT: Duration = Duration::from_mins(1);

/// Whether a response gets `x-should-retry: false`.
///
/// SDKs retry too, regardless of the body: three attempts for each of Weir's six. The header
/// prevents that if another try is known to be useless: Weir retried and gave up, the quota is
/// spent, the request can never pass, or the limit returns later than an SDK waits (`hint`). It is
/// not sent if Weir did not act on the response, so that a caller is never worse off than without
/// Weir.
///
/// `stopped` is the reason why Weir made no further attempt; `None` if Weir does not decide
/// (observe, bypass). `attempts` is the number made.
pub fn stops_sdk(
    class: ErrorClass,
    stopped: Option<StopReason>,
    attempts: u32,
    hint: Option<Duration>,
) -> bool {
    // 408 and 409 are left to the SDK's own retries.
    if matches!(class, ErrorClass::RequestTimeout | ErrorClass::Conflict | ErrorClass::ConversationLocked) {
        return false;
    }
    // No retry can succeed.
    if class.is_quota() || matches!(class, ErrorClass::RequestExceedsLimit | ErrorClass::WeirBillingBlock) {
        return stopped.is_some();
    }
    // The upstream may still be processing it, so a retry would start the same work again.
    if matches!(class, ErrorClass::TimeoutResponse) {
        return stopped.is_some();
    }
    match stopped {
        // Weir stopped only to protect the upstream.
        Some(StopReason::Budget) => true,
        Some(StopReason::Deadline) if is_rate_limit(class) && hint > Some(OBEYED_HINT) => true,
        Some(StopReason::Attempts | StopReason::Deadline) => attempts > 1,
        // Weir did not act, or the class is `Final` but SDKs may retry it.
        Some(
            StopReason::Final
            | StopReason::Unsafe
            | StopReason::Committed
            | StopReason::NotReplayable
            | StopReason::Forbidden
            | StopReason::Excluded,
        )
        | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_stopped_only_where_weir_gave_up() {
        for (class, stopped, attempts, expected) in [
            (ErrorClass::InternalServerError, Some(StopReason::Attempts), 6, true),
            (ErrorClass::InternalServerError, Some(StopReason::Budget), 1, true),
            (ErrorClass::InternalServerError, Some(StopReason::Deadline), 2, true),
            (ErrorClass::InternalServerError, Some(StopReason::Deadline), 1, false),
            (ErrorClass::InternalServerError, Some(StopReason::Unsafe), 1, false),
            (ErrorClass::InternalServerError, Some(StopReason::Unsafe), 3, false),
            (ErrorClass::InternalServerError, Some(StopReason::Excluded), 1, false),
            (ErrorClass::InternalServerError, None, 1, false),
            (ErrorClass::RateLimitTokens, Some(StopReason::Deadline), 3, true),
            (ErrorClass::QuotaInsufficient, Some(StopReason::Final), 1, true),
            (ErrorClass::QuotaInsufficient, None, 1, false),
            (ErrorClass::WeirBillingBlock, Some(StopReason::Final), 0, true),
            (ErrorClass::RequestExceedsLimit, Some(StopReason::Final), 1, true),
            (ErrorClass::RequestTimeout, Some(StopReason::Attempts), 6, false),
            (ErrorClass::Conflict, Some(StopReason::Attempts), 6, false),
            (ErrorClass::TimeoutResponse, Some(StopReason::Final), 1, true),
            (ErrorClass::TimeoutResponse, None, 1, false),
            (ErrorClass::BadRequest, Some(StopReason::Final), 1, false),
        ] {
            assert_eq!(
                stops_sdk(class, stopped, attempts, None),
                expected,
                "{class:?} {stopped:?} {attempts}"
            );
        }
    }

    #[test]
    fn the_sdk_is_stopped_where_a_limit_comes_back_later_than_it_waits() {
        let told = |class, seconds| {
            stops_sdk(class, Some(StopReason::Deadline), 1, Some(Duration::from_secs(seconds)))
        };
        assert!(told(ErrorClass::RateLimitOther, 53_216));
        assert!(!told(ErrorClass::RateLimitOther, 40), "the SDK waits for that, as it does direct");
        assert!(!told(ErrorClass::BadGateway, 53_216), "a server's guess at its own recovery is no limit");
    }
}

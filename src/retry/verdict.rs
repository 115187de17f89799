//! The table of what may be repeated: error class by safety of the operation.

use super::Safety;
use crate::classify::ErrorClass;

/// Thousandths of a budget token; a success earns 500 of them.
pub type MilliTokens = u32;

/// What the table says of an attempt that ended in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt cannot help, or may do harm.
    Never(Why),
    /// The request goes back to the head of its queue; waiting is the queue's business and costs no budget.
    Queue,
    /// Another attempt after a backoff, if the budget has this much.
    Backoff(MilliTokens),
}

/// Why there is no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Of this class no repeat is made, whatever the operation.
    Class,
    /// The operation may have been carried out: a repeat may carry it out twice.
    Unsafe,
    /// The client has seen part of an answer.
    Committed,
}

/// Whether an attempt that ended in this class may be repeated.
///
/// `may_have_run`: whether the upstream may have begun to work on the request (see `Classified::may_have_run` and
/// `Failure::sent`). `committed`: whether a byte of an answer reached the client.
pub const fn verdict(class: ErrorClass, safety: Safety, may_have_run: bool, committed: bool) -> Verdict {
    if committed {
        return Verdict::Never(Why::Committed);
    }
    let (rule, cost) = row(class);
    let cost = if may_have_run { cost } else { REJECTED };
    match (rule, may_have_run, safety) {
        (Rule::Never, ..) => Verdict::Never(Why::Class),
        (Rule::Queue, ..) => Verdict::Queue,
        (Rule::WhereSafe, true, Safety::OnlyIfUnsent) => Verdict::Never(Why::Unsafe),
        (Rule::Always, ..) | (Rule::WhereSafe, true, Safety::Repeatable) | (Rule::WhereSafe, false, _) => {
            Verdict::Backoff(cost)
        }
    }
}

/// What a retry after this class costs the budget, if the upstream may have worked on the request.
///
/// A cheap failure costs less than one that kept the upstream busy, and a timeout most (the ratio of AWS's clients). Nothing
/// costs less than a half: with a reserve of 2 % that is what keeps attempts within 1.1 of requests when everything fails.
pub const fn cost(class: ErrorClass) -> MilliTokens {
    row(class).1
}

/// Whether this class is a rate limit, which is the queue's business.
pub const fn is_rate_limit(class: ErrorClass) -> bool {
    matches!(row(class).0, Rule::Queue)
}

/// Nothing was sent; AWS's ratio would make it 200.
const NOT_SENT: MilliTokens = 500;
/// The upstream refused the request before working on it.
const REJECTED: MilliTokens = 500;
/// The upstream worked on the request, and failed.
const FAILED: MilliTokens = 1000;
/// The upstream may still be working on it.
const TIMED_OUT: MilliTokens = 1400;

/// What the table says of a class.
#[derive(Clone, Copy)]
enum Rule {
    Never,
    Queue,
    /// The upstream did nothing: any operation may be repeated.
    Always,
    /// Only where the upstream did nothing, or a repeat does no harm.
    WhereSafe,
}

/// The table: a class, its rule, and what a retry after it costs.
const fn row(class: ErrorClass) -> (Rule, MilliTokens) {
    match class {
        ErrorClass::RateLimitRequests
        | ErrorClass::RateLimitTokens
        | ErrorClass::RateLimitOther
        | ErrorClass::SlowDown => (Rule::Queue, REJECTED),
        ErrorClass::ResourceUnavailable | ErrorClass::Overloaded => (Rule::Always, REJECTED),
        ErrorClass::ConnectionDns
        | ErrorClass::ConnectionRefused
        | ErrorClass::ConnectionTls
        // Its refusal is final by `Failure::is_final`.
        | ErrorClass::ConnectionProxy
        | ErrorClass::TimeoutConnect
        // Of an attempt: there was no room for a connection.
        | ErrorClass::WeirInternal => (Rule::Always, NOT_SENT),
        ErrorClass::InternalServerError
        | ErrorClass::BadGateway
        | ErrorClass::ConnectionReset
        | ErrorClass::StreamError
        | ErrorClass::StreamCut
        | ErrorClass::EmptyResponse | ErrorClass::MalformedResponse => (Rule::WhereSafe, FAILED),
        // The request is wrong, spent or not allowed; or (408, 409) the client's own retry is the better one.
        ErrorClass::AuthenticationInvalid
        | ErrorClass::AuthenticationIncorrectKey
        | ErrorClass::AuthenticationNoOrganization
        | ErrorClass::AuthenticationIpDenied
        | ErrorClass::AuthenticationMissingScope
        | ErrorClass::AuthenticationOther
        | ErrorClass::PermissionDenied
        | ErrorClass::RegionUnsupported
        | ErrorClass::BadRequest | ErrorClass::ServiceTierInvalid
        | ErrorClass::ContextLengthExceeded
        | ErrorClass::NotFound
        | ErrorClass::ModelNotFound
        | ErrorClass::RequestTimeout
        | ErrorClass::Conflict
        | ErrorClass::ConversationLocked
        | ErrorClass::PayloadTooLarge
        | ErrorClass::Unprocessable
        | ErrorClass::RequestExceedsLimit
        | ErrorClass::QuotaInsufficient | ErrorClass::QuotaCredit | ErrorClass::QuotaOrganizationSpend | ErrorClass::QuotaProjectSpend | ErrorClass::QuotaUsageLimit | ErrorClass::QuotaBillingInactive
        | ErrorClass::WebsocketPreviousResponseNotFound | ErrorClass::WebsocketConnectionLimit | ErrorClass::WebsocketStreamLimit | ErrorClass::OtherClientError
        | ErrorClass::OtherServerError
        | ErrorClass::WeirQueueFull
        | ErrorClass::WeirDeadline
        | ErrorClass::WeirBreakerOpen
        | ErrorClass::WeirBillingBlock
        | ErrorClass::WeirCallerLimit
        | ErrorClass::WeirCallerUnknown | ErrorClass::WeirNotAllowed
        | ErrorClass::WeirBodyTooLarge
        | ErrorClass::WeirDraining
        | ErrorClass::WeirClientClosed => (Rule::Never, FAILED),
        // An answer that takes too long is a long answer, or an outage: a repeat pays for it twice.
        ErrorClass::GatewayTimeout | ErrorClass::TimeoutResponse | ErrorClass::TimeoutIdle => (Rule::Never, TIMED_OUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(class: ErrorClass, safety: Safety, may_have_run: bool) -> String {
        match verdict(class, safety, may_have_run, false) {
            Verdict::Never(_) => "never".to_owned(),
            Verdict::Queue => "queue".to_owned(),
            Verdict::Backoff(cost) => cost.to_string(),
        }
    }

    #[test]
    fn the_table_is_what_the_design_says() {
        for class in ErrorClass::ALL {
            // Of a repeatable operation, of another, and of any that provably did nothing.
            let (safe, other, unsent) = match class.as_str() {
                "rate_limit_requests" | "rate_limit_tokens" | "rate_limit_other" | "slow_down" => {
                    ("queue", "queue", "queue")
                }
                "overloaded"
                | "resource_unavailable"
                | "connection_dns"
                | "connection_refused"
                | "connection_tls"
                | "connection_proxy"
                | "timeout_connect"
                | "weir_internal" => ("500", "500", "500"),
                "internal_server_error"
                | "bad_gateway"
                | "connection_reset"
                | "stream_error"
                | "stream_cut"
                | "empty_response"
                | "malformed_response" => ("1000", "never", "500"),
                _ => ("never", "never", "never"),
            };
            assert_eq!(told(class, Safety::Repeatable, true), safe, "{class:?}");
            assert_eq!(told(class, Safety::OnlyIfUnsent, true), other, "{class:?}");
            assert_eq!(told(class, Safety::OnlyIfUnsent, false), unsent, "{class:?}");
        }
    }

    #[test]
    fn nothing_is_repeated_once_the_client_saw_a_byte() {
        for class in ErrorClass::ALL {
            let verdict = verdict(class, Safety::Repeatable, false, true);
            assert_eq!(verdict, Verdict::Never(Why::Committed), "{class:?}");
        }
    }

    #[test]
    fn no_retry_costs_less_than_half_a_token() {
        assert!(ErrorClass::ALL.into_iter().all(|class| cost(class) >= 500));
        assert_eq!(cost(ErrorClass::TimeoutResponse), 1400);
    }
}

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
/// `Failure::may_have_run`). `committed`: whether a byte of an answer reached the client.
pub const fn verdict(class: ErrorClass, safety: Safety, may_have_run: bool, committed: bool) -> Verdict {
    if committed {
        return Verdict::Never(Why::Committed);
    }
    match rule(class) {
        Rule::Never => Verdict::Never(Why::Class),
        Rule::Queue => Verdict::Queue,
        Rule::Always => Verdict::Backoff(cost(class, may_have_run)),
        Rule::WhereSafe => match (may_have_run, safety) {
            (false, _) | (_, Safety::Repeatable) => Verdict::Backoff(cost(class, may_have_run)),
            (true, Safety::OnlyIfUnsent) => Verdict::Never(Why::Unsafe),
        },
    }
}

/// What a retry after this class costs the budget.
///
/// A cheap failure costs less than one that kept the upstream busy, and a timeout most (the ratio of AWS's clients). Nothing
/// costs less than a half: with a reserve of 2 % that is what keeps attempts within 1.1 of requests when everything fails.
pub const fn cost(class: ErrorClass, may_have_run: bool) -> MilliTokens {
    match class {
        ErrorClass::TimeoutResponse | ErrorClass::TimeoutIdle => TIMED_OUT,
        ErrorClass::TimeoutConnect
        | ErrorClass::ConnectionDns
        | ErrorClass::ConnectionRefused
        | ErrorClass::ConnectionTls => NOT_SENT,
        _ if !may_have_run => REJECTED,
        _ => FAILED,
    }
}

/// Nothing was sent. (AWS's ratio would be 200; the floor is 500.)
const NOT_SENT: MilliTokens = 500;
/// The upstream refused the request before working on it.
const REJECTED: MilliTokens = 500;
/// The upstream worked on the request, and failed.
const FAILED: MilliTokens = 1000;
/// The upstream may still be working on it.
const TIMED_OUT: MilliTokens = 1400;

/// A row of the table.
enum Rule {
    Never,
    Queue,
    /// The upstream did nothing: any operation may be repeated.
    Always,
    /// Only where the upstream did nothing, or a repeat does no harm.
    WhereSafe,
}

const fn rule(class: ErrorClass) -> Rule {
    match class {
        ErrorClass::RateLimitRequests
        | ErrorClass::RateLimitTokens
        | ErrorClass::RateLimitOther
        | ErrorClass::SlowDown => Rule::Queue,
        ErrorClass::ResourceUnavailable
        | ErrorClass::Overloaded
        | ErrorClass::ConnectionDns
        | ErrorClass::ConnectionRefused
        | ErrorClass::ConnectionTls
        | ErrorClass::TimeoutConnect => Rule::Always,
        ErrorClass::InternalServerError
        | ErrorClass::BadGateway
        | ErrorClass::ConnectionReset
        | ErrorClass::StreamError
        | ErrorClass::StreamCut
        | ErrorClass::MalformedResponse => Rule::WhereSafe,
        // The request is wrong, spent or not allowed; or (408, 409) the client's own retry is the better one.
        ErrorClass::AuthenticationInvalid
        | ErrorClass::AuthenticationIncorrectKey
        | ErrorClass::AuthenticationNoOrganization
        | ErrorClass::AuthenticationIpDenied
        | ErrorClass::AuthenticationMissingScope
        | ErrorClass::AuthenticationOther
        | ErrorClass::PermissionDenied
        | ErrorClass::RegionUnsupported
        | ErrorClass::BadRequest
        | ErrorClass::ContextLengthExceeded
        | ErrorClass::NotFound
        | ErrorClass::ModelNotFound
        | ErrorClass::RequestTimeout
        | ErrorClass::Conflict
        | ErrorClass::ConversationLocked
        | ErrorClass::PayloadTooLarge
        | ErrorClass::Unprocessable
        | ErrorClass::RequestExceedsLimit
        | ErrorClass::QuotaExhausted
        | ErrorClass::OtherClientError
        | ErrorClass::OtherServerError => Rule::Never,
        // An answer that takes too long is a long answer, or an outage: a repeat pays for it twice.
        ErrorClass::TimeoutResponse | ErrorClass::TimeoutIdle => Rule::Never,
        ErrorClass::WeirQueueFull
        | ErrorClass::WeirDeadline
        | ErrorClass::WeirBreakerOpen
        | ErrorClass::WeirQuotaBreaker
        | ErrorClass::WeirCallerLimit
        | ErrorClass::WeirCallerUnknown
        | ErrorClass::WeirBodyTooLarge
        | ErrorClass::WeirDraining
        | ErrorClass::WeirClientClosed
        | ErrorClass::WeirInternal => Rule::Never,
    }
}

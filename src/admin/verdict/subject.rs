//! What an error class is about, and so where its cause lies.

use super::Blame;
use crate::classify::ErrorClass;

/// What one finding speaks of; several classes may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A key that the upstream refuses.
    Keys,
    /// A key that Weir does not know.
    UnknownKeys,
    /// Requests that the configuration does not allow.
    Rights,
    /// Requests that can't succeed as they are.
    Invalid,
    /// Requests that collide or come too slowly.
    Collisions,
    /// Rate limits of the upstream that reached callers.
    Limits,
    /// Requests that Weir's queue turned away.
    Queue,
    /// A caller that reached its own limit.
    CallerLimit,
    /// Money.
    Quota,
    /// No connection to the upstream.
    Network,
    /// The upstream answers with errors, or not in time.
    Upstream,
    /// Weir's own failures.
    Weir,
    /// What another finding tells: breakers, draining, clients that leave.
    Told,
}

impl Subject {
    /// What a class is about. Total, so that a new class has a place of its own here.
    pub(super) const fn of(class: ErrorClass) -> Self {
        match class {
            ErrorClass::AuthenticationInvalid
            | ErrorClass::AuthenticationIncorrectKey
            | ErrorClass::AuthenticationNoOrganization
            | ErrorClass::AuthenticationIpDenied
            | ErrorClass::AuthenticationMissingScope
            | ErrorClass::AuthenticationOther => Self::Keys,
            ErrorClass::WeirCallerUnknown => Self::UnknownKeys,
            ErrorClass::WeirNotAllowed => Self::Rights,
            ErrorClass::PermissionDenied
            | ErrorClass::RegionUnsupported
            | ErrorClass::BadRequest
            | ErrorClass::ServiceTierInvalid
            | ErrorClass::WebsocketPreviousResponseNotFound
            | ErrorClass::WebsocketConnectionLimit
            | ErrorClass::WebsocketStreamLimit
            | ErrorClass::ContextLengthExceeded
            | ErrorClass::NotFound
            | ErrorClass::ModelNotFound
            | ErrorClass::PayloadTooLarge
            | ErrorClass::Unprocessable
            | ErrorClass::RequestExceedsLimit
            | ErrorClass::OtherClientError
            | ErrorClass::WeirBodyTooLarge => Self::Invalid,
            ErrorClass::RequestTimeout | ErrorClass::Conflict | ErrorClass::ConversationLocked => {
                Self::Collisions
            }
            ErrorClass::RateLimitRequests
            | ErrorClass::RateLimitTokens
            | ErrorClass::RateLimitOther
            | ErrorClass::ResourceUnavailable => Self::Limits,
            ErrorClass::WeirQueueFull | ErrorClass::WeirDeadline => Self::Queue,
            ErrorClass::WeirCallerLimit => Self::CallerLimit,
            ErrorClass::QuotaInsufficient
            | ErrorClass::QuotaCredit
            | ErrorClass::QuotaOrganizationSpend
            | ErrorClass::QuotaProjectSpend
            | ErrorClass::QuotaUsageLimit
            | ErrorClass::QuotaBillingInactive
            | ErrorClass::WeirBillingBlock => Self::Quota,
            ErrorClass::ConnectionDns
            | ErrorClass::ConnectionRefused
            | ErrorClass::ConnectionTls
            | ErrorClass::ConnectionReset
            | ErrorClass::ConnectionProxy
            | ErrorClass::TimeoutConnect => Self::Network,
            ErrorClass::SlowDown
            | ErrorClass::InternalServerError
            | ErrorClass::Overloaded
            | ErrorClass::BadGateway
            | ErrorClass::GatewayTimeout
            | ErrorClass::EmptyResponse
            | ErrorClass::TimeoutResponse
            | ErrorClass::TimeoutIdle
            | ErrorClass::StreamError
            | ErrorClass::StreamCut
            | ErrorClass::OtherServerError
            | ErrorClass::MalformedResponse => Self::Upstream,
            ErrorClass::WeirInternal => Self::Weir,
            ErrorClass::WeirBreakerOpen | ErrorClass::WeirDraining | ErrorClass::WeirClientClosed => {
                Self::Told
            }
        }
    }

    /// What is about a class by its name; nothing where this Weir has no such class.
    pub(super) fn named(class: &str) -> Option<Self> {
        ErrorClass::named(class).map(Self::of)
    }

    /// Where the cause lies.
    pub(super) const fn blame(self) -> Blame {
        match self {
            Self::Keys
            | Self::UnknownKeys
            | Self::Rights
            | Self::Invalid
            | Self::Collisions
            | Self::CallerLimit => Blame::Us,
            Self::Limits | Self::Queue => Blame::Limits,
            Self::Quota => Blame::Quota,
            Self::Network => Blame::Network,
            Self::Upstream => Blame::Upstream,
            Self::Weir => Blame::Weir,
            Self::Told => Blame::Nobody,
        }
    }
}

//! What the end of an attempt says about the upstream's health.

use crate::classify::ErrorClass;

/// What an attempt's end says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It works.
    Alive,
    /// It fails.
    Failing,
    /// Nothing.
    Unknown,
}

/// What an error says about the upstream's health: an answer that blames the request, or asks for less, proves that it works.
pub(crate) fn health(class: ErrorClass) -> Health {
    match class {
        ErrorClass::InternalServerError
        | ErrorClass::Overloaded
        | ErrorClass::BadGateway
        | ErrorClass::GatewayTimeout
        | ErrorClass::ConnectionDns
        | ErrorClass::ConnectionRefused
        | ErrorClass::ConnectionTls
        | ErrorClass::ConnectionReset
        | ErrorClass::ConnectionProxy
        | ErrorClass::TimeoutConnect
        | ErrorClass::TimeoutResponse
        | ErrorClass::OtherServerError
        | ErrorClass::MalformedResponse
        | ErrorClass::StreamError
        | ErrorClass::EmptyResponse => Health::Failing,
        ErrorClass::AuthenticationInvalid
        | ErrorClass::AuthenticationIncorrectKey
        | ErrorClass::AuthenticationNoOrganization
        | ErrorClass::AuthenticationIpDenied
        | ErrorClass::AuthenticationMissingScope
        | ErrorClass::AuthenticationOther
        | ErrorClass::PermissionDenied
        | ErrorClass::RegionUnsupported
        | ErrorClass::BadRequest
        | ErrorClass::ServiceTierInvalid
        | ErrorClass::ContextLengthExceeded
        | ErrorClass::NotFound
        | ErrorClass::ModelNotFound
        | ErrorClass::RequestTimeout
        | ErrorClass::Conflict
        | ErrorClass::ConversationLocked
        | ErrorClass::PayloadTooLarge
        | ErrorClass::Unprocessable
        | ErrorClass::RateLimitRequests
        | ErrorClass::RateLimitTokens
        | ErrorClass::RateLimitOther
        | ErrorClass::RequestExceedsLimit
        | ErrorClass::QuotaInsufficient
        | ErrorClass::QuotaCredit
        | ErrorClass::QuotaOrganizationSpend
        | ErrorClass::QuotaProjectSpend
        | ErrorClass::QuotaUsageLimit
        | ErrorClass::QuotaBillingInactive
        | ErrorClass::SlowDown
        | ErrorClass::ResourceUnavailable
        | ErrorClass::OtherClientError
        | ErrorClass::WebsocketPreviousResponseNotFound
        | ErrorClass::WebsocketConnectionLimit
        | ErrorClass::WebsocketStreamLimit => Health::Alive,
        ErrorClass::TimeoutIdle
        | ErrorClass::StreamCut
        | ErrorClass::WeirQueueFull
        | ErrorClass::WeirDeadline
        | ErrorClass::WeirBreakerOpen
        | ErrorClass::WeirBillingBlock
        | ErrorClass::WeirCallerLimit
        | ErrorClass::WeirCallerUnknown
        | ErrorClass::WeirNotAllowed
        | ErrorClass::WeirBodyTooLarge
        | ErrorClass::WeirDraining
        | ErrorClass::WeirClientClosed
        | ErrorClass::WeirInternal => Health::Unknown,
    }
}

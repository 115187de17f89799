//! The closed list of error classes.

use http::StatusCode;
use serde::{Deserialize, Deserializer};

use crate::label::{Label, names};

use super::meaning::{Health, Meaning, Repeat, Source, Subject, Work};

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,
        $status:ident $subject:ident $source:ident $repeat:ident $work:ident $health:ident;)+) => {
        names! {
            /// The cause of an error, as in the design's error table; one metric series each.
            ErrorClass { $($(#[$doc])* $variant = $name,)+ }
        }

        static MEANINGS: [Meaning; ErrorClass::ALL.len()] = [$(Meaning {
            status: StatusCode::$status,
            subject: Subject::$subject,
            source: Source::$source,
            repeat: Repeat::$repeat,
            work: Work::$work,
            health: Health::$health,
        },)+];
    };
}

// Name; then the fields of `Meaning`: status, subject, source, repeat, work, health.
classes! {
    /// 401: the key or its header is malformed or was revoked.
    AuthenticationInvalid = "authentication_invalid", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// 401 `invalid_api_key`.
    AuthenticationIncorrectKey = "authentication_incorrect_key", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// 401: the key belongs to no organization, or to another one than the header says.
    AuthenticationNoOrganization = "authentication_no_organization", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// 401: the address is not on the project's list.
    AuthenticationIpDenied = "authentication_ip_denied", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// 401: a restricted key lacks a scope.
    AuthenticationMissingScope = "authentication_missing_scope", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// Any other 401.
    AuthenticationOther = "authentication_other", UNAUTHORIZED Keys Answer Never Failed Alive;
    /// 403.
    PermissionDenied = "permission_denied", FORBIDDEN Invalid Answer Never Failed Alive;
    /// 403: country, region or territory not supported.
    RegionUnsupported = "region_unsupported", FORBIDDEN Invalid Answer Never Failed Alive;
    /// 400.
    BadRequest = "bad_request", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// 400: the project may not use the service tier that the request names.
    ServiceTierInvalid = "service_tier_invalid", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// 400: the prompt and answer do not fit the model.
    ContextLengthExceeded = "context_length_exceeded", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// 404.
    NotFound = "not_found", NOT_FOUND Invalid Answer Never Failed Alive;
    /// 404, 400 on `/responses`, or 403 without access to the model.
    ModelNotFound = "model_not_found", NOT_FOUND Invalid Answer Never Failed Alive;
    /// 408.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT Collisions Answer Never Failed Alive;
    /// 409.
    Conflict = "conflict", CONFLICT Collisions Answer Never Failed Alive;
    /// 400 `conversation_locked`: another request uses the conversation.
    ConversationLocked = "conversation_locked", BAD_REQUEST Collisions Answer Never Failed Alive;
    /// 413.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE Invalid Answer Never Failed Alive;
    /// 422.
    Unprocessable = "unprocessable", UNPROCESSABLE_ENTITY Invalid Answer Never Failed Alive;
    /// 429: requests per minute or day.
    RateLimitRequests = "rate_limit_requests", TOO_MANY_REQUESTS Limits Answer Queue Refused Alive;
    /// 429: tokens per minute or day.
    RateLimitTokens = "rate_limit_tokens", TOO_MANY_REQUESTS Limits Answer Queue Refused Alive;
    /// 429: another kind of limit, or none named.
    RateLimitOther = "rate_limit_other", TOO_MANY_REQUESTS Limits Answer Queue Refused Alive;
    /// 429 "Request too large": it can never pass.
    RequestExceedsLimit = "request_exceeds_limit", TOO_MANY_REQUESTS Invalid Answer Never Failed Alive;
    /// `slow_down`, a full queue, or too many requests at once, under any status.
    SlowDown = "slow_down", SERVICE_UNAVAILABLE Upstream Answer Queue Refused Alive;
    /// 429 of the flex tier.
    ResourceUnavailable = "resource_unavailable", TOO_MANY_REQUESTS Limits Answer Always Refused Alive;
    /// `insufficient_quota`: credit or monthly spend is used up, without saying which.
    QuotaInsufficient = "quota_insufficient", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// `credit_balance_exhausted`: the prepaid credit is used up.
    QuotaCredit = "quota_credit", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// `organization_spend_limit_exceeded`: the organization's own spend limit is reached.
    QuotaOrganizationSpend = "quota_organization_spend", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// `project_spend_limit_exceeded`: the project's spend limit is reached.
    QuotaProjectSpend = "quota_project_spend", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// `organization_usage_limit_exceeded`: the usage limit that the API assigned is reached.
    QuotaUsageLimit = "quota_usage_limit", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// `billing_not_active`: the account has no active billing.
    QuotaBillingInactive = "quota_billing_inactive", TOO_MANY_REQUESTS Quota Answer Never Failed Alive;
    /// 500.
    InternalServerError = "internal_server_error", INTERNAL_SERVER_ERROR Upstream Answer WhereSafe Failed Failing;
    /// 503 with an overload message, 429 `engine_overloaded_error`, 529.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE Upstream Answer Always Refused Failing;
    /// Other 502, 503, 52x: the API's edge got no response from it.
    BadGateway = "bad_gateway", BAD_GATEWAY Upstream Answer WhereSafe Failed Failing;
    /// 504, 524: the API's edge timed out.
    GatewayTimeout = "gateway_timeout", GATEWAY_TIMEOUT Upstream Answer Never TimedOut Failing;
    /// The upstream's name did not resolve.
    ConnectionDns = "connection_dns", BAD_GATEWAY Network NoAnswer Always NotSent Failing;
    /// The upstream refused the connection.
    ConnectionRefused = "connection_refused", BAD_GATEWAY Network NoAnswer Always NotSent Failing;
    /// The TLS handshake failed.
    ConnectionTls = "connection_tls", BAD_GATEWAY Network NoAnswer Always NotSent Failing;
    /// The connection broke before an answer.
    ConnectionReset = "connection_reset", BAD_GATEWAY Network NoAnswer WhereSafe Failed Failing;
    // A proxy's refusal is final by `Failure::is_final`.
    /// The egress proxy refused to connect to the upstream.
    ConnectionProxy = "connection_proxy", BAD_GATEWAY Network NoAnswer Always NotSent Failing;
    /// No connection in time.
    TimeoutConnect = "timeout_connect", GATEWAY_TIMEOUT Network NoAnswer Always NotSent Failing;
    /// No response head in time.
    TimeoutResponse = "timeout_response", GATEWAY_TIMEOUT Upstream NoAnswer Never TimedOut Failing;
    /// No chunk of the body in time.
    TimeoutIdle = "timeout_idle", GATEWAY_TIMEOUT Upstream Cut Never TimedOut Unknown;
    /// An error inside, or instead of, a 200 stream.
    StreamError = "stream_error", BAD_GATEWAY Upstream Answer WhereSafe Failed Failing;
    /// A stream that ended before it was complete.
    StreamCut = "stream_cut", BAD_GATEWAY Upstream Cut WhereSafe Failed Unknown;
    /// A 200 without a result.
    EmptyResponse = "empty_response", BAD_GATEWAY Upstream Answer WhereSafe Failed Failing;
    /// A response that is not valid HTTP, or has the wrong length.
    MalformedResponse = "malformed_response", BAD_GATEWAY Upstream NoAnswer WhereSafe Failed Failing;
    /// `previous_response_not_found`: the response that a turn continues does not exist.
    WebsocketPreviousResponseNotFound = "websocket_previous_response_not_found", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// `websocket_connection_limit_reached`: the connection reached its maximum age.
    WebsocketConnectionLimit = "websocket_connection_limit", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// `websocket_stream_limit_reached`: the connection has the maximum number of streams.
    WebsocketStreamLimit = "websocket_stream_limit", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// Any other 4xx.
    OtherClientError = "other_client_error", BAD_REQUEST Invalid Answer Never Failed Alive;
    /// Any other 5xx.
    OtherServerError = "other_server_error", BAD_GATEWAY Upstream Answer Never Failed Failing;
    /// Weir: the queue is full.
    WeirQueueFull = "weir_queue_full", TOO_MANY_REQUESTS Queue Weir Never Failed Unknown;
    /// Weir: admission came, or would come, too late.
    WeirDeadline = "weir_deadline", SERVICE_UNAVAILABLE Queue Weir Never Failed Unknown;
    /// Weir: the upstream is failing, and the outage was longer than the wait.
    WeirBreakerOpen = "weir_breaker_open", SERVICE_UNAVAILABLE Told Weir Never Failed Unknown;
    /// Weir: the quota is known to be spent, so nothing is sent upstream.
    WeirBillingBlock = "weir_billing_block", TOO_MANY_REQUESTS Quota Weir Never Failed Unknown;
    /// Weir: the caller has too many waiting requests, or exceeds another of its own limits.
    WeirCallerLimit = "weir_caller_limit", TOO_MANY_REQUESTS CallerLimit Weir Never Failed Unknown;
    /// Weir: the request carries no key or name of a configured caller.
    WeirCallerUnknown = "weir_caller_unknown", UNAUTHORIZED UnknownKeys Weir Never Failed Unknown;
    /// Weir: the caller may not use this endpoint or model.
    WeirNotAllowed = "weir_not_allowed", FORBIDDEN Rights Weir Never Failed Unknown;
    /// Weir: the body exceeds the configured limit.
    WeirBodyTooLarge = "weir_body_too_large", PAYLOAD_TOO_LARGE Invalid Weir Never Failed Unknown;
    /// Weir: it is shutting down.
    WeirDraining = "weir_draining", SERVICE_UNAVAILABLE Told Weir Never Failed Unknown;
    /// The client left before the response was complete.
    WeirClientClosed = "weir_client_closed", REQUEST_TIMEOUT Told Caller Never Failed Unknown;
    // For an attempt: no connection could be opened.
    /// Weir: a bug.
    WeirInternal = "weir_internal", INTERNAL_SERVER_ERROR Weir Weir Always NotSent Unknown;
}

impl ErrorClass {
    /// The consequences of the class.
    pub const fn meaning(self) -> &'static Meaning {
        &MEANINGS[self as usize]
    }

    /// The class's place in [`ErrorClass::ALL`], for tables with one entry each.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class with this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Label::named(name)
    }

    /// Whether the error comes from Weir itself, not the upstream.
    pub fn is_own(self) -> bool {
        self >= Self::WeirQueueFull
    }

    /// Whether the upstream refused because money or an assigned usage limit is spent, so that
    /// waiting does not help.
    pub const fn is_quota(self) -> bool {
        matches!((self.meaning().subject, self.meaning().source), (Subject::Quota, Source::Answer))
    }
}

impl<'de> Deserialize<'de> for ErrorClass {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("no class {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_complete_and_names_are_unique() {
        for (index, class) in ErrorClass::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), index);
            assert_eq!(ErrorClass::named(class.as_str()), Some(class));
            assert_eq!(class.is_own(), class.as_str().starts_with("weir_"));
            assert_eq!(class.is_quota(), class.as_str().starts_with("quota_"));
        }
        assert_eq!(ErrorClass::WeirInternal.index() + 1, ErrorClass::ALL.len());
    }
}

//! The closed list of error classes: what a person tells apart at a glance.

/// What went wrong, as the error table of the design names it; one metric series each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// 401: the key or its header is malformed or was revoked.
    AuthenticationInvalid,
    /// 401 `invalid_api_key`.
    AuthenticationIncorrectKey,
    /// 401: the key belongs to no organization, or to another one than the header says.
    AuthenticationNoOrganization,
    /// 401: the address is not on the project's list.
    AuthenticationIpDenied,
    /// 401: a restricted key lacks a scope.
    AuthenticationMissingScope,
    /// Any other 401.
    AuthenticationOther,
    /// 403.
    PermissionDenied,
    /// 403: country, region or territory not supported.
    RegionUnsupported,
    /// 400.
    BadRequest,
    /// 400: the prompt and answer do not fit the model.
    ContextLengthExceeded,
    /// 404.
    NotFound,
    /// 404, 400 on `/responses`, or 403 without access to the model.
    ModelNotFound,
    /// 408.
    RequestTimeout,
    /// 409.
    Conflict,
    /// 400 `conversation_locked`: another request holds the conversation.
    ConversationLocked,
    /// 413.
    PayloadTooLarge,
    /// 422.
    Unprocessable,
    /// 429: requests per minute or day.
    RateLimitRequests,
    /// 429: tokens per minute or day.
    RateLimitTokens,
    /// 429: another dimension, or none named.
    RateLimitOther,
    /// 429 "Request too large": it can never pass.
    RequestExceedsLimit,
    /// 429 or 503 `slow_down`.
    SlowDown,
    /// 429 of the flex tier.
    ResourceUnavailable,
    /// 429: credit, spend or usage limit spent; waiting does not help.
    QuotaExhausted,
    /// 500.
    InternalServerError,
    /// 503 that says overloaded, 429 `engine_overloaded_error`, 529.
    Overloaded,
    /// Other 502, 503, 504, 52x: the edge before the API.
    BadGateway,
    /// The upstream's name did not resolve.
    ConnectionDns,
    /// The upstream refused the connection.
    ConnectionRefused,
    /// The TLS handshake failed.
    ConnectionTls,
    /// The connection broke before an answer.
    ConnectionReset,
    /// No connection in time.
    TimeoutConnect,
    /// No response head in time.
    TimeoutResponse,
    /// No chunk of the body in time.
    TimeoutIdle,
    /// An error inside, or instead of, a 200 stream.
    StreamError,
    /// A stream that ended before it was complete.
    StreamCut,
    /// Any other 4xx.
    OtherClientError,
    /// Any other 5xx.
    OtherServerError,
    /// An answer that is not HTTP, or lies about its length.
    MalformedResponse,
    /// Weir: the queue is full.
    WeirQueueFull,
    /// Weir: the turn would come, or came, too late.
    WeirDeadline,
    /// Weir: the upstream is failing and the outage outlasted the wait.
    WeirBreakerOpen,
    /// Weir: the quota is known to be spent.
    WeirQuotaBreaker,
    /// Weir: the caller has too much waiting.
    WeirCallerLimit,
    /// Weir: nobody knows this caller.
    WeirCallerUnknown,
    /// Weir: the body is over the configured limit.
    WeirBodyTooLarge,
    /// Weir: it is shutting down.
    WeirDraining,
    /// The client left before the answer was complete.
    WeirClientClosed,
    /// Weir: a defect of its own.
    WeirInternal,
}

impl ErrorClass {
    /// Every class, in the order of the table.
    pub const ALL: [Self; 49] = [
        Self::AuthenticationInvalid,
        Self::AuthenticationIncorrectKey,
        Self::AuthenticationNoOrganization,
        Self::AuthenticationIpDenied,
        Self::AuthenticationMissingScope,
        Self::AuthenticationOther,
        Self::PermissionDenied,
        Self::RegionUnsupported,
        Self::BadRequest,
        Self::ContextLengthExceeded,
        Self::NotFound,
        Self::ModelNotFound,
        Self::RequestTimeout,
        Self::Conflict,
        Self::ConversationLocked,
        Self::PayloadTooLarge,
        Self::Unprocessable,
        Self::RateLimitRequests,
        Self::RateLimitTokens,
        Self::RateLimitOther,
        Self::RequestExceedsLimit,
        Self::SlowDown,
        Self::ResourceUnavailable,
        Self::QuotaExhausted,
        Self::InternalServerError,
        Self::Overloaded,
        Self::BadGateway,
        Self::ConnectionDns,
        Self::ConnectionRefused,
        Self::ConnectionTls,
        Self::ConnectionReset,
        Self::TimeoutConnect,
        Self::TimeoutResponse,
        Self::TimeoutIdle,
        Self::StreamError,
        Self::StreamCut,
        Self::OtherClientError,
        Self::OtherServerError,
        Self::MalformedResponse,
        Self::WeirQueueFull,
        Self::WeirDeadline,
        Self::WeirBreakerOpen,
        Self::WeirQuotaBreaker,
        Self::WeirCallerLimit,
        Self::WeirCallerUnknown,
        Self::WeirBodyTooLarge,
        Self::WeirDraining,
        Self::WeirClientClosed,
        Self::WeirInternal,
    ];

    /// The class's name in metrics, headers, logs and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationInvalid => "authentication_invalid",
            Self::AuthenticationIncorrectKey => "authentication_incorrect_key",
            Self::AuthenticationNoOrganization => "authentication_no_organization",
            Self::AuthenticationIpDenied => "authentication_ip_denied",
            Self::AuthenticationMissingScope => "authentication_missing_scope",
            Self::AuthenticationOther => "authentication_other",
            Self::PermissionDenied => "permission_denied",
            Self::RegionUnsupported => "region_unsupported",
            Self::BadRequest => "bad_request",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::NotFound => "not_found",
            Self::ModelNotFound => "model_not_found",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::ConversationLocked => "conversation_locked",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Unprocessable => "unprocessable",
            Self::RateLimitRequests => "rate_limit_requests",
            Self::RateLimitTokens => "rate_limit_tokens",
            Self::RateLimitOther => "rate_limit_other",
            Self::RequestExceedsLimit => "request_exceeds_limit",
            Self::SlowDown => "slow_down",
            Self::ResourceUnavailable => "resource_unavailable",
            Self::QuotaExhausted => "quota_exhausted",
            Self::InternalServerError => "internal_server_error",
            Self::Overloaded => "overloaded",
            Self::BadGateway => "bad_gateway",
            Self::ConnectionDns => "connection_dns",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTls => "connection_tls",
            Self::ConnectionReset => "connection_reset",
            Self::TimeoutConnect => "timeout_connect",
            Self::TimeoutResponse => "timeout_response",
            Self::TimeoutIdle => "timeout_idle",
            Self::StreamError => "stream_error",
            Self::StreamCut => "stream_cut",
            Self::OtherClientError => "other_client_error",
            Self::OtherServerError => "other_server_error",
            Self::MalformedResponse => "malformed_response",
            Self::WeirQueueFull => "weir_queue_full",
            Self::WeirDeadline => "weir_deadline",
            Self::WeirBreakerOpen => "weir_breaker_open",
            Self::WeirQuotaBreaker => "weir_quota_breaker",
            Self::WeirCallerLimit => "weir_caller_limit",
            Self::WeirCallerUnknown => "weir_caller_unknown",
            Self::WeirBodyTooLarge => "weir_body_too_large",
            Self::WeirDraining => "weir_draining",
            Self::WeirClientClosed => "weir_client_closed",
            Self::WeirInternal => "weir_internal",
        }
    }

    /// The class's place in [`ErrorClass::ALL`], for tables with one entry each.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class with this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Whether Weir itself, not the upstream, is where the error comes from.
    pub fn is_own(self) -> bool {
        self >= Self::WeirQueueFull
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
        }
        assert_eq!(ErrorClass::WeirInternal.index() + 1, ErrorClass::ALL.len());
    }
}

//! The closed list of error classes: what a person tells apart at a glance.

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// What went wrong, as the error table of the design names it; one metric series each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorClass { $($(#[$doc])* $variant,)+ }

        impl ErrorClass {
            /// Every class, in the order of the table.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant,)+];

            /// The class's name in metrics, headers, logs and reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

classes! {
    /// 401: the key or its header is malformed or was revoked.
    AuthenticationInvalid => "authentication_invalid",
    /// 401 `invalid_api_key`.
    AuthenticationIncorrectKey => "authentication_incorrect_key",
    /// 401: the key belongs to no organization, or to another one than the header says.
    AuthenticationNoOrganization => "authentication_no_organization",
    /// 401: the address is not on the project's list.
    AuthenticationIpDenied => "authentication_ip_denied",
    /// 401: a restricted key lacks a scope.
    AuthenticationMissingScope => "authentication_missing_scope",
    /// Any other 401.
    AuthenticationOther => "authentication_other",
    /// 403.
    PermissionDenied => "permission_denied",
    /// 403: country, region or territory not supported.
    RegionUnsupported => "region_unsupported",
    /// 400.
    BadRequest => "bad_request",
    /// 400: the project may not use the service tier that the request names.
    ServiceTierInvalid => "service_tier_invalid",
    /// 400: the prompt and answer do not fit the model.
    ContextLengthExceeded => "context_length_exceeded",
    /// 404.
    NotFound => "not_found",
    /// 404, 400 on `/responses`, or 403 without access to the model.
    ModelNotFound => "model_not_found",
    /// 408.
    RequestTimeout => "request_timeout",
    /// 409.
    Conflict => "conflict",
    /// 400 `conversation_locked`: another request holds the conversation.
    ConversationLocked => "conversation_locked",
    /// 413.
    PayloadTooLarge => "payload_too_large",
    /// 422.
    Unprocessable => "unprocessable",
    /// 429: requests per minute or day.
    RateLimitRequests => "rate_limit_requests",
    /// 429: tokens per minute or day.
    RateLimitTokens => "rate_limit_tokens",
    /// 429: another dimension, or none named.
    RateLimitOther => "rate_limit_other",
    /// 429 "Request too large": it can never pass.
    RequestExceedsLimit => "request_exceeds_limit",
    /// `slow_down`, a full queue, or too many requests at once, under any status.
    SlowDown => "slow_down",
    /// 429 of the flex tier.
    ResourceUnavailable => "resource_unavailable",
    /// `insufficient_quota`: credit or monthly spend is used up, not said which.
    QuotaInsufficient => "quota_insufficient",
    /// `credit_balance_exhausted`: the prepaid credit is used up.
    QuotaCredit => "quota_credit",
    /// `organization_spend_limit_exceeded`: the organization's own spend limit is reached.
    QuotaOrganizationSpend => "quota_organization_spend",
    /// `project_spend_limit_exceeded`: the project's spend limit is reached.
    QuotaProjectSpend => "quota_project_spend",
    /// `organization_usage_limit_exceeded`: the usage limit that the API assigned is reached.
    QuotaUsageLimit => "quota_usage_limit",
    /// `billing_not_active`: the account has no active billing.
    QuotaBillingInactive => "quota_billing_inactive",
    /// 500.
    InternalServerError => "internal_server_error",
    /// 503 that says overloaded, 429 `engine_overloaded_error`, 529.
    Overloaded => "overloaded",
    /// Other 502, 503, 52x: the edge before the API got no answer from it.
    BadGateway => "bad_gateway",
    /// 504, 524: the edge before the API waited for its answer and gave up.
    GatewayTimeout => "gateway_timeout",
    /// The upstream's name did not resolve.
    ConnectionDns => "connection_dns",
    /// The upstream refused the connection.
    ConnectionRefused => "connection_refused",
    /// The TLS handshake failed.
    ConnectionTls => "connection_tls",
    /// The connection broke before an answer.
    ConnectionReset => "connection_reset",
    /// The egress proxy refused to connect to the upstream.
    ConnectionProxy => "connection_proxy",
    /// No connection in time.
    TimeoutConnect => "timeout_connect",
    /// No response head in time.
    TimeoutResponse => "timeout_response",
    /// No chunk of the body in time.
    TimeoutIdle => "timeout_idle",
    /// An error inside, or instead of, a 200 stream.
    StreamError => "stream_error",
    /// A stream that ended before it was complete.
    StreamCut => "stream_cut",
    /// A 200 without an answer in it.
    EmptyResponse => "empty_response",
    /// An answer that is not HTTP, or lies about its length.
    MalformedResponse => "malformed_response",
    /// `previous_response_not_found`: the response that a turn continues is not there.
    WebsocketPreviousResponseNotFound => "websocket_previous_response_not_found",
    /// `websocket_connection_limit_reached`: the connection is as old as it may become.
    WebsocketConnectionLimit => "websocket_connection_limit",
    /// `websocket_stream_limit_reached`: the connection has as many streams as it may have.
    WebsocketStreamLimit => "websocket_stream_limit",
    /// Any other 4xx.
    OtherClientError => "other_client_error",
    /// Any other 5xx.
    OtherServerError => "other_server_error",
    /// Weir: the queue is full.
    WeirQueueFull => "weir_queue_full",
    /// Weir: the turn would come, or came, too late.
    WeirDeadline => "weir_deadline",
    /// Weir: the upstream is failing and the outage outlasted the wait.
    WeirBreakerOpen => "weir_breaker_open",
    /// Weir: the quota is known to be spent; the upstream is not asked.
    WeirBillingBlock => "weir_billing_block",
    /// Weir: the caller has too much waiting, or exceeds a limit of its own.
    WeirCallerLimit => "weir_caller_limit",
    /// Weir: the request bears no key or name of a configured caller.
    WeirCallerUnknown => "weir_caller_unknown",
    /// Weir: the caller may not use this endpoint or model.
    WeirNotAllowed => "weir_not_allowed",
    /// Weir: the body is over the configured limit.
    WeirBodyTooLarge => "weir_body_too_large",
    /// Weir: it is shutting down.
    WeirDraining => "weir_draining",
    /// The client left before the answer was complete.
    WeirClientClosed => "weir_client_closed",
    /// Weir: a defect of its own.
    WeirInternal => "weir_internal",
}

impl ErrorClass {
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

    /// Whether the upstream refused because money or an assigned usage limit is spent: waiting does
    /// not help.
    pub const fn is_quota(self) -> bool {
        matches!(
            self,
            Self::QuotaInsufficient
                | Self::QuotaCredit
                | Self::QuotaOrganizationSpend
                | Self::QuotaProjectSpend
                | Self::QuotaUsageLimit
                | Self::QuotaBillingInactive
        )
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

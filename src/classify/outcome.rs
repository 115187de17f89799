//! How a request or an attempt ended: the few outcomes that a rate of success is made of.

use super::ErrorClass;

/// How a request, or one attempt, ended; the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// An answer below 400, complete.
    Success,
    /// The request itself is wrong, or not allowed: another try cannot help.
    ClientError,
    /// The upstream limits the rate.
    RateLimited,
    /// The credit or a spend limit is spent.
    QuotaExhausted,
    /// The upstream, or the edge before it, failed.
    UpstreamError,
    /// No connection, or it broke.
    ConnectionError,
    /// Not in time.
    Timeout,
    /// A stream that broke or failed after it had begun.
    StreamBroken,
    /// Weir itself refused.
    Refused,
    /// The client left.
    ClientClosed,
    /// A defect of Weir's own.
    Internal,
}

impl Outcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::ClientError,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::UpstreamError,
        Self::ConnectionError,
        Self::Timeout,
        Self::StreamBroken,
        Self::Refused,
        Self::ClientClosed,
        Self::Internal,
    ];

    /// The outcome's name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::UpstreamError => "upstream_error",
            Self::ConnectionError => "connection_error",
            Self::Timeout => "timeout",
            Self::StreamBroken => "stream_broken",
            Self::Refused => "refused",
            Self::ClientClosed => "client_closed",
            Self::Internal => "internal",
        }
    }

    /// The outcome's place in [`Outcome::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How a request ended whose last error was of this class; success where there was none.
    pub const fn of(class: Option<ErrorClass>) -> Self {
        match class {
            None => Self::Success,
            Some(class) => Self::of_error(class),
        }
    }

    const fn of_error(class: ErrorClass) -> Self {
        match class {
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
            | ErrorClass::OtherClientError => Self::ClientError,
            ErrorClass::RateLimitRequests
            | ErrorClass::RateLimitTokens
            | ErrorClass::RateLimitOther
            | ErrorClass::SlowDown
            | ErrorClass::ResourceUnavailable => Self::RateLimited,
            ErrorClass::QuotaExhausted | ErrorClass::WeirQuotaBreaker => Self::QuotaExhausted,
            ErrorClass::InternalServerError
            | ErrorClass::Overloaded
            | ErrorClass::BadGateway
            | ErrorClass::OtherServerError
            | ErrorClass::MalformedResponse => Self::UpstreamError,
            ErrorClass::ConnectionDns
            | ErrorClass::ConnectionRefused
            | ErrorClass::ConnectionTls
            | ErrorClass::ConnectionReset => Self::ConnectionError,
            ErrorClass::TimeoutConnect | ErrorClass::TimeoutResponse | ErrorClass::TimeoutIdle => {
                Self::Timeout
            }
            ErrorClass::StreamError | ErrorClass::StreamCut => Self::StreamBroken,
            ErrorClass::WeirQueueFull
            | ErrorClass::WeirDeadline
            | ErrorClass::WeirBreakerOpen
            | ErrorClass::WeirCallerLimit
            | ErrorClass::WeirCallerUnknown
            | ErrorClass::WeirBodyTooLarge
            | ErrorClass::WeirDraining => Self::Refused,
            ErrorClass::WeirClientClosed => Self::ClientClosed,
            ErrorClass::WeirInternal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_complete_and_every_outcome_is_reached() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
            let classes = std::iter::once(None).chain(ErrorClass::ALL.into_iter().map(Some));
            assert!(classes.map(Outcome::of).any(|reached| reached == outcome), "{outcome:?}");
        }
    }
}

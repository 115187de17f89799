//! Attempts that brought no answer, or not all of one.

use super::ErrorClass;

/// Why an attempt brought no answer, as the upstream room found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The name did not resolve.
    #[error("the upstream's name did not resolve")]
    Dns,
    /// The connection was refused, or its network is unreachable.
    #[error("the upstream refused the connection")]
    Refused,
    /// The TLS handshake failed.
    #[error("the TLS handshake with the upstream failed")]
    Tls,
    /// The proxy before the upstream refused to connect.
    #[error("the HTTP proxy refused to connect to the upstream")]
    ProxyRefused,
    /// No connection in time.
    #[error("no connection to the upstream in time")]
    ConnectTimeout,
    /// The connection broke before an answer.
    #[error("the upstream closed the connection before it answered")]
    Reset {
        /// Whether a byte of the request may have reached the upstream.
        sent: bool,
    },
    /// No response head in time.
    #[error("no answer from the upstream in time")]
    ResponseTimeout,
    /// No chunk of the body in time.
    #[error("the upstream stopped in the middle of its answer")]
    IdleTimeout,
    /// The answer ended before it was complete.
    #[error("the upstream's answer ended before it was complete")]
    Cut,
    /// The answer is not HTTP, or lies about its length.
    #[error("the upstream's answer is not valid HTTP")]
    Malformed,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 11] = [
        Self::Dns,
        Self::Refused,
        Self::Tls,
        Self::ProxyRefused,
        Self::ConnectTimeout,
        Self::Reset { sent: false },
        Self::Reset { sent: true },
        Self::ResponseTimeout,
        Self::IdleTimeout,
        Self::Cut,
        Self::Malformed,
    ];

    /// Whether the upstream may have begun to work on the request.
    pub const fn may_have_run(self) -> bool {
        match self {
            Self::Dns | Self::Refused | Self::Tls | Self::ProxyRefused | Self::ConnectTimeout => false,
            Self::Reset { sent } => sent,
            Self::ResponseTimeout | Self::IdleTimeout | Self::Cut | Self::Malformed => true,
        }
    }
}

/// The class of an attempt that brought no answer.
pub const fn failure(failure: Failure) -> ErrorClass {
    match failure {
        Failure::Dns => ErrorClass::ConnectionDns,
        Failure::Refused | Failure::ProxyRefused => ErrorClass::ConnectionRefused,
        Failure::Tls => ErrorClass::ConnectionTls,
        Failure::ConnectTimeout => ErrorClass::TimeoutConnect,
        Failure::Reset { .. } => ErrorClass::ConnectionReset,
        Failure::ResponseTimeout => ErrorClass::TimeoutResponse,
        Failure::IdleTimeout => ErrorClass::TimeoutIdle,
        Failure::Cut => ErrorClass::StreamCut,
        Failure::Malformed => ErrorClass::MalformedResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_sent_did_nothing() {
        for kind in Failure::ALL {
            let class = failure(kind);
            assert!(!class.is_own(), "{kind:?}");
            let connecting = matches!(
                class,
                ErrorClass::ConnectionDns
                    | ErrorClass::ConnectionRefused
                    | ErrorClass::ConnectionTls
                    | ErrorClass::TimeoutConnect
            );
            assert_eq!(
                !kind.may_have_run(),
                connecting || kind == Failure::Reset { sent: false },
                "{kind:?}"
            );
        }
    }
}

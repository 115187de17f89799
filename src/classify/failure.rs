//! Failures of attempts without a response.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::ErrorClass;
use crate::label::names;

/// The reason why an attempt got no response, and whether the upstream may have received the
/// request.
///
/// Its display contains no secrets: no addresses, header values or bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// Whether any byte of the request may have reached the upstream. `false` means that repeating
    /// it is safe for every endpoint.
    pub sent: bool,
    /// Whether the same request would fail again.
    lasting: bool,
    detail: Cow<'static, str>,
}

names! {
    /// The kinds of failure; a closed list, so that every use handles each.
    FailureKind {
        /// The upstream's name did not resolve.
        Dns = "the upstream's name did not resolve",
        /// The upstream, or the egress proxy's address, refused the connection.
        Refused = "the upstream refused the connection",
        /// The egress proxy refused to connect to the upstream, and would refuse again.
        Proxy = "the egress proxy refused to connect to the upstream",
        /// The egress proxy could not be reached, failed, or did not respond.
        ProxyFailed = "no connection through the egress proxy",
        /// The system has no file descriptor, port or memory for another connection: no server was
        /// contacted.
        Exhausted = "the system has no file descriptor, port or memory for another connection",
        /// The TLS handshake failed.
        Tls = "the TLS handshake with the upstream failed",
        /// No TLS handshake in time.
        TlsTimeout = "no TLS handshake with the upstream in time",
        /// No TCP connection in time.
        ConnectTimeout = "no TCP connection to the upstream in time",
        /// The connection closed before the response's head was complete.
        Reset = "the upstream closed the connection before responding",
        /// No response head in time.
        ResponseTimeout = "the upstream did not respond in time",
        /// No event of a stream within the configured first-event timeout.
        FirstEventTimeout = "no event of the upstream's stream arrived in time",
        /// No chunk of the response's body in time.
        IdleTimeout = "the upstream stopped sending",
        /// The response is not valid HTTP, or has the wrong length.
        Malformed = "the upstream's response is not valid HTTP",
        /// The response's head exceeds the limit of bytes or fields.
        HeadTooLarge = "the head of the upstream's response has more bytes than upstream.header_bytes, or more than 100 fields",
        /// The client left while its body was streamed to the upstream.
        RequestAborted = "the client closed the connection while it sent its body",
        /// The client stopped sending, or sent too slowly, while its body was streamed.
        RequestTimeout = "the client sent its body too slowly",
        /// The framing of a streamed body is invalid.
        RequestMalformed = "the body's framing is invalid",
        /// A streamed body exceeded the limit.
        RequestTooLarge = "the body is larger than allowed",
    }
}

impl FailureKind {
    /// The class of an attempt that failed this way.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Dns => ErrorClass::ConnectionDns,
            Self::Refused => ErrorClass::ConnectionRefused,
            Self::Proxy | Self::ProxyFailed => ErrorClass::ConnectionProxy,
            Self::Exhausted => ErrorClass::WeirInternal,
            Self::Tls => ErrorClass::ConnectionTls,
            Self::TlsTimeout | Self::ConnectTimeout => ErrorClass::TimeoutConnect,
            Self::Reset => ErrorClass::ConnectionReset,
            Self::ResponseTimeout | Self::FirstEventTimeout => ErrorClass::TimeoutResponse,
            Self::IdleTimeout => ErrorClass::TimeoutIdle,
            Self::Malformed | Self::HeadTooLarge => ErrorClass::MalformedResponse,
            Self::RequestAborted => ErrorClass::WeirClientClosed,
            Self::RequestTimeout => ErrorClass::RequestTimeout,
            Self::RequestMalformed => ErrorClass::BadRequest,
            Self::RequestTooLarge => ErrorClass::WeirBodyTooLarge,
        }
    }

    /// Whether the client, not the upstream, caused the failure.
    pub const fn is_of_the_client(self) -> bool {
        match self {
            Self::RequestAborted | Self::RequestTimeout | Self::RequestMalformed | Self::RequestTooLarge => {
                true
            }
            Self::Dns
            | Self::Refused
            | Self::Proxy
            | Self::ProxyFailed
            | Self::Exhausted
            | Self::Tls
            | Self::TlsTimeout
            | Self::ConnectTimeout
            | Self::Reset
            | Self::ResponseTimeout
            | Self::FirstEventTimeout
            | Self::IdleTimeout
            | Self::Malformed
            | Self::HeadTooLarge => false,
        }
    }
}

/// Whether an error means that the process or the system has no file descriptor, port or memory
/// left.
pub fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

impl Failure {
    /// A failure before anything was sent.
    pub fn unsent(kind: FailureKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, sent: false, lasting: false, detail: detail.into() }
    }

    /// A failure after the upstream may have received the request.
    pub fn sent(kind: FailureKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, sent: true, lasting: false, detail: detail.into() }
    }

    /// Marks the failure as one that stays until its cause is corrected, such as an untrusted
    /// certificate.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// Whether the same request would fail again.
    pub fn is_lasting(&self) -> bool {
        self.lasting || self.is_final()
    }

    /// Whether every request would fail again.
    pub fn is_final(&self) -> bool {
        self.kind == FailureKind::Proxy
    }

    /// The system's or library's message, for logs and reports; may be empty.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind.as_str())?;
        if !self.detail.is_empty() {
            write!(out, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_cause_then_the_detail() {
        let refused = Failure::unsent(FailureKind::Refused, "Connection refused (os error 111)");
        assert_eq!(
            refused.to_string(),
            "the upstream refused the connection: Connection refused (os error 111)"
        );
        assert!(!refused.sent);
        let reset = Failure::sent(FailureKind::Reset, "");
        assert_eq!(reset.to_string(), "the upstream closed the connection before responding");
        assert!(reset.sent);
    }

    #[test]
    fn a_machine_without_files_or_ports_left_is_not_the_upstreams_refusal() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(is_exhausted(&errno.into()), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH] {
            assert!(!is_exhausted(&errno.into()), "{errno}");
        }
    }
}

//! Converts hyper's errors to failures of an attempt.

use std::borrow::Cow;
use std::error::Error;

use rustls::AlertDescription as Alert;

use crate::classify::{Failure, FailureKind};
use crate::replay::ReadError;

/// Converts an error after the request was passed to the connection and before the response's head.
pub(super) fn of_attempt(error: &hyper::Error) -> Failure {
    if let Some(error) = find::<ReadError>(error) {
        return of_request_body(*error);
    }
    if error.is_parse_too_large() {
        return Failure::sent(FailureKind::HeadTooLarge, "");
    }
    if error.is_parse() {
        return Failure::sent(FailureKind::Malformed, error.to_string());
    }
    if let Some(error) = find::<h2::Error>(error) {
        // RFC 9113: a refused stream was closed before any processing (8.7), and so was one beyond
        // the last stream in a GOAWAY (6.8). h2 reports GOAWAY only for those streams.
        if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Failure::unsent(FailureKind::Reset, "the upstream refused the stream");
        }
        if error.is_remote() && error.is_go_away() {
            return Failure::unsent(FailureKind::Reset, "the upstream went away before it took the stream");
        }
        // h2 itself ended the stream or the connection, because of what it received.
        if error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR) {
            return Failure::sent(FailureKind::Malformed, detail_of_http2(error));
        }
    }
    if let Some(error) = find(error).and_then(tls_error)
        && refused_certificate(error).is_some()
    {
        return of_tls(error);
    }
    Failure::sent(FailureKind::Reset, detail(error))
}

/// The TLS error inside an I/O error.
pub(super) fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Converts an error of the TLS handshake, which precedes any processing of a request.
///
/// With TLS 1.3 the client may send its request before the server has checked the client's
/// certificate, so the server's alert may come after the handshake has ended here.
pub(super) fn of_tls(error: &rustls::Error) -> Failure {
    let unsent = |detail| Failure::unsent(FailureKind::Tls, detail);
    let alert = refused_certificate(error);
    if alert == Some(Alert::CertificateRequired) {
        return unsent("it requires a client certificate (upstream.tls.client_cert)".to_owned()).lasting();
    }
    if let Some(alert) = alert {
        return unsent(format!("it refused the client certificate ({alert:?})")).lasting();
    }
    if matches!(error, rustls::Error::InvalidCertificate(_)) {
        return unsent(error.to_string()).lasting();
    }
    unsent(error.to_string())
}

/// The server's alert, if it concerns the client's certificate (RFC 8446, section 6.2).
fn refused_certificate(error: &rustls::Error) -> Option<Alert> {
    const ALERTS: [Alert; 8] = [
        Alert::CertificateRequired,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
    ];
    if let rustls::Error::AlertReceived(alert) = error {
        Some(*alert).filter(|alert| ALERTS.contains(alert))
    } else {
        None
    }
}

/// Whether the peer stopped acknowledging data, because it or the network path to it vanished.
pub(super) fn is_vanished(error: &hyper::Error) -> bool {
    find::<std::io::Error>(error).is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// Converts an error inside a response's body.
pub(super) fn of_body(error: &hyper::Error) -> Failure {
    if let Some(error) = find::<ReadError>(error) {
        return of_request_body(*error);
    }
    match find::<std::io::Error>(error).map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => {
            Failure::sent(FailureKind::Malformed, "bad framing of the body")
        }
        Some(_) | None => Failure::sent(FailureKind::Reset, detail(error)),
    }
}

fn of_request_body(error: ReadError) -> Failure {
    let kind = match error {
        ReadError::TooLarge | ReadError::NoRoom => FailureKind::RequestTooLarge,
        ReadError::Idle | ReadError::TooSlow => FailureKind::RequestTimeout,
        ReadError::Aborted => FailureKind::RequestAborted,
        ReadError::Malformed => FailureKind::RequestMalformed,
    };
    Failure::sent(kind, "")
}

/// The system's error message, if there is one, else hyper's. Neither contains parts of the
/// request.
fn detail(error: &hyper::Error) -> Cow<'static, str> {
    if let Some(error) = find::<std::io::Error>(error) {
        return error.kind().to_string().into();
    }
    if let Some(error) = find::<h2::Error>(error) {
        return detail_of_http2(error);
    }
    error.to_string().into()
}

/// The reason of an HTTP/2 error, without the debug data that the peer may have sent.
fn detail_of_http2(error: &h2::Error) -> Cow<'static, str> {
    error.reason().map_or_else(|| "HTTP/2".into(), |reason| format!("HTTP/2: {reason}").into())
}

fn find<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

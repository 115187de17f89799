//! Converts hyper's errors to failures of an attempt.

use std::borrow::Cow;
use std::error::Error;

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
    if let Some(error) = find::<h2::Error>(error)
        && error.is_remote()
    {
        // RFC 9113: a refused stream was closed before any processing (8.7), and so was one beyond
        // the last stream in a GOAWAY (6.8). h2 reports GOAWAY only for those streams.
        if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Failure::unsent(FailureKind::Reset, "the upstream refused the stream");
        }
        if error.is_go_away() {
            return Failure::unsent(FailureKind::Reset, "the upstream went away before it took the stream");
        }
    }
    Failure::sent(FailureKind::Reset, detail(error))
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
    if let Some(reason) = find::<h2::Error>(error).and_then(h2::Error::reason) {
        return reason.to_string().into();
    }
    error.to_string().into()
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

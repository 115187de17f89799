//! Weir's responses to requests that are refused before they have a scope.

use std::net::IpAddr;

use http::{Response, StatusCode};

use super::answer;
use super::body::Body;
use crate::account::{ErrorDetail, Record};
use crate::caller::Unknown;
use crate::classify::ErrorClass;
use crate::replay::ReadError;
use crate::response::OwnAnswer;

/// The peer's address is recorded: only it shows whose key was rotated on one side.
pub(super) fn refuse_unknown(mut record: Box<Record>, why: &Unknown, peer: IpAddr) -> Response<Body> {
    let cure = match why {
        Unknown::Key => {
            "Send the key, token, header or certificate of a [[callers]] entry, or set server.allow_unknown_callers."
        }
        Unknown::Token(..) => "Send a valid token with the claims of a [[callers]] entry.",
    };
    let answer = OwnAnswer::new(ErrorClass::WeirCallerUnknown, format!("Unknown caller: {why}. {cure}"));
    let kept = ErrorDetail {
        message: match why {
            Unknown::Key => format!("Unknown caller, from {peer}."),
            Unknown::Token(..) => format!("Unknown caller, from {peer}: {why}."),
        },
        peer: Some(peer),
        ..ErrorDetail::default()
    };
    record.failed(answer.class, Some(kept));
    answer::own(answer, record)
}

pub(super) fn refuse_body(error: ReadError, record: Box<Record>) -> Response<Body> {
    let answer = |class, status, message: &str| OwnAnswer { status, ..OwnAnswer::new(class, message) };
    let answer = match error {
        ReadError::TooLarge => answer(
            ErrorClass::WeirBodyTooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request's body is larger than server.body_max allows.",
        ),
        ReadError::Idle | ReadError::TooSlow => answer(
            ErrorClass::RequestTimeout,
            StatusCode::REQUEST_TIMEOUT,
            "The request's body arrived too slowly, or stopped arriving.",
        ),
        ReadError::Malformed => answer(
            ErrorClass::BadRequest,
            StatusCode::BAD_REQUEST,
            "The framing of the request's body is invalid.",
        ),
        ReadError::NoRoom => answer(
            ErrorClass::WeirQueueFull,
            StatusCode::TOO_MANY_REQUESTS,
            "The bodies of waiting requests have reached server.max_buffered_bytes.",
        ),
        ReadError::Aborted => answer(
            ErrorClass::WeirClientClosed,
            StatusCode::REQUEST_TIMEOUT,
            "The client closed the connection while it sent the request's body.",
        ),
    };
    refuse(answer, record)
}

pub(super) fn refuse(answer: OwnAnswer, mut record: Box<Record>) -> Response<Body> {
    record.failed(answer.class, None);
    answer::own(answer, record)
}

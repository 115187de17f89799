//! One request as read: all that an attempt, and the next one, needs.

use std::net::IpAddr;

use http::header::HeaderMap;
use http::{Method, Request, Version, request};

use super::Policy;
use super::bears::Bears;
use super::deadline::Deadline;
use super::kept_headers::KeptHeaders;
use super::kept_uri::KeptUri;
use super::request_lane;
use crate::caller::{Caller, CredentialId, Identified, Lane, Mode};
use crate::estimate::Cost;
use crate::openai::endpoint::Named;
use crate::openai::{Endpoint, RequestPeek, multipart, request_peek};
use crate::replay::{self, Replay};
use crate::retry::Safety;
use crate::upstream::{Target, headers};

/// A request whose head is known.
pub(super) struct Head {
    pub(super) endpoint: Endpoint,
    /// Whether it is for the endpoint itself, and nothing below it.
    itself: bool,
    pub(super) method: Method,
    pub(super) uri: KeptUri,
    /// As the upstream gets them.
    pub(super) headers: KeptHeaders,
    pub(super) credential: CredentialId,
    pub(super) deadline: Deadline,
    pub(super) mode: Mode,
    /// The caller's, or what the request asks for below it.
    pub(super) lane: Lane,
    /// Of the caller's connection.
    pub(super) version: Version,
    /// The configured credential among the headers.
    pub(super) bears: Option<Bears>,
}

/// A request whose body is read, as far as it is kept.
pub(super) struct Call {
    /// Boxed: it is there before the body is.
    pub(super) head: Box<Head>,
    pub(super) body: Replay,
    pub(super) model: Option<Box<str>>,
    pub(super) cost: Cost,
    pub(super) safety: Safety,
}

impl Head {
    /// Reads a request's head and makes its headers the upstream's.
    pub(super) fn read(
        parts: request::Parts,
        Named { endpoint, itself }: Named,
        identified: &Identified<'_>,
        client: IpAddr,
        policy: &Policy,
        target: &Target,
        deadline: Deadline,
    ) -> Box<Self> {
        let request::Parts { method, uri, version, mut headers, .. } = parts;
        let caller: &Caller = identified.caller;
        let lane = request_lane::take(&mut headers, caller.lane);
        headers::prepare_request(&mut headers, version, client, policy.forwarded, target);
        for name in policy.callers.identity_headers() {
            headers.remove(name);
        }
        let credential = identified.rewrite(&mut headers);
        let credential = if policy.one_scope { CredentialId(0) } else { credential };
        let mode = caller.mode.unwrap_or(policy.mode);
        let uri = KeptUri::Whole(target.uri(&uri));
        let headers = KeptHeaders::Whole(headers);
        Box::new(Self {
            endpoint,
            itself,
            method,
            uri,
            headers,
            credential,
            deadline,
            mode,
            lane,
            version,
            bears: None,
        })
    }
}

impl Head {
    /// Whether the request is for the endpoint itself, and nothing below it.
    pub(super) fn is_itself(&self) -> bool {
        self.itself
    }

    /// Lets go of the connection's read buffer, of which the head is a part: while a request waits, nothing else needs it.
    pub(super) fn let_go(&mut self) {
        self.headers.pack();
        self.uri.pack();
    }
}

impl Call {
    /// Prices a request from its body.
    pub(super) fn price(head: Box<Head>, body: Replay, policy: &Policy) -> Self {
        let peek = head.headers.look(|headers| peek(headers, body.bytes()));
        let cost = policy.estimator.price(head.endpoint, peek.as_ref());
        let named = Named { endpoint: head.endpoint, itself: head.itself };
        let safety = head
            .uri
            .look(|uri| Safety::of(&head.method, uri.path(), named, peek.as_ref(), &policy.retry.repeatable));
        Self { head, body, model: peek.and_then(|peek| peek.model), cost, safety }
    }

    /// A request whose body is not read, and so not priced either.
    pub(super) fn unpriced(head: Box<Head>, body: Replay) -> Self {
        Self { head, body, model: None, cost: Cost::default(), safety: Safety::OnlyIfUnsent }
    }

    /// The model that the start of a JSON body names.
    pub(super) fn model_in(start: &[u8]) -> Option<Box<str>> {
        request_peek::peek(start).ok()?.model
    }

    /// The request of one more attempt; `None` when the body was streamed and is gone.
    pub(super) fn request(&mut self) -> Option<Request<replay::Body>> {
        let mut request = Request::new(self.body.body()?);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.take();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.head.headers.take();
        if let Some(bears) = &mut self.head.bears {
            bears.renew(request.headers_mut());
        }
        Some(request)
    }
}

/// What the body says, in whatever form it comes; nothing where it says nothing.
fn peek(headers: &HeaderMap, body: &[u8]) -> Option<RequestPeek> {
    if body.is_empty() {
        return None;
    }
    match multipart::boundary(headers) {
        Some(boundary) => Some(multipart::peek(body, boundary)),
        None => request_peek::peek(body).ok(),
    }
}

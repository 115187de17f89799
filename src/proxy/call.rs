//! A request as read: the state that its attempts need.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};
use http::{HeaderValue, Method, Request, Version, request};

use super::Policy;
use super::configured_credential::ConfiguredCredential;
use super::deadline::Deadline;
use super::destination::Destination;
use super::first_event::Awaited;
use super::keep_alive::KeepAlive;
use super::kept_headers::KeptHeaders;
use super::kept_uri::KeptUri;
use super::request_lane;
use crate::caller::{Caller, CredentialId, Identified, Lane, Mode};
use crate::clock;
use crate::estimate::Cost;
use crate::openai::endpoint::Named;
use crate::openai::{Endpoint, ModelSearch, Scanned, multipart, request_peek};
use crate::replay::{self, Replay};
use crate::retry::Safety;
use crate::spending::Spent;
use crate::stream;
use crate::upstream::{Target, headers};

/// A request's head.
pub(super) struct Head {
    pub(super) endpoint: Endpoint,
    /// Whether the path is the endpoint itself, not below it.
    itself: bool,
    pub(super) method: Method,
    pub(super) uri: KeptUri,
    /// The headers as they are sent upstream.
    pub(super) headers: KeptHeaders,
    pub(super) credential: CredentialId,
    pub(super) deadline: Deadline,
    pub(super) mode: Mode,
    /// How the model is found in a body that is too large to keep.
    pub(super) model_search: ModelSearch,
    /// The caller's lane, or the lower one that the request asks for.
    pub(super) lane: Lane,
    /// The HTTP version of the caller's connection.
    pub(super) version: Version,
    /// The configured credential among the headers.
    pub(super) configured: Option<ConfiguredCredential>,
    /// The keep-alive state, if the response may be a stream and the policy enables keep-alive.
    pub(super) keep_alive: Option<Arc<KeepAlive>>,
    /// The first event that the current attempt waits for, if it has a limit.
    pub(super) first_event: Option<Awaited>,
    /// The caller's spent budget, if one is.
    pub(super) spent: Option<Box<Spent>>,
}

/// A request whose body was read, as far as it is kept.
pub(super) struct Call {
    /// Boxed: it exists before the body does.
    pub(super) head: Box<Head>,
    pub(super) body: Replay,
    pub(super) model: Option<Box<str>>,
    pub(super) cost: Cost,
    pub(super) safety: Safety,
    /// Whether the request asks for a stream.
    pub(super) streams: bool,
    /// Whether the body should contain a model and a price but could not be read to its end.
    pub(super) unread: bool,
}

impl Head {
    /// Reads a request's head, and rewrites its headers for the upstream.
    pub(super) fn read(
        (parts, present): (request::Parts, &headers::Present),
        Named { endpoint, itself }: Named,
        identified: &Identified<'_>,
        client: IpAddr,
        policy: &Policy,
        target: &Target,
        deadline: Deadline,
    ) -> Box<Self> {
        let request::Parts { method, uri, version, mut headers, .. } = parts;
        let caller: &Caller = identified.caller;
        let lane = if present.is_for_weir { request_lane::of(&headers, caller.lane) } else { caller.lane };
        headers::prepare_request((&mut headers, present), version, client, policy.forwarded, target);
        for name in policy.callers.identity_headers() {
            headers.remove(name);
        }
        let credential = identified.rewrite(&mut headers);
        let credential = if policy.one_scope { CredentialId(0) } else { credential };
        let mode = caller.mode.unwrap_or(policy.mode);
        let model_search = model_search(endpoint, &headers, mode);
        let uri = KeptUri::Whole(uri);
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
            model_search,
            lane,
            version,
            configured: None,
            keep_alive: None,
            first_event: None,
            spent: None,
        })
    }
}

impl Head {
    /// Whether the path is the endpoint itself, not below it.
    pub(super) fn is_itself(&self) -> bool {
        self.itself
    }

    /// Copies the head out of the connection's read buffer, which is then freed: a waiting request
    /// must not keep it.
    pub(super) fn release_buffer(&mut self) {
        self.headers.pack();
        self.uri.pack();
    }
}

/// How the model is found in a body that is too large to keep. Only `enforce` reads ahead; of a
/// compressed body only the start is read. An upload that names no model is forwarded as it
/// arrives.
fn model_search(endpoint: Endpoint, headers: &HeaderMap, mode: Mode) -> ModelSearch {
    if mode != Mode::Enforce || !endpoint.takes_a_model() || headers.contains_key(CONTENT_ENCODING) {
        ModelSearch::Skip
    } else if multipart::boundary(headers).is_some() {
        ModelSearch::Form
    } else {
        ModelSearch::Json
    }
}

impl Call {
    /// Prices a request from its body.
    pub(super) fn price(head: Box<Head>, body: Replay, policy: &Policy) -> Self {
        let scanned = match head.model_search {
            ModelSearch::Json => request_peek::scan(body.bytes()),
            ModelSearch::Form | ModelSearch::Skip => head.headers.with(|headers| scan(headers, &body)),
        };
        let whole = scanned.as_ref().is_some_and(|scanned| scanned.whole);
        let peek = scanned.map(|scanned| scanned.peek);
        let has_model = peek.as_ref().is_some_and(|peek| peek.model.is_some());
        // For a body that can't be sent again, the model is enough.
        let unread = !whole
            && (body.can_repeat() || !has_model)
            && !body.bytes().is_empty()
            && head.endpoint.speaks_json();
        let cost = policy.estimator.price(head.endpoint, peek.as_ref());
        let named = Named { endpoint: head.endpoint, itself: head.itself };
        let safety = head
            .uri
            .with(|uri| Safety::of(&head.method, uri.path(), named, peek.as_ref(), &policy.retry.repeatable));
        // The unread part may ask to store the response, so a repeated request could store it
        // twice.
        let safety = if unread && body.can_repeat() { Safety::OnlyIfUnsent } else { safety };
        let streams = peek.as_ref().is_some_and(|peek| peek.stream);
        Self { head, body, model: peek.and_then(|peek| peek.model), cost, safety, streams, unread }
    }

    /// Starts the keep-alive interval of a request for a stream, now that it was read.
    pub(super) fn begin_silence(&mut self) {
        if !self.streams {
            self.head.keep_alive = None;
        } else if let Some(keep_alive) = &self.head.keep_alive {
            keep_alive.begin(clock::now());
        }
    }

    /// A request whose body is neither read nor priced.
    pub(super) fn unpriced(head: Box<Head>, body: Replay) -> Self {
        Self {
            head,
            body,
            model: None,
            cost: Cost::default(),
            safety: Safety::OnlyIfUnsent,
            streams: false,
            unread: false,
        }
    }

    /// The model in the start of a JSON body.
    pub(super) fn model_in(start: &[u8]) -> Option<Box<str>> {
        request_peek::peek(start).ok()?.model
    }

    /// The request of the next attempt; `None` if the body was streamed and can't be sent again.
    /// `model` is the model in the body.
    pub(super) fn request(&mut self, to: &Destination, model: Option<&str>) -> Option<Request<replay::Body>> {
        let mut request = Request::new(self.body.body()?);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.take();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.head.headers.take();
        if to.swaps {
            if let Some(configured) = &mut self.head.configured {
                configured.switch_to(&to.member, request.headers_mut());
            }
        } else if let Some(configured) = &mut self.head.configured {
            configured.renew(request.headers_mut());
        }
        if self.head.keep_alive.is_some() {
            // Comments precede the response, so it must not be compressed.
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if to.is_another {
            to.fit(&mut request, model);
        }
        *request.uri_mut() = to.member.target().uri(request.uri());
        Some(request)
    }
}

/// Most decoded bytes of a compressed body that are read.
const MAX_DECODED: usize = 8 << 20;
/// Compressed bytes decoded at once; the decoder bounds their decoded size.
const DECODE_CHUNK: usize = 2 << 10;

/// Reads the fields of the body, whatever its format and coding; `None` if it has none. The bytes
/// sent upstream do not change.
fn scan(headers: &HeaderMap, body: &Replay) -> Option<Scanned> {
    let bytes = body.bytes();
    if bytes.is_empty() {
        return None;
    }
    scan_plain(headers, &plain(headers, bytes), body.can_repeat())
}

/// A body's decoded bytes, if its content coding is known; only the start of a large body.
pub(super) fn plain<'a>(headers: &HeaderMap, bytes: &'a Bytes) -> Cow<'a, [u8]> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Cow::Borrowed(bytes);
    }
    let pieces: Vec<Bytes> = (0..bytes.len())
        .step_by(DECODE_CHUNK)
        .map(|at| bytes.slice(at..bytes.len().min(at + DECODE_CHUNK)))
        .collect();
    Cow::Owned(stream::copy(headers, pieces.iter(), MAX_DECODED).into_owned())
}

fn scan_plain(headers: &HeaderMap, bytes: &[u8], whole: bool) -> Option<Scanned> {
    match multipart::boundary(headers) {
        Some(boundary) => Some(Scanned { peek: multipart::peek(bytes, boundary), whole }),
        None => request_peek::scan(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const JSON: &str =
        r#"{"model":"gpt-4o","store":true,"messages":[{"role":"user","content":"xxxxxxxxxxxxxxxxxxxx"}]}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    async fn scanned(coding: Option<&'static str>, body: Vec<u8>) -> Option<Scanned> {
        let mut headers = HeaderMap::new();
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let settings = replay::Settings::default();
        let source = http_body_util::Full::new(Bytes::from(body));
        let bytes = Replay::read(source, &settings, &replay::Budget::new(1 << 30)).await.unwrap();
        let whole = bytes.can_repeat();
        let pieces: Vec<Bytes> = bytes.bytes().chunks(DECODE_CHUNK).map(Bytes::copy_from_slice).collect();
        let plain = stream::copy(&headers, pieces.iter(), MAX_DECODED);
        scan_plain(&headers, &plain, whole)
    }

    #[tokio::test]
    async fn a_compressed_body_says_what_its_twin_says() {
        let plain = scanned(None, JSON.into()).await.unwrap();
        assert!(plain.whole);
        assert_eq!((plain.peek.model.as_deref(), plain.peek.store), (Some("gpt-4o"), Some(true)));
        assert_eq!(scanned(Some("gzip"), gzip(JSON.as_bytes())).await, Some(plain.clone()));
        let mut damaged = gzip(JSON.as_bytes());
        damaged.truncate(damaged.len() / 2);
        assert!(scanned(Some("gzip"), damaged).await.is_none_or(|scanned| !scanned.whole));
        assert_eq!(scanned(Some("snappy"), JSON.into()).await, None);
    }

    #[tokio::test]
    async fn a_bomb_is_read_to_the_bound() {
        let bomb = format!(r#"{{"model":"m","input":"{}"}}"#, "x".repeat(64 << 20));
        let read = scanned(Some("gzip"), gzip(bomb.as_bytes())).await.unwrap();
        assert_eq!(read.peek.model.as_deref(), Some("m"));
        assert!(!read.whole && read.peek.text_chars <= MAX_DECODED as u64);
    }

    proptest! {
        #[test]
        fn any_coded_bytes_are_read_without_harm(bytes in any::<Vec<u8>>(), coding in "gzip|br|deflate|zstd|x") {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_str(&coding).unwrap());
            let bytes = Bytes::from(bytes);
            scan_plain(&headers, &stream::copy(&headers, std::iter::once(&bytes), MAX_DECODED), true);
        }
    }
}

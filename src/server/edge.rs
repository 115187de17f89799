//! The layers around the service: hygiene, and panics that become answers. They know nothing of
//! callers.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use tower::{Layer, Service};

use crate::clock;
use crate::replay::ClientBody;
use crate::telemetry::SharedLogThrottle;

use super::body::EdgeBody;
use super::connection::ConnectionInfo;
use super::counters::{Counters, Limit};
use super::hygiene::{self, Rule};
use super::watch::{Activity, InFlight};

/// A request that the front answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request broke a rule of hygiene.
    Hygiene(Rule),
    /// The request has too many header fields, or too large ones (RFC 6585, section 5: 431).
    Headers,
    /// The service panicked.
    Internal,
}

/// Renders refusals: errors become bytes in one place only, which is not here.
pub type Render = fn(Refusal) -> Response<Bytes>;

/// The layer around a connection's service.
#[derive(Clone, Debug)]
pub(super) struct EdgeLayer {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) counters: Arc<Counters>,
    pub(super) render: Render,
    /// Of the lines about refused requests.
    pub(super) throttle: Arc<SharedLogThrottle>,
    /// Bytes of a request's head.
    pub(super) header_bytes: usize,
    /// Header fields of a request.
    pub(super) header_count: usize,
}

impl EdgeLayer {
    /// Checks a request, and makes one of what is said twice.
    fn check<R>(&self, request: &mut Request<R>) -> Result<(), Refusal> {
        // hyper checks the sizes of HTTP/1's heads itself.
        if self.info.http2 && !self.has_room(request.headers()) {
            self.counters.reach(Limit::Headers);
            return Err(Refusal::Headers);
        }
        hygiene::check(request).map_err(|rule| {
            self.counters.refuse(rule);
            if let Some(lines_omitted) = self.throttle.allow(clock::now()) {
                tracing::info!(rule = rule.as_str(), peer = %self.info.peer, lines_omitted, "request refused");
            }
            Refusal::Hygiene(rule)
        })
    }

    /// Whether the fields of an HTTP/2 request are as few and as small as they must be.
    fn has_room(&self, headers: &HeaderMap) -> bool {
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
        headers.len() <= self.header_count && bytes <= self.header_bytes
    }
}

/// Bytes of an HTTP/1 field beside its name and value: `": "` and a line end. The same request is
/// as large over both versions.
const FIELD_OVERHEAD: usize = 4;

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, service: S) -> Edge<S> {
        Edge { service, edge: self.clone() }
    }
}

/// A service behind hygiene and a guard against panics.
#[derive(Clone, Debug)]
pub struct Edge<S> {
    service: S,
    edge: EdgeLayer,
}

impl<S, B, R> Service<Request<R>> for Edge<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = EdgeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let edge = &self.edge;
        let version = request.version();
        let state = match edge.check(&mut request) {
            Err(refusal) => State::Refused(refusal),
            Ok(()) => match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
                Ok(future) => State::Called { future, counters: Arc::clone(&edge.counters) },
                Err(_panic) => {
                    edge.counters.panic();
                    State::Refused(Refusal::Internal)
                }
            },
        };
        EdgeFuture { state, render: edge.render, version }
    }
}

/// The future of an [`Edge`].
#[derive(Debug)]
pub struct EdgeFuture<F> {
    state: State<F>,
    render: Render,
    version: Version,
}

#[derive(Debug)]
enum State<F> {
    Called { future: F, counters: Arc<Counters> },
    Refused(Refusal),
}

impl<F, B> Future for EdgeFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let refusal = match &mut self.state {
            State::Called { future, counters } => {
                match catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(cx))) {
                    Ok(poll) => return poll,
                    Err(_panic) => {
                        counters.panic();
                        Refusal::Internal
                    }
                }
            }
            State::Refused(refusal) => *refusal,
        };
        // The future that panicked is dropped now, with all it holds.
        self.state = State::Refused(refusal);
        let mut response = (self.render)(refusal);
        // What follows a refused CONNECT may be meant for the tunnel, and is no request. HTTP/2 has
        // streams for that.
        if refusal == Refusal::Hygiene(Rule::Connect) && self.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(B::from)))
    }
}

/// A tower service as hyper calls one, each request tracked.
#[derive(Debug)]
pub(super) struct Tracked<S> {
    service: S,
    activity: Arc<Activity>,
    /// Over HTTP/2, how many requests at once fill the connection.
    full: Option<(u32, Arc<Counters>)>,
}

impl<S> Tracked<S> {
    pub(super) fn new(service: S, activity: Arc<Activity>, full: Option<(u32, Arc<Counters>)>) -> Self {
        Self { service, activity, full }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request<ClientBody>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Unpin,
    B: Body,
{
    type Response = Response<EdgeBody<B>>;
    type Error = Infallible;
    type Future = TrackedFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let request_in_flight = self.activity.begin();
        let headers = request.headers();
        let says_close = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
        let closes =
            request.version() != Version::HTTP_11 || headers.get_all(CONNECTION).iter().any(says_close);
        if let Some((streams, counters)) = &self.full
            && self.activity.requests() == *streams
        {
            counters.reach(Limit::Streams);
        }
        let mut service = self.service.clone();
        // Services at the edge are always ready: whatever must wait does so in the future, where it
        // can be seen.
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        debug_assert!(ready.is_ready(), "a service at the edge must always be ready");
        let request = request.map(|incoming| ClientBody::new(incoming, self.activity.body_flag()));
        TrackedFuture { future: service.call(request), request: Some(request_in_flight), closes }
    }
}

/// The future of a tracked request.
#[derive(Debug)]
pub(super) struct TrackedFuture<F> {
    future: F,
    request: Option<InFlight>,
    /// Whether the connection closes after the answer, because the client said so.
    closes: bool,
}

impl<F, B> Future for TrackedFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Body,
{
    type Output = Result<Response<EdgeBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(mut response)) = Pin::new(&mut self.future).poll(cx) else { return Poll::Pending };
        match self.request.take() {
            Some(request) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Poll::Ready(Ok(response.map(|body| EdgeBody::new(body, request))))
            }
            Some(request) => {
                request.write_fields(response.headers_mut(), self.closes);
                Poll::Ready(Ok(response.map(|body| EdgeBody::new(body, request))))
            }
            None => Poll::Pending,
        }
    }
}

//! The tower stack around a connection's service: panics that become answers, limits on a request's
//! head, hygiene. None of it knows what a caller is.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::{Service, ServiceBuilder};

use crate::clock;
use crate::metrics::Bound;
use crate::replay::ClientBody;
use crate::telemetry::SharedLogThrottle;

use super::body::EdgeBody;
use super::connection::ConnectionInfo;
use super::counters::Counters;
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

/// What the layers around one connection's service share.
#[derive(Debug)]
pub(super) struct Edge {
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

/// The stack around a service, from the outside: a guard against panics, the limits on a head, and
/// the rules of hygiene.
pub(super) fn stack<S>(edge: &Arc<Edge>, service: S) -> CatchPanic<Check<Check<S>>> {
    ServiceBuilder::new()
        .layer_fn(|service| CatchPanic { service, edge: Arc::clone(edge) })
        .layer_fn(|service| Check { service, edge: Arc::clone(edge), check: Edge::check_size })
        .layer_fn(|service| Check { service, edge: Arc::clone(edge), check: Edge::check_rules })
        .service(service)
}

impl Edge {
    /// Refuses more or larger fields than the settings allow. hyper checks the heads of HTTP/1
    /// itself.
    fn check_size(&self, request: &mut Request<ClientBody>) -> Result<(), Refusal> {
        let headers = request.headers();
        let size =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + FIELD_OVERHEAD;
        let is_small = !self.info.http2
            || headers.len() <= self.header_count
                && headers.iter().map(size).sum::<usize>() <= self.header_bytes;
        if is_small {
            return Ok(());
        }
        self.counters.reach(Bound::Headers);
        Err(Refusal::Headers)
    }

    /// Refuses what breaks a rule of hygiene, and makes one of what is said twice.
    fn check_rules(&self, request: &mut Request<ClientBody>) -> Result<(), Refusal> {
        hygiene::check(request).map_err(|rule| {
            self.counters.refuse(rule);
            if let Some(lines_omitted) = self.throttle.allow(clock::now()) {
                tracing::info!(rule = rule.as_str(), peer = %self.info.peer, lines_omitted, "request refused");
            }
            Refusal::Hygiene(rule)
        })
    }

    /// The answer to a refused request.
    fn refuse<B: From<Bytes>>(&self, refusal: Refusal) -> Response<B> {
        let mut response = (self.render)(refusal);
        // What follows a refused CONNECT may be meant for the tunnel, and is no request. HTTP/2 has
        // streams for that.
        if refusal == Refusal::Hygiene(Rule::Connect) && !self.info.http2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(B::from)
    }
}

/// Bytes of an HTTP/1 field beside its name and value: `": "` and a line end. The same request is
/// as large over both versions.
const FIELD_OVERHEAD: usize = 4;

/// A service that gets the requests which pass a check.
#[derive(Clone, Debug)]
pub(super) struct Check<S> {
    service: S,
    edge: Arc<Edge>,
    check: fn(&Edge, &mut Request<ClientBody>) -> Result<(), Refusal>,
}

impl<S, B> Service<Request<ClientBody>> for Check<S>
where
    S: Service<Request<ClientBody>, Response = Response<B>, Error = Infallible>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Checked<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ClientBody>) -> Self::Future {
        match (self.check)(&self.edge, &mut request) {
            Ok(()) => Checked::Called { future: self.service.call(request) },
            Err(refusal) => Checked::Refused { refusal, edge: Arc::clone(&self.edge) },
        }
    }
}

pin_project! {
    /// The future of a checked request. The answer to a refused one is made when it is polled: a
    /// connection keeps space for this.
    #[project = CheckedState]
    pub(super) enum Checked<F> {
        Called { #[pin] future: F },
        Refused { refusal: Refusal, edge: Arc<Edge> },
    }
}

impl<F, B> Future for Checked<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CheckedState::Called { future } => future.poll(cx),
            CheckedState::Refused { refusal, edge } => Poll::Ready(Ok(edge.refuse(*refusal))),
        }
    }
}

/// A service whose panics become answers.
#[derive(Clone, Debug)]
pub(super) struct CatchPanic<S> {
    service: S,
    edge: Arc<Edge>,
}

impl<S, B> Service<Request<ClientBody>> for CatchPanic<S>
where
    S: Service<Request<ClientBody>, Response = Response<B>, Error = Infallible>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Caught<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        let future = catch_unwind(AssertUnwindSafe(|| self.service.call(request))).ok();
        Caught { future, edge: Arc::clone(&self.edge) }
    }
}

pin_project! {
    /// The future of a [`CatchPanic`]: nothing is left of one that panicked, nor of what it held.
    pub(super) struct Caught<F> {
        #[pin]
        future: Option<F>,
        edge: Arc<Edge>,
    }
}

impl<F, B> Future for Caught<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(future) = this.future.as_mut().as_pin_mut()
            && let Ok(polled) = catch_unwind(AssertUnwindSafe(|| future.poll(cx)))
        {
            return polled;
        }
        this.future.set(None);
        this.edge.counters.panic();
        Poll::Ready(Ok(this.edge.refuse(Refusal::Internal)))
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
            counters.reach(Bound::Streams);
        }
        let mut service = self.service.clone();
        // Services at the edge are always ready: whatever must wait does so in the future, where it
        // can be seen.
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        debug_assert!(ready.is_ready(), "a service at the edge must always be ready");
        let request = request.map(|incoming| ClientBody::new(incoming, self.activity.client().cloned()));
        TrackedFuture { future: service.call(request), request: Some(request_in_flight), closes }
    }
}

pin_project! {
    /// The future of a tracked request.
    pub(super) struct TrackedFuture<F> {
        #[pin]
        future: F,
        request: Option<InFlight>,
        // Whether the connection closes after the answer, because the client said so.
        closes: bool,
    }
}

impl<F, B> Future for TrackedFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<EdgeBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(Ok(mut response)) = this.future.poll(cx) else { return Poll::Pending };
        let Some(request) = this.request.take() else { return Poll::Pending };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            request.write_fields(response.headers_mut(), *this.closes);
        }
        Poll::Ready(Ok(response.map(|body| EdgeBody::new(body, request))))
    }
}

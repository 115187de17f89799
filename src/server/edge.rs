//! The tower stack around a connection's service: it catches panics, limits the size of a request's
//! head, and enforces the request rules. It knows nothing about callers.

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
use super::request_rules::{self, Rule};
use super::watch::{Activity, InFlight};

/// A request that the server answers without calling its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request broke a rule of [`request_rules`].
    Hygiene(Rule),
    /// The request has too many header fields, or too large ones (RFC 6585, section 5: 431).
    Headers,
    /// The service panicked.
    Internal,
}

/// Renders a refusal. Only [`crate::response`] turns errors into bytes.
pub type Render = fn(Refusal) -> Response<Bytes>;

/// State shared by the layers of one connection.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) counters: Arc<Counters>,
    pub(super) render: Render,
    /// Throttles the log lines about refused requests.
    pub(super) throttle: Arc<SharedLogThrottle>,
    /// Most bytes of a request's head.
    pub(super) header_bytes: usize,
    /// Most header fields of a request.
    pub(super) header_count: usize,
}

/// Wraps `service`, from the outside in: panics, the limits on a head, the rules of
/// [`request_rules`].
pub(super) fn stack<S>(edge: &Arc<Edge>, service: S) -> CatchPanic<Check<Check<S>>> {
    ServiceBuilder::new()
        .layer_fn(|service| CatchPanic { service, edge: Arc::clone(edge) })
        .layer_fn(|service| Check { service, edge: Arc::clone(edge), check: Edge::check_size })
        .layer_fn(|service| Check { service, edge: Arc::clone(edge), check: Edge::check_rules })
        .service(service)
}

impl Edge {
    /// Refuses an HTTP/2 head with too many or too large fields. hyper checks HTTP/1 heads.
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

    /// Refuses a request that breaks a rule of [`request_rules`], and merges equal `Content-Length`
    /// fields.
    fn check_rules(&self, request: &mut Request<ClientBody>) -> Result<(), Refusal> {
        request_rules::check(request).map_err(|rule| {
            self.counters.refuse(rule);
            if let Some(lines_omitted) = self.throttle.allow(clock::now()) {
                tracing::info!(rule = rule.as_str(), peer = %self.info.peer, lines_omitted, "request refused");
            }
            Refusal::Hygiene(rule)
        })
    }

    /// The response to a refused request.
    fn refuse<B: From<Bytes>>(&self, refusal: Refusal) -> Response<B> {
        let mut response = (self.render)(refusal);
        // The bytes after a refused CONNECT may be tunnel data and not a request, so an HTTP/1
        // connection must close.
        if refusal == Refusal::Hygiene(Rule::Connect) && !self.info.http2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(B::from)
    }
}

/// Bytes of an HTTP/1 field beside its name and value: `": "` and a line end. Used for HTTP/2 too,
/// so that a request has the same size over both versions.
const FIELD_OVERHEAD: usize = 4;

/// A service that passes on only the requests that pass a check.
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
    /// The future of a checked request. A refusal is rendered on poll: storing the response would
    /// enlarge each connection.
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

/// A service that turns panics into responses.
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
    /// The future of a [`CatchPanic`]. After a panic the inner future is dropped with all that it
    /// owns.
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

/// Adapts a tower service to hyper's trait, and tracks each request.
#[derive(Debug)]
pub(super) struct Tracked<S> {
    service: S,
    activity: Arc<Activity>,
    /// For HTTP/2: the most concurrent streams, and the counter of connections that reach it.
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
        // Edge services must always be ready: any waiting happens in the response future, where
        // timeouts and metrics see it.
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
        // Whether the client asked to close the connection after the response.
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

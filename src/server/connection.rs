//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::clock::{self, Instant};
use crate::gather::Gathered;
use crate::metrics::Bound;
use crate::replay::ClientBody;
use crate::telemetry::SharedLogThrottle;

use super::accept::{Accepted, ConnectionGuard, Seat};
use super::drain::{Draining, Phase};
use super::edge::{self, Edge, Render, Tracked};
use super::io::{Watched, sniff};
use super::watch::{Activity, ConnectionFields, Watch};
use super::{Counters, Rule, ServerTls, Settings, certificate_names};

/// Time that an idle connection gets for an orderly close.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Bytes that a client may send on one HTTP/2 stream before Weir reads them; smaller if a
/// connection may have very many streams.
const STREAM_WINDOW: u32 = 128 << 10;
/// The initial HTTP/2 connection window, which neither side can reduce (RFC 9113, section 6.9.2).
const SMALLEST_CONNECTION_WINDOW: u32 = 65_535;
/// The largest window of HTTP/2 (RFC 9113, section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// The largest HTTP/2 header list in bytes, counted as RFC 9113 does (32 more per field):
/// `http::HeaderMap` holds at most 24,576 names.
const LARGEST_HEAD: u32 = 768 << 10;

/// The window of each HTTP/2 stream, and the window of the connection.
///
/// The connection's window is the sum of its streams': uploads that wait for admission are not
/// read, and must not use up the window that the other streams need.
fn windows(streams: u32) -> (u32, u32) {
    let stream = STREAM_WINDOW.min(LARGEST_WINDOW / streams.max(1));
    (stream, stream * streams.max(1))
}

/// Most bytes of TLS records buffered for a client: the size of the largest record.
const TLS_BUFFER: usize = 16 << 10;

/// The smallest buffer that hyper accepts for an HTTP/1 connection.
const SMALLEST_BUFFER: usize = 8 << 10;

/// The facts about a connection that its service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The names (DNS, URI, e-mail and IP address) in the client's certificate, if it has a trusted
    /// one.
    pub names: Vec<Box<str>>,
    /// Whether the connection speaks HTTP/2.
    pub http2: bool,
}

/// The HTTP server of one worker: it serves the connections that the worker receives.
pub struct Front<M> {
    settings: Settings,
    tls: Option<Arc<ServerTls>>,
    make: M,
    render: Render,
    counters: Arc<Counters>,
    draining: Draining,
    fields: Arc<ConnectionFields>,
    /// Throttles of two kinds of log lines: refused requests, and failed handshakes.
    throttles: [Arc<SharedLogThrottle>; 2],
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<M, S, B> Front<M>
where
    M: Fn(Arc<ConnectionInfo>) -> S + Send + Sync + 'static,
    S: Service<Request<ClientBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
{
    /// Creates a server. `make` makes the service of each connection; `render` renders refusals.
    pub fn new(
        settings: Settings,
        make: M,
        render: Render,
        counters: Arc<Counters>,
        draining: Draining,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1.header_read_timeout(None).max_header_size(settings.header_bytes).half_close(false);
        // The bound of hyper's read-ahead and of its unwritten output; hyper's default is 408 KiB
        // each.
        http1.max_buf_size(settings.header_bytes.max(SMALLEST_BUFFER));
        if settings.header_count != Settings::default().header_count {
            http1.max_headers(settings.header_count);
        }
        let (stream_window, connection_window) = windows(settings.streams);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window.max(SMALLEST_CONNECTION_WINDOW))
            .max_concurrent_streams(settings.streams)
            .max_header_list_size(
                u32::try_from(2 * settings.header_bytes).unwrap_or(u32::MAX).min(LARGEST_HEAD),
            )
            .keep_alive_interval(settings.idle_timeout / 2)
            .keep_alive_timeout(settings.write_timeout);
        let fields = ConnectionFields::new(draining.phase(), settings.idle_timeout, settings.unwritten);
        let throttles = Default::default();
        Self { settings, tls: None, make, render, counters, draining, fields, throttles, http1, http2 }
    }

    /// Accepts only TLS connections.
    #[must_use]
    pub fn with_tls(self, tls: Arc<ServerTls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Serves the connections of `seat` until the acceptor ends. Open connections continue after
    /// that: see [`Drain::finished`](super::Drain::finished).
    pub async fn run(self, mut seat: Seat) {
        let front = Arc::new(self);
        while let Some(Accepted { stream, peer, guard }) = seat.next().await {
            drop(stream.set_nodelay(true));
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                clock::spawn(Arc::clone(&front).serve(Gathered::new(stream), peer, Some(guard)));
            }
        }
    }

    /// Serves one connection over any byte stream, until it ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and drops the requests on it.
    pub async fn serve<I>(self: Arc<Self>, io: I, peer: SocketAddr, guard: Option<ConnectionGuard>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Boxed, as the connection is: a task is as large as the largest future that it stores
        // inline.
        let Some((connection, watch)) = (match &self.tls {
            Some(tls) => Box::pin(self.open_tls(tls, io, peer, guard)).await,
            None => Box::pin(self.open_clear(io, peer, guard)).await,
        }) else {
            return;
        };
        self.drive(connection, watch).await;
    }

    async fn open_tls<I>(
        &self,
        tls: &ServerTls,
        io: I,
        peer: SocketAddr,
        guard: Option<ConnectionGuard>,
    ) -> Option<Open>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut draining = self.draining.clone();
        let handshake = TlsAcceptor::from(tls.current()).accept(io);
        let deadline = clock::now() + self.settings.handshake_timeout;
        let shaken = tokio::select! {
            biased;
            shaken = clock::timeout_at(deadline, handshake) => shaken,
            () = draining.reached(Phase::ClosingIdle) => {
                self.counters.drain();
                return None;
            }
        };
        let io = match shaken {
            Ok(Ok(mut io)) => {
                io.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
                io
            }
            Ok(Err(error)) => {
                self.counters.fail_tls();
                if let Some(lines_omitted) = self.throttles[1].allow(clock::now()) {
                    tracing::info!(%peer, %error, lines_omitted, "TLS handshake failed");
                }
                return None;
            }
            Err(_late) => {
                self.counters.reach(Bound::HandshakeTimeout);
                return None;
            }
        };
        let session = io.get_ref().1;
        let names = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .map(|shown| certificate_names::names(shown))
            .unwrap_or_default();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let info = ConnectionInfo { peer, tls: true, names, http2 };
        Some(self.open(io, Box::default(), info, guard, clock::now()))
    }

    async fn open_clear<I>(&self, mut io: I, peer: SocketAddr, guard: Option<ConnectionGuard>) -> Option<Open>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let since = clock::now();
        let mut draining = self.draining.clone();
        let sniffed = tokio::select! {
            biased;
            sniffed = clock::timeout_at(since + self.settings.head_timeout, sniff(&mut io)) => sniffed,
            () = draining.reached(Phase::ClosingIdle) => {
                self.counters.drain();
                return None;
            }
        };
        let (http2, ahead) = match sniffed {
            Ok(Ok(sniffed)) => sniffed,
            Ok(Err(_gone)) => return None,
            Err(_late) => {
                self.counters.reach(Bound::HeadTimeout);
                return None;
            }
        };
        // The first byte of a TLS handshake. The client reports only "wrong version number".
        if ahead.first() == Some(&0x16)
            && let Some(lines_omitted) = self.throttles[1].allow(clock::now())
        {
            tracing::warn!(%peer, lines_omitted, "a client speaks TLS, and this listener does not: its base URL must begin with http://");
        }
        let info =
            ConnectionInfo { peer, tls: false, names: Vec::new(), http2: http2 && self.settings.http2 };
        Some(self.open(io, ahead, info, guard, since))
    }

    /// Starts HTTP on a connection from which the bytes `ahead` were read.
    fn open<I>(
        &self,
        io: I,
        ahead: Box<[u8]>,
        info: ConnectionInfo,
        guard: Option<ConnectionGuard>,
        since: Instant,
    ) -> Open
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http2 = info.http2;
        let activity = Activity::new(http2, Arc::clone(&self.fields));
        if let Some(guard) = &guard {
            guard.watch(&activity);
        }
        let info = Arc::new(info);
        let edge = Arc::new(Edge {
            info: Arc::clone(&info),
            counters: Arc::clone(&self.counters),
            render: self.render,
            throttle: Arc::clone(&self.throttles[0]),
            header_bytes: self.settings.header_bytes,
            header_count: self.settings.header_count,
        });
        let full = http2.then(|| (self.settings.streams, Arc::clone(&self.counters)));
        let service = Tracked::new(edge::stack(&edge, (self.make)(info)), Arc::clone(&activity), full);
        let io = TokioIo::new(Watched::new(io, ahead, Arc::clone(&activity), guard, self.render));
        let watch = Watch::new(activity, &self.settings, http2, since);
        let connection: Pin<Box<dyn Connection + Send>> = if http2 {
            Box::pin(self.http2.serve_connection(io, service))
        } else {
            Box::pin(self.http1.serve_connection(io, service).with_upgrades())
        };
        (connection, watch)
    }

    /// Polls a connection until it ends, reaches a limit, or is closed by a drain.
    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    fn drive(
        &self,
        mut connection: Pin<Box<dyn Connection + Send>>,
        mut watch: Watch,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let mut draining = self.draining.clone();
            let told = draining.clone();
            // HTTP/2 connections are closed when the drain is announced: GOAWAY loses no request. A
            // connection that opened later may serve requests first. HTTP/1 has no GOAWAY:
            // responses carry `Connection: close`, and idle connections are closed later.
            let goes_early = watch.is_http2() && !told.has_reached(Phase::Announced);
            let phase = if goes_early { Phase::Announced } else { Phase::ClosingIdle };
            let mut reached = pin!(draining.reached(phase));
            let mut finishing = false;
            let mut told_to_end = false;
            let mut registered = false;
            let client = watch.activity().client().map(|client| Waker::from(Arc::clone(client)));
            let ended = poll_fn(|cx| {
                // The drain wakes only the task registered last, and each phase change consumes the
                // registration. It may do so after the phase was seen here: while a drain runs,
                // each poll registers anew.
                if watch.activity().set_task(cx.waker()) || told.has_reached(Phase::Announced) {
                    registered = false;
                }
                if !finishing && !registered {
                    // Without a coop budget the poll registers nothing; tokio reschedules the task,
                    // which then registers again.
                    registered = coop::has_budget_remaining();
                    if reached.as_mut().poll(cx).is_ready() {
                        finishing = true;
                        connection.as_mut().finish();
                    }
                }
                if !finishing
                    && (told.has_reached(phase)
                        || (watch.is_http2() && watch.has_served() && told.has_reached(Phase::Announced)))
                {
                    finishing = true;
                    connection.as_mut().finish();
                }
                if !finishing && watch.activity().take_close_request() {
                    finishing = true;
                    told_to_end = true;
                    connection.as_mut().finish();
                    watch.allow(CLOSE_GRACE);
                }
                loop {
                    let waker = client.as_ref().unwrap_or(cx.waker());
                    if let Poll::Ready(ended) = connection.as_mut().poll(&mut Context::from_waker(waker)) {
                        return Poll::Ready(ended);
                    }
                    match watch.check(&self.settings, cx) {
                        None => return Poll::Pending,
                        Some(Bound::IdleTimeout) if !told_to_end => {
                            self.counters.reach(Bound::IdleTimeout);
                            told_to_end = true;
                            connection.as_mut().finish();
                            watch.allow(CLOSE_GRACE);
                        }
                        Some(limit) => {
                            if limit != Bound::IdleTimeout {
                                self.counters.reach(limit);
                            }
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            })
            .await;
            if let Err(error) = ended
                && error.is_parse()
            {
                if error.is_parse_too_large() {
                    self.counters.reach(Bound::Headers);
                } else {
                    self.counters.refuse(Rule::Unparsable);
                }
            }
        }
    }
}

impl<M> fmt::Debug for Front<M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Front").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A connection that speaks HTTP, and its timeout watch.
type Open = (Pin<Box<dyn Connection + Send>>, Watch);

/// The common interface of hyper's HTTP/1 and HTTP/2 connections.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Closes the connection after the requests in progress: `Connection: close`, or GOAWAY.
    fn finish(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Connection for http2::Connection<I, S, TokioExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: Send + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

//! HTTP/2 connections: many concurrent requests, and as many connections as the stream limits
//! require.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::classify::{Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::replay;

use super::head_limit::LastWrite;
use super::{Counters, Settings, Target};

/// Most concurrent streams on one connection, even if the upstream allows more.
const MAX_STREAMS: usize = 100;
/// Receive window of a stream, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// Receive window of a connection, in bytes. h2 allows small frames to queue up to half of it, and
/// closes the connection beyond that as an attack (RUSTSEC-2026-0258), so it is large.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Callers that stop reading must not block the other streams of their connection.
const _: () = assert!(MAX_STREAMS as u64 * STREAM_WINDOW as u64 <= CONNECTION_WINDOW as u64);
/// Idle time before a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Timeout of a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    connections: Mutex<Vec<Connection>>,
    max_age: Duration,
    idle_timeout: Duration,
    counters: Arc<Counters>,
}

#[derive(Clone, Debug)]
struct Connection {
    sender: http2::SendRequest<replay::Body>,
    /// The upstream's current stream limit, at most `MAX_STREAMS`.
    limit: Arc<AtomicUsize>,
    streams: Arc<Streams>,
    born: Instant,
    _open: Arc<super::counters::Open>,
}

/// The streams of a connection.
#[derive(Debug)]
struct Streams {
    /// Open streams.
    open: AtomicUsize,
    /// When a stream last ended.
    last_end: LastWrite,
}

/// A guard that reserves one stream of a connection until it is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Connection,
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(settings: &Settings, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            connections: Mutex::default(),
            max_age: settings.max_age,
            idle_timeout: settings.idle_timeout,
            counters: Arc::clone(counters),
        })
    }

    /// Reserves a stream on the first connection with a free one. Always preferring the first lets
    /// the others become idle and expire.
    pub(super) fn take(&self) -> Option<Stream> {
        let now = clock::now();
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| {
            let is_unused = connection.streams.open.load(Ordering::Relaxed) == 0;
            let is_idle = is_unused && now >= connection.streams.last_end.at() + self.idle_timeout;
            !connection.sender.is_closed() && !is_idle && now < connection.born + self.max_age
        });
        connections.iter().find_map(|connection| {
            let limit = connection.limit.load(Ordering::Relaxed);
            (connection.streams.open.load(Ordering::Relaxed) < limit)
                .then(|| Stream::new(connection.clone(), true))
        })
    }

    /// Starts HTTP/2 on a new connection and reserves its first stream.
    pub(super) async fn start<I>(self: Arc<Self>, io: I, settings: &Settings) -> Result<Stream, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::unsent(FailureKind::Reset, error.to_string()))?;
        let open = Arc::new(self.counters.opened());
        let limit = Arc::new(AtomicUsize::new(MAX_STREAMS));
        let streams = Arc::new(Streams { open: AtomicUsize::new(0), last_end: LastWrite::new() });
        let learned = Arc::clone(&limit);
        let mut connection = connection;
        clock::spawn(poll_fn(move |cx| {
            // Errors reach the attempts that use the connection.
            let ended = Pin::new(&mut connection).poll(cx).map(drop);
            learned.store(connection.current_max_send_streams().min(MAX_STREAMS), Ordering::Relaxed);
            ended
        }));
        let connection = Connection { sender, limit, streams, born: clock::now(), _open: open };
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
        Ok(Stream::new(connection, false))
    }
}

impl Stream {
    fn new(connection: Connection, reused: bool) -> Self {
        connection.streams.open.fetch_add(1, Ordering::Relaxed);
        Self { connection, reused }
    }

    /// Sends a request in HTTP/2's form: with scheme and authority, without `Host`.
    pub(super) fn send(
        &mut self,
        mut request: Request<replay::Body>,
        target: &Target,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<replay::Body>>>> + use<> {
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = target.absolute(uri);
        self.connection.sender.try_send_request(request)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let streams = &self.connection.streams;
        streams.last_end.note();
        streams.open.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Connections that stop speaking HTTP: WebSocket, by the upgrade of HTTP/1.1 (RFC 9110, section 7.8).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::clock;

use super::body::AnswerBody;
use super::counters::Open;
use super::driver::Driver;

/// How the upstream answered a request to upgrade.
#[derive(Debug)]
pub enum Upgrade {
    /// It switched protocols: the head of its 101, and the connection.
    Switched(Response<()>, Switched),
    /// It answered as to any other request.
    Declined(Response<AnswerBody>),
}

/// A connection to the upstream that is about to stop speaking HTTP.
#[derive(Debug)]
pub struct Switched {
    connection: OnUpgrade,
    _held: Option<(Driver, Open)>,
}

/// How much went through a tunnel, and why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelReport {
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// Why it ended.
    pub end: TunnelEnd,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelEnd {
    /// Both sides closed.
    Closed,
    /// One side broke.
    Broken,
    /// Nothing came from either side for too long.
    Idle,
    /// It was told to end.
    Stopped,
}

/// Which requests may stop speaking HTTP, how many connections at once, and for how long they may be silent. Shared by all
/// workers.
pub struct Tunnels {
    allows: Box<dyn Fn(&str) -> bool + Send + Sync>,
    idle: Duration,
    max: usize,
    open: AtomicUsize,
    stop: watch::Sender<bool>,
}

/// The right to one tunnel, until dropped.
#[derive(Debug)]
pub struct TunnelSlot {
    tunnels: Arc<Tunnels>,
}

impl Tunnels {
    /// At most `max` tunnels at once, for the paths that `allows` names, each silent for `idle` at most.
    pub fn new(
        allows: impl Fn(&str) -> bool + Send + Sync + 'static,
        idle: Duration,
        max: usize,
    ) -> Arc<Self> {
        let (stop, _) = watch::channel(false);
        Arc::new(Self { allows: Box::new(allows), idle, max, open: AtomicUsize::new(0), stop })
    }

    /// No tunnel at all.
    pub fn none() -> Arc<Self> {
        Self::new(|_| false, Duration::ZERO, 0)
    }

    /// Whether a request for this path may be upgraded.
    pub fn allows(&self, path: &str) -> bool {
        (self.allows)(path)
    }

    /// Tunnels open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A slot for one more tunnel; `None` when all are taken.
    pub fn take(self: &Arc<Self>) -> Option<TunnelSlot> {
        let slot = TunnelSlot { tunnels: Arc::clone(self) };
        // The slot gives back what is taken here, also when it is one too many.
        (self.open.fetch_add(1, Ordering::Relaxed) < self.max).then_some(slot)
    }

    /// Ends all tunnels, those to come too: a drain can't wait for sessions that last an hour.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl TunnelSlot {
    /// Copies bytes both ways until the tunnel ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides.
    pub async fn run(self, switched: Switched, client: OnUpgrade) -> TunnelReport {
        let mut stop = self.tunnels.stop.subscribe();
        let stopped = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        switched.tunnel(client, self.tunnels.idle, stopped).await
    }
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        self.tunnels.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tunnels").field("max", &self.max).field("open", &self.open).finish_non_exhaustive()
    }
}

impl TunnelEnd {
    /// The end's name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
        }
    }
}

/// What a client asks to upgrade to, if it asks: the one protocol that its headers name.
pub fn asked_for(headers: &HeaderMap) -> Option<HeaderValue> {
    let nominated = super::headers::nominated(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    match (nominated, protocols.next(), protocols.next()) {
        (true, Some(protocol), None) if !protocol.as_bytes().contains(&b',') => Some(protocol.clone()),
        _ => None,
    }
}

/// Puts the request, or the answer, to upgrade back into headers that were stripped of what concerns one connection.
pub fn ask_for(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

impl Switched {
    pub(super) fn from(mut answer: Response<Incoming>, held: Option<(Driver, Open)>) -> (Response<()>, Self) {
        let connection = hyper::upgrade::on(&mut answer);
        (answer.map(drop), Self { connection, _held: held })
    }

    /// Copies bytes both ways until both sides have closed, one breaks, neither sends for `idle`, or `stop` resolves.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides.
    pub async fn tunnel(
        self,
        client: OnUpgrade,
        idle: Duration,
        stop: impl Future<Output = ()>,
    ) -> TunnelReport {
        let Self { connection, _held } = self;
        let moved = Moved::default();
        let work = async {
            let (Ok(client), Ok(upstream)) = (client.await, connection.await) else {
                return TunnelEnd::Broken;
            };
            let mut client = Counted { io: TokioIo::new(client), read: &moved.up, moved: &moved.lately };
            let mut upstream =
                Counted { io: TokioIo::new(upstream), read: &moved.down, moved: &moved.lately };
            match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                Ok(_) => TunnelEnd::Closed,
                Err(_) => TunnelEnd::Broken,
            }
        };
        let mut work = pin!(work);
        let mut stop = pin!(stop);
        let mut timer = pin!(clock::sleep(idle));
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = work.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(TunnelEnd::Stopped);
            }
            if moved.lately.swap(false, Ordering::Relaxed) {
                timer.as_mut().reset(clock::now() + idle);
            }
            timer.as_mut().poll(cx).map(|()| TunnelEnd::Idle)
        })
        .await;
        TunnelReport { up: moved.up.load(Ordering::Relaxed), down: moved.down.load(Ordering::Relaxed), end }
    }
}

/// What one tunnel has moved; atomics only because its future is `Send`.
#[derive(Debug, Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
    lately: AtomicBool,
}

/// One side of a tunnel.
struct Counted<'a> {
    io: TokioIo<Upgraded>,
    read: &'a AtomicU64,
    moved: &'a AtomicBool,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let more = buf.filled().len() - before;
        if more > 0 {
            self.read.fetch_add(more as u64, Ordering::Relaxed);
            self.moved.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

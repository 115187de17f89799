//! Connections that stop speaking HTTP: WebSocket, by the upgrade of HTTP/1.1 (RFC 9110, section
//! 7.8).

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_util::io::InspectReader;

use crate::clock;
use crate::label::names;

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

names! {
    /// Why a tunnel ended.
    TunnelEnd {
        /// Both sides closed.
        Closed = "closed",
        /// One side broke.
        Broken = "broken",
        /// Nothing came from either side for too long.
        Idle = "idle",
        /// It was told to end.
        Stopped = "stopped",
        /// What one side sent can't be read, or is longer than it may be.
        Refused = "refused",
        /// The client took nothing of what was sent to it for too long.
        Unread = "unread",
    }
}

/// Bounds of upgraded connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelLimits {
    /// How long both directions may be silent.
    pub idle: Duration,
    /// How long a client may take nothing of what waits for it, where messages are read.
    pub unread: Duration,
    /// Connections at once.
    pub max: usize,
    /// Bytes of one message of a client's, where messages are read.
    pub message: usize,
}

/// How far the process is on its way to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    #[default]
    Open,
    /// What is under way may end; nothing new begins.
    Draining,
    /// All ends now.
    Stopped,
}

/// Which requests may stop speaking HTTP, and within which bounds. Shared by all workers.
pub struct Tunnels {
    allows: Box<dyn Fn(&str) -> bool + Send + Sync>,
    limits: TunnelLimits,
    open: AtomicUsize,
    /// Each slot has a receiver: once all are gone, so are the tunnels.
    phase: watch::Sender<Phase>,
}

/// The right to one tunnel, until dropped.
#[derive(Debug)]
pub struct TunnelSlot {
    tunnels: Arc<Tunnels>,
    phase: watch::Receiver<Phase>,
}

impl Tunnels {
    /// Tunnels for the paths that `allows` names.
    pub fn new(allows: impl Fn(&str) -> bool + Send + Sync + 'static, limits: TunnelLimits) -> Arc<Self> {
        let (phase, _) = watch::channel(Phase::Open);
        Arc::new(Self { allows: Box::new(allows), limits, open: AtomicUsize::new(0), phase })
    }

    /// No tunnel at all.
    #[cfg(any(test, feature = "internals"))]
    pub fn none() -> Arc<Self> {
        Self::new(
            |_| false,
            TunnelLimits { idle: Duration::ZERO, unread: Duration::ZERO, max: 0, message: 0 },
        )
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
        let slot = TunnelSlot { tunnels: Arc::clone(self), phase: self.phase.subscribe() };
        // The slot gives back what is taken here, also when it is one too many.
        (self.open.fetch_add(1, Ordering::Relaxed) < self.limits.max).then_some(slot)
    }

    /// Lets all tunnels finish what is under way, and begin nothing: those to come too.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Ends all tunnels, those to come too.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Waits until no tunnel is open.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) {
        self.phase.closed().await;
    }
}

impl TunnelSlot {
    /// The bounds of the tunnel.
    pub fn limits(&self) -> TunnelLimits {
        self.tunnels.limits
    }

    /// How far the process is on its way to its end.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits for the next phase; for ever, when none comes.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub async fn changed(&mut self) -> Phase {
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.phase()
    }

    /// Copies bytes both ways, unread, until the tunnel ends. A drain ends it at once: nobody knows
    /// what is under way.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides.
    pub async fn run(mut self, switched: Switched, client: OnUpgrade) -> TunnelReport {
        let idle = self.limits().idle;
        let stopped = async {
            if self.phase.wait_for(|phase| *phase >= Phase::Draining).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        switched.tunnel(client, idle, stopped).await
    }
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        self.tunnels.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tunnels")
            .field("limits", &self.limits)
            .field("open", &self.open)
            .finish_non_exhaustive()
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

/// Puts the request, or the answer, to upgrade back into headers that were stripped of what
/// concerns one connection.
pub fn ask_for(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

impl Switched {
    pub(super) fn from(mut answer: Response<Incoming>, held: Option<(Driver, Open)>) -> (Response<()>, Self) {
        let connection = hyper::upgrade::on(&mut answer);
        (answer.map(drop), Self { connection, _held: held })
    }

    /// Both connections, once they are there, and what must live as long as the upstream's does.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides.
    pub async fn open(self, client: OnUpgrade) -> Option<(TokioIo<Upgraded>, TokioIo<Upgraded>, impl Send)> {
        let Self { connection, _held: held } = self;
        let (Ok(client), Ok(upstream)) = (client.await, connection.await) else { return None };
        Some((TokioIo::new(client), TokioIo::new(upstream), held))
    }

    /// Copies bytes both ways until both sides have closed, one breaks, neither sends for `idle`,
    /// or `stop` resolves.
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
        // Bytes moved, and whether any were lately; atomics only because the future is `Send`.
        let (up, down, lately) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let count = |total: &AtomicU64, read: &[u8]| {
            if !read.is_empty() {
                total.fetch_add(read.len() as u64, Ordering::Relaxed);
                lately.store(true, Ordering::Relaxed);
            }
        };
        let work = async {
            let (Ok(client), Ok(upstream)) = (client.await, connection.await) else {
                return TunnelEnd::Broken;
            };
            let mut client = InspectReader::new(TokioIo::new(client), |read: &[u8]| count(&up, read));
            let mut upstream = InspectReader::new(TokioIo::new(upstream), |read: &[u8]| count(&down, read));
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
            if lately.swap(false, Ordering::Relaxed) {
                timer.as_mut().reset(clock::now() + idle);
            }
            timer.as_mut().poll(cx).map(|()| TunnelEnd::Idle)
        })
        .await;
        TunnelReport { up: up.load(Ordering::Relaxed), down: down.load(Ordering::Relaxed), end }
    }
}

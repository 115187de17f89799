//! Upgraded connections: WebSocket over HTTP/1.1 (RFC 9110, section 7.8).

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

/// The upstream's response to an upgrade request.
#[derive(Debug)]
pub enum Upgrade {
    /// 101 Switching Protocols: its head, and the connection.
    Switched(Response<()>, Switched),
    /// Any other response.
    Declined(Response<AnswerBody>),
}

/// A connection to the upstream that is about to switch protocols.
#[derive(Debug)]
pub struct Switched {
    connection: OnUpgrade,
    _held: Option<(Driver, Open)>,
}

/// The byte counts of a tunnel, and the reason for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelReport {
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// The reason for its end.
    pub end: TunnelEnd,
}

names! {
    /// The reason for a tunnel's end.
    TunnelEnd {
        /// Both sides closed.
        Closed = "closed",
        /// One side failed.
        Broken = "broken",
        /// Neither side sent anything for too long.
        Idle = "idle",
        /// The process ended it.
        Stopped = "stopped",
        /// One side sent unreadable data, or a message beyond the limit.
        Refused = "refused",
        /// The client read nothing for too long.
        Unread = "unread",
    }
}

/// Limits of upgraded connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Longest time in which neither side sends.
    pub idle: Duration,
    /// Longest time in which a client reads nothing, if messages are parsed.
    pub unread: Duration,
    /// Most upgraded connections.
    pub max: usize,
    /// Largest client message in bytes, if messages are parsed.
    pub message: usize,
}

/// The phase of the process's shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    #[default]
    Open,
    /// Work in progress may finish; nothing new begins.
    Draining,
    /// Everything ends now.
    Stopped,
}

/// The upgraded connections, the paths that allow them, and their limits. Shared by all workers.
pub struct Tunnels {
    allows: Box<dyn Fn(&str) -> bool + Send + Sync>,
    limits: TunnelLimits,
    open: AtomicUsize,
    /// Each slot has a receiver, so the channel is closed once all tunnels are.
    phase: watch::Sender<Phase>,
}

/// A guard for one tunnel; dropping it frees the slot.
#[derive(Debug)]
pub struct TunnelSlot {
    tunnels: Arc<Tunnels>,
    phase: watch::Receiver<Phase>,
}

impl Tunnels {
    /// Creates tunnels for the paths that `allows` accepts.
    pub fn new(allows: impl Fn(&str) -> bool + Send + Sync + 'static, limits: TunnelLimits) -> Arc<Self> {
        let (phase, _) = watch::channel(Phase::Open);
        Arc::new(Self { allows: Box::new(allows), limits, open: AtomicUsize::new(0), phase })
    }

    /// Allows no tunnels.
    #[cfg(any(test, feature = "internals"))]
    pub fn none() -> Arc<Self> {
        Self::new(
            |_| false,
            TunnelLimits { idle: Duration::ZERO, unread: Duration::ZERO, max: 0, message: 0 },
        )
    }

    /// Whether requests for this path may be upgraded.
    pub fn allows(&self, path: &str) -> bool {
        (self.allows)(path)
    }

    /// Open tunnels.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A slot for another tunnel; `None` if all are in use.
    pub fn take(self: &Arc<Self>) -> Option<TunnelSlot> {
        let slot = TunnelSlot { tunnels: Arc::clone(self), phase: self.phase.subscribe() };
        // Dropping the slot undoes the increment, also beyond the limit.
        (self.open.fetch_add(1, Ordering::Relaxed) < self.limits.max).then_some(slot)
    }

    /// Lets all tunnels, current and future, finish their work and begin nothing.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Ends all tunnels, current and future.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Waits until no tunnel is open.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn closed(&self) {
        self.phase.closed().await;
    }
}

impl TunnelSlot {
    /// The limits of the tunnel.
    pub fn limits(&self) -> TunnelLimits {
        self.tunnels.limits
    }

    /// The phase of the process's shutdown.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits for the next phase, forever if there is none.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub async fn changed(&mut self) -> Phase {
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.phase()
    }

    /// Relays bytes both ways, unparsed, until the tunnel ends. A drain ends it at once, because
    /// the state of its protocol is unknown.
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

/// The protocol that a client asks to upgrade to, if its headers name exactly one.
pub fn asked_for(headers: &HeaderMap) -> Option<HeaderValue> {
    let nominated = super::headers::nominated(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    match (nominated, protocols.next(), protocols.next()) {
        (true, Some(protocol), None) if !protocol.as_bytes().contains(&b',') => Some(protocol.clone()),
        _ => None,
    }
}

/// Restores the upgrade fields of a request or response after hop-by-hop fields were removed.
pub fn ask_for(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

impl Switched {
    pub(super) fn from(mut answer: Response<Incoming>, held: Option<(Driver, Open)>) -> (Response<()>, Self) {
        let connection = hyper::upgrade::on(&mut answer);
        (answer.map(drop), Self { connection, _held: held })
    }

    /// Waits for both upgraded connections. The third value must live as long as the upstream's
    /// connection.
    ///
    /// # Cancel safety
    /// Dropping the future closes both sides.
    pub async fn open(self, client: OnUpgrade) -> Option<(TokioIo<Upgraded>, TokioIo<Upgraded>, impl Send)> {
        let Self { connection, _held: held } = self;
        let (Ok(client), Ok(upstream)) = (client.await, connection.await) else { return None };
        Some((TokioIo::new(client), TokioIo::new(upstream), held))
    }

    /// Relays bytes both ways until both sides have closed, one fails, neither sends for `idle`, or
    /// `stop` resolves.
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
        // The byte counts, and whether any moved lately. Atomics only because the future must be
        // `Send`.
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

//! Connections to the upstream: obtaining one, sending a request over it, and receiving the
//! response's head.
//!
//! Each worker has its own [`Upstream`], so that a request and its connection stay on one thread.
//! Connecting is a tower service ([`Connector`] in production, mocks in tests) with the steps DNS,
//! TCP, CONNECT and TLS, each with its own [`FailureKind`].
//!
//! Dropping the future of an attempt, or its response's body, ends the attempt upstream at once.

mod ack_timeout;
mod acks;
mod body;
mod connect;
mod counters;
mod dial;
mod driver;
mod failure;
mod head_limit;
mod head_timer;
pub mod headers;
mod http1;
mod http2;
mod keep_alive;
mod tracked_io;
mod close_check;
mod progress;
pub mod proxy;
mod ready;
mod refused_by_proxy;
mod reuse;
mod target;
pub mod tls;
mod tunnel;
pub mod upgrade;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use crate::classify::{Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::replay;

pub use acks::DelayedAcks;
pub use body::AnswerBody;
pub use connect::{Connected, Connector, Destination, TransportStream};
pub use counters::Counters;
pub use head_limit::HeadLimit;
pub use progress::Progress;
pub use target::{Target, TargetError};

use ready::Channel;
pub use ready::Ready;
use upgrade::{Switched, Tunnels, Upgrade};

/// Limits of upstream connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Timeout of connecting: DNS, TCP, CONNECT and TLS together.
    pub connect_timeout: Duration,
    /// Idle time after which a connection is closed; should be less than the upstream's.
    pub idle_timeout: Duration,
    /// Most idle connections of one worker.
    pub max_idle: usize,
    /// Age at which a connection is retired, so that DNS changes are followed.
    pub max_age: Duration,
    /// Most bytes of a response's head.
    pub header_bytes: usize,
    /// Most bytes of one read from an HTTP/1.1 connection.
    pub piece: usize,
}

impl Default for Settings {
    /// 5 s to connect, 50 s idle (load balancers commonly close after 60 s), 1,024 idle
    /// connections, 10 min maximum age, 64 KiB of headers, reads of 16 KiB.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(50),
            max_idle: 1024,
            max_age: Duration::from_mins(10),
            header_bytes: 64 << 10,
            piece: 16 << 10,
        }
    }
}

/// One worker's view of the upstream: its address, and a connection pool.
///
/// Cloning is cheap and shares the pool.
#[derive(Clone, Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    target: Arc<Target>,
    settings: Settings,
    counters: Arc<Counters>,
    connect: Connect,
    http1: Arc<http1::Pool>,
    http2: Arc<http2::Pool>,
    /// Locked while an HTTP/2 connection is made, so that waiting attempts share it.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the last connection spoke HTTP/2, as the next one probably will.
    speaks_http2: std::sync::atomic::AtomicBool,
    tunnels: Arc<Tunnels>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Channel, Failure>> + Send>>;
type Connect = Box<dyn Fn(Protocol, Progress) -> Connecting + Send + Sync>;

/// The protocol that a connection is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Any that the upstream supports.
    Any,
    /// HTTP/1.1, for an upgrade.
    Http1,
}

impl Upstream {
    /// Creates an upstream at `target` with connections made by `connector`.
    #[cfg(any(test, feature = "internals"))]
    pub fn new<S, I>(target: Arc<Target>, settings: Settings, counters: Arc<Counters>, connector: S) -> Self
    where
        S: Service<Destination, Response = Connected<I>, Error = Failure> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::with_tunnels(target, settings, counters, connector, Tunnels::none())
    }

    /// Creates an upstream at `target`. `connector` makes its connections, and `tunnels` has the
    /// upgraded ones.
    pub fn with_tunnels<S, I>(
        target: Arc<Target>,
        settings: Settings,
        counters: Arc<Counters>,
        connector: S,
        tunnels: Arc<Tunnels>,
    ) -> Self
    where
        S: Service<Destination, Response = Connected<I>, Error = Failure> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http1 = http1::Pool::new(&settings, &counters);
        let http2 = http2::Pool::new(&settings, &counters);
        let connect = {
            let (target, http1, http2) = (Arc::clone(&target), Arc::clone(&http1), Arc::clone(&http2));
            let connect = move |protocol, progress: Progress| -> Connecting {
                let close_check = progress.close_check();
                let only_http1 = protocol == Protocol::Http1;
                let destination = Destination { target: Arc::clone(&target), only_http1, progress };
                let (http1, http2) = (Arc::clone(&http1), Arc::clone(&http2));
                let mut connector = connector.clone();
                Box::pin(async move {
                    poll_fn(|cx| connector.poll_ready(cx)).await?;
                    let Connected { io, http2: speaks_http2 } = connector.call(destination).await?;
                    if speaks_http2 {
                        http2.start(io, &settings).await.map(Channel::http2)
                    } else {
                        http1.start(io, &settings, close_check).await.map(Channel::Http1)
                    }
                })
            };
            Box::new(connect)
        };
        let shared = Shared {
            target,
            settings,
            counters,
            connect,
            http1,
            http2,
            connecting: tokio::sync::Mutex::default(),
            speaks_http2: std::sync::atomic::AtomicBool::new(false),
            tunnels,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The upstream's address.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// The upgraded connections.
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.shared.tunnels
    }

    /// A connection for one attempt: an idle one, or a new one.
    ///
    /// # Errors
    /// No connection can be made. Nothing was sent.
    ///
    /// # Cancel safety
    /// Dropping the future stops connecting.
    pub async fn connection(&self) -> Result<Ready, Failure> {
        match self.idle(clock::now(), false) {
            Some(ready) => Ok(ready),
            // Boxed, because it is rare and large: inline it would enlarge the future of each
            // attempt.
            None => Ok(Ready { upstream: self.clone(), channel: Box::pin(self.fresh()).await? }),
        }
    }

    /// An idle connection for one attempt, if there is one. If the attempt must be sent
    /// `only_once`, the socket is checked for a close first.
    pub fn idle(&self, now: Instant, only_once: bool) -> Option<Ready> {
        let channel = self.idle_channel(now, only_once)?;
        Some(Ready { upstream: self.clone(), channel })
    }

    /// Combines [`Self::connection`] and [`Ready::send`].
    #[cfg(any(test, feature = "internals"))]
    pub async fn attempt(
        &self,
        request: Request<replay::Body>,
        limit: HeadLimit,
    ) -> Result<Response<AnswerBody>, Failure> {
        self.connection().await?.send(request, limit).await
    }

    /// Sends an upgrade request on a separate connection, and waits for the response's head.
    ///
    /// # Errors
    /// Those of an attempt.
    pub async fn upgrade(
        &self,
        request: Request<replay::Body>,
        limit: HeadLimit,
    ) -> Result<Upgrade, Failure> {
        let deadline = clock::now() + self.shared.settings.connect_timeout;
        let progress = Progress::default();
        let connecting = (self.shared.connect)(Protocol::Http1, progress.clone());
        let channel = clock::timeout_at(deadline, connecting).await;
        let channel = channel.unwrap_or_else(|_| Err(progress.too_late()));
        let channel = channel.inspect_err(|failure| self.shared.counters.count_failed(failure.kind))?;
        let mut ready = Ready { upstream: self.clone(), channel };
        let begun = ready.begin(request, limit);
        let answer = ready.exchange(begun).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return ready.answer(answer).map(Upgrade::Declined);
        }
        match ready.channel {
            Channel::Http1(lease) => {
                let (head, switched) = Switched::from(answer, lease.detach());
                Ok(Upgrade::Switched(head, switched))
            }
            Channel::Http2(..) => Err(Failure::sent(FailureKind::Malformed, "101 over HTTP/2")),
        }
    }

    fn idle_channel(&self, now: Instant, only_once: bool) -> Option<Channel> {
        if let Some(lease) = self.shared.http1.take(now, only_once) {
            return Some(Channel::Http1(lease));
        }
        if self.shared.speaks_http2.load(std::sync::atomic::Ordering::Relaxed) {
            return self.shared.http2.take().map(Channel::http2);
        }
        None
    }

    async fn fresh(&self) -> Result<Channel, Failure> {
        use std::sync::atomic::Ordering;
        let shared = &self.shared;
        let deadline = clock::now() + shared.settings.connect_timeout;
        let progress = Progress::default();
        let connected = clock::timeout_at(deadline, async {
            let turn = if shared.speaks_http2.load(Ordering::Relaxed) {
                let turn = shared.connecting.lock().await;
                if let Some(stream) = shared.http2.take() {
                    return Ok(Channel::http2(stream));
                }
                Some(turn)
            } else {
                None
            };
            let channel = (shared.connect)(Protocol::Any, progress.clone()).await;
            drop(turn);
            channel
        })
        .await
        .unwrap_or_else(|_| Err(progress.too_late()));
        match &connected {
            Ok(channel) => {
                shared.speaks_http2.store(matches!(channel, Channel::Http2(..)), Ordering::Relaxed);
            }
            Err(failure) => shared.counters.count_failed(failure.kind),
        }
        // If no new connection can be made, an old one is better than none.
        connected.or_else(|failure| shared.http1.take_old(clock::now()).map(Channel::Http1).ok_or(failure))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Upstream").field("target", &self.target).finish_non_exhaustive()
    }
}

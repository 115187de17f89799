//! One attempt: a connection to the upstream, a request over it, the head of its answer.
//!
//! Each worker has an [`Upstream`] of its own, so that a request and its connection stay on one
//! thread. Connecting is a tower service ([`Connector`] in production, anything in tests): DNS,
//! TCP, a proxy's CONNECT and TLS are steps of their own, each with its own [`FailureKind`].
//!
//! Dropping the future of an attempt, or the body of its answer, ends the attempt upstream at once.

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
mod noted;
mod peek;
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

/// How connections to the upstream are made and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time for a connection: DNS, TCP, CONNECT and TLS together.
    pub connect_timeout: Duration,
    /// Time that a connection waits unused before it is closed; to be less than the upstream's own.
    pub idle_timeout: Duration,
    /// Connections of one worker that wait unused.
    pub max_idle: usize,
    /// Age at which a connection is no longer used, so that a change of the upstream's addresses is
    /// followed.
    pub max_age: Duration,
    /// Bytes of the head of an answer.
    pub header_bytes: usize,
    /// Bytes of an answer over HTTP/1.1 that are read at once.
    pub piece: usize,
}

impl Default for Settings {
    /// 5 s to connect, 50 s idle (balancers commonly close after 60), 1,024 idle, 10 min old, 64
    /// KiB of headers, pieces of 16 KiB.
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

/// The upstream as one worker sees it: its address, and a pool of connections to it.
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
    /// Held while an HTTP/2 connection is made: those who wait for it then share it.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the last connection spoke HTTP/2, which says what to expect of the next.
    speaks_http2: std::sync::atomic::AtomicBool,
    tunnels: Arc<Tunnels>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Channel, Failure>> + Send>>;
type Connect = Box<dyn Fn(Protocol, Progress) -> Connecting + Send + Sync>;

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Whatever the upstream speaks.
    Any,
    /// An upgrade, which only HTTP/1.1 knows.
    Http1,
}

impl Upstream {
    /// An upstream at `target` whose connections `connector` makes.
    #[cfg(any(test, feature = "internals"))]
    pub fn new<S, I>(target: Arc<Target>, settings: Settings, counters: Arc<Counters>, connector: S) -> Self
    where
        S: Service<Destination, Response = Connected<I>, Error = Failure> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::with_tunnels(target, settings, counters, connector, Tunnels::none())
    }

    /// The same, with connections that may stop speaking HTTP.
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
                let peek = progress.peek();
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
                        http1.start(io, &settings, peek).await.map(Channel::Http1)
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

    /// Where requests go.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// The connections that may stop speaking HTTP.
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.shared.tunnels
    }

    /// A connection for one attempt: an idle one if there is one, else a new one.
    ///
    /// # Errors
    /// When no connection can be made; nothing was sent then.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the connection being made.
    pub async fn connection(&self) -> Result<Ready, Failure> {
        match self.idle(clock::now(), false) {
            Some(ready) => Ok(ready),
            // Boxed, because it is rare and large: the future of every attempt would have to hold
            // it.
            None => Ok(Ready { upstream: self.clone(), channel: Box::pin(self.fresh()).await? }),
        }
    }

    /// An idle connection for one attempt, if there is one. Where the attempt is `only_once`,
    /// because it must not be repeated, the system is asked whether the connection is still open.
    pub fn idle(&self, now: Instant, only_once: bool) -> Option<Ready> {
        let channel = self.idle_channel(now, only_once)?;
        Some(Ready { upstream: self.clone(), channel })
    }

    /// Takes a connection, sends `request` and waits for the head of its answer:
    /// [`Self::connection`] and [`Ready::send`] in one.
    #[cfg(any(test, feature = "internals"))]
    pub async fn attempt(
        &self,
        request: Request<replay::Body>,
        limit: HeadLimit,
    ) -> Result<Response<AnswerBody>, Failure> {
        self.connection().await?.send(request, limit).await
    }

    /// Sends a request to stop speaking HTTP on a connection of its own, and waits for the head of
    /// the answer.
    ///
    /// # Errors
    /// As those of an attempt.
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
        // One that is old is better than none.
        connected.or_else(|failure| shared.http1.take_old(clock::now()).map(Channel::Http1).ok_or(failure))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Upstream").field("target", &self.target).finish_non_exhaustive()
    }
}

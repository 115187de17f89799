//! Connecting: DNS, TCP, the proxy's CONNECT and TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::Service;

use crate::classify::{Failure, FailureKind};
use crate::clock;
use crate::gather::Gathered;

use super::acks::DelayedAcks;
use super::dial::Lookups;
use super::progress::{Progress, Step};
use super::proxy::Proxy;
use super::refused_by_proxy::RefusedByProxy;
use super::target::Target;
use super::{dial, failure, tunnel};

/// The byte stream of a connection to the upstream: plain TCP, or TLS, boxed for its size.
pub type TransportStream = Either<Gathered<DelayedAcks>, Box<TlsStream<Gathered<DelayedAcks>>>>;

/// A new connection.
#[derive(Debug)]
pub struct Connected<I> {
    /// The byte stream.
    pub io: I,
    /// Whether HTTP/2 was negotiated.
    pub http2: bool,
}

/// A request to a connector.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The upstream to connect to.
    pub target: Arc<Target>,
    /// Whether HTTP/2 must not be offered.
    pub only_http1: bool,
    /// The progress, reported by the connector.
    pub progress: Progress,
}

/// The proxy for outgoing connections.
#[derive(Debug)]
struct Egress {
    proxy: Proxy,
    refused: RefusedByProxy,
}

/// Connects over the network: the innermost tower service of an attempt.
#[derive(Clone)]
pub struct Connector {
    /// Shared by all clones, and replaced atomically.
    settings: Arc<RwLock<Arc<Settings>>>,
    server_name: Option<ServerName<'static>>,
    lookups: Arc<Lookups>,
}

/// The settings of new connections.
struct Settings {
    proxy: Option<Egress>,
    tls: TlsConnector,
    tls_http1: TlsConnector,
}

impl Settings {
    fn new(tls: Arc<rustls::ClientConfig>, proxy: Option<Proxy>) -> Arc<Self> {
        let mut http1 = rustls::ClientConfig::clone(&tls);
        http1.alpn_protocols.retain(|protocol| protocol != b"h2");
        let proxy = proxy.map(|proxy| Egress { proxy, refused: RefusedByProxy::default() });
        Arc::new(Self { proxy, tls: TlsConnector::from(tls), tls_http1: TlsConnector::from(Arc::new(http1)) })
    }
}

impl Connector {
    /// Creates a connector that encrypts with `tls` and connects through `proxy`, if there is one.
    ///
    /// `server_name` replaces the target's host in SNI and in the check of the upstream's
    /// certificate.
    pub fn new(
        tls: Arc<rustls::ClientConfig>,
        proxy: Option<Proxy>,
        server_name: Option<ServerName<'static>>,
    ) -> Self {
        Self {
            settings: Arc::new(RwLock::new(Settings::new(tls, proxy))),
            server_name,
            lookups: Arc::default(),
        }
    }

    /// Replaces the settings of new connections, for all clones.
    pub fn replace(&self, tls: Arc<rustls::ClientConfig>, proxy: Option<Proxy>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings::new(tls, proxy);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connect(self, destination: Destination) -> Result<Connected<TransportStream>, Failure> {
        let Destination { target, only_http1, progress } = destination;
        let settings = self.settings();
        let tcp = match &settings.proxy {
            None => dial::dial(target.host(), target.port(), &self.lookups, &progress).await?,
            Some(egress) => {
                progress.begin(Step::Proxy);
                egress.open(&target, &self.lookups).await?
            }
        };
        let tcp = Gathered::new(DelayedAcks::new(tcp, progress.close_check()));
        if !target.tls() {
            return Ok(Connected { io: Either::Left(tcp), http2: false });
        }
        let name = match self.server_name {
            Some(name) => name,
            None => ServerName::try_from(target.host().to_owned())
                .map_err(|_| Failure::unsent(FailureKind::Tls, "the host is no valid server name"))?,
        };
        progress.begin(Step::Tls);
        let connector = if only_http1 { &settings.tls_http1 } else { &settings.tls };
        let tls = connector.connect(name, tcp).await.map_err(|error| tls_failure(&error))?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connected { io: Either::Right(Box::new(tls)), http2 })
    }
}

impl Egress {
    /// Connects to the upstream through the proxy.
    async fn open(&self, target: &Target, lookups: &Lookups) -> Result<TcpStream, Failure> {
        self.refused.check(clock::now())?;
        let Self { proxy, refused } = self;
        let tcp = dial::dial(proxy.host(), proxy.port(), lookups, &Progress::default()).await;
        let tcp = tcp.map_err(of_the_proxy)?;
        match tunnel::open(tcp, proxy, target.host(), target.port()).await {
            Ok(tunnel) => {
                refused.opened();
                Ok(tunnel)
            }
            Err(failure) => {
                if failure.is_final() {
                    refused.refused(&failure, clock::now());
                }
                Err(failure)
            }
        }
    }
}

/// Converts a failure to reach the proxy; the upstream was not contacted.
fn of_the_proxy(failure: Failure) -> Failure {
    if failure.kind == FailureKind::Exhausted {
        return failure;
    }
    let step =
        if failure.kind == FailureKind::Dns { "its name did not resolve" } else { "it was not reached" };
    Failure::unsent(FailureKind::ProxyFailed, format!("{step}: {}", failure.detail()))
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connector").field("proxy", &self.settings().proxy).finish_non_exhaustive()
    }
}

impl Service<Destination> for Connector {
    type Response = Connected<TransportStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Destination) -> Self::Future {
        Box::pin(self.clone().connect(destination))
    }
}

fn tls_failure(error: &std::io::Error) -> Failure {
    match failure::tls_error(error) {
        Some(error) => failure::of_tls(error),
        None => Failure::unsent(FailureKind::Tls, error.kind().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_nobody_trusts_stays_so_and_a_broken_handshake_may_not() {
        let lasting = |error: rustls::Error| tls_failure(&std::io::Error::other(error)).is_lasting();
        assert!(lasting(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)));
        assert!(!lasting(rustls::Error::HandshakeNotComplete));
        assert!(!tls_failure(&std::io::ErrorKind::ConnectionReset.into()).is_lasting());
    }
}

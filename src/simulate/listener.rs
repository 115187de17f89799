//! The simulator's TCP listener, which closes during outages of the kind `refused`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::clock;

use super::schedule::OutageKind;
use super::settings::Settings;
use super::{Simulator, Stop};

/// The timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before the next attempt to bind after an outage, or to accept after an error.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A running simulator with a listener. Dropping it aborts its connections.
#[derive(Debug)]
pub struct Running {
    simulator: Simulator,
    address: SocketAddr,
    shutdown: watch::Sender<ShutdownState>,
}

/// The state of shutdown, for the listener and its connections, in order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShutdownState {
    Serve,
    Drain,
    Abort,
}

/// Serves `listener` in a task of the current runtime.
///
/// # Errors
/// The listener has no local address.
pub async fn serve(settings: Settings, listener: TcpListener) -> io::Result<Running> {
    let address = listener.local_addr()?;
    let tls = settings.tls.clone().map(TlsAcceptor::from);
    let simulator = Simulator::new(settings);
    let shutdown = watch::Sender::new(ShutdownState::Serve);
    let server = Server { simulator: simulator.clone(), address, tls, shutdown: shutdown.subscribe() };
    clock::spawn(server.run(listener));
    Ok(Running { simulator, address, shutdown })
}

impl Running {
    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The simulator behind the listener.
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// Closes the listener, waits up to `grace` for the requests in flight, then aborts them.
    ///
    /// # Cancel safety
    /// Dropping it aborts the requests at once.
    pub async fn stop(self, grace: Duration) {
        self.shutdown.send_replace(ShutdownState::Drain);
        // The drop aborts the requests that are left.
        clock::timeout_at(clock::now() + grace, self.shutdown.closed()).await.ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.send_replace(ShutdownState::Abort);
    }
}

struct Server {
    simulator: Simulator,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shutdown: watch::Receiver<ShutdownState>,
}

impl Server {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        let resets = watch::Sender::new(());
        let mut revisions = self.simulator.0.revision.subscribe();
        loop {
            let outage_status = self.simulator.outage_status(clock::now());
            if outage_status.outage == Some(OutageKind::Refused) {
                if listener.take().is_some() {
                    resets.send_replace(());
                }
            } else if listener.is_none() {
                listener = TcpListener::bind(self.address).await.ok();
            }
            let retry = (listener.is_none() && outage_status.outage != Some(OutageKind::Refused))
                .then(|| clock::now() + RETRY_DELAY);
            tokio::select! {
                biased;
                () = reached(&mut self.shutdown, ShutdownState::Drain) => return,
                _ = revisions.changed() => {}
                () = sleep_until(retry.or(outage_status.until)) => {}
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(stream) => self.start(stream, &resets),
                    // Most likely out of file descriptors, which is temporary.
                    Err(_) => clock::sleep(RETRY_DELAY).await,
                },
            }
        }
    }

    fn start(&self, stream: TcpStream, resets: &watch::Sender<()>) {
        let (simulator, tls) = (self.simulator.clone(), self.tls.clone());
        let (mut finish, mut abort, mut reset) =
            (self.shutdown.clone(), self.shutdown.clone(), resets.subscribe());
        clock::spawn(async move {
            // Send small responses without delay.
            stream.set_nodelay(true).ok();
            let stop = async {
                tokio::select! {
                    () = reached(&mut finish, ShutdownState::Drain) => Stop::Graceful,
                    Ok(()) = reset.changed() => Stop::Reset,
                }
            };
            let serve = async {
                match tls {
                    None => simulator.serve_wire(stream, reset_tcp, stop).await,
                    Some(tls) => {
                        let handshake =
                            clock::timeout_at(clock::now() + HANDSHAKE_TIMEOUT, tls.accept(stream));
                        if let Ok(Ok(stream)) = handshake.await {
                            let on_reset: fn(&_) = |stream: &tokio_rustls::server::TlsStream<TcpStream>| {
                                reset_tcp(stream.get_ref().0);
                            };
                            simulator.serve_wire(stream, on_reset, stop).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serve => {}
                () = reached(&mut abort, ShutdownState::Abort) => {}
            }
        });
    }
}

/// Makes the next close of the socket a reset. Fails only on a closed socket, which needs none.
fn reset_tcp(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<clock::Instant>) {
    match deadline {
        Some(deadline) => clock::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for a state at least as urgent as `state`, or for the sender's drop.
async fn reached(shutdown: &mut watch::Receiver<ShutdownState>, state: ShutdownState) {
    shutdown.wait_for(|given| *given >= state).await.ok();
}

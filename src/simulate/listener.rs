//! A listener for a stand-in, which refuses connections on schedule.

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

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between attempts to listen again after an outage, while something else has the address; and
/// after a failure to accept.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A stand-in that serves a listener. Dropping it is a [`Running::stop`] without grace.
#[derive(Debug)]
pub struct Running {
    simulator: Simulator,
    address: SocketAddr,
    orders: watch::Sender<Order>,
}

/// What the listener and its connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Serve,
    Finish,
    Abort,
}

/// Serves a listener on the calling runtime from now on.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(settings: Settings, listener: TcpListener) -> io::Result<Running> {
    let address = listener.local_addr()?;
    let tls = settings.tls.clone().map(TlsAcceptor::from);
    let simulator = Simulator::new(settings);
    let orders = watch::Sender::new(Order::Serve);
    let server = Server { simulator: simulator.clone(), address, tls, orders: orders.subscribe() };
    clock::spawn(server.run(listener));
    Ok(Running { simulator, address, orders })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The stand-in behind the listener.
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// Stops to listen at once, lets requests under way finish for at most `grace`, then cuts them
    /// off.
    ///
    /// # Cancel safety
    /// Dropping it cuts them off at once.
    pub async fn stop(self, grace: Duration) {
        self.orders.send_replace(Order::Finish);
        // In time or not, what is left is cut off by the drop.
        clock::timeout_at(clock::now() + grace, self.orders.closed()).await.ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.orders.send_replace(Order::Abort);
    }
}

struct Server {
    simulator: Simulator,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    orders: watch::Receiver<Order>,
}

impl Server {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        let resets = watch::Sender::new(());
        let mut revisions = self.simulator.0.revision.subscribe();
        loop {
            let weather = self.simulator.weather(clock::now());
            if weather.outage == Some(OutageKind::Refused) {
                if listener.take().is_some() {
                    resets.send_replace(());
                }
            } else if listener.is_none() {
                listener = TcpListener::bind(self.address).await.ok();
            }
            let retry = (listener.is_none() && weather.outage != Some(OutageKind::Refused))
                .then(|| clock::now() + TRY_AGAIN);
            tokio::select! {
                biased;
                () = reached(&mut self.orders, Order::Finish) => return,
                _ = revisions.changed() => {}
                () = sleep_until(retry.or(weather.until)) => {}
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(stream) => self.start(stream, &resets),
                    // Out of files, most likely: it passes.
                    Err(_) => clock::sleep(TRY_AGAIN).await,
                },
            }
        }
    }

    fn start(&self, stream: TcpStream, resets: &watch::Sender<()>) {
        let (simulator, tls) = (self.simulator.clone(), self.tls.clone());
        let (mut finish, mut abort, mut reset) =
            (self.orders.clone(), self.orders.clone(), resets.subscribe());
        clock::spawn(async move {
            // Answers leave at once, whatever their size.
            stream.set_nodelay(true).ok();
            let stop = async {
                tokio::select! {
                    () = reached(&mut finish, Order::Finish) => Stop::Gently,
                    Ok(()) = reset.changed() => Stop::Reset,
                }
            };
            let serve = async {
                match tls {
                    None => simulator.serve_wire(stream, reset_tcp, stop).await,
                    Some(tls) => {
                        let handshake = clock::timeout_at(clock::now() + HANDSHAKE, tls.accept(stream));
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
                () = reached(&mut abort, Order::Abort) => {}
            }
        });
    }
}

/// Makes the close of a socket a reset. A socket that is gone needs none.
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

/// Waits for an order at least as urgent as this. A lost sender is the most urgent.
async fn reached(orders: &mut watch::Receiver<Order>, order: Order) {
    orders.wait_for(|given| *given >= order).await.ok();
}

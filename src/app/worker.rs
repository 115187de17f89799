//! A worker: a thread with its own runtime, upstream connections and proxy.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::sync::oneshot;
use tower::Service;

use crate::classify::ErrorClass;
use crate::proxy::{Answering, Body, Client, Proxy};
use crate::replay::ClientBody;
use crate::response::OwnAnswer;
use crate::server::{self, Acceptor, ConnectionInfo, Front, Refusal, Seat, ServerTls};

/// The parts of a worker's thread.
pub(super) struct Worker {
    pub(super) seat: Seat,
    /// Only the first worker accepts connections, for all.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) front: server::Settings,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) counters: Arc<server::Counters>,
    pub(super) draining: server::Draining,
    pub(super) name: String,
}

/// The running thread of a worker.
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread. It calls `proxy` inside its runtime.
    pub(super) fn start(self, proxy: impl FnOnce() -> Arc<Proxy> + Send + 'static) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let name = self.name.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = self.run(proxy()) => {}
                    _ = stopped => {}
                }
            });
            // A lookup by the system's resolver may take seconds, and its result is no longer
            // needed.
            runtime.shutdown_background();
        })?;
        Ok(Running { stop, thread })
    }

    /// Serves until the thread is stopped: open connections continue after the acceptor has ended.
    async fn run(self, proxy: Arc<Proxy>) {
        let make = move |info: Arc<ConnectionInfo>| Calls { proxy: Arc::clone(&proxy), info };
        let front = Front::new(self.front, make, render, self.counters, self.draining);
        let front = match self.tls {
            Some(tls) => front.with_tls(tls),
            None => front,
        };
        let serving = front.run(self.seat);
        match self.acceptor {
            None => serving.await,
            Some(acceptor) => {
                let (accepted, ()) = tokio::join!(acceptor.run(), serving);
                if let Err(error) = accepted {
                    tracing::error!(%error, "the listener can't be watched");
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Running {
    /// Stops the worker, and aborts its remaining requests.
    pub(super) fn stop(self) {
        // The send fails if the worker has already ended.
        self.stop.send(()).ok();
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

/// The HTTP service of one connection.
#[derive(Clone)]
struct Calls {
    proxy: Arc<Proxy>,
    info: Arc<ConnectionInfo>,
}

impl Service<Request<ClientBody>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        self.proxy.handle(request, Client { address: self.info.peer.ip(), names: &self.info.names })
    }
}

/// The responses of the server itself, in the error format that SDKs understand.
fn render(refusal: Refusal) -> Response<Bytes> {
    let answer = match refusal {
        Refusal::Hygiene(rule) => OwnAnswer {
            status: rule.status(),
            code: rule.as_str().into(),
            ..OwnAnswer::new(ErrorClass::BadRequest, rule.message())
        },
        Refusal::Headers => OwnAnswer {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            code: "headers".into(),
            ..OwnAnswer::new(
                ErrorClass::BadRequest,
                "The request has more header fields than server.header_count allows, or larger ones than server.header_bytes allows.",
            )
        },
        Refusal::Internal => OwnAnswer::new(
            ErrorClass::WeirInternal,
            "A bug in Weir made this request fail; please report it with the log lines of this time.",
        ),
    };
    answer.into_response(&format!("weir_{:032x}", fastrand::u128(..)))
}

//! The admin address's server: few connections, short requests, and its own thread, so that neither
//! scrapes nor traffic delay each other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::guard::{Access, CurrentAccess, Denied};
use super::routes::Route;
use super::{Source, routes};
use crate::classify::is_exhausted;
use crate::clock;
use crate::telemetry::{LogThrottle, SharedLogThrottle};

/// Files held in reserve, and released one by one when the process has no more, so that the admin
/// address stays reachable.
const SPARE: usize = 4;

/// The delay of the response to a wrong token: each connection can try one a second, and there are
/// few connections.
const WRONG_TOKEN: Duration = Duration::from_secs(1);

/// The limits of the admin address.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The access rules.
    pub access: CurrentAccess,
    /// The most connections at once. A further one closes the oldest: a client that opens many, or
    /// reads no responses, must not block the orchestrator's probes.
    pub max_connections: usize,
    /// The most bytes of a request's head.
    pub max_head: usize,
    /// The time for a request's head, also between two requests of a connection.
    pub head_timeout: Duration,
    /// The lifetime of a connection; a scraper that reuses it has to reconnect.
    pub connection_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access: CurrentAccess::new(Access { loopback: true, ..Access::default() }),
            max_connections: 64,
            max_head: 16 * 1024,
            head_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_mins(10),
        }
    }
}

/// Serves the admin address on a new thread until `stop` completes; `stop_listening` closes the
/// listener earlier.
///
/// # Errors
/// The thread, its runtime or the listener can't be set up. The thread itself returns the accept
/// loop's first permanent error, or success after `stop`.
pub fn start(
    listener: std::net::TcpListener,
    settings: Settings,
    source: Arc<dyn Source>,
    stop_listening: impl Future<Output = ()> + Send + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("weir-admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            // Connections are separate tasks: they continue until this future ends.
            let serving = async {
                serve(listener, settings, source, stop_listening).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = serving => {}
                () = stop => {}
            }
            Ok(())
        })
    })
}

/// Serves the admin address on the current runtime until `stop` completes, which closes the
/// listener.
///
/// Cancel safe: dropping it stops accepting; open connections continue to their end.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    source: Arc<dyn Source>,
    stop: impl Future<Output = ()>,
) {
    let settings = Arc::new(settings);
    let accepting = async {
        let (mut failed, mut crowded) = (LogThrottle::default(), LogThrottle::default());
        let wrong_tokens = Arc::<SharedLogThrottle>::default();
        // Senders that end the open connections, the oldest first.
        let mut open = VecDeque::<oneshot::Sender<()>>::new();
        let spare = Arc::new(Spare::default());
        spare.fill(&listener);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // This frees a file for the waiting connection.
                Err(error) if is_exhausted(&error) && spare.give_up() => continue,
                Err(error) => {
                    // Out of files, or the connection is already gone: keep serving.
                    if failed.allow(clock::now()).is_some() {
                        tracing::warn!(%error, "the admin address could not accept a connection");
                    }
                    clock::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            spare.fill(&listener);
            open.retain(|end| !end.is_closed());
            if open.len() >= settings.max_connections {
                drop(open.pop_front());
                if crowded.allow(clock::now()).is_some() {
                    tracing::warn!(
                        limit = settings.max_connections,
                        "the admin address closed its oldest connection for a new one"
                    );
                }
            }
            let (end, ended) = oneshot::channel();
            open.push_back(end);
            let (settings, source) = (Arc::clone(&settings), Arc::clone(&source));
            let (mut stream, spare) = (stream, Arc::clone(&spare));
            let wrong_tokens = Arc::clone(&wrong_tokens);
            clock::spawn(async move {
                tokio::select! {
                    () = connection(&mut stream, peer.ip(), &settings, source, &wrong_tokens) => {}
                    _ = ended => {}
                }
                spare.keep(stream).await;
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
}

/// Files in reserve; all are equal.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<OwnedFd>>);

impl Spare {
    /// Fills the reserve, as far as files are available.
    fn fill(&self, listener: &TcpListener) {
        let mut files = self.files();
        while files.len() < SPARE
            && let Ok(file) = listener.as_fd().try_clone_to_owned()
        {
            files.push(file);
        }
    }

    /// Closes one file; returns whether there was one.
    fn give_up(&self) -> bool {
        self.files().pop().is_some()
    }

    /// Ends a connection. Its file goes to the reserve if that is not full: once closed, another
    /// part of the process could take it.
    async fn keep(&self, mut stream: TcpStream) {
        drop(stream.shutdown().await);
        let Ok(stream) = stream.into_std() else { return };
        let mut files = self.files();
        if files.len() < SPARE {
            files.push(stream.into());
        }
    }

    fn files(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection until it ends or its lifetime expires.
pub(super) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    settings: &Settings,
    source: Arc<dyn Source>,
    wrong_tokens: &SharedLogThrottle,
) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let source = Arc::clone(&source);
        async move {
            let (request, _) = request.into_parts();
            let route = Route::of(&request.method, request.uri.path());
            let access = settings.access.current();
            let answer = match access.check(&request.method, &route, &request.headers, peer) {
                Ok(()) => routes::answer(&request, route, source).await,
                Err(denied) => {
                    if denied == Denied::WrongToken {
                        source.token_refused();
                        if let Some(lines_omitted) = wrong_tokens.allow(clock::now()) {
                            tracing::warn!(lines_omitted, "the admin address refused a wrong token");
                        }
                        clock::sleep(WRONG_TOKEN).await;
                    }
                    routes::refuse(denied)
                }
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(settings.max_head)
        .serve_connection(TokioIo::new(stream), service);
    let until = clock::now() + settings.connection_timeout;
    if let Ok(Err(error)) = clock::timeout_at(until, serving).await {
        tracing::debug!(%error, "a connection to the admin address broke");
    }
}

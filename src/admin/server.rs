//! The admin address's server: few connections, short requests, a thread of its own, so that a
//! scrape never waits for traffic nor traffic for a scrape.

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

/// Files that are given up one by one when the process is out of them, so that it can still be
/// asked why.
const SPARE: usize = 4;

/// How long the answer to a wrong token is held back: each connection can try one a second, and
/// there are few connections.
const WRONG_TOKEN: Duration = Duration::from_secs(1);

/// How the admin address answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may ask for what.
    pub access: CurrentAccess,
    /// Connections at once. For one more the oldest is closed: a client that holds on to many, or
    /// reads none of its answers, must not keep out the probes that decide whether Weir lives.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_head: usize,
    /// Time for a request's head, also between two requests of a connection.
    pub head_timeout: Duration,
    /// Life of a connection; a scraper that reuses it connects again.
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

/// Serves the admin address on a thread of its own until `stop` completes; the address is given up
/// with `stop_listening`.
///
/// # Errors
/// If the thread, its runtime or the listener cannot be set up. The thread's own result is an
/// accept loop's first lasting error, or nothing after `stop`.
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
            // Connections are tasks of their own: they go on as long as this does.
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

/// Serves the admin address on the running runtime until `stop` completes, which closes the
/// listener.
///
/// Cancel safe: dropping it stops accepting; connections that are open end by themselves.
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
        // What ends each connection, the oldest first.
        let mut open = VecDeque::<oneshot::Sender<()>>::new();
        let spare = Arc::new(Spare::default());
        spare.fill(&listener);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // Its file is free for the connection that waits.
                Err(error) if is_exhausted(&error) && spare.give_up() => continue,
                Err(error) => {
                    // Out of files or a connection that is already gone: neither is a reason to
                    // stop answering.
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

/// Files at hand, each as good as any other.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<OwnedFd>>);

impl Spare {
    /// Takes as many as there are to be, where there are some.
    fn fill(&self, listener: &TcpListener) {
        let mut files = self.files();
        while files.len() < SPARE
            && let Ok(file) = listener.as_fd().try_clone_to_owned()
        {
            files.push(file);
        }
    }

    /// Closes one; whether there was one.
    fn give_up(&self) -> bool {
        self.files().pop().is_some()
    }

    /// Ends a connection. Its file is kept if it is wanted: once closed, somebody else would have
    /// it.
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

/// Serves one connection to its end or its time's.
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

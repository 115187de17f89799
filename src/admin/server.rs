//! The admin address's server: few connections, short requests, a thread of its own, so that a scrape never waits for traffic
//! nor traffic for a scrape.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::guard::Access;
use super::{Source, routes};
use crate::clock;
use crate::telemetry::Seldom;

/// How the admin address answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may ask for what.
    pub access: Access,
    /// Connections at once. For one more the oldest is closed: a client that holds on to many, or reads none of its answers, must not
    /// keep out the probes that decide whether Weir lives.
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
            access: Access { loopback: true, ..Access::default() },
            max_connections: 64,
            max_head: 16 * 1024,
            head_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_mins(10),
        }
    }
}

/// Serves the admin address on a thread of its own until `stop` completes.
///
/// # Errors
/// If the thread, its runtime or the listener cannot be set up. The thread's own result is an accept loop's first lasting
/// error, or nothing after `stop`.
pub fn start(
    listener: std::net::TcpListener,
    settings: Settings,
    source: Arc<dyn Source>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("weir-admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            serve(listener, settings, source, stop).await;
            Ok(())
        })
    })
}

/// Serves the admin address on the running runtime until `stop` completes.
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
        let (mut seldom, mut crowded) = (Seldom::default(), Seldom::default());
        // What ends each connection, the oldest first.
        let mut open = VecDeque::<oneshot::Sender<()>>::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of files or a connection that is already gone: neither is a reason to stop answering.
                    if seldom.again(clock::now()) {
                        tracing::warn!(%error, "the admin address could not accept a connection");
                    }
                    clock::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            open.retain(|end| !end.is_closed());
            if open.len() >= settings.max_connections {
                drop(open.pop_front());
                if crowded.again(clock::now()) {
                    tracing::warn!(
                        limit = settings.max_connections,
                        "the admin address closed its oldest connection for a new one"
                    );
                }
            }
            let (end, ended) = oneshot::channel();
            open.push_back(end);
            let (settings, source) = (Arc::clone(&settings), Arc::clone(&source));
            clock::spawn(async move {
                tokio::select! {
                    () = connection(stream, &settings, source) => {}
                    _ = ended => {}
                }
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
}

/// Serves one connection to its end or its time's.
pub(super) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    settings: &Settings,
    source: Arc<dyn Source>,
) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let answer = routes::answer(&request, &settings.access, &*source);
        std::future::ready(Ok::<_, Infallible>(answer))
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

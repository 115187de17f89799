//! Connections over HTTP/1.1: one request at a time, the last one used first.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::classify::{Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::replay;

use super::counters::Open;
use super::head_timer::HeadTimer;
use super::{Counters, Settings};

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<IdleList>,
    max_idle: usize,
    idle_timeout: Duration,
    max_age: Duration,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct IdleList {
    /// The last used at the end.
    connections: Vec<Idle>,
    /// Whether a task closes those that time out.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<replay::Body>,
    task: AbortHandle,
    born: Instant,
    open: Open,
    head_timer: HeadTimer,
}

/// One connection, taken for one attempt. Dropping it closes the connection at once.
#[derive(Debug)]
pub(super) struct Lease {
    /// Gone only once given back.
    connection: Option<Connection>,
    /// Whether it served a request before.
    pub(super) reused: bool,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(settings: &Settings, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            max_idle: settings.max_idle,
            idle_timeout: settings.idle_timeout,
            max_age: settings.max_age,
            counters: Arc::clone(counters),
        })
    }

    /// The idle connection that was used last, if one is still alive.
    pub(super) fn take(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { connection, since }) = list.connections.pop() {
            self.counters.idle_less();
            if connection.sender.is_ready()
                && now < since + self.idle_timeout
                && now < connection.born + self.max_age
            {
                drop(list);
                return Some(Lease { connection: Some(connection), reused: true, pool: Arc::clone(self) });
            }
        }
        None
    }

    /// Starts HTTP/1.1 on a new connection.
    pub(super) async fn start<I>(self: Arc<Self>, io: I, settings: &Settings) -> Result<Lease, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_header_size(settings.header_bytes);
        let (sender, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::unsent(FailureKind::Reset, error.to_string()))?;
        let open = self.counters.opened();
        let mut connection = connection.with_upgrades();
        // The attempt that uses the connection hears of its errors; nobody else is concerned. Not an async block, which would
        // have room for the connection twice.
        let task = clock::spawn(poll_fn(move |cx| Pin::new(&mut connection).poll(cx).map(drop)));
        let head_timer = HeadTimer::default();
        let connection =
            Connection { sender, task: task.abort_handle(), born: clock::now(), open, head_timer };
        Ok(Lease { connection: Some(connection), reused: false, pool: self })
    }

    fn put(self: &Arc<Self>, connection: Connection) {
        let since = clock::now();
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if list.connections.len() >= self.max_idle || since >= connection.born + self.max_age {
            // Dropping the sender ends the connection in good order.
            return;
        }
        self.counters.idle_more();
        list.connections.push(Idle { connection, since });
        if !std::mem::replace(&mut list.swept, true) {
            drop(list);
            self.start_sweeping();
        }
    }

    /// Closes connections that were idle too long; ends when none is left.
    fn start_sweeping(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        let period = self.idle_timeout.max(Duration::from_millis(10)) / 2;
        clock::spawn(async move {
            loop {
                clock::sleep(period).await;
                let Some(pool) = pool.upgrade() else { return };
                if !pool.sweep() {
                    return;
                }
            }
        });
    }

    fn sweep(&self) -> bool {
        let now = clock::now();
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.connections.len();
        list.connections
            .retain(|idle| !idle.connection.sender.is_closed() && now < idle.since + self.idle_timeout);
        for _ in list.connections.len()..before {
            self.counters.idle_less();
        }
        list.swept = !list.connections.is_empty();
        list.swept
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let list = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for _ in &list.connections {
            self.counters.idle_less();
        }
    }
}

impl Lease {
    /// Sends a request and waits for the head of the answer.
    pub(super) fn send(
        &mut self,
        mut request: Request<replay::Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<replay::Body>>>> + use<> {
        *request.version_mut() = Version::HTTP_11;
        let connection =
            self.connection.as_mut().expect("a lease holds its connection until it is given back");
        connection.sender.try_send_request(request)
    }

    /// The timer of its answers' heads.
    pub(super) fn head_timer(&mut self) -> Option<&mut HeadTimer> {
        self.connection.as_mut().map(|connection| &mut connection.head_timer)
    }

    /// Lets the connection go on without HTTP: it is no longer the pool's.
    pub(super) fn detach(mut self) -> Option<Open> {
        self.connection.take().map(|connection| connection.open)
    }

    /// Ends the attempt: a connection that can serve another does.
    ///
    /// It can't while the request is still being sent, or when either side said `Connection: close`.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take_if(|connection| connection.sender.is_ready()) {
            self.pool.put(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.task.abort();
        }
    }
}

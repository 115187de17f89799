//! HTTP/1.1 connections: one request at a time, and the most recently used connection first.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::classify::{Failure, FailureKind};
use crate::clock::{self, Instant};
use crate::replay;

use super::close_check::CloseCheck;
use super::counters::Open;
use super::driver::Driver;
use super::head_limit::{HeadClock, HeadLimit, LastWrite};
use super::keep_alive::KeepAlive;
use super::reuse::Reuse;
use super::tracked_io::TrackedIo;
use super::{Counters, Settings};

/// Most bytes of a response in a connection's read buffer.
const READ_BUFFER: usize = 64 << 10;

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<IdleList>,
    max_idle: usize,
    idle_timeout: Duration,
    max_age: Duration,
    reuse: Reuse,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct IdleList {
    /// Ordered by last use, the most recent last.
    connections: Vec<Idle>,
    /// Wakes the task that closes connections which time out or which the upstream closed; `None`
    /// if none is idle.
    watcher: Option<Waker>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<replay::Body>,
    driver: Driver,
    born: Instant,
    open: Open,
    clock: HeadClock,
    written: LastWrite,
    close_check: CloseCheck,
    keep_alive: KeepAlive,
}

/// One connection, leased to one attempt. Dropping it closes the connection at once.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` once it was returned.
    connection: Option<Box<Connection>>,
    /// When it was taken, if it served a request before.
    taken: Option<Instant>,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(settings: &Settings, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            max_idle: settings.max_idle,
            idle_timeout: settings.idle_timeout,
            max_age: settings.max_age,
            reuse: Reuse::default(),
            counters: Arc::clone(counters),
        })
    }

    /// Takes the most recently used idle connection that is open and not too old. For an
    /// `only_once` request the socket is checked for a close first.
    pub(super) fn take(self: &Arc<Self>, now: Instant, only_once: bool) -> Option<Lease> {
        self.take_one(now, self.max_age, only_once)
    }

    /// Takes an idle connection of any age, if no new one can be made.
    pub(super) fn take_old(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        self.take_one(now, Duration::MAX, true)
    }

    fn take_one(self: &Arc<Self>, now: Instant, max_age: Duration, close_check: bool) -> Option<Lease> {
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let IdleList { connections, watcher: Some(watcher) } = &mut *list else { return None };
        let is_young = |idle: &Idle| now.saturating_duration_since(idle.connection.born) < max_age;
        while let Some(place) = connections.iter().rposition(is_young) {
            let mut idle = connections.remove(place);
            self.counters.idle_less();
            if self.is_timed_out(&idle, now) {
                idle.connection.retire();
                continue;
            }
            if close_check {
                idle.connection.close_check.request();
                idle.connection.driver.mark_ready();
            }
            let mut connection = idle.connection;
            if connection.park(watcher) {
                drop(list);
                connection.driver.mark_ready();
                return Some(Lease {
                    connection: Some(connection),
                    taken: Some(now),
                    pool: Arc::clone(self),
                });
            }
        }
        None
    }

    fn is_timed_out(&self, idle: &Idle, now: Instant) -> bool {
        let told = idle.connection.keep_alive.idle;
        now >= idle.since + told.map_or(self.idle_timeout, |told| told.min(self.idle_timeout))
    }

    /// Closes all idle connections, because one has vanished and they may have the same fault.
    fn suspect_all(&self) {
        let suspects = {
            let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut list.connections)
        };
        for _ in &suspects {
            self.counters.idle_less();
        }
    }

    /// Starts HTTP/1.1 on a new connection.
    pub(super) async fn start<I>(
        self: Arc<Self>,
        io: I,
        settings: &Settings,
        close_check: CloseCheck,
    ) -> Result<Lease, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        // Another limit than hyper's 100 fields would cost two allocations for each response.
        builder.max_header_size(settings.header_bytes);
        // The most that is read for a caller that reads nothing; hyper's default is 408 KiB.
        builder.max_buf_size(settings.header_bytes.max(READ_BUFFER));
        let written = LastWrite::new();
        let (sender, connection) = builder
            .handshake(TokioIo::new(TrackedIo::new(io, written.clone(), settings.piece)))
            .await
            .map_err(|error| Failure::unsent(FailureKind::Reset, error.to_string()))?;
        let open = self.counters.opened();
        let mut connection = connection.with_upgrades();
        // Errors reach the attempt that uses the connection. Not an async block, which would store
        // the connection twice.
        let driver = Driver::new(poll_fn(move |cx| Pin::new(&mut connection).poll(cx).map(drop)));
        let clock = HeadClock::default();
        let (born, keep_alive) = (clock::now(), KeepAlive::default());
        let connection = Connection { sender, driver, born, open, clock, written, close_check, keep_alive };
        Ok(Lease { connection: Some(Box::new(connection)), taken: None, pool: self })
    }

    /// Returns a connection to the pool if it can serve another request. Otherwise it is closed:
    /// its request is still being sent, its I/O was spawned, or one side sent `Connection: close`.
    fn put(self: &Arc<Self>, mut connection: Box<Connection>) {
        let since = clock::now();
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let watcher = list.watcher.as_ref().unwrap_or(Waker::noop());
        let rests = if connection.sender.is_ready() {
            connection.driver.park_unpolled(watcher)
        } else {
            connection.park(watcher)
        };
        if !rests {
            return;
        }
        if !self.reuse.keeps() {
            connection.retire();
            return;
        }
        if list.connections.len() >= self.max_idle || connection.keep_alive.is_over() {
            connection.retire();
            return;
        }
        self.counters.idle_more();
        list.connections.push(Idle { connection, since });
        if list.watcher.is_none() {
            list.watcher = Some(Waker::noop().clone());
            drop(list);
            self.start_watching();
        }
    }

    /// Starts the task that closes connections which timed out or which the upstream closed. It
    /// ends when none is left.
    fn start_watching(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        let period = self.idle_timeout.max(Duration::from_millis(10)) / 2;
        let mut timer = Box::pin(clock::sleep(period));
        clock::spawn(poll_fn(move |cx| {
            while timer.as_mut().poll(cx).is_ready() {
                timer.as_mut().reset(clock::now() + period);
            }
            match pool.upgrade() {
                Some(pool) if pool.watch(cx.waker()) => Poll::Pending,
                Some(_) | None => Poll::Ready(()),
            }
        }));
    }

    /// Checks all idle connections, and registers `watcher` with them. Returns whether there are
    /// any.
    fn watch(&self, watcher: &Waker) -> bool {
        let now = clock::now();
        let mut list = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |idle: &mut Idle| self.is_timed_out(idle, now) || !idle.connection.park(watcher);
        for idle in list.connections.extract_if(.., is_over) {
            self.counters.idle_less();
            idle.connection.retire();
        }
        list.watcher = (!list.connections.is_empty()).then(|| watcher.clone());
        list.watcher.is_some()
    }
}

impl Connection {
    /// Registers `watcher` for the idle connection. Returns whether the connection can serve
    /// another attempt.
    fn park(&mut self, watcher: &Waker) -> bool {
        self.driver.park(watcher) && self.sender.is_ready()
    }

    /// Closes a connection in order, with TLS `close_notify`.
    fn retire(self) {
        drop(self.sender);
        self.driver.finish();
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
    /// Sends a request. The response arrives while [`Self::poll_with`] drives the connection.
    pub(super) fn send(
        &mut self,
        mut request: Request<replay::Body>,
        limit: HeadLimit,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<replay::Body>>>> + use<> {
        *request.version_mut() = Version::HTTP_11;
        let connection =
            self.connection.as_mut().expect("a lease holds its connection until it is given back");
        connection.clock.begin(limit, request.body().progress());
        connection.sender.try_send_request(request)
    }

    /// Drives the connection's I/O, then polls `waiting`.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.connection {
            Some(connection) => connection.driver.poll_with(cx, waiting),
            None => Poll::Pending,
        }
    }

    /// Ready once the response's head is late.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.connection {
            Some(connection) => connection.clock.poll_late(Some(&connection.written), cx),
            None => Poll::Pending,
        }
    }

    /// The limit of the request that was sent last.
    pub(super) fn limit(&self) -> HeadLimit {
        self.connection.as_ref().map_or_else(HeadLimit::default, |connection| connection.clock.limit())
    }

    /// Marks the response's head as received: the response body drives the connection from now on.
    /// The unsent rest of the request is spawned as a separate task, because some callers read
    /// nothing until they have sent everything.
    pub(super) fn answered(&mut self, headers: &HeaderMap) {
        if let Some(connection) = &mut self.connection {
            connection.keep_alive = KeepAlive::of(headers);
        }
        if self.is_reused() {
            self.pool.reuse.answered();
        }
        if let Some(connection) = &mut self.connection
            && connection.clock.take_progress().is_some_and(|progress| progress.goes_on())
        {
            connection.driver.detach();
        }
    }

    /// Records that the connection was lost after the request was sent and before a response: the
    /// peer closed it, or `vanished`.
    pub(super) fn lost(&self, now: Instant, vanished: bool) {
        if vanished {
            self.pool.suspect_all();
        } else if let Some(taken) = self.taken {
            self.pool.reuse.lost(now - taken);
        }
    }

    /// Whether the connection served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.taken.is_some()
    }

    /// Takes the connection out of the pool, to be used without HTTP.
    pub(super) fn detach(mut self) -> Option<(Driver, Open)> {
        self.connection.take().map(|mut connection| {
            connection.driver.detach();
            (connection.driver, connection.open)
        })
    }

    /// Ends the attempt, and returns the connection to the pool if it can serve another.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

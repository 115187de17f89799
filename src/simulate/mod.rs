//! A simulator of the OpenAI API: its rate limits, responses, errors and failures.
//!
//! It shares only the wire format with the proxy. It has its own rate limit arithmetic, so that an
//! error in the proxy's arithmetic shows.
//!
//! The stages of a request, in the API's order: latency before admission → outage → key →
//! operation → cost → limiter → latency after admission → fault → response. [`Simulator`] holds
//! the state; [`serve`] adds a listener.

mod answer;
mod args;
mod ask;
mod body;
mod control;
mod credential;
mod dialect;
mod encoding;
mod errors;
mod exchange;
mod fault;
mod latency;
pub mod limiter;
mod listener;
mod multipart;
mod notation;
mod response_plan;
mod route;
mod schedule;
mod session;
mod settings;
mod slots;
mod state;
mod stats;
mod store;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::clock::{self, Instant};

pub use args::Args;
pub use control::Change;
pub use dialect::Dialect;
pub use errors::ApiError;
pub use fault::{Directive, Encoding, Fault, JOB_HEADER};
pub use latency::Latency;
pub use listener::{Running, serve};
pub use notation::{Problem, count};
pub use schedule::{ForeignConsumer, ForeignUse, LimitChange, Outage, OutageKind};
pub use settings::{Account, Charge, LimitHeaders, Limits, Settings, shape};
pub use stats::{Second, Stats};

use slots::Slots;
use state::{OutageStatus, State};
use store::Store;
use wire::{Wire, WireFault};

/// A handle to one simulated API. Clones share its state.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    store: Mutex<Store>,
    serial: AtomicU64,
    slots: Option<Slots>,
    /// Counts changes of settings and resets, for tasks that wait for the next outage.
    revision: watch::Sender<u64>,
}

impl Simulator {
    /// Creates a simulated API whose schedules start now.
    pub fn new(settings: Settings) -> Self {
        let slots = settings.slots.map(|slots| Slots::new(slots, settings.queue));
        Self(Arc::new(Inner {
            slots,
            state: Mutex::new(State::new(settings, clock::now())),
            store: Mutex::new(Store::new()),
            serial: AtomicU64::new(1),
            revision: watch::Sender::new(0),
        }))
    }

    /// The counts since the start or the last reset.
    pub fn stats(&self) -> Stats {
        self.state().stats(clock::now())
    }

    /// Resets schedules, limits, counts and the random generator. Keeps files and stored responses.
    pub fn reset(&self) {
        self.state().reset(clock::now());
        self.0.revision.send_modify(|revision| *revision += 1);
    }

    /// Changes the settings of a running simulator.
    pub fn set(&self, change: &Change) -> Result<(), Problem> {
        let now = clock::now();
        let mut state = self.state();
        let settings = change.apply(&state.settings, state.since_start(now))?;
        state.change(settings, now);
        drop(state);
        self.0.revision.send_modify(|revision| *revision += 1);
        Ok(())
    }

    /// Serves one connection, HTTP/1.1 or HTTP/2 in clear text, until it closes.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    #[cfg(any(test, feature = "internals"))]
    pub async fn serve_connection<T>(&self, io: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_wire(io, |_| {}, std::future::pending()).await;
    }

    /// Serves one connection until it closes or `stop` resolves. `on_reset` makes the next close of
    /// the transport a reset.
    async fn serve_wire<T>(&self, io: T, on_reset: fn(&T), stop: impl Future<Output = Stop>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.state().recorder.connected();
        let wire_fault = Arc::new(WireFault::default());
        let wire = Wire::new(io, Arc::clone(&wire_fault), on_reset);
        let session_slot = Arc::<session::SessionSlot>::default();
        let service = service_fn(|request| {
            let (simulator, wire_fault, session_slot) =
                (self.clone(), Arc::clone(&wire_fault), Arc::clone(&session_slot));
            async move { simulator.exchange(request, wire_fault, &session_slot).await }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(10_000);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(wire), service);
        let (mut connection, mut stop) = (std::pin::pin!(connection), std::pin::pin!(stop));
        // An error here is a client that disconnected, or a simulated fault.
        tokio::select! {
            result = connection.as_mut() => drop(result),
            stop = stop.as_mut() => {
                match stop {
                    Stop::Graceful => {
                        connection.as_mut().graceful_shutdown();
                        connection.await.ok();
                    }
                    Stop::Reset => wire_fault.reset(),
                }
                return;
            }
        }
        let session = session_slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = session {
            tokio::select! {
                () = session.run() => {}
                stop = stop => if stop == Stop::Reset {
                    wire_fault.reset();
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, so a poisoned lock still guards valid state.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outage_status(&self, now: Instant) -> OutageStatus {
        self.state().outage_status(now)
    }

    fn next_serial(&self) -> u64 {
        self.0.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// After the requests in flight.
    Graceful,
    /// Immediately, with a reset.
    Reset,
}

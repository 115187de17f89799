//! A stand-in for the OpenAI API: its limiter, its answers, its errors and its bad days.
//!
//! It shares the wire format with the proxy and nothing else. Above all it has its own arithmetic
//! of limits, so that a mistake in the proxy's cannot cancel itself out.
//!
//! A request goes through [`exchange`](self) in the order of the API's own edge: arrive → outage? →
//! latency before → key → operation → price → limiter → latency after → fault? → answer.
//! [`Simulator`] is the whole; [`serve`] puts it behind a listener.

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
mod manner;
mod multipart;
mod notation;
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
use state::{State, Weather};
use store::Store;
use wire::{Fate, Wire};

/// A stand-in. Clones are the same one.
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
    /// A stand-in whose schedules begin now.
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

    /// Starts anew: schedules, limits, counts and the random generator. Files and responses stay.
    pub fn reset(&self) {
        self.state().reset(clock::now());
        self.0.revision.send_modify(|revision| *revision += 1);
    }

    /// Changes settings while it runs.
    pub fn set(&self, change: &Change) -> Result<(), Problem> {
        let now = clock::now();
        let mut state = self.state();
        let settings = change.apply(&state.settings, state.since_start(now))?;
        state.change(settings, now);
        drop(state);
        self.0.revision.send_modify(|revision| *revision += 1);
        Ok(())
    }

    /// Serves one connection, HTTP/1.1 or HTTP/2 in clear text, until its client is done with it.
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

    /// Serves one connection with a way to make the transport's close a reset, and an event that
    /// ends it after the request under way.
    async fn serve_wire<T>(&self, io: T, on_reset: fn(&T), stop: impl Future<Output = Stop>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.state().recorder.connected();
        let fate = Arc::new(Fate::default());
        let wire = Wire::new(io, Arc::clone(&fate), on_reset);
        let place = Arc::<session::Place>::default();
        let service = service_fn(|request| {
            let (simulator, fate, place) = (self.clone(), Arc::clone(&fate), Arc::clone(&place));
            async move { simulator.exchange(request, fate, &place).await }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(10_000);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(wire), service);
        let (mut connection, mut stop) = (std::pin::pin!(connection), std::pin::pin!(stop));
        // A connection that breaks is the client's affair, or was broken on purpose.
        tokio::select! {
            result = connection.as_mut() => drop(result),
            stop = stop.as_mut() => {
                match stop {
                    Stop::Gently => {
                        connection.as_mut().graceful_shutdown();
                        connection.await.ok();
                    }
                    Stop::Reset => fate.reset(),
                }
                return;
            }
        }
        let session = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = session {
            tokio::select! {
                () = session.run() => {}
                stop = stop => if stop == Stop::Reset {
                    fate.reset();
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so that a poisoned one is as good as any.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self, now: Instant) -> Weather {
        self.state().weather(now)
    }

    fn next_serial(&self) -> u64 {
        self.0.serial.fetch_add(1, Ordering::Relaxed)
    }
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// After the request under way.
    Gently,
    /// Now.
    Reset,
}

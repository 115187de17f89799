//! The graceful shutdown of connections: a signal in three phases, and the wait for the last one to
//! end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use crate::clock::{self, Instant};

/// The phase of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// No drain.
    Serving,
    /// Connections are still accepted. Each response closes its connection, so that clients' pools
    /// empty.
    Announced,
    /// No more connections are accepted. Idle ones stay open briefly: a request may be on its way.
    Begun,
    /// Idle connections are closed.
    ClosingIdle,
}

/// Signals a drain to every connection, and waits until all have ended.
#[derive(Debug)]
pub struct Drain {
    phase: Arc<AtomicU8>,
    sender: watch::Sender<()>,
}

/// A receiver of the drain's signal. The drain waits until all receivers are dropped.
#[derive(Clone, Debug)]
pub struct Draining {
    phase: Arc<AtomicU8>,
    receiver: watch::Receiver<()>,
}

impl Drain {
    /// A drain in phase `Serving`, and its first receiver. Clone the receiver for each task that
    /// the drain must wait for.
    pub fn new() -> (Self, Draining) {
        let phase = Arc::new(AtomicU8::new(Phase::Serving as u8));
        let (sender, receiver) = watch::channel(());
        (Self { phase: Arc::clone(&phase), sender }, Draining { phase, receiver })
    }

    /// Makes each response close its connection from now on.
    pub fn announce(&self) {
        self.reach(Phase::Announced);
    }

    /// Begins the drain: the listener closes.
    pub fn begin(&self) {
        self.reach(Phase::Begun);
    }

    /// Closes connections without a request, now and from now on.
    pub fn close_idle(&self) {
        self.reach(Phase::ClosingIdle);
    }

    fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.sender.send_replace(());
    }

    /// Waits until every [`Draining`] is dropped, or until `deadline`. Returns `true` if all were
    /// dropped.
    pub async fn finished(&self, deadline: Instant) -> bool {
        clock::timeout_at(deadline, self.sender.closed()).await.is_ok()
    }

    /// Number of receivers that are still alive.
    pub fn unfinished(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Draining {
    /// Whether the drain has reached `phase`. Costs one atomic read.
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.current() >= phase as u8
    }

    /// The current phase as a number, which only grows.
    pub(super) fn current(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    /// The shared phase, for a reader that the drain must not wait for.
    pub(super) fn phase(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.phase)
    }

    /// Waits until the drain reaches `phase`; never returns if the [`Drain`] is dropped before.
    pub async fn reached(&mut self, phase: Phase) {
        while !self.has_reached(phase) {
            if self.receiver.changed().await.is_err() && !self.has_reached(phase) {
                std::future::pending::<()>().await;
            }
        }
    }
}

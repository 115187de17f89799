//! Ending in good order: the word that it is time, in three steps, and the wait until all is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use crate::clock::{self, Instant};

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// There is none.
    Serving,
    /// Connections are still accepted. Each answer says that its connection closes, so that
    /// clients' pools empty.
    Announced,
    /// No more connections are accepted. Idle ones stay for a moment: a request may be on its way.
    Begun,
    /// Idle connections are closed.
    ClosingIdle,
}

/// Tells every connection of a front to finish, and waits for them.
#[derive(Debug)]
pub struct Drain {
    phase: Arc<AtomicU8>,
    sender: watch::Sender<()>,
}

/// Is told of a drain. As long as one is alive, the drain waits.
#[derive(Clone, Debug)]
pub struct Draining {
    phase: Arc<AtomicU8>,
    receiver: watch::Receiver<()>,
}

impl Drain {
    /// A drain, not yet begun, and a first listener to clone for whoever has something to finish.
    pub fn new() -> (Self, Draining) {
        let phase = Arc::new(AtomicU8::new(Phase::Serving as u8));
        let (sender, receiver) = watch::channel(());
        (Self { phase: Arc::clone(&phase), sender }, Draining { phase, receiver })
    }

    /// Answers say from now on that their connections close.
    pub fn announce(&self) {
        self.reach(Phase::Announced);
    }

    /// Begins the drain: the listener is closed, nothing is waited for.
    pub fn begin(&self) {
        self.reach(Phase::Begun);
    }

    /// Connections without a request are closed, now and from now on.
    pub fn close_idle(&self) {
        self.reach(Phase::ClosingIdle);
    }

    fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.sender.send_replace(());
    }

    /// Waits until every [`Draining`] is gone, until `deadline` at most. `true` when all are.
    pub async fn finished(&self, deadline: Instant) -> bool {
        clock::timeout_at(deadline, self.sender.closed()).await.is_ok()
    }

    /// How many still have something to finish.
    pub fn unfinished(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Draining {
    /// Whether the drain is as far as this; costs one atomic read.
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.current() >= phase as u8
    }

    /// How far the drain is, as a number that only grows.
    pub(super) fn current(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    /// The phase, for whoever must not keep the drain waiting.
    pub(super) fn phase(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.phase)
    }

    /// Waits until the drain is as far as this; for ever, when the [`Drain`] is gone before.
    pub async fn reached(&mut self, phase: Phase) {
        while !self.has_reached(phase) {
            if self.receiver.changed().await.is_err() && !self.has_reached(phase) {
                std::future::pending::<()>().await;
            }
        }
    }
}

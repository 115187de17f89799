//! Ending in good order: the word that it is time, and the wait until all is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::clock::{self, Instant};

/// Tells every connection of a front to finish, and waits for them.
#[derive(Debug)]
pub struct Drain {
    told: Arc<AtomicBool>,
    sender: watch::Sender<()>,
}

/// Hears of a drain. As long as one is alive, the drain waits.
#[derive(Clone, Debug)]
pub struct Draining {
    told: Arc<AtomicBool>,
    receiver: watch::Receiver<()>,
}

impl Drain {
    /// A drain, not yet begun, and a first listener to clone for whoever has something to finish.
    pub fn new() -> (Self, Draining) {
        let told = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = watch::channel(());
        (Self { told: Arc::clone(&told), sender }, Draining { told, receiver })
    }

    /// Begins the drain: listeners are told, nothing is waited for.
    pub fn begin(&self) {
        self.told.store(true, Ordering::Release);
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
    /// Whether the drain has begun; costs one relaxed read.
    pub fn has_begun(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Waits until the drain begins; for ever, when the [`Drain`] is gone before.
    pub async fn begun(&mut self) {
        while !self.has_begun() {
            if self.receiver.changed().await.is_err() && !self.has_begun() {
                std::future::pending::<()>().await;
            }
        }
    }
}

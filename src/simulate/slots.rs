//! The slots of a model server, and the queue before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots for responses under way. Further requests wait, up to a number.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Neither a slot nor a place in the queue is free.
#[derive(Debug)]
pub(super) struct Full;

/// A waiting request, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// With at most `queue` waiting requests; without a limit for `None`.
    pub(super) fn new(slots: usize, queue: Option<usize>) -> Self {
        let free = Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)));
        Self { free, waiting: AtomicUsize::new(0), most_waiting: queue.unwrap_or(usize::MAX) }
    }

    /// Waits for a slot: first come, first served.
    ///
    /// # Errors
    /// Too many requests wait already.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, Full> {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(slot);
        }
        let waits = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if waits >= self.most_waiting {
            return Err(Full);
        }
        let slot = Arc::clone(&self.free).acquire_owned().await;
        drop(waiting);
        slot.map_err(|_| Full)
    }
}

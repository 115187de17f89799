//! The concurrency limit of a model server, with its queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limit of concurrent responses. Further requests wait in a bounded queue.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// The error that all slots and the queue are full.
#[derive(Debug)]
pub(super) struct Full;

/// Guard that counts a waiting request until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// Creates `slots` slots with a queue of at most `queue` requests, unlimited for `None`.
    pub(super) fn new(slots: usize, queue: Option<usize>) -> Self {
        let free = Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)));
        Self { free, waiting: AtomicUsize::new(0), most_waiting: queue.unwrap_or(usize::MAX) }
    }

    /// Waits for a slot, in order of arrival.
    ///
    /// # Errors
    /// [`Full`] when the queue is full.
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

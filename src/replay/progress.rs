//! The progress of a streamed body, visible to others than its sender.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of a body's start that are kept.
const MAX_START: usize = 64 << 10;

/// A shared view of a body being sent: whether it has ended, and what was sent.
#[derive(Clone, Debug)]
pub struct BodyProgress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// All orderings are relaxed: a single task uses them.
    bytes: AtomicU64,
    ended: AtomicBool,
    /// The start of the body, which contains the model; `None` if it is not kept.
    start: Option<Mutex<Vec<u8>>>,
}

/// The sender's side: marks the body as ended on drop.
#[derive(Debug)]
pub(super) struct ProgressGuard(BodyProgress);

impl BodyProgress {
    pub(super) fn new(keep_start: bool) -> Self {
        let start = keep_start.then(Mutex::default);
        Self(Arc::new(Shared { bytes: AtomicU64::new(0), ended: AtomicBool::new(false), start }))
    }

    /// Whether the body has not ended.
    pub fn goes_on(&self) -> bool {
        !self.0.ended.load(Ordering::Relaxed)
    }

    /// Bytes sent so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Calls `read` with the start of the body, at most 64 KiB; `None` if it is not kept.
    pub fn start<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let start = self.0.start.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(read(&start))
    }

    pub(super) fn begin(&self) -> ProgressGuard {
        ProgressGuard(self.clone())
    }
}

impl ProgressGuard {
    pub(super) fn progress(&self) -> &BodyProgress {
        &self.0
    }

    /// Records bytes that are sent.
    pub(super) fn pass(&self, data: &[u8]) {
        let passed = &self.0.0;
        passed.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(start) = &passed.start {
            let mut start = start.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_START - start.len();
            start.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}

impl Drop for ProgressGuard {
    fn drop(&mut self) {
        self.0.0.ended.store(true, Ordering::Relaxed);
    }
}

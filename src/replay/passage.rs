//! What passed of a body that is streamed, told to whoever does not send it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the start that are kept where somebody reads them.
const START: usize = 64 << 10;

/// A view of a body on its way: whether it is still being sent, and what of it passed.
#[derive(Clone, Debug)]
pub struct Passage(Arc<Passed>);

#[derive(Debug)]
struct Passed {
    /// All orderings are relaxed: one task does it all.
    bytes: AtomicU64,
    ended: AtomicBool,
    /// The start, where it is kept: the model stands in it.
    start: Option<Mutex<Vec<u8>>>,
}

/// The end of a body's passage, on drop.
#[derive(Debug)]
pub(super) struct Passing(Passage);

impl Passage {
    pub(super) fn new(keep_start: bool) -> Self {
        let start = keep_start.then(Mutex::default);
        Self(Arc::new(Passed { bytes: AtomicU64::new(0), ended: AtomicBool::new(false), start }))
    }

    /// Whether there is still more to be sent.
    pub fn goes_on(&self) -> bool {
        !self.0.ended.load(Ordering::Relaxed)
    }

    /// Bytes that passed.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Reads the start of what passed, 64 KiB at most; nothing where it is not kept.
    pub fn start<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let start = self.0.start.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(read(&start))
    }

    pub(super) fn begin(&self) -> Passing {
        Passing(self.clone())
    }
}

impl Passing {
    pub(super) fn passage(&self) -> &Passage {
        &self.0
    }

    /// Bytes pass.
    pub(super) fn pass(&self, data: &[u8]) {
        let passed = &self.0.0;
        passed.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(start) = &passed.start {
            let mut start = start.lock().unwrap_or_else(PoisonError::into_inner);
            let room = START - start.len();
            start.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.0.ended.store(true, Ordering::Relaxed);
    }
}

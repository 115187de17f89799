//! The only door to time and to background tasks.
//!
//! Monotonic time is tokio's, everywhere, so that a paused test runtime moves every timer of a whole proxy at once.
//! Wall time is an argument of the few parsers that need it; [`wall`] is called at the edges only.

use std::future::Future;
use std::time::SystemTime;

pub use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

/// The monotonic time now, by the runtime's clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall time now. Call it at the edges and pass the result on.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Starts a background task on the runtime of the calling worker.
///
/// Such a task must end by itself when what it serves is gone: a drain does not wait for it.
///
/// # Panics
/// Outside a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

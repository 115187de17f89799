//! A check whether the peer has closed an idle connection, before it is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to check the socket, shared by a connection's user and its byte stream. tokio reports
/// a close only after it has polled for events, which it does between tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct CloseCheck(Arc<AtomicBool>);

impl CloseCheck {
    /// Makes the next read without data check the socket.
    pub(super) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request: whether the socket must be checked.
    pub(super) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

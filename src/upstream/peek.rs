//! A look at a connection before it is used again: whether the peer has closed it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The wish to have the socket asked itself, shared by a connection's user and its byte stream. The
/// runtime tells of a close only after it has looked at its events, which it does between the turns
/// of tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Peek(Arc<AtomicBool>);

impl Peek {
    /// Has the next read that finds nothing ask the socket.
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the socket is to be asked; once.
    pub(super) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

//! The progress of connecting, which is reported if it takes too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::classify::{Failure, FailureKind};

use super::close_check::CloseCheck;

/// A step of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// TCP to the upstream, or a connector that reports no steps.
    Tcp,
    Lookup,
    /// TCP to the proxy, and its CONNECT response.
    Proxy,
    Tls,
}

/// The current step, shared by the connector and the waiting attempt.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    step: Arc<AtomicU8>,
    close_check: CloseCheck,
}

impl Progress {
    /// The close check of the connection's socket.
    pub(super) fn close_check(&self) -> CloseCheck {
        self.close_check.clone()
    }

    /// Sets the current step. Orderings are relaxed: a single thread reads and writes it.
    pub(super) fn begin(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// The failure of a connection that was not made in time.
    pub(super) fn too_late(&self) -> Failure {
        let step = self.step.load(Ordering::Relaxed);
        let (kind, detail) = if step == Step::Lookup as u8 {
            (FailureKind::Dns, "the look-up took longer than upstream.connect_timeout")
        } else if step == Step::Tcp as u8 {
            (FailureKind::ConnectTimeout, "its address does not respond")
        } else if step == Step::Proxy as u8 {
            (FailureKind::ProxyFailed, "its response took longer than upstream.connect_timeout")
        } else {
            (FailureKind::TlsTimeout, "it accepted the connection and then said too little")
        };
        Failure::unsent(kind, detail)
    }
}

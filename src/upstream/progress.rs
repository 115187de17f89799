//! How far a connection that is being made has come: what is told of one that takes too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::classify::{Failure, FailureKind};

use super::peek::Peek;

/// A step of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the upstream, or to whatever a connector does that tells no steps.
    Tcp,
    Lookup,
    /// To the proxy, and its answer to CONNECT.
    Proxy,
    Tls,
}

/// The step under way, shared by the connector and whoever waits for it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    step: Arc<AtomicU8>,
    peek: Peek,
}

impl Progress {
    /// What has the connection's socket asked whether it is closed.
    pub(super) fn peek(&self) -> Peek {
        self.peek.clone()
    }

    /// A step begins. Orderings are relaxed: one thread does both.
    pub(super) fn begin(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// The failure of a connection that was not made in time.
    pub(super) fn too_late(&self) -> Failure {
        let step = self.step.load(Ordering::Relaxed);
        let (kind, detail) = if step == Step::Lookup as u8 {
            (FailureKind::Dns, "the look-up took longer than upstream.connect_timeout")
        } else if step == Step::Tcp as u8 {
            (FailureKind::ConnectTimeout, "its address does not answer")
        } else if step == Step::Proxy as u8 {
            (FailureKind::ProxyFailed, "its answer took longer than upstream.connect_timeout")
        } else {
            (FailureKind::TlsTimeout, "it accepted the connection and then said too little")
        };
        Failure::unsent(kind, detail)
    }
}

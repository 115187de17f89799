//! Counters of upstream connections, for the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::classify::FailureKind;

/// Counts over the pools of all workers.
#[derive(Debug, Default)]
pub struct Counters {
    open: AtomicUsize,
    idle: AtomicUsize,
    connected: AtomicU64,
    heads_too_large: AtomicU64,
    failed: [AtomicU64; FailureKind::ALL.len()],
}

impl Counters {
    /// Open connections, including idle ones.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Connections made so far.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Failed connection attempts, by kind of failure.
    pub fn failed(&self, kind: FailureKind) -> u64 {
        self.failed[kind as usize].load(Ordering::Relaxed)
    }

    /// Responses whose heads exceeded the limit of bytes or fields.
    pub fn heads_too_large(&self) -> u64 {
        self.heads_too_large.load(Ordering::Relaxed)
    }

    pub(super) fn count_head_too_large(&self) {
        self.heads_too_large.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(self: &Arc<Self>) -> Open {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(super) fn count_failed(&self, kind: FailureKind) {
        self.failed[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn idle_more(&self) {
        self.idle.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn idle_less(&self) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A guard that counts an open connection until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

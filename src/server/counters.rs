//! Counters of the server, for the metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::request_rules::Rule;
use crate::metrics::Bound;

/// Counts over the servers of all workers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Only the limits of the server are ever counted here.
    reached: [AtomicU64; Bound::ALL.len()],
    refused: [AtomicU64; Rule::ALL.len()],
    tls_failed: AtomicU64,
    panics: AtomicU64,
    accepts_failed: AtomicU64,
    drained: AtomicU64,
    open: AtomicUsize,
}

impl Counters {
    /// How often a limit was reached.
    pub fn reached(&self, limit: Bound) -> u64 {
        self.reached[limit as usize].load(Ordering::Relaxed)
    }

    /// How many requests a rule refused.
    pub fn refused(&self, rule: Rule) -> u64 {
        self.refused[rule as usize].load(Ordering::Relaxed)
    }

    /// Connections whose TLS handshake failed.
    pub fn tls_failed(&self) -> u64 {
        self.tls_failed.load(Ordering::Relaxed)
    }

    /// Requests whose service panicked.
    #[cfg(test)]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Connections that failed before they were accepted.
    pub fn accepts_failed(&self) -> u64 {
        self.accepts_failed.load(Ordering::Relaxed)
    }

    /// Connections without a request that a drain closed.
    pub fn drained(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn reach(&self, limit: Bound) {
        self.reached[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, rule: Rule) {
        self.refused[rule as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail_tls(&self) {
        self.tls_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail_accept(&self) {
        self.accepts_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drain(&self) {
        self.drained.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn open_more(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn open_less(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

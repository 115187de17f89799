//! What the metrics show of the front.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::hygiene::Rule;

/// A limit of the front that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections in all; the one too many is closed.
    Connections,
    /// Connections of one peer; the one too many is closed.
    ConnectionsPerPeer,
    /// Time for the TLS handshake; the connection is closed.
    HandshakeTimeout,
    /// Time for the head of a request; the connection is closed.
    HeadTimeout,
    /// Time between requests; the connection is closed.
    IdleTimeout,
    /// Time in which the client takes nothing of its answer; the connection is closed.
    WriteTimeout,
    /// Bytes or number of headers; answered by 431.
    Headers,
    /// Files the process may open; accepting pauses.
    OpenFiles,
    /// Requests at once over one HTTP/2 connection: all its streams are taken, h2 refuses the next.
    Streams,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::ConnectionsPerPeer,
        Self::HandshakeTimeout,
        Self::HeadTimeout,
        Self::IdleTimeout,
        Self::WriteTimeout,
        Self::Headers,
        Self::OpenFiles,
        Self::Streams,
    ];
}

/// Counts over the fronts of all workers.
#[derive(Debug, Default)]
pub struct Counters {
    reached: [AtomicU64; Limit::ALL.len()],
    refused: [AtomicU64; Rule::ALL.len()],
    tls_failed: AtomicU64,
    panics: AtomicU64,
    accepts_failed: AtomicU64,
    drained: AtomicU64,
    open: AtomicUsize,
}

impl Counters {
    /// How often a limit was reached.
    pub fn reached(&self, limit: Limit) -> u64 {
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

    /// Connections that broke before they were accepted.
    pub fn accepts_failed(&self) -> u64 {
        self.accepts_failed.load(Ordering::Relaxed)
    }

    /// Connections without a request that a drain closed.
    pub fn drained(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn reach(&self, limit: Limit) {
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

//! The memory budget for request bodies, over all requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::read::ReadError;

/// The bytes of all request bodies in memory, and their limits: those kept for another attempt, and
/// those that only wait to be sent.
#[derive(Debug)]
pub struct Budget {
    kept: Limit,
    buffered: Limit,
    failed: [AtomicU64; ReadError::ALL.len()],
}

#[derive(Debug)]
struct Limit {
    limit: usize,
    used: AtomicUsize,
}

/// The default limit of bytes that wait to be sent.
#[cfg(any(test, feature = "internals"))]
const BUFFERED: usize = 512 << 20;

impl Limit {
    fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// A budget of `limit` kept bytes, and 512 MiB that wait to be sent.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(limit: usize) -> Arc<Self> {
        Self::with_buffered(limit, BUFFERED)
    }

    /// A budget of `kept` bytes for further attempts, and `buffered` bytes that only wait to be
    /// sent.
    pub fn with_buffered(kept: usize, buffered: usize) -> Arc<Self> {
        Arc::new(Self { kept: Limit::new(kept), buffered: Limit::new(buffered), failed: Default::default() })
    }

    /// The bytes currently kept for further attempts.
    pub fn used(&self) -> usize {
        self.kept.used.load(Ordering::Relaxed)
    }

    /// The bytes that currently wait to be sent and are not kept.
    #[cfg(test)]
    pub fn buffered(&self) -> usize {
        self.buffered.used.load(Ordering::Relaxed)
    }

    /// Number of bodies that could not be read because of `error`.
    pub fn failed(&self, error: ReadError) -> u64 {
        self.failed[error as usize].load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self, error: ReadError) -> ReadError {
        self.failed[error as usize].fetch_add(1, Ordering::Relaxed);
        error
    }
}

/// A reservation for bytes that are kept outside of a [`Replay`](super::Replay); released on drop.
#[derive(Debug)]
pub struct Held(Reservation);

impl Held {
    /// An empty reservation.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self(Reservation::new(budget))
    }

    /// Reserves `more` bytes, of the buffered limit if the kept one is reached. Returns `false` if
    /// both are, and then releases everything.
    pub fn grow(&mut self, more: usize) -> bool {
        let held = &mut self.0;
        let fits = (held.kept && held.grow(more)) || held.only_buffer(held.bytes + more);
        if !fits {
            held.budget.fail(ReadError::NoRoom);
        }
        fits
    }
}

/// A reserved part of the budget; released on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
    kept: bool,
}

impl Reservation {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, kept: true }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Moves the reservation from kept to buffered bytes, for a body that is sent once. Returns
    /// `false`, with nothing reserved, if the limit is reached.
    pub(super) fn only_buffer(&mut self, bytes: usize) -> bool {
        self.release();
        self.kept = false;
        let fits = self.budget.buffered.take(bytes);
        self.bytes = if fits { bytes } else { 0 };
        fits
    }

    /// Releases everything.
    pub(super) fn release(&mut self) {
        if self.bytes > 0 {
            let limit = if self.kept { &self.budget.kept } else { &self.budget.buffered };
            limit.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Reserves `more` bytes. Returns `false`, with nothing changed, if the limit is reached.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let limit = if self.kept { &self.budget.kept } else { &self.budget.buffered };
        let fits = limit.take(more);
        self.bytes += if fits { more } else { 0 };
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

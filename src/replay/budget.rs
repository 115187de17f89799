//! How many bytes of request bodies may be kept at once, over all requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a body is streamed and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// It is larger than one body may be.
    TooLarge,
    /// All bodies together would be larger than they may be.
    BudgetSpent,
}

impl Skipped {
    /// Both reasons.
    pub const ALL: [Self; 2] = [Self::TooLarge, Self::BudgetSpent];

    /// The reason's name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::BudgetSpent => "budget_spent",
        }
    }
}

/// The bytes of all bodies that are kept, and how many they may be.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    skipped: [AtomicU64; Skipped::ALL.len()],
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), skipped: Default::default() })
    }

    /// The bytes kept now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bodies were not kept for this reason.
    pub fn skipped(&self, why: Skipped) -> u64 {
        self.skipped[why as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, why: Skipped) {
        self.skipped[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A part of the budget; given back on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes `more` bytes; `false`, and nothing taken, when they aren't there.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > self.budget.limit {
            self.budget.used.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

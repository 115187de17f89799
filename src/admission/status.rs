//! How a scope stands, as numbers: for the status page and the metrics.

use std::time::Duration;

use crate::caller::{CallerId, Lane};
use crate::classify::ErrorClass;

use super::breaker::BreakerState;
use super::limits::{Slot, Source};
use super::settings::LimitSettings;

/// One scope at one moment.
#[derive(Clone, Debug)]
pub struct ScopeStatus {
    /// The scope's name: its family, and a number where several credentials use it.
    pub name: Box<str>,
    /// The limits that are known, and in place of one that is told for the same what was found to
    /// be less.
    pub dimensions: Vec<DimensionStatus>,
    /// Tokens that the upstream charges for one that was estimated.
    pub charge_ratio: f64,
    /// The part of the limits that is this replica's, where several share them; else 1.
    pub part: f64,
    /// The limit that holds the next waiting request longest.
    pub held_by: Option<Slot>,
    /// Until when everything pauses after a refusal without numbers; zero where nothing does.
    pub paused_for: Duration,
    /// What waits.
    pub queue: Vec<QueueStatus>,
    /// Bytes of the bodies that wait.
    pub queue_bytes: usize,
    /// How long a small request of a new caller would wait.
    pub predicted_wait: Duration,
    /// The breaker.
    pub breaker: BreakerState,
    /// While the breaker blocks: for how long the upstream has been failing, and when the next
    /// probe is.
    pub outage: Option<(Duration, Duration)>,
    /// The class of the last failure that counted against the upstream.
    pub last_failure: Option<ErrorClass>,
    /// How often the breaker has blocked.
    pub breaker_opened: u64,
    /// For how long the credential's quota has been spent.
    pub quota_spent_for: Option<Duration>,
    /// While it is spent: the upstream's code, and when Weir asks again.
    pub quota_spent: Option<(Box<str>, Duration)>,
    /// The retry budget, in retries.
    pub budget: f64,
    /// How often the budget denied a retry.
    pub budget_exhausted: u64,
    /// Permits in flight.
    pub in_flight: u32,
    /// The limits as they are configured, whatever the upstream tells.
    pub limits: LimitSettings,
    /// Requests and tokens (as estimated) that were admitted in the last minute.
    pub admitted: (f64, f64),
    /// Counts since the scope was made.
    #[cfg(test)]
    pub counts: Counts,
    /// Each upstream, where several serve the scope: what stands above is of all of them together.
    pub members: Vec<MemberStatus>,
}

/// One upstream of a pool, as it stands for one scope.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Its name.
    pub name: Box<str>,
    /// Those of the lowest number go first.
    pub priority: u32,
    /// Why it gets no requests, and for how long it has had none; nothing while it serves.
    pub out: Option<(OutBecause, Duration)>,
    /// When it is asked next whether it is back.
    pub next_probe: Option<Duration>,
    /// Its breaker.
    pub breaker: BreakerState,
    /// The class of the last failure that counted against it.
    pub last_failure: Option<ErrorClass>,
    /// Its limits that are known.
    pub dimensions: Vec<DimensionStatus>,
    /// Permits in flight.
    pub in_flight: u32,
    /// Permits given so far.
    pub granted: u64,
    /// Its limits as they are configured.
    pub limits: LimitSettings,
}

/// Why an upstream gets no requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutBecause {
    /// It fails: its breaker is open.
    Failing,
    /// It refuses its key, or its quota is spent, with this code.
    Refused(Box<str>),
}

/// One limit of a scope.
#[derive(Clone, Debug)]
pub struct DimensionStatus {
    /// Which.
    pub slot: Slot,
    /// The limit per window.
    pub limit: f64,
    /// What is used of it now.
    pub level: f64,
    /// The window.
    pub window: Duration,
    /// Where the limit comes from.
    pub source: Source,
    /// The pacer's burst.
    pub pacer_burst: f64,
    /// The part of the limit that others use.
    pub foreign_use: f64,
}

/// What one caller has waiting in one lane.
#[derive(Clone, Debug)]
pub struct QueueStatus {
    /// The caller.
    pub caller: CallerId,
    /// The lane.
    pub lane: Lane,
    /// Requests.
    pub waiting: usize,
    /// How long the one that is next has waited.
    pub oldest: Duration,
    /// How long a further small request of this caller would wait in this lane.
    pub predicted: Duration,
    /// What it was served while it had something waiting, over the last minutes, in windows of the
    /// limit that binds.
    pub served: f64,
    /// What its weight entitled it to in that time.
    pub entitled: f64,
}

/// Counts since the scope was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Permits given.
    pub granted: u64,
    /// Requests refused because the queue was full.
    pub queue_full: u64,
    /// Requests refused because their caller had too much waiting.
    pub caller_limit: u64,
    /// Requests refused or dropped for their deadline.
    pub deadline: u64,
    /// Requests refused because the upstream was failing.
    pub breaker_open: u64,
    /// Requests refused because the quota was spent.
    pub quota_spent: u64,
    /// Requests refused during a drain.
    pub draining: u64,
    /// Requests that left the queue before their turn.
    pub cancelled: u64,
    /// Rate-limit refusals of the upstream.
    pub rate_limited: u64,
}

/// How many scopes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopesCounts {
    /// Known now.
    pub scopes: usize,
    /// Forgotten so far, to stay within the bound.
    pub evicted: u64,
    /// Merged so far into another's.
    pub merged: u64,
}

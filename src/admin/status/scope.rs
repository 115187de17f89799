//! The status of one set of upstream limits.

use serde::{Deserialize, Serialize};

/// One set of upstream limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScopeStatus {
    /// Its name: credential and model family, never a key.
    pub name: String,
    /// Its limits; empty before the upstream or the configuration states one.
    pub limits: Vec<LimitStatus>,
    /// This replica's part of the limits, 0 to 1; 1 if they are not shared.
    pub part: f64,
    /// Attempts that hold a permit.
    pub in_flight: u64,
    /// The most attempts at once, if configured or inferred.
    pub in_flight_limit: Option<u32>,
    /// Whether that bound is inferred, not configured.
    pub in_flight_is_found: bool,
    /// Requests waiting for this scope.
    pub waiting: u64,
    /// The name of the limit that holds the next waiting request, if any.
    pub held_by: Option<String>,
    /// While a 429 without numbers pauses the scope: the remaining seconds.
    pub paused_seconds: Option<f64>,
    /// The circuit breaker.
    pub breaker: BreakerStatus,
    /// Present while the quota is known to be spent.
    pub quota_spent: Option<QuotaSpent>,
    /// Retries that the budget allows now.
    pub retry_budget: f64,
    /// Retries that the budget allows at most.
    pub retry_budget_capacity: f64,
    /// The upstreams, if several serve the scope; the fields above are their sums.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream of a pool, for one scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Lower numbers are used first.
    pub priority: u32,
    /// Whether it gets requests.
    pub state: UpstreamState,
    /// While it gets none: the class of its failures, or the upstream's error code.
    pub because: Option<String>,
    /// When it stopped getting requests.
    pub since: Option<String>,
    /// Seconds until the next probe.
    pub next_probe_seconds: Option<f64>,
    /// Its limits.
    pub limits: Vec<LimitStatus>,
    /// Attempts under way.
    pub in_flight: u64,
    /// Attempts so far.
    pub attempts: u64,
}

/// Whether an upstream of a pool gets requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// It gets requests.
    #[default]
    Serving,
    /// It fails partly, and gets a part of its requests.
    Thinning,
    /// Its breaker is open.
    Failing,
    /// It rejects its key, or its quota is spent.
    Refused,
}

/// One limit of a scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    /// The limited quantity, for people: `requests per minute`.
    pub name: String,
    /// Units per window.
    pub limit: f64,
    /// Units used now, by the upstream's count: a limit that refills steadily is rarely full.
    pub used: f64,
    /// Units that Weir admitted in the last minute; absent for a window other than a minute.
    pub admitted_last_minute: Option<f64>,
    /// Whether requests wait for this limit now.
    pub holds: bool,
    /// The configured limit, if any.
    pub configured: Option<f64>,
    /// The window, seconds.
    pub window_seconds: f64,
    /// `configured`, `learned` from the upstream, or `found` from refusals.
    pub source: String,
    /// The fraction of the limit, 0 to 1, used by other clients with the same credential.
    pub foreign_use_ratio: f64,
    /// Units that may be sent at once.
    pub burst: f64,
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All attempts pass.
    #[default]
    Closed,
    /// Some attempts are held back.
    Thinning,
    /// No attempts pass, except probes.
    Open,
    /// The upstream is back: waiting requests are released at a rising rate.
    Releasing,
}

/// One scope's circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerStatus {
    /// Its state.
    pub state: BreakerState,
    /// When the upstream began to fail.
    pub failing_since: Option<String>,
    /// Seconds since then.
    pub failing_seconds: Option<f64>,
    /// Seconds until the next probe.
    pub next_probe_seconds: Option<f64>,
    /// The class of the last failure.
    pub last_class: Option<String>,
}

/// A spent quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaSpent {
    /// The upstream's code, such as `insufficient_quota`.
    pub code: String,
    /// When it was first reported.
    pub since: String,
    /// Seconds until the next probe.
    pub next_probe_seconds: Option<f64>,
}

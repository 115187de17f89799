//! The part of the status about one set of upstream limits.

use serde::{Deserialize, Serialize};

/// One set of upstream limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScopeStatus {
    /// Its name: credential and model family, never a key.
    pub name: String,
    /// Its limits; none is known before the upstream or the configuration names one.
    pub limits: Vec<LimitStatus>,
    /// The part of the limits that is this replica's; 1 where none share them.
    pub part: f64,
    /// Attempts that hold a permit.
    pub in_flight: u64,
    /// Attempts that may hold one at once, where that is configured or found.
    pub in_flight_limit: Option<u32>,
    /// That bound is found, and not configured.
    pub in_flight_is_found: bool,
    /// Requests waiting for this scope.
    pub waiting: u64,
    /// The limit that holds the next of them, as in `limits`; nothing where none waits for one.
    pub held_by: Option<String>,
    /// Set while a 429 without numbers pauses the scope: for how much longer.
    pub paused_seconds: Option<f64>,
    /// Whether the upstream answers.
    pub breaker: BreakerStatus,
    /// Set while the quota is known to be spent.
    pub quota_spent: Option<QuotaSpent>,
    /// Retries that the budget allows now.
    pub retry_budget: f64,
    /// Retries that the budget allows at most.
    pub retry_budget_capacity: f64,
    /// Each upstream, where several serve the scope; what stands above is of all of them together.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream of a pool, for one scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Those of the lowest number go first.
    pub priority: u32,
    /// Whether it gets requests.
    pub state: UpstreamState,
    /// While it gets none: the class of its failures, or the code with which it refuses.
    pub because: Option<String>,
    /// Since when it gets none.
    pub since: Option<String>,
    /// When it is asked next whether it is back, from now.
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
    /// It does.
    #[default]
    Serving,
    /// It fails in part: only a part of them is sent.
    Thinning,
    /// It fails: its breaker is open.
    Failing,
    /// It refuses its key, or its quota is spent.
    Refused,
}

/// One limit of a scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    /// What is limited, for people: `requests per minute`.
    pub name: String,
    /// Units per window.
    pub limit: f64,
    /// Units used now, as the upstream counts: a limit that refills steadily is never full for
    /// long.
    pub used: f64,
    /// Units that Weir admitted in the last minute; nothing for a limit of another window.
    pub admitted_last_minute: Option<f64>,
    /// Whether this limit holds requests back now.
    pub holds: bool,
    /// The limit that the configuration states, where it does.
    pub configured: Option<f64>,
    /// The window.
    pub window_seconds: f64,
    /// Whether it was `configured`, `learned`, or `found` by what was refused.
    pub source: String,
    /// Share of the limit that others use with the same credential, 0 to 1.
    pub foreign_use_ratio: f64,
    /// Units that may be sent at once.
    pub burst: f64,
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Everything passes.
    #[default]
    Closed,
    /// Attempts are thinned out.
    Thinning,
    /// Nothing passes.
    Open,
    /// The upstream is back: what waited is let go at a rising pace.
    Releasing,
}

/// One scope's breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerStatus {
    /// What it does.
    pub state: BreakerState,
    /// Since when the upstream has been failing.
    pub failing_since: Option<String>,
    /// For how long the upstream has been failing.
    pub failing_seconds: Option<f64>,
    /// When the next probe goes out, from now.
    pub next_probe_seconds: Option<f64>,
    /// The class of the last failure.
    pub last_class: Option<String>,
}

/// A quota that is spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaSpent {
    /// The upstream's code, such as `insufficient_quota`.
    pub code: String,
    /// Since when.
    pub since: String,
    /// When Weir asks again, from now.
    pub next_probe_seconds: Option<f64>,
}

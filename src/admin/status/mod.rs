//! The status of the process: one snapshot, which the page and `/status` show.

mod scope;

use serde::{Deserialize, Serialize};

use super::verdict::{self, Finding};
use crate::metrics::{Quantiles, Slowness};

pub use scope::{
    BreakerState, BreakerStatus, LimitStatus, QuotaSpent, ScopeStatus, UpstreamState, UpstreamStatus,
};

/// The status of a Weir at one moment. Times are RFC 3339 in UTC, durations are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The findings, the most urgent first; never empty after [`Status::judged`].
    pub findings: Vec<Finding>,
    /// When the snapshot was taken.
    pub time: String,
    /// The host's name; in Kubernetes the pod's.
    pub host: String,
    /// Version and source revision.
    pub build: Build,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// `enforce`, `observe` or `bypass`.
    pub mode: String,
    /// Whether Weir drains.
    pub draining: bool,
    /// The address of the listener for callers.
    pub listen: String,
    /// The upstream: scheme and host.
    pub upstream: String,
    /// Whether upstream requests use a configured credential instead of their callers' own.
    pub own_credential: bool,
    /// The last reading of the configuration.
    pub reload: Reload,
    /// The time that Weir itself adds to a request, since the start.
    pub overhead: Quantiles,
    /// Requests that ended in the last minute, if known.
    pub requests_last_minute: Option<u64>,
    /// The same number if none of them was for a known endpoint.
    #[serde(default)]
    pub unknown_last_minute: Option<u64>,
    /// Requests that ended in the last five minutes, of all callers.
    pub recent_requests: u64,
    /// The time until responses begin, by model, for models with enough responses.
    pub paces: Vec<Slowness>,
    /// The exchange with the other replicas, if it is configured.
    pub replicas: Option<ReplicasStatus>,
    /// Short-lived credentials.
    pub credentials: Vec<CredentialStatus>,
    /// Issuers of callers' tokens.
    pub issuers: Vec<IssuerStatus>,
    /// All callers that are configured or were seen.
    pub callers: Vec<CallerStatus>,
    /// Sets of upstream limits, the busiest first.
    pub scopes: Vec<ScopeStatus>,
    /// Errors of the last hour, the most frequent first.
    pub errors: Vec<ErrorStatus>,
    /// The last failure of each kind, the newest first.
    pub failures: Vec<FailureLine>,
    /// The last request with several rate-limit refusals, if within five minutes.
    pub repeated_refusal: Option<RepeatedRefusal>,
}

impl Status {
    /// Adds the findings.
    #[must_use]
    pub fn judged(mut self) -> Self {
        // JSON can't represent infinity and NaN.
        for limit in self.scopes.iter_mut().flat_map(|scope| &mut scope.limits) {
            let figures = [&mut limit.limit, &mut limit.used, &mut limit.window_seconds, &mut limit.burst];
            limit.admitted_last_minute = limit.admitted_last_minute.filter(|figure| figure.is_finite());
            figures.into_iter().filter(|figure| !figure.is_finite()).for_each(|figure| *figure = 0.0);
        }
        self.findings = verdict::findings(&self);
        self
    }

    /// Requests waiting, of all callers.
    pub fn waiting(&self) -> u64 {
        self.callers.iter().map(CallerStatus::waiting).sum()
    }

    /// Requests under way that do not wait.
    pub fn under_way(&self) -> u64 {
        self.in_flight().saturating_sub(self.waiting())
    }

    /// Requests under way, waiting ones included.
    pub fn in_flight(&self) -> u64 {
        self.callers.iter().map(|caller| caller.in_flight).sum()
    }

    /// Errors that callers saw in the last hour.
    pub fn errors_seen(&self) -> u64 {
        self.errors.iter().map(|error| error.requests).sum()
    }
}

/// A request that the upstream refused several times for its rate limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatedRefusal {
    /// The request's id.
    pub id: String,
    /// Its caller.
    pub caller: String,
    /// Its model, if it named one.
    pub model: Option<String>,
    /// The number of refusals.
    pub refusals: u32,
    /// Seconds since the last refusal.
    pub seconds_ago: f64,
}

/// The running build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The version.
    pub version: String,
    /// The source revision, or empty.
    pub revision: String,
}

/// The result of reading the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// Whether the configuration in force is the last one read.
    pub successful: bool,
    /// When the configuration in force was read.
    pub time: String,
    /// Why the last one was rejected, if it was.
    pub error: Option<String>,
    /// The changed keys that need a restart.
    pub waiting: Vec<String>,
}

impl Default for Reload {
    fn default() -> Self {
        Self { successful: true, time: String::new(), error: None, waiting: Vec::new() }
    }
}

/// The state of the exchange with the other replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicasStatus {
    /// The number of replicas that share the limits, this one included.
    pub replicas: u64,
    /// Whether the last exchange succeeded.
    pub redis_up: bool,
    /// Whether the parts are agreed through Redis; without Redis they are even.
    pub agreed: bool,
    /// Whether Redis lost the parts: none grows until all replicas have sent theirs again.
    pub learning: bool,
    /// Why the last exchange failed, if it did.
    pub trouble: Option<String>,
    /// An explanation of the failure, and what to do.
    pub advice: Option<String>,
    /// Seconds since the last successful exchange.
    pub last_exchange_seconds: Option<f64>,
}

/// The token of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialStatus {
    /// The exchange's name.
    pub name: String,
    /// Seconds until its token expires; negative afterwards.
    pub expires_in_seconds: f64,
    /// Why the last try to renew it failed, if it did.
    pub problem: Option<String>,
}

/// The keys of an issuer of callers' tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerStatus {
    /// Its name.
    pub name: String,
    /// The number of known keys.
    pub keys: usize,
    /// Seconds since the keys were read; absent before the first success.
    pub age_seconds: Option<f64>,
    /// The number of failed tries to read them.
    pub failures: u64,
    /// Why the last try failed, if it did.
    pub problem: Option<String>,
}

/// One caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallerStatus {
    /// Its name.
    pub name: String,
    /// Its share relative to the others.
    pub weight: u32,
    /// `interactive` or `background`.
    pub lane: String,
    /// Its own mode, if it has one.
    pub mode: Option<String>,
    /// Requests under way, waiting ones included.
    pub in_flight: u64,
    /// Requests that ended in the last five minutes.
    pub recent_requests: u64,
    /// Errors among them.
    pub recent_errors: u64,
    /// The most frequent class of these errors.
    pub top_class: Option<String>,
    /// Seconds since one of its requests succeeded.
    pub last_success_seconds: Option<f64>,
    /// Requests waiting in the interactive lane.
    pub waiting_interactive: u64,
    /// Requests waiting in the background lane.
    pub waiting_background: u64,
    /// The longest time that one of its requests has waited, seconds.
    pub longest_wait_seconds: f64,
    /// The predicted wait of a request that arrives now, seconds.
    pub predicted_wait_seconds: Option<f64>,
    /// Its own ceilings.
    pub ceilings: Vec<CeilingStatus>,
    /// Its budgets of tokens.
    pub budgets: Vec<BudgetStatus>,
}

/// One ceiling of a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CeilingStatus {
    /// The ceiling: `600 requests per minute`.
    pub allows: String,
    /// Requests that wait for the ceiling, before they enter a queue.
    pub waiting: u64,
    /// The wait of a further request, seconds.
    pub wait_seconds: f64,
}

/// One budget of a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetStatus {
    /// `day` or `month`.
    pub period: String,
    /// The family of models that it applies to; absent if it applies to all.
    pub family: Option<String>,
    /// The budget, in tokens.
    pub tokens: u64,
    /// Tokens used.
    pub used: u64,
    /// Seconds until the next period begins.
    pub returns_in_seconds: f64,
}

impl BudgetStatus {
    /// The used fraction.
    pub fn ratio(&self) -> f64 {
        self.used as f64 / self.tokens.max(1) as f64
    }
}

impl CallerStatus {
    /// Requests under way that do not wait.
    pub fn under_way(&self) -> u64 {
        self.in_flight.saturating_sub(self.waiting())
    }

    /// Requests waiting in both lanes, and for its own ceilings.
    pub fn waiting(&self) -> u64 {
        let at_ceilings: u64 = self.ceilings.iter().map(|ceiling| ceiling.waiting).sum();
        self.waiting_interactive + self.waiting_background + at_ceilings
    }
}

/// One class of errors in the last hour, explained by the catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorStatus {
    /// The class.
    pub class: String,
    /// Attempts that ended with it: errors from the upstream.
    pub attempts: u64,
    /// Requests that ended with it: errors that callers got.
    pub requests: u64,
    /// By minute, the oldest first.
    pub minutes: Vec<u32>,
    /// How many minutes ago it was last seen.
    pub last_seen_minutes: u64,
    /// The callers that got it in the last five minutes, the most frequent first.
    pub callers: Vec<CallerErrors>,
    /// Its cause.
    pub cause: String,
    /// Its solution.
    pub solution: String,
    /// Weir's reaction.
    pub weir_does: String,
}

/// The errors of one class that a caller got in the last five minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallerErrors {
    /// The caller.
    pub name: String,
    /// Attempts that ended with it.
    pub attempts: u64,
    /// Requests that ended with it.
    pub requests: u64,
    /// Whether these requests spent more time in Weir's queue than upstream.
    pub queued: bool,
    /// Seconds since the last one.
    pub last_seconds: f64,
    /// The time of the last one.
    pub last: String,
}

/// One failure as a line; its report has the details.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureLine {
    /// The report's id.
    pub id: String,
    /// When the error was sent.
    pub time: String,
    /// Weir's id of the request.
    pub request_id: String,
    /// The upstream's id of the last attempt, if it had one.
    pub upstream_request_id: Option<String>,
    /// Its class.
    pub class: String,
    /// The status that the caller received, if any.
    pub status: Option<u16>,
    /// Its code.
    pub code: Option<String>,
    /// Its message, masked.
    pub message: String,
    /// The model.
    pub model: Option<String>,
    /// The endpoint.
    pub endpoint: String,
    /// The caller.
    pub caller: String,
    /// The number of occurrences of this failure.
    pub occurrences: u64,
}

//! What the status page shows and `/status` says: one snapshot of the whole process.

mod scope;

use serde::{Deserialize, Serialize};

use super::verdict::{self, Finding};
use crate::metrics::{Quantiles, Slowness};

pub use scope::{
    BreakerState, BreakerStatus, LimitStatus, QuotaSpent, ScopeStatus, UpstreamState, UpstreamStatus,
};

/// The state of a whole Weir at one moment. Times are RFC 3339 in UTC, durations seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What is the matter, the most urgent first; never empty once judged.
    pub findings: Vec<Finding>,
    /// When the snapshot was taken.
    pub time: String,
    /// The host's name: in Kubernetes that of the pod.
    pub host: String,
    /// Version and source revision.
    pub build: Build,
    /// Since the start.
    pub uptime_seconds: u64,
    /// `enforce`, `observe` or `bypass`.
    pub mode: String,
    /// Whether Weir drains.
    pub draining: bool,
    /// Where callers send their requests: the address that Weir listens on.
    pub listen: String,
    /// Where requests go: scheme and host.
    pub upstream: String,
    /// Whether requests bear a credential of the configuration upstream, rather than their callers'
    /// own.
    pub own_credential: bool,
    /// The last reading of the configuration.
    pub reload: Reload,
    /// What Weir itself adds to a request, since the start.
    pub overhead: Quantiles,
    /// Requests that ended in the last minute, if known.
    pub requests_last_minute: Option<u64>,
    /// The same, where none of them was for an endpoint that Weir knows.
    #[serde(default)]
    pub unknown_last_minute: Option<u64>,
    /// Requests that ended in the last five minutes, of all callers.
    pub recent_requests: u64,
    /// How long answers take to begin, by model, where enough came to say.
    pub paces: Vec<Slowness>,
    /// The exchange with the other replicas that share the limits, where it is configured.
    pub replicas: Option<ReplicasStatus>,
    /// Credentials that live short.
    pub credentials: Vec<CredentialStatus>,
    /// Issuers of tokens that callers are known by.
    pub issuers: Vec<IssuerStatus>,
    /// Everyone who is configured or was seen.
    pub callers: Vec<CallerStatus>,
    /// Sets of upstream limits, the busiest first.
    pub scopes: Vec<ScopeStatus>,
    /// Errors of the last hour, the most frequent first.
    pub errors: Vec<ErrorStatus>,
    /// The last failure of each kind, the newest first.
    pub failures: Vec<FailureLine>,
    /// The last request that met several rate limits, where that was within five minutes.
    pub repeated_refusal: Option<RepeatedRefusal>,
}

impl Status {
    /// The same status with its findings.
    #[must_use]
    pub fn judged(mut self) -> Self {
        // JSON has no word for what is no number, and no reader should stumble over it.
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

/// A request that the upstream's rate limit refused several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatedRefusal {
    /// The request's id.
    pub id: String,
    /// Its caller.
    pub caller: String,
    /// Its model, where it named one.
    pub model: Option<String>,
    /// Rate limits that it met.
    pub refusals: u32,
    /// Since it met the last one.
    pub seconds_ago: f64,
}

/// What is running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The version.
    pub version: String,
    /// The source revision, or nothing.
    pub revision: String,
}

/// How reading the configuration went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// Whether the configuration in force is the last one read.
    pub successful: bool,
    /// When the configuration in force was read.
    pub time: String,
    /// Why the last one was rejected.
    pub error: Option<String>,
    /// The keys whose values were read, and wait for a restart.
    pub waiting: Vec<String>,
}

impl Default for Reload {
    fn default() -> Self {
        Self { successful: true, time: String::new(), error: None, waiting: Vec::new() }
    }
}

/// How the exchange with the other replicas stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicasStatus {
    /// Replicas that share the limits, this one included.
    pub replicas: u64,
    /// Whether the last exchange went well.
    pub redis_up: bool,
    /// Whether the parts are agreed on, rather than even ones without Redis.
    pub agreed: bool,
    /// Whether Redis has lost the parts: until all replicas have told theirs anew, none grows.
    pub learning: bool,
    /// Why the last exchange failed.
    pub trouble: Option<String>,
    /// What that means and what to do.
    pub advice: Option<String>,
    /// Since the last good exchange.
    pub last_exchange_seconds: Option<f64>,
}

/// A credential that an exchange gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialStatus {
    /// The exchange's name.
    pub name: String,
    /// Until the end of its token; below 0 after that.
    pub expires_in_seconds: f64,
    /// Why there is no newer one, where the last try failed.
    pub problem: Option<String>,
}

/// The keys of an issuer of callers' tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerStatus {
    /// Its name.
    pub name: String,
    /// Keys that are known.
    pub keys: usize,
    /// Since they were read last; absent where they never were.
    pub age_seconds: Option<f64>,
    /// Tries to read them that failed.
    pub failures: u64,
    /// Why the last try failed, where it did.
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
    /// Its own mode, where it differs.
    pub mode: Option<String>,
    /// Requests under way, waiting ones included.
    pub in_flight: u64,
    /// Requests that ended in the last five minutes.
    pub recent_requests: u64,
    /// Errors among them.
    pub recent_errors: u64,
    /// The most frequent class of these errors.
    pub top_class: Option<String>,
    /// How long ago one of its requests succeeded.
    pub last_success_seconds: Option<f64>,
    /// Requests waiting in the lane for ordinary work.
    pub waiting_interactive: u64,
    /// Requests waiting in the lane that yields.
    pub waiting_background: u64,
    /// How long the one that waits longest has waited.
    pub longest_wait_seconds: f64,
    /// The wait that is predicted for a request that arrives now.
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
    /// What it allows: `600 requests per minute`.
    pub allows: String,
    /// Requests that wait for it, and not yet in a queue.
    pub waiting: u64,
    /// How long one more would wait.
    pub wait_seconds: f64,
}

/// One budget of a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetStatus {
    /// `day` or `month`.
    pub period: String,
    /// The family of models that it is for, where not all.
    pub family: Option<String>,
    /// Tokens.
    pub tokens: u64,
    /// Tokens used.
    pub used: u64,
    /// When the next period begins, from now.
    pub returns_in_seconds: f64,
}

impl BudgetStatus {
    /// The part that is used.
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

/// One class of error in the last hour, in the catalog's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorStatus {
    /// The class.
    pub class: String,
    /// Attempts that ended so: what the upstream said.
    pub attempts: u64,
    /// Requests that ended so: what callers saw.
    pub requests: u64,
    /// By minute, the oldest first.
    pub minutes: Vec<u32>,
    /// How many minutes ago it was last seen.
    pub last_seen_minutes: u64,
    /// Who met it in the last five minutes, the most frequent first.
    pub callers: Vec<CallerErrors>,
    /// Why it happens.
    pub cause: String,
    /// What to do.
    pub solution: String,
    /// What Weir does about it.
    pub weir_does: String,
}

/// What one class did to one caller in the last five minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallerErrors {
    /// The caller.
    pub name: String,
    /// Attempts that ended so.
    pub attempts: u64,
    /// Requests that ended so.
    pub requests: u64,
    /// Whether more of their time went by in Weir's queue than upstream.
    pub queued: bool,
    /// How long ago the last one was.
    pub last_seconds: f64,
    /// When the last one was.
    pub last: String,
}

/// One failure as a line; its report has the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureLine {
    /// The report's id.
    pub id: String,
    /// When the error went out.
    pub time: String,
    /// Weir's id of the request.
    pub request_id: String,
    /// The upstream's id of its last attempt, if it had one.
    pub upstream_request_id: Option<String>,
    /// Its class.
    pub class: String,
    /// The status that the caller got.
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
    /// How often the same failure occurred.
    pub occurrences: u64,
}

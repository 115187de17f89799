//! Every metric family: name, type, labels, help. Dashboards, alerts and the docs rely on this
//! table.

use std::fmt;

use prometheus::{HistogramOpts, IntCounter, Opts, Registry};

use Kind::{Counter, Gauge, Histogram};

use super::counters::{Counters, Gauges, Handle, Histograms};
use super::labels::{
    Bound, Bounded, ConnectResult, ConnectionRefusal, ConnectionState, HttpRule, QueueRefusal, ReplaySkip,
    RetryStop, SpanResult, StreamOutcome, WouldHave,
};
use crate::classify::ErrorClass;
use crate::openai::Endpoint;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in these buckets (upper bounds).
    Histogram(&'static [f64]),
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its full name.
    pub name: &'static str,
    /// What its samples mean.
    pub kind: Kind,
    /// Its label names.
    pub labels: &'static [&'static str],
    /// The help text, one sentence.
    pub help: &'static str,
}

impl Family {
    pub(super) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    pub(super) fn histogram_opts(&self) -> HistogramOpts {
        let opts = HistogramOpts::new(self.name, self.help);
        match self.kind {
            Histogram(buckets) => opts.buckets(buckets.to_vec()),
            Counter | Gauge => opts,
        }
    }

    /// The number of samples for one combination of label values. A histogram has one for each
    /// bucket, `+Inf`, sum and count.
    pub const fn samples(&self) -> usize {
        match self.kind {
            Counter | Gauge => 1,
            Histogram(buckets) => buckets.len() + 3,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Waits and durations, seconds: from the response time of a local server to the longest deadline.
pub const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// The time that Weir itself adds, seconds: 10 µs is normal, a second is a fault.
pub const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_01, 0.000_02, 0.000_03, 0.000_05, 0.000_075, 0.000_1, 0.000_15, 0.000_25, 0.000_5, 0.001, 0.002_5,
    0.005, 0.01, 0.05, 0.1, 1.0,
];
/// Times to the first event of a response, seconds.
pub(super) const FIRST_EVENT_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// Times per output token, seconds: 5 ms is 200 tokens per second.
pub(super) const OUTPUT_TOKEN_BUCKETS: &[f64] = &[0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25];
/// Ratios around 1, where 1 is exact.
pub const RATIO_BUCKETS: &[f64] =
    &[0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0];

macro_rules! families {
    ($(
        $konst:ident = $kind:expr, $name:literal, [$($label:literal),*] $(=> $field:ident: $handle:ty)?,
        $help:literal;
    )+) => {
        $(pub(super) const $konst: Family = Family {
            name: concat!("weir_", $name), kind: $kind, labels: &[$($label),*], help: $help,
        };)+
        /// Every family, in the order of the documentation.
        #[cfg(any(test, feature = "internals"))]
        pub const ALL: &[Family] = &[$($konst,)+];

        /// Handles for the series that other modules count; all start at 0. Histograms are in the
        /// base unit of their family.
        #[derive(Debug)]
        pub struct Handles {
            $($(#[doc = $help] pub $field: $handle,)?)+
        }

        impl Handles {
            pub(super) fn register(registry: &Registry) -> Self {
                Self { $($($field: <$handle as Handle>::register(registry, &$konst),)?)+ }
            }

            /// Series of the families above.
            pub(super) fn series() -> usize {
                let combinations = [$($((<$handle as Handle>::COMBINATIONS, &$konst),)?)+];
                combinations.iter().map(|(count, family)| count * family.samples()).sum()
            }
        }
    };
}

families! {
    // Results for callers.
    REQUESTS = Counter, "requests_total", ["caller", "endpoint", "outcome"],
        "Requests that ended, by outcome for the caller.";
    REQUEST_DURATION = Histogram(DURATION_BUCKETS), "request_duration_seconds", ["caller", "endpoint"],
        "Time from a request's head to the end of its response, including waits, in seconds.";
    TIME_TO_FIRST_BYTE = Histogram(DURATION_BUCKETS), "time_to_first_byte_seconds", ["endpoint"] => time_to_first_byte: Histograms<Endpoint>,
        "Time from a request's head to the first byte of its response, including waits, in seconds.";
    OVERHEAD = Histogram(OVERHEAD_BUCKETS), "overhead_seconds", [] => overhead: prometheus::Histogram,
        "Time that Weir itself added to a request before its response, without any waits, in seconds.";
    IN_FLIGHT = Gauge, "requests_in_flight", ["caller"],
        "Requests in progress, including waiting ones.";
    MODEL_REQUESTS = Counter, "model_requests_total", ["model", "outcome"],
        "Requests that ended, by model; a model gets its own series with its first success.";
    TIME_TO_FIRST_EVENT = Histogram(FIRST_EVENT_BUCKETS), "time_to_first_event_seconds", ["model"],
        "Time from the last attempt's start to the first event of a streamed response, without waits in Weir, in seconds.";
    TIME_PER_OUTPUT_TOKEN = Histogram(OUTPUT_TOKEN_BUCKETS), "time_per_output_token_seconds", ["model"],
        "Time from a streamed response's first event to its end, per output token after the first, in seconds.";
    // Results from the upstream.
    ATTEMPTS = Counter, "attempts_total", ["endpoint", "outcome"],
        "Attempts, by outcome.";
    ATTEMPT_ERRORS = Counter, "attempt_errors_total", ["class"] => attempt_errors: Counters<ErrorClass>,
        "Errors of attempts, by class, retried or not.";
    ERRORS = Counter, "errors_total", ["class"] => errors: Counters<ErrorClass>,
        "Errors of requests that callers got, by class.";
    // Retries.
    RETRIES = Counter, "retries_total", ["reason"] => retries: Counters<ErrorClass>,
        "Retries, by the class of the previous error.";
    RETRIES_STOPPED = Counter, "retries_stopped_total", ["reason"] => retries_stopped: Counters<RetryStop>,
        "Errors without a retry although their class allows one, by reason.";
    RETRY_BUDGET = Gauge, "retry_budget_tokens", ["scope"],
        "Retries that the scope's retry budget allows now.";
    RETRY_BUDGET_EXHAUSTED = Counter, "retry_budget_exhausted_total", ["scope"],
        "Retries not made because the scope's retry budget was exhausted.";
    SDK_RETRIES = Counter, "sdk_retries_seen_total", ["caller"],
        "Requests that a caller's SDK marked as its own retry.";
    RATE_LIMITED_AGAIN = Counter, "rate_limited_again_total", [] => rate_limited_again: IntCounter,
        "Rate limit errors of requests that had met one before; many mean that a limit is not known well.";
    // Waiting.
    QUEUE_DEPTH = Gauge, "queue_depth", ["caller", "lane"],
        "Requests waiting for admission.";
    CALLER_BUDGET = Gauge, "caller_budget_used_ratio", ["caller", "period"],
        "The used fraction of a caller's token budget, of the fullest if it has several; 0 without one.";
    CEILING_WAITING = Gauge, "caller_ceiling_waiting", ["caller"],
        "Requests that wait for their caller's own ceiling, before the queue.";
    CALLER_SHARE = Gauge, "caller_share_ratio", ["caller"],
        "The service that a caller got while it waited over its share by weight, in the last minutes; 1 is its share.";
    QUEUE_BYTES = Gauge, "queue_bytes", [],
        "Bytes of the bodies of waiting requests.";
    QUEUE_WAIT = Histogram(DURATION_BUCKETS), "queue_wait_seconds", ["caller"],
        "Time that a request waited for admission, over all its attempts, in seconds.";
    QUEUE_REFUSALS = Counter, "queue_refusals_total", ["reason"] => queue_refusals: Counters<QueueRefusal>,
        "Requests that the queue refused, by reason.";
    QUEUE_PREDICTION = Histogram(RATIO_BUCKETS), "queue_wait_prediction_error_ratio", [] => queue_prediction: prometheus::Histogram,
        "Actual wait over the wait predicted on arrival, for predictions of at least 100 ms; 1 is exact.";
    PERMITS = Gauge, "permits_in_flight", ["scope"],
        "Attempts in flight, which hold a permit.";
    // Limits.
    LIMIT = Gauge, "limit", ["scope", "dimension"],
        "The upstream's limit as configured, learned, or found from its refusals, in units per window.";
    LIMIT_LEVEL = Gauge, "limit_level", ["scope", "dimension"],
        "The used amount of the limit, in units.";
    LIMIT_HOLDS = Gauge, "limit_holds", ["scope", "dimension"],
        "1 while requests wait for this limit, 0 otherwise.";
    LIMIT_WINDOW = Gauge, "limit_window_seconds", ["scope", "dimension"],
        "The window of the limit as derived from the upstream's responses, in seconds.";
    FOREIGN_USE = Gauge, "foreign_use_ratio", ["scope", "dimension"],
        "The fraction of the limit that others use with the same credential.";
    PACER_BURST = Gauge, "pacer_burst", ["scope", "dimension"],
        "Units of the limit that may be sent at once, as learned.";
    LIMIT_PART = Gauge, "limit_part", ["scope"],
        "This replica's fraction of the scope's limits, in addition to limits.share; 1 without replicas.";
    LIMIT_HEADERS_MALFORMED = Counter, "limit_headers_malformed_total", [] => limit_headers_malformed: IntCounter,
        "Limit headers of the upstream that are invalid, or of more limits than are kept.";
    SCOPES = Gauge, "scopes", [],
        "Scopes in use, which are sets of upstream limits.";
    SCOPES_EVICTED = Counter, "scopes_evicted_total", [],
        "Scopes removed because they were idle or too many.";
    SCOPES_MERGED = Counter, "scopes_merged_total", [],
        "Scopes merged because their credentials share limits.";
    // Replicas that share the limits.
    REPLICAS = Gauge, "replicas", [],
        "Replicas that share the limits, including this one; 0 if not configured.";
    REPLICAS_REDIS_UP = Gauge, "replicas_redis_up", [],
        "1 if the last exchange with the other replicas through Redis succeeded, 0 otherwise.";
    REPLICAS_AGREED = Gauge, "replicas_agreed", [],
        "1 while the parts of the limits are agreed on; 0 while each replica uses an equal part without Redis.";
    REPLICAS_TROUBLE = Gauge, "replicas_trouble", ["cause"],
        "1 for the cause of the last failed exchange with the other replicas.";
    REPLICAS_EXCHANGES = Counter, "replicas_exchanges_total", [],
        "Successful exchanges with the other replicas.";
    REPLICAS_EXCHANGE_FAILURES = Counter, "replicas_exchange_failures_total", [],
        "Failed exchanges with the other replicas.";
    REPLICAS_EXCHANGE_AGE = Gauge, "replicas_exchange_age_seconds", [],
        "Time since the last successful exchange with the other replicas, in seconds.";
    REPLICAS_EXCHANGE_DURATION = Gauge, "replicas_exchange_duration_seconds", [],
        "Duration of the last successful exchange with the other replicas, in seconds.";
    // Tokens.
    TOKENS = Counter, "tokens_total", ["caller", "model", "kind"],
        "Tokens that the upstream reported as used; input includes cached.";
    TOKENS_ESTIMATED = Counter, "tokens_estimated_total", [] => tokens_estimated: IntCounter,
        "Tokens estimated on admission, for requests with reported usage.";
    ESTIMATE_ERROR = Histogram(RATIO_BUCKETS), "estimate_error_ratio", [] => estimate_error: prometheus::Histogram,
        "Tokens estimated on admission over tokens reported as used; 1 is exact.";
    // Breakers.
    BREAKER_STATE = Gauge, "breaker_state", ["scope"],
        "The scope's circuit breaker: 0 closed, 1 shedding part of the load, 2 open, 3 ramping up.";
    BREAKER_OPENED = Counter, "breaker_opened_total", ["scope"],
        "Times that the scope's circuit breaker opened.";
    QUOTA_BREAKER = Gauge, "quota_breaker_open", ["scope"],
        "1 while the scope's quota is known to be spent, 0 otherwise.";
    QUOTA_PROBES = Counter, "quota_probes_total", [] => quota_probes: IntCounter,
        "Requests sent to test whether a spent quota is available again.";
    // Pools.
    UPSTREAM_SERVES = Gauge, "upstream_serves", ["upstream"],
        "1 while the upstream of a pool gets requests, 0 while it is out of service for any model.";
    UPSTREAM_PERMITS = Gauge, "upstream_permits_in_flight", ["upstream"],
        "Attempts in flight to the upstream of a pool.";
    UPSTREAM_ATTEMPTS = Counter, "upstream_attempts_total", ["upstream"],
        "Attempts sent to the upstream of a pool.";
    UPSTREAM_LIMIT = Gauge, "upstream_limit", ["upstream", "scope", "limit"],
        "A limit of the upstream of a pool, in units per window.";
    UPSTREAM_LIMIT_LEVEL = Gauge, "upstream_limit_level", ["upstream", "scope", "limit"],
        "The used amount of the limit of the upstream of a pool, in units.";
    // Bodies and connections.
    STREAM_OUTCOMES = Counter, "stream_outcomes_total", ["outcome"] => stream_outcomes: Counters<StreamOutcome>,
        "Streamed responses, by outcome.";
    STREAMS_KEPT_ALIVE = Counter, "streams_kept_alive_total", [] => streams_kept_alive: IntCounter,
        "Streaming requests that got their head and comments before the upstream's response (`stream.keepalive`).";
    REPLAY_BYTES = Gauge, "replay_bytes", [],
        "Bytes of request bodies kept for another attempt.";
    REPLAY_SKIPPED = Counter, "replay_skipped_total", ["reason"] => replay_skipped: Counters<ReplaySkip>,
        "Request bodies not kept for another attempt, by reason.";
    UPSTREAM_CONNECTIONS = Gauge, "upstream_connections", ["state"] => upstream_connections: Gauges<ConnectionState>,
        "Connections to the upstream, by state.";
    UPSTREAM_CONNECTS = Counter, "upstream_connects_total", ["result"] => upstream_connects: Counters<ConnectResult>,
        "Connection attempts to the upstream, by result.";
    CONNECTIONS = Gauge, "connections", ["state"] => connections: Gauges<ConnectionState>,
        "Connections of clients, by state.";
    CONNECTIONS_REFUSED = Counter, "connections_refused_total", ["reason"] => connections_refused: Counters<ConnectionRefusal>,
        "Connections of clients closed without a response, by reason.";
    HTTP_REFUSALS = Counter, "http_refusals_total", ["rule"] => http_refusals: Counters<HttpRule>,
        "Requests refused because they break a rule of HTTP, by rule.";
    // Weir itself.
    CREDENTIAL_EXPIRES = Gauge, "credential_expires_seconds", ["credential"],
        "Time until the token of the exchange expires, in seconds; negative afterwards.";
    ISSUER_KEYS_AGE = Gauge, "issuer_keys_age_seconds", ["issuer"],
        "Time since the keys of the issuer were last read, in seconds.";
    ISSUER_FAILURES = Counter, "issuer_failures_total", ["issuer"],
        "Failed attempts to read the keys of the issuer.";
    LIMITS_REACHED = Counter, "limits_reached_total", ["limit"] => limits_reached: Counters<Bound>,
        "Times that one of Weir's own limits was reached, by limit.";
    ADMIN_TOKENS_REFUSED = Counter, "admin_tokens_refused_total", [] => admin_tokens_refused: IntCounter,
        "Requests to the admin address with a wrong token.";
    LABELS_OVERFLOWED = Counter, "labels_overflowed_total", ["label"] => labels_overflowed: Counters<Bounded>,
        "Values counted as `other` because the label's bound was reached, by label.";
    TRACE_SPANS = Counter, "trace_spans_total", ["result"] => trace_spans: Counters<SpanResult>,
        "Spans to export, by result.";
    OBSERVE_WOULD = Counter, "observe_would_total", ["action"] => observe_would: Counters<WouldHave>,
        "Actions that `enforce` would have taken on requests in the mode `observe`.";
    RELOAD_SUCCESSFUL = Gauge, "config_last_reload_successful", [],
        "1 if the last configuration read is in use, 0 if it was rejected.";
    RELOAD_TIME = Gauge, "config_last_reload_success_timestamp_seconds", [],
        "The time at which the current configuration was read, as a Unix timestamp in seconds.";
    BUILD_INFO = Gauge, "build_info", ["version", "revision"],
        "Always 1; the labels are the running version and revision.";
    START_TIME = Gauge, "process_start_time_seconds", [],
        "The time at which this process started, as a Unix timestamp in seconds.";
    UP_STATE = Gauge, "draining", [],
        "1 while Weir drains and accepts no new work, 0 otherwise.";
    WORKER_REQUESTS = Counter, "worker_requests_total", ["worker"],
        "Requests, by worker; shows an uneven distribution.";
}

//! Counts of everything, as Prometheus reads them: each family registered once, each series made
//! before it is needed.
//!
//! No other module names the `prometheus` crate. A request finds its handles by index (caller,
//! endpoint, class) or, for its model, by comparing a few names; it never locks, hashes or
//! allocates for a count. What changes with the scopes is made at each scrape from a [`Gathered`]
//! snapshot. [`Plan`] bounds the number of series by configuration.

mod callers;
mod counters;
mod families;
mod gathered;
mod labels;
mod models;
mod pace;
mod plan;
mod quantiles;
mod replicas;
mod scopes;
mod settings;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Encoder, Gauge, Histogram, IntCounter, IntGauge, Opts, Registry, TextEncoder};

pub use callers::{CallerSeries, PairSeries};
pub use counters::{Counters, Gauges, Histograms};
pub use families::{ALL as FAMILIES, DURATION_BUCKETS, Family, Kind, OVERHEAD_BUCKETS, RATIO_BUCKETS};
pub use gathered::Gathered;
pub use labels::{
    AttemptOutcome, Bound, Bounded, BudgetPeriod, ConnectResult, ConnectionRefusal, ConnectionState,
    HttpRule, Label, Outcome, QueueRefusal, ReplaySkip, RetryStop, SpanResult, StreamOutcome, TokenKind,
    WouldHave,
};
pub use models::ModelSeries;
pub use pace::{Pace, Slowness};
pub use plan::{ENDPOINTS_BY_USE, MAX_DIMENSIONS, Plan};
pub use quantiles::Quantiles;
pub use replicas::{REPLICAS_TROUBLES, ReplicasGauges};
pub use scopes::{DimensionGauges, ScopeGauges, UpstreamGauges};
pub use settings::Settings;

use crate::caller::{CallerId, Lane};
use crate::classify::ErrorClass;
use crate::openai::Endpoint;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every metric of the process. Fields are series that another module counts itself; all start at
/// 0.
#[derive(Debug)]
pub struct Metrics {
    /// Time to the first byte of the answer, seconds.
    pub time_to_first_byte: Histograms<Endpoint>,
    /// What Weir added before the answer, seconds.
    pub overhead: Histogram,
    /// Errors of attempts.
    pub attempt_errors: Counters<ErrorClass>,
    /// Errors that callers saw.
    pub errors: Counters<ErrorClass>,
    /// Attempts made again, by the class of the error before.
    pub retries: Counters<ErrorClass>,
    /// Errors passed on although their class allows another try.
    pub retries_stopped: Counters<RetryStop>,
    /// Requests that the queue turned away.
    pub queue_refusals: Counters<QueueRefusal>,
    /// Actual over predicted wait.
    pub queue_prediction: Histogram,
    /// Limit headers that could not be read, or found no place.
    pub limit_headers_malformed: IntCounter,
    /// Rate limits met by requests that had met one before.
    pub rate_limited_again: IntCounter,
    /// Tokens estimated, for requests whose use was reported.
    pub tokens_estimated: IntCounter,
    /// Estimated over reported tokens.
    pub estimate_error: Histogram,
    /// Requests let through to see whether a spent quota was refilled.
    pub quota_probes: IntCounter,
    /// Streamed answers, by how they ended.
    pub stream_outcomes: Counters<StreamOutcome>,
    /// Streaming requests that got their head before their answer came.
    pub streams_kept_alive: IntCounter,
    /// Request bodies not kept for another try.
    pub replay_skipped: Counters<ReplaySkip>,
    /// Connections to the upstream.
    pub upstream_connections: Gauges<ConnectionState>,
    /// Connections tried to the upstream.
    pub upstream_connects: Counters<ConnectResult>,
    /// Connections of clients.
    pub connections: Gauges<ConnectionState>,
    /// Connections of clients closed without an answer.
    pub connections_refused: Counters<ConnectionRefusal>,
    /// Requests refused because they break a rule of HTTP.
    pub http_refusals: Counters<HttpRule>,
    /// Times that one of Weir's own bounds was reached.
    pub limits_reached: Counters<Bound>,
    /// Requests to the admin address with a wrong token.
    pub admin_tokens_refused: IntCounter,
    /// Values counted as `other`.
    pub labels_overflowed: Counters<Bounded>,
    /// Spans that were to be exported, by what became of them.
    pub trace_spans: Counters<SpanResult>,
    /// What enforcing would have done.
    pub observe_would: Counters<WouldHave>,
    /// Requests begun by each worker, by its index.
    pub worker_requests: Box<[IntCounter]>,

    attempts: Box<[Counters<AttemptOutcome>]>,
    callers: callers::CallerTable,
    models: models::ModelTable,
    scope_names: scopes::ScopeTable,
    scopes: IntGauge,
    scopes_evicted: IntCounter,
    scopes_merged: IntCounter,
    queue_bytes: IntGauge,
    replay_bytes: IntGauge,
    reload_successful: IntGauge,
    reload_time: Gauge,
    draining: IntGauge,
    replicas: replicas::ReplicasSeries,
    #[cfg(any(test, feature = "internals"))]
    plan: Plan,
    registry: Registry,
}

impl Metrics {
    /// Registers every family and makes every series that the settings name.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let plan = Plan::fit(
            settings.callers.len(),
            settings.max_models,
            settings.max_scopes,
            settings.workers,
            settings.max_series,
        );
        let registry = Registry::new();
        let r = &registry;
        let attempts = counters::counter_vec(r, &families::ATTEMPTS);
        let workers = counters::counter_vec(r, &families::WORKER_REQUESTS);
        let worker = |index: usize| workers.with_label_values(&[index.to_string().as_str()]);
        let metrics = Self {
            time_to_first_byte: Histograms::register(r, &families::TIME_TO_FIRST_BYTE),
            overhead: counters::histogram(r, &families::OVERHEAD),
            attempt_errors: Counters::register(r, &families::ATTEMPT_ERRORS),
            errors: Counters::register(r, &families::ERRORS),
            retries: Counters::register(r, &families::RETRIES),
            retries_stopped: Counters::register(r, &families::RETRIES_STOPPED),
            queue_refusals: Counters::register(r, &families::QUEUE_REFUSALS),
            queue_prediction: counters::histogram(r, &families::QUEUE_PREDICTION),
            limit_headers_malformed: counters::counter(r, &families::LIMIT_HEADERS_MALFORMED),
            rate_limited_again: counters::counter(r, &families::RATE_LIMITED_AGAIN),
            tokens_estimated: counters::counter(r, &families::TOKENS_ESTIMATED),
            estimate_error: counters::histogram(r, &families::ESTIMATE_ERROR),
            quota_probes: counters::counter(r, &families::QUOTA_PROBES),
            stream_outcomes: Counters::register(r, &families::STREAM_OUTCOMES),
            streams_kept_alive: counters::counter(r, &families::STREAMS_KEPT_ALIVE),
            replay_skipped: Counters::register(r, &families::REPLAY_SKIPPED),
            upstream_connections: Gauges::register(r, &families::UPSTREAM_CONNECTIONS),
            upstream_connects: Counters::register(r, &families::UPSTREAM_CONNECTS),
            connections: Gauges::register(r, &families::CONNECTIONS),
            connections_refused: Counters::register(r, &families::CONNECTIONS_REFUSED),
            http_refusals: Counters::register(r, &families::HTTP_REFUSALS),
            limits_reached: Counters::register(r, &families::LIMITS_REACHED),
            admin_tokens_refused: counters::counter(r, &families::ADMIN_TOKENS_REFUSED),
            labels_overflowed: Counters::register(r, &families::LABELS_OVERFLOWED),
            trace_spans: Counters::register(r, &families::TRACE_SPANS),
            observe_would: Counters::register(r, &families::OBSERVE_WOULD),
            worker_requests: (0..settings.workers).map(worker).collect(),
            attempts: Endpoint::ALL
                .iter()
                .map(|endpoint| {
                    Counters::resolve(|outcome| attempts.with_label_values(&[endpoint.name(), outcome]))
                })
                .collect(),
            callers: callers::CallerTable::new(r, plan, settings.max_series),
            models: models::ModelTable::new(r, plan.models, settings.models.clone()),
            scope_names: scopes::ScopeTable::new(plan.scopes),
            scopes: counters::gauge(r, &families::SCOPES),
            scopes_evicted: counters::counter(r, &families::SCOPES_EVICTED),
            scopes_merged: counters::counter(r, &families::SCOPES_MERGED),
            queue_bytes: counters::gauge(r, &families::QUEUE_BYTES),
            replay_bytes: counters::gauge(r, &families::REPLAY_BYTES),
            reload_successful: counters::gauge(r, &families::RELOAD_SUCCESSFUL),
            reload_time: seconds(r, &families::RELOAD_TIME, &[]),
            draining: counters::gauge(r, &families::UP_STATE),
            replicas: replicas::ReplicasSeries::new(r),
            #[cfg(any(test, feature = "internals"))]
            plan,
            registry: registry.clone(),
        };
        seconds(r, &families::START_TIME, &[]).set(unix_seconds(settings.started));
        seconds(r, &families::BUILD_INFO, &[("version", settings.version), ("revision", settings.revision)])
            .set(1.0);
        for (id, name) in (0..=u16::MAX).zip(&settings.callers) {
            metrics.name_caller(CallerId(id), name);
        }
        metrics.reloaded(true, settings.started);
        Arc::new(metrics)
    }

    /// The bound that the series keep, and what has names of its own.
    #[cfg(any(test, feature = "internals"))]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Gives a caller that a reload added its own series, where the bound allows.
    ///
    /// An id must mean the same name for as long as the process lives.
    pub fn name_caller(&self, id: CallerId, name: &str) {
        if !self.callers.name(id, name) {
            self.labels_overflowed.inc(Bounded::Caller);
        }
    }

    /// The caller's series; those of `other` where it has none of its own.
    pub fn caller(&self, id: CallerId) -> &CallerSeries {
        self.callers.series(id)
    }

    /// The counters of tokens of a caller and a model; those of the model `other` beyond the bound
    /// on pairs.
    pub fn tokens(&self, id: CallerId, model: Option<&ModelSeries>) -> &Counters<TokenKind> {
        let (tokens, bound) = self.callers.tokens(id, model);
        if bound {
            self.labels_overflowed.inc(Bounded::Model);
        }
        tokens
    }

    /// The series of attempts at an endpoint.
    pub fn attempts(&self, endpoint: Endpoint) -> &Counters<AttemptOutcome> {
        &self.attempts[endpoint.index()]
    }

    /// The model's series: its own after its first success, `other`'s before that and beyond the
    /// bound.
    pub fn model(&self, name: &str, success: bool) -> &ModelSeries {
        let series = if success { self.models.name(name) } else { self.models.find(name) };
        series.unwrap_or_else(|| {
            if success {
                self.labels_overflowed.inc(Bounded::Model);
            }
            self.models.other()
        })
    }

    /// The name that the model's series bear: its own once it had a success, else `other`.
    pub fn model_label<'a>(&'a self, name: &str) -> &'a str {
        self.models.find(name).unwrap_or_else(|| self.models.other()).name()
    }

    /// How long answers take to begin, by model, at `since` after the start of the process.
    pub fn slowness(&self, since: Duration) -> Vec<(String, Slowness)> {
        let told = |model: &ModelSeries| Some((model.name().to_owned(), model.pace.slowness(since)?));
        self.models.each().filter_map(told).collect()
    }

    /// Requests under way, of all callers.
    pub fn requests_in_flight(&self) -> i64 {
        self.callers.each().map(|series| series.in_flight.get()).sum()
    }

    /// Records how reading the configuration again went.
    pub fn reloaded(&self, successful: bool, now: SystemTime) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_time.set(unix_seconds(now));
        }
    }

    /// Records whether Weir drains.
    pub fn draining(&self, draining: bool) {
        self.draining.set(i64::from(draining));
    }

    /// Quantiles of what Weir added, since the start.
    pub fn overhead_quantiles(&self) -> Quantiles {
        Quantiles::of(&self.overhead)
    }

    /// Appends every series in Prometheus's text format.
    pub fn encode(&self, gathered: &Gathered, out: &mut Vec<u8>) {
        self.take(gathered);
        let (scope_families, overflowed) = self.scope_names.collect(&gathered.scopes);
        self.labels_overflowed.add(Bounded::Scope, overflowed);
        let (upstream_families, overflowed) = self.scope_names.upstreams(&gathered.upstreams);
        self.labels_overflowed.add(Bounded::Upstream, overflowed);
        let mut families = self.registry.gather();
        let scope_families = scope_families.into_iter().chain(upstream_families);
        let scope_families = scope_families.chain([scopes::credentials(&gathered.credentials)]);
        let scope_families = scope_families.chain(scopes::issuers(&gathered.issuers));
        families.extend(scope_families.into_iter().filter(|family| !family.get_metric().is_empty()));
        families.sort_by(|one, two| one.name().cmp(two.name()));
        // Writing to memory cannot fail, and every family here has a name and a metric.
        let written = TextEncoder::new().encode(&families, out);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Sets what is only known at a scrape.
    fn take(&self, gathered: &Gathered) {
        for series in self.callers.each() {
            for lane in Lane::ALL {
                series.queue_depth.set(lane, 0);
            }
            series.share.set(1.0);
            series.ceiling_waiting.set(0);
            series.budget.iter().for_each(|budget| budget.set(0.0));
        }
        for (caller, period, used) in &gathered.budgets {
            let gauge = &self.callers.series(*caller).budget[period.place()];
            gauge.set(gauge.get().max(*used));
        }
        for (caller, waiting) in &gathered.ceilings {
            self.callers.series(*caller).ceiling_waiting.add(i64::try_from(*waiting).unwrap_or(i64::MAX));
        }
        let mut shares = gathered.shares.clone();
        shares.sort_by_key(|share| share.0);
        for own in shares.chunk_by(|one, other| one.0 == other.0) {
            let (served, entitled) = own.iter().fold((0.0, 0.0), |sum, own| (sum.0 + own.1, sum.1 + own.2));
            if entitled > 0.0 {
                self.caller(own[0].0).share.set(served / entitled);
            }
        }
        for (caller, lane, depth) in &gathered.queue_depth {
            self.caller(*caller).queue_depth.add(*lane, signed(*depth));
        }
        self.scopes.set(signed(gathered.scopes.len() as u64));
        self.queue_bytes.set(signed(gathered.queue_bytes));
        self.replay_bytes.set(signed(gathered.replay_bytes));
        self.replicas.take(&gathered.replicas);
        raise(&self.scopes_evicted, gathered.scopes_evicted);
        raise(&self.scopes_merged, gathered.scopes_merged);
        for (bound, total) in [
            (Bound::LogQueue, gathered.log_lines_dropped),
            (Bound::VerifiedTokens, gathered.verified_tokens_forgotten),
        ] {
            self.limits_reached.add(bound, total.saturating_sub(self.limits_reached.count(bound)));
        }
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A gauge of seconds, or one that says something in its labels.
fn seconds(registry: &Registry, family: &Family, labels: &[(&str, &str)]) -> Gauge {
    let opts = labels
        .iter()
        .fold(Opts::new(family.name, family.help), |opts, (name, value)| opts.const_label(*name, *value));
    let gauge = Gauge::with_opts(opts).expect("the table of families is well formed");
    registry.register(Box::new(gauge.clone())).expect("each family is registered once");
    gauge
}

#[cfg(test)]
mod tests;

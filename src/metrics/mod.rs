//! The metrics, in Prometheus's format: each family is registered once, and each series is created
//! before it is needed.
//!
//! No other module names the `prometheus` crate. A request finds its handles by index (caller,
//! endpoint, class) or, for its model, by comparing a few names; counting never locks, hashes or
//! allocates. Values that depend on scopes are created at each scrape from a [`Gathered`] snapshot.
//! [`Plan`] bounds the number of series by configuration.

mod callers;
mod counters;
mod exposed;
mod families;
mod gathered;
mod labels;
mod models;
mod pace;
mod plan;
mod process;
mod quantiles;
mod replicas;
mod scopes;
mod settings;

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::{Encoder, IntCounter, Registry, TextEncoder};

pub use callers::{CallerSeries, PairSeries};
pub use counters::{Counters, Gauges, Histograms};
#[cfg(any(test, feature = "internals"))]
pub use families::ALL as FAMILIES;
pub use families::{DURATION_BUCKETS, Family, Handles, Kind, OVERHEAD_BUCKETS, RATIO_BUCKETS};
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
pub use replicas::{ReplicasStatus, ReplicasTrouble};
pub use scopes::{DimensionGauges, ScopeGauges, UpstreamGauges};
pub use settings::Settings;

use crate::caller::{CallerId, Lane};
use crate::openai::Endpoint;
use process::Process;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    handles: Handles,
    /// Requests started by each worker, by its index.
    pub worker_requests: Box<[IntCounter]>,

    attempts: Box<[Counters<AttemptOutcome>]>,
    callers: callers::CallerTable,
    models: models::ModelTable,
    scope_names: scopes::ScopeTable,
    process: Mutex<Process>,
    #[cfg(any(test, feature = "internals"))]
    plan: Plan,
    registry: Registry,
}

impl Metrics {
    /// Registers every family, and creates every series that the settings name.
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
            handles: Handles::register(r),
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
            process: Mutex::new(Process {
                reload_successful: true,
                reloaded: settings.started,
                draining: false,
                started: settings.started,
                version: settings.version,
                revision: settings.revision,
            }),
            #[cfg(any(test, feature = "internals"))]
            plan,
            registry: registry.clone(),
        };
        for (id, name) in (0..=u16::MAX).zip(&settings.callers) {
            metrics.name_caller(CallerId(id), name);
        }
        Arc::new(metrics)
    }

    /// The bounds on series, per label.
    #[cfg(any(test, feature = "internals"))]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Gives a caller that a reload added its own series, if the bound allows.
    ///
    /// An id must stand for the same name until the process ends.
    pub fn name_caller(&self, id: CallerId, name: &str) {
        if !self.callers.name(id, name) {
            self.labels_overflowed.inc(Bounded::Caller);
        }
    }

    /// The caller's series; those of `other` if it has none.
    pub fn caller(&self, id: CallerId) -> &CallerSeries {
        self.callers.series(id)
    }

    /// The token counters of a caller and a model; those of the model `other` beyond the bound on
    /// pairs.
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

    /// The name in the model's series: its own after its first success, else `other`.
    pub fn model_label<'a>(&'a self, name: &str) -> &'a str {
        self.models.find(name).unwrap_or_else(|| self.models.other()).name()
    }

    /// The time until responses begin, by model, at `since` after the start of the process.
    pub fn slowness(&self, since: Duration) -> Vec<Slowness> {
        self.models.each().filter_map(|model| model.pace.slowness(model.name(), since)).collect()
    }

    /// Requests under way, of all callers.
    pub fn requests_in_flight(&self) -> i64 {
        self.callers.each().map(|series| series.in_flight.get()).sum()
    }

    /// Records the result of a reload.
    pub fn reloaded(&self, successful: bool, now: SystemTime) {
        let mut process = self.process();
        process.reload_successful = successful;
        if successful {
            process.reloaded = now;
        }
    }

    /// Records whether Weir drains.
    pub fn draining(&self, draining: bool) {
        self.process().draining = draining;
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quantiles of the time that Weir itself added, since the start.
    pub fn overhead_quantiles(&self) -> Quantiles {
        Quantiles::of(&self.overhead)
    }

    /// Appends all series in Prometheus's text format.
    pub fn encode(&self, gathered: &Gathered, out: &mut Vec<u8>) {
        self.take(gathered);
        let (scope_families, overflowed) = self.scope_names.collect(&gathered.scopes);
        self.labels_overflowed.add(Bounded::Scope, overflowed);
        let (upstream_families, overflowed) = self.scope_names.upstreams(&gathered.upstreams);
        self.labels_overflowed.add(Bounded::Upstream, overflowed);
        let mut families = self.registry.gather();
        families.extend(scope_families.into_iter().chain(upstream_families));
        families.extend(exposed::of_credentials(&gathered.credentials));
        families.extend(exposed::of_issuers(&gathered.issuers));
        families.extend(exposed::of_totals(gathered));
        families.extend(exposed::of_replicas(&gathered.replicas));
        families.extend(self.process().exposed());
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|one, two| one.name().cmp(two.name()));
        // Writing to memory can't fail, and every family here has a name and a metric.
        let written = TextEncoder::new().encode(&families, out);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Sets the gauges whose values are known only at a scrape.
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
        for (bound, total) in [
            (Bound::LogQueue, gathered.log_lines_dropped),
            (Bound::VerifiedTokens, gathered.verified_tokens_forgotten),
        ] {
            self.limits_reached.add(bound, total.saturating_sub(self.limits_reached.count(bound)));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

#[cfg(test)]
mod tests;

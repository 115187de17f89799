//! Accounts for each request exactly once: in the metrics, the access log, the status page's
//! history and the reports.

mod access_log;
mod attempts;
mod error_detail;
mod history;
mod last_minute;
mod recent;
mod record;
mod repeated;
mod report;
mod reports;
mod request_id;
mod spans;
mod timestamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use attempts::{Attempt, Attempts};
pub use error_detail::ErrorDetail;
pub use history::{ClassHistory, History, MINUTES};
pub use recent::{CallerRecent, RECENT_MINUTES, Recent, RecentErrors};
pub use record::{Begin, Record, Usage, Wait};
pub use repeated::RepeatedRefusal;
pub use report::{AttemptReport, Report};
pub use reports::Reports;
pub use request_id::RequestId;
pub use timestamp::Rfc3339;

use http::HeaderMap;

use last_minute::LastMinute;
use repeated::Repeated;

use crate::caller::{CallerId, Registry};
use crate::classify::ErrorClass;
use crate::clock::Instant;
use crate::metrics::{Metrics, Slowness};
use crate::pool::{Names, UpstreamId};
use crate::spending::Spending;
use crate::telemetry::otlp::Spans;
use crate::telemetry::{RequestTrace, TraceContext};

/// The accounting settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Fraction of successful requests in the access log, 0 to 1; failed ones are always logged.
    pub log_sample: f64,
    /// Whether the access log is text instead of JSON.
    pub log_text: bool,
    /// Most reports that are stored.
    pub reports: usize,
    /// Shortest wait that counts in the accuracy of predictions.
    pub prediction_floor: Duration,
    /// The span export, if enabled.
    pub spans: Option<Spans>,
    /// The callers' use of their budgets.
    pub spending: Arc<Spending>,
    /// The names of upstreams.
    pub upstreams: Arc<Names>,
    /// Host and port of the upstream, as used in spans.
    pub upstream: (Arc<str>, u16),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_sample: 1.0,
            log_text: false,
            reports: 256,
            prediction_floor: Duration::from_millis(100),
            spans: None,
            spending: Arc::default(),
            upstreams: Arc::default(),
            upstream: ("".into(), 0),
        }
    }
}

/// The destination of all records.
#[derive(Debug)]
pub struct Account {
    settings: Settings,
    metrics: Arc<Metrics>,
    history: History,
    recent: Recent,
    last_minute: LastMinute,
    /// Requests for unknown endpoints.
    unknown: LastMinute,
    reports: Reports,
    repeated: Repeated,
    names: Arc<Registry>,
    started: Instant,
    /// Whether the process is ending and aborts the requests in progress.
    cutting: AtomicBool,
}

impl Account {
    /// An empty account. `names` has the callers' names; the history's first minute begins at
    /// `now`.
    pub fn new(settings: Settings, metrics: Arc<Metrics>, names: Arc<Registry>, now: Instant) -> Arc<Self> {
        let reports = Reports::new(settings.reports);
        Arc::new(Self {
            settings,
            metrics,
            history: History::new(now),
            recent: Recent::new(now),
            started: now,
            last_minute: LastMinute::new(now),
            unknown: LastMinute::new(now),
            reports,
            repeated: Repeated::default(),
            names,
            cutting: AtomicBool::new(false),
        })
    }

    /// From now on aborted requests are attributed to Weir, not to clients that left.
    pub fn cut(&self) {
        self.cutting.store(true, Ordering::Release);
    }

    /// The callers' use of their budgets.
    pub fn spending(&self) -> &Arc<Spending> {
        &self.settings.spending
    }

    /// Creates a request's record. It must end with [`Record::finish`]; dropping it means that the
    /// client left.
    pub fn begin(self: &Arc<Self>, begin: &Begin, now: Instant) -> Box<Record> {
        Record::new(Arc::clone(self), begin, now)
    }

    /// The trace context of a request with these headers. `is_traced`: the headers may contain one.
    pub fn trace(
        &self,
        headers: &HeaderMap,
        is_traced: bool,
        rng: &mut fastrand::Rng,
    ) -> Option<RequestTrace> {
        match &self.settings.spans {
            Some(spans) => spans.trace(headers, rng),
            None if is_traced => TraceContext::of(headers).map(RequestTrace::passing),
            None => None,
        }
    }

    /// Counts an error that the upstream reported for a whole connection, not for a request.
    pub fn connection_error(&self, class: ErrorClass, now: Instant) {
        self.metrics.attempt_errors.inc(class);
        self.metrics.errors.inc(class);
        self.history.attempt(class, now);
        self.history.request(class, now);
    }

    /// Requests that ended in the last minute.
    pub fn requests_last_minute(&self, now: Instant) -> u64 {
        self.last_minute.total(now)
    }

    /// Requests of the last minute, if it is complete and none was for a known endpoint.
    pub fn unknown_last_minute(&self, now: Instant) -> Option<u64> {
        let (all, unknown) = (self.last_minute.total(now), self.unknown.total(now));
        let is_over = now.saturating_duration_since(self.started) >= Duration::from_mins(1);
        (is_over && all > 0 && all == unknown).then_some(all)
    }

    /// The name of an upstream, if there are several.
    pub fn upstream_name(&self, id: UpstreamId) -> Option<Arc<str>> {
        self.settings.upstreams.name(id).filter(|name| **name != *Names::THE_ONE)
    }

    /// The metrics that records are counted in.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Errors of the last hour, minute by minute.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The last five minutes by caller.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The times until responses begin, by model, for models with enough data.
    pub fn slowness(&self, now: Instant) -> Vec<Slowness> {
        self.metrics.slowness(now.saturating_duration_since(self.started))
    }

    /// The last failures that reached callers.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Records that a request met its `refusals`-th rate limit, and was requeued.
    pub fn rate_limited(&self, record: &Record, refusals: u32, at: SystemTime) {
        if refusals > 1 {
            self.metrics.rate_limited_again.inc();
        }
        self.repeated.note(record, refusals, at);
    }

    /// The last request that met several rate limits.
    pub fn repeated_refusal(&self) -> Option<RepeatedRefusal> {
        self.repeated.last()
    }

    /// The caller's name.
    pub fn caller_name(&self, id: CallerId) -> Arc<str> {
        self.names.name(id)
    }
}

#[cfg(test)]
mod tests;

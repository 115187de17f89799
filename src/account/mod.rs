//! What happened to each request, told once: to the metrics, the access log, the history of the page and the reports.

mod access_log;
mod attempts;
mod error_detail;
mod history;
mod record;
mod report;
mod reports;
mod request_id;
mod timestamp;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use attempts::{Attempt, Attempts};
pub use error_detail::ErrorDetail;
pub use history::{ClassHistory, History, MINUTES};
pub use record::{Begin, Record, Usage, Wait};
pub use report::{AttemptReport, Report};
pub use reports::Reports;
pub use request_id::RequestId;
pub use timestamp::Rfc3339;

use crate::caller::CallerId;
use crate::clock::Instant;
use crate::metrics::Metrics;

/// How requests are accounted for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Share of successful requests that the access log tells of, 0 to 1; failed ones are always told of.
    pub log_sample: f64,
    /// Write the access log for people instead of as JSON.
    pub log_text: bool,
    /// Reports kept.
    pub reports: usize,
    /// Waits shorter than this are too short to judge a prediction by.
    pub prediction_floor: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { log_sample: 1.0, log_text: false, reports: 256, prediction_floor: Duration::from_millis(100) }
    }
}

/// Where all records end.
#[derive(Debug)]
pub struct Account {
    settings: Settings,
    metrics: Arc<Metrics>,
    history: History,
    reports: Reports,
    names: RwLock<Vec<Arc<str>>>,
}

impl Account {
    /// An empty account. `callers` are the names by id; `now` begins the first minute of the history.
    pub fn new(settings: Settings, metrics: Arc<Metrics>, callers: Vec<Arc<str>>, now: Instant) -> Arc<Self> {
        let reports = Reports::new(settings.reports);
        Arc::new(Self { settings, metrics, history: History::new(now), reports, names: RwLock::new(callers) })
    }

    /// Begins a request's record. It must end with [`Record::finish`]; dropping it means that the client left.
    pub fn begin(self: &Arc<Self>, begin: &Begin, now: Instant) -> Record {
        Record::new(Arc::clone(self), begin, now)
    }

    /// The metrics that records count in.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Errors of the last hour, minute by minute.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The last failures that reached a caller.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Takes the callers' names after a reload, by id.
    pub fn name_callers(&self, callers: Vec<Arc<str>>) {
        for (id, name) in (0..=u16::MAX).zip(&callers) {
            self.metrics.name_caller(CallerId(id), name);
        }
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = callers;
    }

    /// The caller's name.
    pub fn caller_name(&self, id: CallerId) -> Arc<str> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(usize::from(id.0)).cloned().unwrap_or_else(|| Arc::from("other"))
    }
}

#[cfg(test)]
mod tests;

//! The series of each caller, found by its id without a lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::counters::{Counters, Gauges, counter_vec, float_gauge_vec, gauge_vec, histogram_vec};
use super::families;
use super::labels::{BudgetPeriod, Label, Outcome, TokenKind};
use super::models::ModelSeries;
use super::plan::{ENDPOINTS_BY_USE, Plan};
use crate::caller::{CallerId, Lane};
use crate::openai::Endpoint;

/// The label value of everything beyond a bound.
pub(super) const OTHER: &str = "other";

/// The series of one caller.
#[derive(Debug)]
pub struct CallerSeries {
    /// Requests that have started and not ended.
    pub in_flight: IntGauge,
    /// Requests waiting, by lane.
    pub queue_depth: Gauges<Lane>,
    /// The amount served as a fraction of the amount entitled to, while it waits.
    pub share: Gauge,
    /// Time in the queue, seconds.
    pub queue_wait: Histogram,
    /// Requests that wait for its own ceiling.
    pub(super) ceiling_waiting: IntGauge,
    /// The used fraction of its budgets, by period.
    pub(super) budget: Box<[Gauge]>,
    name: Box<str>,
    /// Tokens of models without their own series.
    tokens: Counters<TokenKind>,
    /// Tokens by the model's index.
    by_model: Box<[OnceLock<Counters<TokenKind>>]>,
    /// Requests that the caller's SDK marked as retries.
    pub sdk_retries: IntCounter,
    /// The index in `pairs` of each endpoint.
    places: [u8; Endpoint::ALL.len()],
    pairs: Box<[PairSeries]>,
}

/// The series of one caller and one endpoint.
#[derive(Debug)]
pub struct PairSeries {
    /// Requests that ended, by outcome.
    pub requests: Counters<Outcome>,
    /// Durations, seconds.
    pub duration: Histogram,
}

impl CallerSeries {
    /// The series of an endpoint; those of `other` if the plan has none for it.
    pub fn at(&self, endpoint: Endpoint) -> &PairSeries {
        &self.pairs[usize::from(self.places[endpoint.index()])]
    }

    /// Whether the endpoint has no series and counts as `other`.
    pub fn overflows(&self, endpoint: Endpoint) -> bool {
        endpoint != Endpoint::Other && self.places[endpoint.index()] == 0
    }
}

/// The series of all callers: named ones by [`CallerId`], and `other`.
#[derive(Debug)]
pub(super) struct CallerTable {
    vecs: Vecs,
    slots: Box<[OnceLock<CallerSeries>]>,
    other: CallerSeries,
    plan: Plan,
    /// Pairs of caller and model that may still get series.
    pairs: AtomicUsize,
    /// Series left for callers that a reload adds.
    spare: Mutex<usize>,
}

impl CallerTable {
    pub(super) fn new(registry: &Registry, plan: Plan, max_series: usize) -> Self {
        let vecs = Vecs::register(registry);
        let other = vecs.resolve(OTHER, 1, plan.models);
        let spare = max_series.saturating_sub(plan.worst) + plan.callers * plan.caller_cost();
        let slots = (0..spare / plan.caller_cost()).map(|_| OnceLock::new()).collect();
        Self { vecs, slots, other, plan, pairs: AtomicUsize::new(plan.pairs), spare: Mutex::new(spare) }
    }

    /// Gives the caller its own series, if the bound allows; returns whether it has some.
    pub(super) fn name(&self, id: CallerId, name: &str) -> bool {
        let Some(slot) = self.slots.get(usize::from(id.0)) else { return false };
        if slot.get().is_some() {
            return true;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = spare.checked_sub(self.plan.caller_cost()) else { return false };
        *spare = left;
        slot.get_or_init(|| self.vecs.resolve(name, self.plan.endpoints, self.plan.models));
        true
    }

    pub(super) fn series(&self, id: CallerId) -> &CallerSeries {
        self.slots.get(usize::from(id.0)).and_then(OnceLock::get).unwrap_or(&self.other)
    }

    /// The token counters of a caller and a model, and whether the bound on pairs was reached.
    pub(super) fn tokens(&self, id: CallerId, model: Option<&ModelSeries>) -> (&Counters<TokenKind>, bool) {
        let series = self.series(id);
        let Some((model, cell)) = model.and_then(|model| Some((model, series.by_model.get(model.place?)?)))
        else {
            return (&series.tokens, false);
        };
        if let Some(known) = cell.get() {
            return (known, false);
        }
        let one_less = |left: usize| left.checked_sub(1);
        if self.pairs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return (&series.tokens, true);
        }
        (cell.get_or_init(|| self.vecs.tokens(&series.name, model.name())), false)
    }

    /// The series of all callers.
    pub(super) fn each(&self) -> impl Iterator<Item = &CallerSeries> {
        self.slots.iter().filter_map(OnceLock::get).chain(std::iter::once(&self.other))
    }
}

#[derive(Debug)]
struct Vecs {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    share: GaugeVec,
    budget: GaugeVec,
    ceiling_waiting: IntGaugeVec,
    queue_wait: HistogramVec,
    tokens: IntCounterVec,
    sdk_retries: IntCounterVec,
}

impl Vecs {
    fn register(registry: &Registry) -> Self {
        Self {
            requests: counter_vec(registry, &families::REQUESTS),
            duration: histogram_vec(registry, &families::REQUEST_DURATION),
            in_flight: gauge_vec(registry, &families::IN_FLIGHT),
            queue_depth: gauge_vec(registry, &families::QUEUE_DEPTH),
            share: float_gauge_vec(registry, &families::CALLER_SHARE),
            budget: float_gauge_vec(registry, &families::CALLER_BUDGET),
            ceiling_waiting: gauge_vec(registry, &families::CEILING_WAITING),
            queue_wait: histogram_vec(registry, &families::QUEUE_WAIT),
            tokens: counter_vec(registry, &families::TOKENS),
            sdk_retries: counter_vec(registry, &families::SDK_RETRIES),
        }
    }

    fn tokens(&self, caller: &str, model: &str) -> Counters<TokenKind> {
        Counters::resolve(|kind| self.tokens.with_label_values(&[caller, model, kind]))
    }

    /// Creates a caller's series, all at 0, for the first `endpoints` of [`ENDPOINTS_BY_USE`].
    fn resolve(&self, caller: &str, endpoints: usize, models: usize) -> CallerSeries {
        let mut places = [0; Endpoint::ALL.len()];
        let named = &ENDPOINTS_BY_USE[..endpoints];
        for (place, endpoint) in (0u8..).zip(named) {
            places[endpoint.index()] = place;
        }
        let pair = |endpoint: &Endpoint| PairSeries {
            requests: Counters::resolve(|outcome| {
                self.requests.with_label_values(&[caller, endpoint.name(), outcome])
            }),
            duration: self.duration.with_label_values(&[caller, endpoint.name()]),
        };
        CallerSeries {
            in_flight: self.in_flight.with_label_values(&[caller]),
            queue_depth: Gauges::resolve(|lane| self.queue_depth.with_label_values(&[caller, lane])),
            share: self.share.with_label_values(&[caller]),
            queue_wait: self.queue_wait.with_label_values(&[caller]),
            ceiling_waiting: self.ceiling_waiting.with_label_values(&[caller]),
            budget: BudgetPeriod::ALL
                .iter()
                .map(|period| self.budget.with_label_values(&[caller, period.name()]))
                .collect(),
            name: caller.into(),
            tokens: self.tokens(caller, OTHER),
            by_model: (0..models).map(|_| OnceLock::new()).collect(),
            sdk_retries: self.sdk_retries.with_label_values(&[caller]),
            places,
            pairs: named.iter().map(pair).collect(),
        }
    }
}

//! Handles resolved once: a labeled family as an array, indexed by a closed enum.

use std::marker::PhantomData;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::families::Family;
use super::labels::Label;

/// What a family without an open label is counted through.
pub(super) trait Handle {
    /// Combinations of label values.
    const COMBINATIONS: usize;

    /// Registers the family, with every series at 0.
    fn register(registry: &Registry, family: &Family) -> Self;
}

/// One counter for each value of `L`; adding costs an index and an atomic add.
#[derive(Debug)]
pub struct Counters<L> {
    counters: Box<[IntCounter]>,
    label: PhantomData<L>,
}

impl<L: Label> Handle for Counters<L> {
    const COMBINATIONS: usize = L::ALL.len();

    fn register(registry: &Registry, family: &Family) -> Self {
        let vec = counter_vec(registry, family);
        Self::resolve(|value| vec.with_label_values(&[value]))
    }
}

impl<L: Label> Counters<L> {
    pub(super) fn resolve(counter: impl Fn(&'static str) -> IntCounter) -> Self {
        let counters = L::ALL.iter().map(|value| counter(value.name())).collect();
        Self { counters, label: PhantomData }
    }

    /// Adds one.
    pub fn inc(&self, value: L) {
        self.counters[value.place()].inc();
    }

    /// Adds `amount`.
    pub fn add(&self, value: L, amount: u64) {
        self.counters[value.place()].inc_by(amount);
    }

    /// The count so far.
    pub fn count(&self, value: L) -> u64 {
        self.counters[value.place()].get()
    }
}

/// One gauge for each value of `L`.
#[derive(Debug)]
pub struct Gauges<L> {
    gauges: Box<[IntGauge]>,
    label: PhantomData<L>,
}

impl<L: Label> Handle for Gauges<L> {
    const COMBINATIONS: usize = L::ALL.len();

    fn register(registry: &Registry, family: &Family) -> Self {
        let vec = gauge_vec(registry, family);
        Self::resolve(|value| vec.with_label_values(&[value]))
    }
}

impl<L: Label> Gauges<L> {
    pub(super) fn resolve(gauge: impl Fn(&'static str) -> IntGauge) -> Self {
        let gauges = L::ALL.iter().map(|value| gauge(value.name())).collect();
        Self { gauges, label: PhantomData }
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, value: L, amount: i64) {
        self.gauges[value.place()].add(amount);
    }

    /// Sets the gauge.
    pub fn set(&self, value: L, level: i64) {
        self.gauges[value.place()].set(level);
    }

    /// The level now.
    #[cfg(test)]
    pub fn level(&self, value: L) -> i64 {
        self.gauges[value.place()].get()
    }
}

/// One histogram for each value of `L`.
#[derive(Debug)]
pub struct Histograms<L> {
    histograms: Box<[Histogram]>,
    label: PhantomData<L>,
}

impl<L: Label> Handle for Histograms<L> {
    const COMBINATIONS: usize = L::ALL.len();

    fn register(registry: &Registry, family: &Family) -> Self {
        let vec = histogram_vec(registry, family);
        let histograms = L::ALL.iter().map(|value| vec.with_label_values(&[value.name()])).collect();
        Self { histograms, label: PhantomData }
    }
}

impl<L: Label> Histograms<L> {
    /// Counts one observation, in the family's base unit.
    pub fn observe(&self, value: L, observation: f64) {
        self.histograms[value.place()].observe(observation);
    }
}

impl Handle for IntCounter {
    const COMBINATIONS: usize = 1;

    fn register(registry: &Registry, family: &Family) -> Self {
        register(registry, Self::with_opts(family.opts()).expect(WELL_FORMED))
    }
}

impl Handle for Histogram {
    const COMBINATIONS: usize = 1;

    fn register(registry: &Registry, family: &Family) -> Self {
        register(registry, Self::with_opts(family.histogram_opts()).expect(WELL_FORMED))
    }
}

pub(super) fn counter_vec(registry: &Registry, family: &Family) -> IntCounterVec {
    register(registry, IntCounterVec::new(family.opts(), family.labels).expect(WELL_FORMED))
}

pub(super) fn gauge_vec(registry: &Registry, family: &Family) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(family.opts(), family.labels).expect(WELL_FORMED))
}

pub(super) fn float_gauge_vec(registry: &Registry, family: &Family) -> GaugeVec {
    register(registry, GaugeVec::new(family.opts(), family.labels).expect(WELL_FORMED))
}

pub(super) fn histogram_vec(registry: &Registry, family: &Family) -> HistogramVec {
    register(registry, HistogramVec::new(family.histogram_opts(), family.labels).expect(WELL_FORMED))
}

/// Names, labels and buckets come from the table of families, none from outside; a test builds them
/// all.
const WELL_FORMED: &str = "the table of families is well formed";

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each family is registered once");
    collector
}

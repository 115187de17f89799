//! Handles resolved once: a labeled family as an array, indexed by a closed enum.

use std::marker::PhantomData;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::families::Family;
use super::labels::Label;

/// The handle of a family without an open label.
pub(super) trait Handle {
    /// The number of combinations of label values.
    const COMBINATIONS: usize;

    /// Registers the family, with every series at 0.
    fn register(registry: &Registry, family: &Family) -> Self;
}

/// One handle for each value of `L`; using one costs an index and an atomic operation.
#[derive(Debug)]
pub struct PerValue<L, H> {
    handles: Box<[H]>,
    label: PhantomData<L>,
}

/// One counter for each value of `L`.
pub type Counters<L> = PerValue<L, IntCounter>;
/// One gauge for each value of `L`.
pub type Gauges<L> = PerValue<L, IntGauge>;
/// One histogram for each value of `L`.
pub type Histograms<L> = PerValue<L, Histogram>;

impl<L: Label, H> PerValue<L, H> {
    pub(super) fn resolve(handle: impl Fn(&'static str) -> H) -> Self {
        let handles = L::ALL.iter().map(|value| handle(value.name())).collect();
        Self { handles, label: PhantomData }
    }

    fn of(&self, value: L) -> &H {
        &self.handles[value.place()]
    }
}

impl<L: Label> Counters<L> {
    /// Adds one.
    pub fn inc(&self, value: L) {
        self.of(value).inc();
    }

    /// Adds `amount`.
    pub fn add(&self, value: L, amount: u64) {
        self.of(value).inc_by(amount);
    }

    /// The count so far.
    pub fn count(&self, value: L) -> u64 {
        self.of(value).get()
    }
}

impl<L: Label> Gauges<L> {
    /// Adds `amount`, which may be negative.
    pub fn add(&self, value: L, amount: i64) {
        self.of(value).add(amount);
    }

    /// Sets the gauge.
    pub fn set(&self, value: L, level: i64) {
        self.of(value).set(level);
    }

    /// The present value.
    #[cfg(test)]
    pub fn level(&self, value: L) -> i64 {
        self.of(value).get()
    }
}

impl<L: Label> Histograms<L> {
    /// Counts one observation, in the family's base unit.
    pub fn observe(&self, value: L, observation: f64) {
        self.of(value).observe(observation);
    }
}

macro_rules! handles {
    ($($handles:ident: $vec:ident),*) => { $(
        impl<L: Label> Handle for $handles<L> {
            const COMBINATIONS: usize = L::ALL.len();

            fn register(registry: &Registry, family: &Family) -> Self {
                let vec = $vec(registry, family);
                Self::resolve(|value| vec.with_label_values(&[value]))
            }
        }
    )* };
}
handles!(Counters: counter_vec, Gauges: gauge_vec, Histograms: histogram_vec);

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

/// Names, labels and buckets come from the table of families, never from outside; a test builds
/// them all.
const WELL_FORMED: &str = "the table of families is well formed";

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each family is registered once");
    collector
}

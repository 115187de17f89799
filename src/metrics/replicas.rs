//! The series of the exchange with the other replicas, set at each scrape.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use super::{counters, families, raise, seconds, signed};

/// How the exchange with the other replicas stands at a scrape; all 0 where none is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicasGauges {
    /// Replicas, this one included.
    pub replicas: u64,
    /// Whether the last exchange went well.
    pub redis_up: bool,
    /// Exchanges that failed since the start.
    pub failures: u64,
    /// Seconds since the last good exchange.
    pub age_seconds: f64,
    /// Seconds that it took.
    pub duration_seconds: f64,
}

#[derive(Debug)]
pub(super) struct ReplicasSeries {
    replicas: IntGauge,
    redis_up: IntGauge,
    failures: IntCounter,
    age: Gauge,
    duration: Gauge,
}

impl ReplicasSeries {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            replicas: counters::gauge(registry, &families::REPLICAS),
            redis_up: counters::gauge(registry, &families::REPLICAS_REDIS_UP),
            failures: counters::counter(registry, &families::REPLICAS_EXCHANGE_FAILURES),
            age: seconds(registry, &families::REPLICAS_EXCHANGE_AGE, &[]),
            duration: seconds(registry, &families::REPLICAS_EXCHANGE_DURATION, &[]),
        }
    }

    pub(super) fn take(&self, of: &ReplicasGauges) {
        self.replicas.set(signed(of.replicas));
        self.redis_up.set(i64::from(of.redis_up));
        raise(&self.failures, of.failures);
        self.age.set(of.age_seconds);
        self.duration.set(of.duration_seconds);
    }
}

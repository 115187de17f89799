//! The series of the exchange with the other replicas, set at each scrape.

use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Registry};

use super::{counters, families, raise, seconds, signed};

/// Every reason of a failed exchange, as label values.
pub const REPLICAS_TROUBLES: [&str; 10] = [
    "unreachable",
    "timeout",
    "tls",
    "authentication",
    "permission",
    "read_only",
    "full",
    "busy",
    "no_primary",
    "unexpected",
];

/// How the exchange with the other replicas stands at a scrape; all 0 where none is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicasGauges {
    /// Replicas, this one included.
    pub replicas: u64,
    /// Whether the last exchange went well.
    pub redis_up: bool,
    /// Whether the parts are agreed on.
    pub agreed: bool,
    /// Why the last exchange failed: one of [`REPLICAS_TROUBLES`].
    pub trouble: Option<&'static str>,
    /// Exchanges that went well since the start.
    pub exchanges: u64,
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
    agreed: IntGauge,
    trouble: IntGaugeVec,
    exchanges: IntCounter,
    failures: IntCounter,
    age: Gauge,
    duration: Gauge,
}

impl ReplicasSeries {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            replicas: counters::gauge(registry, &families::REPLICAS),
            redis_up: counters::gauge(registry, &families::REPLICAS_REDIS_UP),
            agreed: counters::gauge(registry, &families::REPLICAS_AGREED),
            trouble: counters::gauge_vec(registry, &families::REPLICAS_TROUBLE),
            exchanges: counters::counter(registry, &families::REPLICAS_EXCHANGES),
            failures: counters::counter(registry, &families::REPLICAS_EXCHANGE_FAILURES),
            age: seconds(registry, &families::REPLICAS_EXCHANGE_AGE, &[]),
            duration: seconds(registry, &families::REPLICAS_EXCHANGE_DURATION, &[]),
        }
    }

    pub(super) fn take(&self, of: &ReplicasGauges) {
        self.replicas.set(signed(of.replicas));
        self.redis_up.set(i64::from(of.redis_up));
        self.agreed.set(i64::from(of.agreed));
        for cause in REPLICAS_TROUBLES {
            self.trouble.with_label_values(&[cause]).set(i64::from(of.trouble == Some(cause)));
        }
        raise(&self.exchanges, of.exchanges);
        raise(&self.failures, of.failures);
        self.age.set(of.age_seconds);
        self.duration.set(of.duration_seconds);
    }
}

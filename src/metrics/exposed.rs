//! Families that are created at each scrape, from values known only then.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{self, Family, Kind};
use super::gathered::Gathered;
use super::replicas::{ReplicasStatus, ReplicasTrouble};

/// The families of short-lived credentials.
pub(super) fn of_credentials(credentials: &[(String, f64)]) -> [MetricFamily; 1] {
    [family(&families::CREDENTIAL_EXPIRES, credentials.iter().map(|(name, left)| (vec![&**name], *left)))]
}

/// The families of issuers' keys.
pub(super) fn of_issuers(issuers: &[(String, Option<f64>, u64)]) -> [MetricFamily; 2] {
    let ages = issuers.iter().filter_map(|(name, age, _)| Some((vec![&**name], (*age)?)));
    let failures = issuers.iter().map(|(name, _, count)| (vec![&**name], *count as f64));
    [family(&families::ISSUER_KEYS_AGE, ages), family(&families::ISSUER_FAILURES, failures)]
}

/// The families of totals over all scopes and bodies.
pub(super) fn of_totals(of: &Gathered) -> [MetricFamily; 5] {
    [
        single(&families::SCOPES, of.scopes.len() as f64),
        single(&families::SCOPES_EVICTED, of.scopes_evicted as f64),
        single(&families::SCOPES_MERGED, of.scopes_merged as f64),
        single(&families::QUEUE_BYTES, of.queue_bytes as f64),
        single(&families::REPLAY_BYTES, of.replay_bytes as f64),
    ]
}

/// The families of the exchange with the other replicas.
pub(super) fn of_replicas(of: &ReplicasStatus) -> [MetricFamily; 8] {
    let mut troubles =
        ReplicasTrouble::ALL.map(|cause| (vec![cause.as_str()], flag(of.trouble == Some(cause))));
    troubles.sort_by_key(|(cause, _)| cause[0]);
    [
        single(&families::REPLICAS, of.replicas as f64),
        single(&families::REPLICAS_REDIS_UP, flag(of.up)),
        single(&families::REPLICAS_AGREED, flag(of.agreed)),
        family(&families::REPLICAS_TROUBLE, troubles),
        single(&families::REPLICAS_EXCHANGES, of.exchanges as f64),
        single(&families::REPLICAS_EXCHANGE_FAILURES, of.failures as f64),
        single(&families::REPLICAS_EXCHANGE_AGE, of.age.unwrap_or_default().as_secs_f64()),
        single(&families::REPLICAS_EXCHANGE_DURATION, of.took.as_secs_f64()),
    ]
}

/// 1 for `true`, 0 for `false`.
pub(super) fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A family without labels.
pub(super) fn single(of: &Family, value: f64) -> MetricFamily {
    family(of, [(Vec::new(), value)])
}

/// A family from the label values and the value of each of its series.
pub(super) fn family<'a>(of: &Family, series: impl IntoIterator<Item = (Vec<&'a str>, f64)>) -> MetricFamily {
    let mut exposed = MetricFamily::default();
    exposed.set_name(of.name.to_owned());
    exposed.set_help(of.help.to_owned());
    exposed.set_field_type(match of.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge | Kind::Histogram(_) => MetricType::GAUGE,
    });
    exposed.set_metric(series.into_iter().map(|(labels, value)| metric(of, &labels, value)).collect());
    exposed
}

fn metric(family: &Family, values: &[&str], value: f64) -> Metric {
    let mut labels: Vec<LabelPair> =
        family.labels.iter().zip(values).map(|(name, value)| pair(name, value)).collect();
    labels.sort_by(|one, two| one.name().cmp(two.name()));
    let mut metric = Metric::from_label(labels);
    match family.kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge | Kind::Histogram(_) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

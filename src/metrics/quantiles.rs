//! Quantiles computed from a histogram, for the status page.

use prometheus::Histogram;
use prometheus::core::Metric;
use serde::{Deserialize, Serialize};

/// Quantiles of a histogram of seconds since the start, by linear interpolation within a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// The number of observations.
    pub count: u64,
    /// The median.
    pub p50_seconds: f64,
    /// The 99th percentile.
    pub p99_seconds: f64,
}

impl Quantiles {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let buckets: Vec<(f64, u64)> = metric
            .get_histogram()
            .get_bucket()
            .iter()
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
            .collect();
        let count = metric.get_histogram().get_sample_count();
        let at = |q| quantile(&buckets, count, q);
        Self { count, p50_seconds: at(0.5), p99_seconds: at(0.99) }
    }
}

/// A value beyond the last bucket counts as that bucket's bound, as in Prometheus's
/// `histogram_quantile`.
fn quantile(buckets: &[(f64, u64)], count: u64, q: f64) -> f64 {
    let rank = q * count as f64;
    let mut below = (0.0, 0);
    for &(bound, cumulative) in buckets {
        if cumulative > below.1 && cumulative as f64 >= rank {
            let part = (rank - below.1 as f64) / (cumulative - below.1) as f64;
            return below.0 + (bound - below.0) * part;
        }
        below = (bound, cumulative);
    }
    if count == 0 { 0.0 } else { below.0 }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn interpolates_within_the_bucket() {
        let buckets = [(1.0, 50), (2.0, 100), (4.0, 100)];
        for (q, expected) in [(0.5, 1.0), (0.25, 0.5), (0.75, 1.5), (1.0, 2.0)] {
            assert!((quantile(&buckets, 100, q) - expected).abs() < 1e-9, "{q}");
        }
        assert!((quantile(&buckets, 1_000, 0.99) - 4.0).abs() < 1e-9, "beyond the last bucket");
        assert!(quantile(&buckets[..0], 0, 0.5).abs() < 1e-9);
    }
}

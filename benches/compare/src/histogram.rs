//! Latencies in buckets of constant relative width (under 1 %).

const SUB_BITS: u32 = 7;
const SUB: usize = 1 << SUB_BITS;

pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; SUB * 58], count: 0 }
    }

    pub(crate) fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
    }

    /// The middle of the bucket that contains the quantile; `None` without values.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let target = quantile * self.count as f64;
        let mut seen = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if count > 0 && seen as f64 >= target {
                return Some(middle(index));
            }
        }
        None
    }
}

fn bucket(value: u64) -> usize {
    let exponent = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    // Below 256 a value is its own bucket; above, the leading 8 bits name it.
    exponent as usize * SUB + usize::try_from(value >> exponent).unwrap_or(usize::MAX)
}

fn middle(index: usize) -> f64 {
    if index < 2 * SUB {
        return index as f64;
    }
    let exponent = i32::try_from(index / SUB - 1).unwrap_or(0);
    ((index % SUB + SUB) as f64 + 0.5) * 2f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_within_one_percent() {
        for value in [0, 1, 127, 128, 255, 256, 257, 1_000, 66_666, 123_456_789, 60_000_000_000, u64::MAX] {
            let back = middle(bucket(value));
            assert!((back - value as f64).abs() <= value as f64 * 0.01, "{value} came back as {back}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=100_000 {
            histogram.record(value);
        }
        let (p50, p99) = (histogram.quantile(0.5).unwrap_or(0.0), histogram.quantile(0.99).unwrap_or(0.0));
        assert!((p50 - 50_000.0).abs() < 500.0, "{p50}");
        assert!((p99 - 99_000.0).abs() < 990.0, "{p99}");
    }
}

//! The distributions of simulated latency.

use std::f64::consts::TAU;
use std::time::Duration;

use super::notation::{Problem, duration};

/// A distribution of latencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// A constant.
    Fixed(Duration),
    /// The uniform distribution from the first to the second.
    Uniform(Duration, Duration),
    /// The log-normal distribution, which real response times resemble.
    LogNormal {
        /// The 50th percentile.
        median: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
}

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

/// The 99th percentile of the standard normal distribution.
const P99_DEVIATIONS: f64 = 2.326;

impl Latency {
    /// Parses `50ms`, `50ms..2s` (uniform) or `300ms~2s` (log-normal: median and 99th percentile).
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (duration(from)?, duration(to)?);
            if from > to {
                return Err(Problem::new(format!("`{text}` ends before it begins")));
            }
            return Ok(Self::Uniform(from, to));
        }
        if let Some((median, p99)) = text.split_once('~') {
            let (median, p99) = (duration(median)?, duration(p99)?);
            if median.is_zero() || p99 < median {
                return Err(Problem::new(format!("`{text}`: write the median, then the 99th percentile")));
            }
            return Ok(Self::LogNormal { median, p99 });
        }
        Ok(Self::Fixed(duration(text)?))
    }

    /// Draws a sample.
    pub fn sample(self, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Uniform(from, to) => from + to.saturating_sub(from).mul_f64(rng.f64()),
            Self::LogNormal { median, p99 } => {
                let sigma = (p99.as_secs_f64() / median.as_secs_f64()).ln() / P99_DEVIATIONS;
                // Box–Muller transform. `1.0 - rng.f64()` is never 0, so the logarithm is finite.
                let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
                median.mul_f64((sigma * normal).exp().min(1_000.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_where_the_notation_says() {
        let mut rng = fastrand::Rng::with_seed(7);
        let uniform = Latency::parse("50ms..2s").unwrap();
        let mut times: Vec<_> = (0..10_000).map(|_| uniform.sample(&mut rng).as_millis()).collect();
        times.sort_unstable();
        assert!(times[0] >= 50 && times[9_999] <= 2_000);
        assert!((950..1_100).contains(&times[5_000]));
        let skewed = Latency::parse("300ms~2s").unwrap();
        let mut times: Vec<_> = (0..10_000).map(|_| skewed.sample(&mut rng).as_millis()).collect();
        times.sort_unstable();
        assert!((285..315).contains(&times[5_000]), "{}", times[5_000]);
        assert!((1_800..2_200).contains(&times[9_900]), "{}", times[9_900]);
        assert_eq!(Latency::parse("0s").unwrap().sample(&mut rng), Duration::ZERO);
        assert!(Latency::parse("2s..1s").is_err() && Latency::parse("0s~1s").is_err());
    }
}

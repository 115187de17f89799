//! The table: scenario × shape → 429s, use of the limit, waits.

use std::time::Duration;

use weir::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Report, Scenario, Source, run};

pub const SHAPES: [(&str, Shape); 5] = [
    ("minute", Shape::Bucket(Depth::Window)),
    ("second", Shape::Bucket(Depth::Of(Duration::from_secs(1)))),
    ("lying", Shape::LyingBucket(Depth::Of(Duration::from_secs(1)))),
    ("fixed", Shape::FixedWindow),
    ("log", Shape::SlidingLog),
];

fn line(name: &str, report: &Report, limit: u64) {
    let used = (report.used.0 + report.others.0) as f64 / (limit as f64 / 60.0 * report.measured);
    println!(
        "{name:<40} offered {:>6} (min1 {:>5}) 429s {:?} use {:5.1} % p50 {:5.1} p99 {:5.1} refused {} other {}",
        report.offered,
        report.offered_first_minute,
        report.refused_by_minute,
        used * 100.0,
        report.percentile(0.5),
        report.percentile(0.99),
        report.deadline_refused,
        report.other_refused,
    );
}

#[test]
fn table() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    let limit = std::env::var("LIMIT").ok().and_then(|limit| limit.parse().ok()).unwrap_or(600_u64);
    for headers in [true, false] {
        for numbers in [true, false] {
            if headers && !numbers {
                continue;
            }
            for (shape_name, shape) in SHAPES {
                for factor in [0.5, 1.0, 2.0, 10.0] {
                    for (before, after, slow) in [(2.0, 0.0, 0.0), (0.05, 1.95, 0.0), (0.05, 1.95, 0.3)] {
                        for seed in 1..=seeds {
                            let upstream = Joint::new().with(Dimension::RequestsPerMinute, limit, shape);
                            let name = format!(
                                "{shape_name} {}{} {factor}x {before}+{after} slow {slow}",
                                if headers { "headers" } else { "blind" },
                                if numbers { "" } else { " no numbers" },
                            );
                            let mut scenario = Scenario::new(&name, upstream);
                            scenario.headers = headers;
                            scenario.numbers = numbers;
                            scenario.hint = numbers;
                            scenario.before = before;
                            scenario.after = after;
                            scenario.slow = slow;
                            scenario.seed = seed;
                            scenario.sources = vec![Source::new(0).rate(limit as f64 / 60.0 * factor)];
                            line(&name, &run(scenario), limit);
                        }
                    }
                }
            }
        }
    }
}

//! The table: scenario × shape → 429s, use of the limit, waits.

use std::time::Duration;

use weir::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Report, Scenario, Source, run};

pub(crate) const SHAPES: [(&str, Shape); 5] = [
    ("minute", Shape::Bucket(Depth::Window)),
    ("second", Shape::Bucket(Depth::Of(Duration::from_secs(1)))),
    ("lying", Shape::LyingBucket(Depth::Of(Duration::from_secs(1)))),
    ("fixed", Shape::FixedWindow),
    ("log", Shape::SlidingLog),
];

/// One row for a scenario.
fn row(name: &str, report: &Report, use_of: f64) {
    let first = report.refused_by_minute.first().copied().unwrap_or(0);
    let rest: u64 = report.refused_from(1);
    println!(
        "| {name:<58} | {:>6} | {first:>5} ({:>4.2} %) | {rest:>5} | {:>5.1} % | {:>5.1} | {:>5.1} |",
        report.attempts.len(),
        first as f64 / (report.offered_first_minute.max(1)) as f64 * 100.0,
        use_of * 100.0,
        report.percentile(0.5),
        report.percentile(0.99),
    );
}

/// The whole table: every shape, with headers, with refusals that tell numbers, and with neither. Waits of up to a minute at
/// more than the limit are the callers' patience.
#[test]
fn table() {
    if std::env::args().all(|argument| argument != "table") {
        return;
    }
    let limit = 600_u64;
    println!(
        "| scenario | attempts | 429s in minute 1 | after | use | p50 s | p99 s |\n|---|---|---|---|---|---|---|"
    );
    for (headers, numbers) in [(true, true), (false, true), (false, false)] {
        let told = match (headers, numbers) {
            (true, _) => "headers",
            (false, true) => "refusals",
            (false, false) => "nothing",
        };
        for (shape_name, shape) in SHAPES {
            for factor in [0.5, 1.0, 2.0, 10.0] {
                for (before, after, slow) in [(0.05, 1.95, 0.0), (2.0, 0.0, 0.0), (0.05, 1.95, 0.3)] {
                    let upstream = Joint::new().with(Dimension::RequestsPerMinute, limit, shape);
                    let name = format!(
                        "{shape_name}, told by {told}, {factor}x, {before}+{after} s{}",
                        if slow > 0.0 { ", 30 % take 60 s" } else { "" },
                    );
                    let mut scenario = Scenario::new(upstream);
                    scenario.headers = headers;
                    scenario.numbers = numbers;
                    scenario.hint = numbers;
                    (scenario.before, scenario.after, scenario.slow) = (before, after, slow);
                    scenario.sources = vec![Source::new(0).rate(limit as f64 / 60.0 * factor)];
                    let report = run(scenario);
                    let used = report.used.0 as f64 / (limit as f64 / 60.0 * report.measured);
                    assert_eq!(report.late, 0, "{name}");
                    row(&name, &report, used);
                }
            }
        }
    }
}

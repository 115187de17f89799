//! Issue 3, 1: no 429 in any shape once it is learned, and the limit is used.

use weir::simulate::limiter::{Dimension, Joint, Shape};

use crate::table::SHAPES;
use crate::world::{Report, Scenario, Source, run};

/// Seconds of delay before and after the upstream's accounting, and the part of the answers whose head takes a minute.
const LATENCIES: [(f64, f64, f64); 3] = [(0.05, 1.95, 0.0), (0.05, 1.95, 0.3), (1.0, 1.0, 0.0)];

fn scenario(
    shape: Shape,
    limit: u64,
    factor: f64,
    headers: bool,
    latency: (f64, f64, f64),
    seed: u64,
) -> Scenario {
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, limit, shape);
    let mut scenario = Scenario::new("shape", upstream);
    scenario.headers = headers;
    (scenario.before, scenario.after, scenario.slow) = latency;
    scenario.sources = vec![Source::new(0).rate(limit as f64 / 60.0 * factor)];
    scenario.seed = seed;
    scenario.seconds = 300.0;
    scenario
}

fn used(report: &Report, limit: u64) -> f64 {
    report.used.0 as f64 / (limit as f64 / 60.0 * report.measured)
}

#[test]
fn every_shape_with_headers() {
    matrix(true);
}

#[test]
fn every_shape_without_headers() {
    matrix(false);
}

fn matrix(headers: bool) {
    let full = std::env::var("WEIR_FULL").is_ok();
    let seeds = if full { 1..=10 } else { 1..=1 };
    for seed in seeds {
        for limit in if full { vec![600, 6000] } else { vec![1200] } {
            for (name, shape) in SHAPES {
                for factor in if full { vec![0.5, 1.0, 2.0, 10.0] } else { vec![1.0, 2.0] } {
                    for latency in LATENCIES.into_iter().take(if full { 3 } else { 2 }) {
                        let report = run(scenario(shape, limit, factor, headers, latency, seed));
                        let about =
                            format!("{name} {limit} {factor}x {latency:?} headers {headers} seed {seed}");
                        let first = report.refused_by_minute.first().copied().unwrap_or(0);
                        let part = if name == "lying" { 0.05 } else { 0.01 };
                        let allowed = report.offered_first_minute as f64 * part;
                        assert!(
                            first as f64 <= allowed,
                            "{about}: {first} in the first minute, allowed {allowed}"
                        );
                        // What is learned by refusals is learned in the minute of the first one, and the next.
                        let learned =
                            report.refused_by_minute.iter().position(|count| *count > 0).unwrap_or(0) + 2;
                        assert_eq!(
                            report.refused_from(learned),
                            0,
                            "{about}: {:?}",
                            report.refused_by_minute
                        );
                        assert!(
                            report.refused_upstream as f64 <= allowed * 2.0,
                            "{about}: {:?}",
                            report.refused_by_minute
                        );
                        assert_eq!(report.late, 0, "{about}");
                        if factor > 1.0 {
                            let used = used(&report, limit);
                            assert!(used >= 0.97, "{about}: {used}");
                        } else {
                            assert!(
                                report.deadline_refused * 100 <= report.offered,
                                "{about}: {}",
                                report.deadline_refused
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn an_upstream_without_limits_is_not_held_back() {
    let mut scenario = Scenario::new("unlimited", Joint::new());
    scenario.sources = vec![Source::new(0).rate(300.0)];
    scenario.seconds = 120.0;
    scenario.measured_from = 60.0;
    let report = run(scenario);
    assert_eq!(report.refused_upstream + report.deadline_refused + report.other_refused, 0);
    assert!(report.percentile(0.99) < 0.05, "{}", report.percentile(0.99));
}

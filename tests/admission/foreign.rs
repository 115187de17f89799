//! Issue 3, 2: another consumer of the same limits.

use weir::internals::simulate::limiter::{Dimension, Joint};

use crate::matrix::{SHAPES, each};
use crate::world::{Others, Report, Scenario, Source, run};

pub(crate) fn foreign(shape: weir::internals::simulate::limiter::Shape, headers: bool, seed: u64) -> Report {
    let limit = 1200;
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, limit, shape);
    let mut scenario = Scenario::new(upstream);
    scenario.before = 0.05;
    scenario.after = 1.95;
    scenario.headers = headers;
    scenario.seed = seed;
    scenario.others = Some(Others { parts: vec![0.0, 0.8, 0.3, 0.5, 0.1, 0.7], each: 30.0 });
    scenario.sources = vec![Source::new(0).rate(60.0)];
    scenario.seconds = 480.0;
    run(scenario)
}

/// The refused fraction of attempts, and the used fraction of the rest of the limit.
fn figures(report: &Report) -> (f64, f64) {
    let left = 1200.0 / 60.0 * report.measured - report.others.0 as f64;
    (report.refused_upstream as f64 / report.attempts.len() as f64, report.used.0 as f64 / left)
}

fn seeds() -> Vec<u64> {
    if crate::full() { (1..=20).collect() } else { vec![1] }
}

#[test]
fn a_deep_bucket_with_headers() {
    for report in each(&seeds(), |seed| foreign(SHAPES[0].1, true, *seed)) {
        let (refused, used) = figures(&report);
        println!("foreign, minute: {:.2} % 429s, {:.1} % of what was left", refused * 100.0, used * 100.0);
        assert!(refused < 0.01, "{refused}");
        assert!(used >= 0.9, "{used}");
        assert_eq!(report.other_refused, 0);
    }
}

/// Without headers, the use by others shows only in refusals. Each shape is held to its measured
/// results over 20 seeds, plus a margin.
#[test]
fn other_shapes_and_no_headers() {
    let mut cases = Vec::new();
    for headers in [true, false] {
        for shape in SHAPES {
            cases.extend(seeds().into_iter().map(|seed| (headers, shape, seed)));
        }
    }
    let reports =
        each(&cases, |(headers, (name, shape), seed)| (*headers, *name, foreign(*shape, *headers, *seed)));
    for runs in reports.chunk_by(|one, two| (one.0, one.1) == (two.0, two.1)) {
        let (headers, name) = (runs[0].0, runs[0].1);
        let worst = runs.iter().map(|run| figures(&run.2).0).fold(0.0, f64::max);
        let least = runs.iter().map(|run| figures(&run.2).1).fold(f64::INFINITY, f64::min);
        println!(
            "foreign, {name}, headers {headers}: at most {:.2} % 429s, at least {:.1} % of what was left",
            worst * 100.0,
            least * 100.0
        );
        let (most, used) = match (name, headers) {
            ("minute" | "fixed" | "log", true) => (0.02, 0.8),
            ("minute" | "fixed" | "log", false) => (0.04, 0.85),
            _ => (0.06, 0.7),
        };
        assert!(worst < most, "{name} {headers}: {worst}");
        assert!(least > used, "{name} {headers}: {least}");
        assert!(runs.iter().all(|run| run.2.other_refused == 0));
    }
}

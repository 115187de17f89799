//! Issue 3, 2: another consumer of the same limits.

use weir::simulate::limiter::{Dimension, Joint};

use crate::matrix::SHAPES;
use crate::world::{Others, Report, Scenario, Source, run};

pub(crate) fn foreign(shape: weir::simulate::limiter::Shape, headers: bool, seed: u64) -> Report {
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

#[test]
fn a_deep_bucket_with_headers() {
    for seed in 1..=2 {
        let report = foreign(SHAPES[0].1, true, seed);
        let attempts = report.attempts.len() as f64;
        let refused = report.refused_upstream as f64 / attempts;
        let left = 1200.0 / 60.0 * report.measured - report.others.0 as f64;
        let used = report.used.0 as f64 / left;
        println!("foreign, minute: {:.2} % 429s, {:.1} % of what was left", refused * 100.0, used * 100.0);
        assert!(refused < 0.01, "{refused}");
        assert!(used >= 0.9, "{used}");
        assert_eq!(report.other_refused, 0);
    }
}

#[test]
fn other_shapes_and_no_headers() {
    for headers in [true, false] {
        for (name, shape) in SHAPES {
            let report = foreign(shape, headers, 1);
            let refused = report.refused_upstream as f64 / report.attempts.len() as f64;
            let left = 1200.0 / 60.0 * report.measured - report.others.0 as f64;
            let used = report.used.0 as f64 / left;
            println!(
                "foreign, {name}, headers {headers}: {:.2} % 429s, {:.1} % of what was left",
                refused * 100.0,
                used * 100.0
            );
            assert!(refused < 0.25, "{name} {headers}: {refused}");
        }
    }
}

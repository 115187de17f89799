//! Issue 3, 1: the depth of a bucket is used for bursts.

use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Scenario, Source, run};

/// 600 at once, twice; answers take up to 2 s.
#[test]
fn six_hundred_at_once() {
    for seed in 1..=5 {
        let upstream = Joint::new().with(Dimension::RequestsPerMinute, 1200, Shape::Bucket(Depth::Window));
        let mut scenario = Scenario::new(upstream);
        scenario.before = 0.05;
        scenario.after = 1.95;
        scenario.seed = seed;
        scenario.measured_from = 0.0;
        let mut first = Source::new(0);
        first.backlog = 600;
        let mut second = Source::new(1);
        second.backlog = 600;
        second.from = 120.0;
        scenario.sources = vec![first, second];
        scenario.seconds = 200.0;
        let report = run(scenario);
        assert_eq!(report.refused_upstream, 0);
        let direct = 2.0;
        let finished = |from: f64, until: f64| {
            let times = report.done.iter().map(|done| done.0).filter(|at| (from..until).contains(at));
            times.fold(from, f64::max) - from
        };
        let (one, two) = (finished(0.0, 120.0), finished(120.0, 200.0));
        println!("seed {seed}: first {one:.2} s, second {two:.2} s, direct {direct} s");
        assert!(one <= 2.0 * direct + 6.0 * 2.0, "{one}");
        assert!(two <= 1.3 * direct, "{two}");
    }
}

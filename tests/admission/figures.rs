//! The data of the figures in `docs/admission.md`: `docs/admission.py` draws them.

use weir::internals::simulate::limiter::{Dimension, Joint, Shape};

use crate::matrix::{SHAPES, each};
use crate::world::{Report, Scenario, Source, run};

const LIMIT: u64 = 1200;
/// The maximum number of points of a line.
const POINTS: usize = 200;

fn scenario(shape: Shape, seconds: f64) -> Scenario {
    let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, LIMIT, shape));
    (scenario.before, scenario.after) = (0.025, 0.05);
    (scenario.seconds, scenario.measured_from) = (seconds, 0.0);
    scenario
}

/// Prints one line of a figure.
fn print(figure: &str, line: &str, points: &[(f64, f64)]) {
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.last().into_iter();
    let shown: Vec<String> =
        points.iter().step_by(step).chain(last).map(|(x, y)| format!("{x:.2},{y:.4}")).collect();
    println!("figure\t{figure}\t{line}\t{}", shown.join(" "));
}

/// The number of calls answered by each time.
fn answered(report: &Report, of: impl Fn(u16) -> bool) -> Vec<(f64, f64)> {
    let ended = report.heads.iter().filter(|(.., caller)| of(*caller));
    ended.enumerate().map(|(index, (at, ..))| (*at, index as f64 + 1.0)).collect()
}

/// 100 requests a second for two minutes at a limit of 1,200 a minute: Weir's level and the
/// upstream's.
#[test]
fn the_level_over_time() {
    for (name, shape) in [SHAPES[0], SHAPES[3]] {
        let mut scenario = scenario(shape, 180.0);
        scenario.sources = vec![Source { until: 120.0, ..Source::new(0).rate(100.0) }];
        let report = run(scenario);
        let told: Vec<_> = report.track.iter().map(|(at, told, _)| (*at, *told)).collect();
        let counted: Vec<_> = report.track.iter().map(|(at, _, counted)| (*at, *counted)).collect();
        print("level", &format!("{name}, as Weir tells it"), &told);
        print("level", &format!("{name}, as the upstream counts it"), &counted);
        let off = report.levels.iter().copied().fold(0.0, f64::max);
        assert!(off <= 0.05 && report.refused_upstream == 0, "{name}: {off}, {}", report.refused_upstream);
    }
}

/// 600 calls at once, twice: at the start, and two minutes later.
#[test]
fn the_same_burst_in_five_shapes() {
    let reports = each(&SHAPES, |(_, shape)| {
        let mut scenario = scenario(*shape, 180.0);
        for from in [0.0, 120.0] {
            let source = Source { from, backlog: 600, patience: 600.0, ..Source::new(0) };
            scenario.sources.push(source);
        }
        run(scenario)
    });
    for ((name, _), report) in SHAPES.iter().zip(&reports) {
        print("burst", name, &answered(report, |_| true));
        assert_eq!(report.done.len(), 1200, "{name}");
    }
}

/// Two callers with weights of 1 and 3 that always wait, and a third with four requests a second.
#[test]
fn the_service_of_three_callers() {
    let mut scenario = scenario(SHAPES[0].1, 60.0);
    for (caller, weight) in [(0, 1), (1, 3)] {
        let source = Source { weight, backlog: 3000, patience: 600.0, ..Source::new(caller) };
        scenario.sources.push(source);
    }
    scenario.sources.push(Source::new(2).rate(2.0));
    let report = run(scenario);
    let lines = ["weight 1, 3,000 waiting", "weight 3, 3,000 waiting", "weight 1, two a second"];
    for (caller, line) in lines.into_iter().enumerate() {
        print("service", line, &answered(&report, |of| usize::from(of) == caller));
    }
    let late = |caller: u16| {
        let ended = answered(&report, |of| of == caller);
        ended.iter().filter(|(at, _)| *at > 30.0).count() as f64
    };
    let parts = late(1) / late(0);
    assert!((2.8..=3.2).contains(&parts), "{parts}");
}

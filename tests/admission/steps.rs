//! A limit that doubles or halves.

use weir::internals::simulate::limiter::{Dimension, Joint};

use crate::matrix::{SHAPES, each};
use crate::world::{Report, Scenario, Source, run};

const LIMIT: u64 = 1200;
/// The time of the step, and the duration of the measurement after it.
const STEP: f64 = 200.0;
const MEASURED: f64 = 155.0;

/// The source of the limit: headers and refusals with numbers; only such refusals; none.
const TOLD: [(&str, bool, bool, f64); 3] =
    [("headers", true, true, 5.0), ("numbers", false, true, 60.0), ("bare 429s", false, false, 60.0)];

fn step(shape: usize, told: usize, factor: f64, seed: u64) -> Report {
    let (_, headers, numbers, within) = TOLD[told];
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, LIMIT, SHAPES[shape].1);
    let mut scenario = Scenario::new(upstream);
    (scenario.before, scenario.after) = (0.05, 0.45);
    (scenario.headers, scenario.numbers, scenario.hint) = (headers, numbers, numbers);
    scenario.changes = vec![(STEP, Dimension::RequestsPerMinute, (LIMIT as f64 * factor) as u64)];
    scenario.sources = vec![Source::new(0).rate(100.0)];
    scenario.measured_from = STEP;
    scenario.seconds = STEP + within + MEASURED;
    scenario.seed = seed;
    run(scenario)
}

/// The used fraction of the new limit, within 5 s with headers and 60 s without, and the refused
/// fraction of the attempts since then.
#[test]
fn a_step_is_followed() {
    let mut cases = Vec::new();
    for told in 0..TOLD.len() {
        for shape in 0..SHAPES.len() {
            cases.extend([2.0, 0.5].map(|factor| (told, shape, factor)));
        }
    }
    let reports = each(&cases, |(told, shape, factor)| step(*shape, *told, *factor, 1));
    let mut broken = Vec::new();
    for ((told, shape, factor), report) in cases.iter().zip(&reports) {
        let (shape, (told, headers, _, within)) = (SHAPES[*shape].0, TOLD[*told]);
        // The amount above its rate was saved before.
        let rate = LIMIT as f64 / 60.0 * factor;
        let ideal = (report.ideal as f64).min(rate * (MEASURED + within)) - rate * within;
        let used = report.used.0 as f64 / ideal;
        let attempts = report.attempts.iter().filter(|at| **at >= STEP).count();
        let refused = report.refused_from((STEP / 60.0) as usize) as f64 / attempts as f64;
        let row = format!(
            "step x {factor}, {shape}, {told}: {:.1} % used, {:.2} % refused, {:?}",
            used * 100.0,
            refused * 100.0,
            report.refused_by_minute
        );
        println!("{row}");
        // - A log that is full after a cut admits nothing for half a minute, then twice the rate
        //   for as long, which pacing uses only later.
        // - Without headers a raised limit is found by probing. A limit named by refusals is
        //   trusted for ten minutes, and one that is closed until a window's end is probed in steps
        //   of 1 %.
        let is_late = match (headers, *factor > 1.0, shape) {
            (true, false, "log") => true,
            (true, ..) | (false, false, _) => false,
            (false, true, _) => told == "numbers" || shape == "fixed",
        };
        // A bare 429 names no limit: a lower one is found by several.
        let is_groping = told == "bare 429s" && *factor < 1.0;
        if used < 0.95 && !is_late || refused > 0.01 && !is_groping {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

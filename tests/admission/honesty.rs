//! The accuracy of predicted waits, early refusals, and the level of a limit.

use weir::internals::admission::Moment;
use weir::internals::simulate::limiter::{Dimension, Joint};

use crate::matrix::{SHAPES, each};
use crate::world::{Report, Scenario, Source, Tokens, percentile, run};

const LIMIT: u64 = 1200;
/// The time at which the limit is learned, in seconds.
const LEARNED: f64 = 180.0;
const SECONDS: f64 = 600.0;
/// The deadline of each caller, in seconds.
const PATIENCE: f64 = 40.0;

/// Five callers of two weights that request `factor` times the limit, with a deadline of 40 s.
fn busy(shape: usize, headers: bool, factor: f64, seed: u64) -> Report {
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, LIMIT, SHAPES[shape].1);
    let mut scenario = Scenario::new(upstream);
    (scenario.before, scenario.after, scenario.headers) = (0.05, 0.45, headers);
    for caller in 0..5 {
        let mut source = Source::new(caller).rate(LIMIT as f64 / 60.0 * factor / 5.0);
        source.weight = 1 + u32::from(caller % 2);
        source.tokens = Tokens::LogNormal { median: 400.0, sigma: 0.8, most: 5000 };
        source.patience = PATIENCE;
        scenario.sources.push(source);
    }
    (scenario.seconds, scenario.measured_from, scenario.seed) = (SECONDS, LEARNED, seed);
    run(scenario)
}

#[test]
fn reports_are_accurate() {
    let mut cases = Vec::new();
    for headers in [true, false] {
        for shape in 0..SHAPES.len() {
            cases.extend([0.8, 1.5].map(|factor| (headers, shape, factor)));
        }
    }
    let reports = each(&cases, |(headers, shape, factor)| busy(*shape, *headers, *factor, 1));
    let mut broken = Vec::new();
    for ((headers, shape, factor), report) in cases.iter().zip(&reports) {
        let name = SHAPES[*shape].0;
        let errors: Vec<f64> = report
            .predictions
            .iter()
            .filter(|(_, happened)| *happened > 0.5)
            .map(|(predicted, happened)| (predicted / happened - 1.0).abs())
            .collect();
        // The headers describe the limit of a minute, although the bucket is a second deep.
        let track = report.track.iter().filter(|(at, ..)| *at >= LEARNED);
        let told: Vec<f64> = track.map(|(_, told, _)| *told).collect();
        let off = if name == "second" && *headers { &told } else { &report.levels };
        let (rightly, refused) = report.refused_rightly(Moment::START.plus_seconds(SECONDS - 2.0 * PATIENCE));
        let in_vain = report.refused_after.iter().filter(|waited| **waited > PATIENCE / 2.0).count();
        let row = format!(
            "{name}, headers {headers}, {factor} x: predictions off by p50 {:.1} %, p90 {:.1} % of {}; {rightly} of {refused} refused early rightly, {in_vain} waited in vain; level off by p90 {:.1} %, max {:.1} %",
            percentile(&errors, 0.5) * 100.0,
            percentile(&errors, 0.9) * 100.0,
            errors.len(),
            percentile(off, 0.9) * 100.0,
            percentile(off, 1.0) * 100.0,
        );
        println!("{row}");
        // Without headers only refusals show the level and the shape.
        let is_told = *headers || name == "minute" || *factor < 1.0;
        let is_off = percentile(&errors, 0.9) > 0.1;
        if is_off || rightly * 100 < refused * 95 || is_told && percentile(off, 1.0) > 0.05 {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

//! Small limits with short windows, and limits per minute with short resets.

use crate::matrix::each;
use crate::strange_rules::Case;
use crate::strangers::{Deep, Make, Minute, Tells, Until, Windows, row, scenario, used};
use crate::world::{Stranger, run};

/// Checks each case with several delays and seeds. The use is measured from the given second.
fn check_all(cases: &[(Case, f64)], latencies: [(f64, f64); 3], seconds: f64) {
    let runs: Vec<_> = cases
        .iter()
        .flat_map(|case| latencies.map(|latency| (case, latency)))
        .flat_map(|(case, latency)| (1..=3).map(move |seed| (case, latency, seed)))
        .collect();
    let reports = each(&runs, |((case, from), latency, seed)| {
        let mut scenario = scenario(case.make, case.rate);
        (scenario.before, scenario.after, scenario.seed) = (latency.0, latency.1, *seed);
        (scenario.measured_from, scenario.seconds) = (*from, seconds);
        run(scenario)
    });
    let mut broken = Vec::new();
    for (((case, _), latency, seed), report) in runs.iter().zip(&reports) {
        let row = row(&format!("{} {latency:?} seed {seed}", case.name), case.rate, report);
        let (all, after) = case.refused.unwrap_or_default();
        let holds = report.refused_upstream <= all
            && report.refused_from(1) <= after
            && used(report, case.rate) >= case.used;
        if !holds {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A limit per second or per ten seconds in headers, so small that the rate of a limit per minute
/// would hardly use it, is learned within a few windows, and used. Delays of a fifth of a second
/// shift some requests into the next window, and those before the first response may exceed it.
#[test]
fn small_limits_of_short_windows_are_learned_soon() {
    let case =
        |name, rate, make: Make, refused, used| Case { name, rate, make, refused: Some(refused), used };
    let cases = [
        (
            case("10 in 1 s", 10.0, || Box::new(Windows::new(10.0, 1.0, false, Tells::Own)), (6, 5), 0.85),
            12.0,
        ),
        (case("5 in 1 s", 5.0, || Box::new(Windows::new(5.0, 1.0, false, Tells::Own)), (6, 5), 0.85), 12.0),
        (case("3 in 1 s", 3.0, || Box::new(Windows::new(3.0, 1.0, false, Tells::Own)), (8, 4), 0.85), 12.0),
        (
            case("20 in 10 s", 2.0, || Box::new(Windows::new(20.0, 10.0, false, Tells::Own)), (0, 0), 0.95),
            40.0,
        ),
        (
            case("bucket of 10 in 1 s", 10.0, || Box::new(Deep::new(10.0, 1.0, Tells::Own)), (0, 0), 0.97),
            12.0,
        ),
        (case("10 in 2 s", 5.0, || Box::new(Windows::new(10.0, 2.0, false, Tells::Own)), (6, 5), 0.85), 20.0),
        (
            case("100 in 20 s", 5.0, || Box::new(Windows::new(100.0, 20.0, false, Tells::Own)), (0, 0), 0.95),
            60.0,
        ),
        (
            case("bucket of 60 in 20 s", 3.0, || Box::new(Deep::new(3.0, 20.0, Tells::Own)), (0, 0), 0.95),
            90.0,
        ),
        (case("bucket of 3 in 1 s", 3.0, || Box::new(Deep::new(3.0, 1.0, Tells::Own)), (6, 0), 0.97), 12.0),
        (
            case(
                "bucket of 10 in 1 s, no reset",
                10.0,
                || Box::new(Deep::new(10.0, 1.0, Tells::NoReset)),
                (6, 5),
                0.97,
            ),
            20.0,
        ),
        (
            case("bucket of 20 in 10 s", 2.0, || Box::new(Deep::new(2.0, 10.0, Tells::Own)), (0, 0), 0.97),
            12.0,
        ),
    ];
    check_all(&cases, [(0.05, 0.45), (0.0, 0.005), (0.2, 1.0)], 300.0);
}

/// A limit per minute with short resets is not exceeded. Wrong resets cost one refusal in 20
/// minutes.
#[test]
fn short_resets_of_a_limit_per_minute_do_not_raise_the_rate() {
    fn late(limit: f64, sliding: bool) -> Box<dyn Stranger> {
        Box::new(Windows::new(limit, 60.0, sliding, Tells::Own).at_phase(0.93))
    }
    let case = |name, limit: f64, make: Make, refused, used| {
        (Case { name, rate: limit / 60.0, make, refused: Some(refused), used }, 300.0)
    };
    let cases = [
        case("bucket of 3", 3.0, || Box::new(Deep::new(0.05, 60.0, Tells::Own)), (0, 0), 0.84),
        case("bucket of 10", 10.0, || Box::new(Deep::new(1.0 / 6.0, 60.0, Tells::Own)), (0, 0), 0.95),
        case("bucket of 60", 60.0, || Box::new(Deep::new(1.0, 60.0, Tells::Own)), (0, 0), 0.95),
        // Its depth is a sixth of that in its headers, which one burst shows.
        case("shallow bucket of 60", 60.0, || Box::new(Deep::new(1.0, 10.0, Tells::Minute)), (5, 0), 0.95),
        case("windows of 10", 10.0, || Box::new(Windows::new(10.0, 60.0, false, Tells::Own)), (0, 0), 0.95),
        case("windows of 10, late", 10.0, || late(10.0, false), (0, 0), 0.95),
        case("windows of 60, late", 60.0, || late(60.0, false), (0, 0), 0.95),
        case(
            "sliding counter of 10",
            10.0,
            || Box::new(Windows::new(10.0, 60.0, true, Tells::Own)),
            (0, 0),
            0.45,
        ),
        case("sliding counter of 10, late", 10.0, || late(10.0, true), (0, 0), 0.45),
        case("sliding counter of 60, late", 60.0, || late(60.0, true), (0, 0), 0.45),
        case("log of 10, oldest", 10.0, || Box::new(Minute::new(10.0, Until::Oldest)), (0, 0), 0.9),
        case("log of 10, seconds", 10.0, || Box::new(Minute::new(10.0, Until::Seconds)), (0, 0), 0.9),
        case("log of 60, seconds", 60.0, || Box::new(Minute::new(60.0, Until::Seconds)), (0, 0), 0.95),
        case("log of 10, newest", 10.0, || Box::new(Minute::new(10.0, Until::Newest)), (0, 0), 0.85),
        case("log of 10, next", 10.0, || Box::new(Minute::new(10.0, Until::Next)), (1, 1), 0.9),
        case("log of 60, next", 60.0, || Box::new(Minute::new(60.0, Until::Next)), (1, 1), 0.95),
        case("log of 10, a lie", 10.0, || Box::new(Minute::new(10.0, Until::Second)), (2, 1), 0.9),
    ];
    check_all(&cases, [(0.05, 0.45), (0.0, 0.005), (1.0, 1.0)], 1500.0);
}

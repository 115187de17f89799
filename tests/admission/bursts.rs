//! Issue 16: a burst in every shape, light callers beside a bulk, and a bucket of ten seconds.

use std::time::Duration;

use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::matrix::{SHAPES, each};
use crate::world::{Report, Scenario, Source, Tokens, percentile, run};

const LIMIT: u64 = 1200;
/// The seconds from a send to the response head.
const LATENCY: f64 = 0.05;

/// The seconds after which the first window has ended, and the requests that waited for it are
/// sent.
const AFTER_FIRST: f64 = 120.0;

/// 600 calls at once against 1,200 requests a minute.
fn burst(shape: Shape, headers: bool, seed: u64) -> Report {
    let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, LIMIT, shape));
    (scenario.before, scenario.after) = (LATENCY / 2.0, LATENCY);
    (scenario.headers, scenario.numbers, scenario.hint) = (headers, headers, headers);
    let mut source = Source::new(0);
    (source.backlog, source.patience) = (600, 600.0);
    scenario.sources = vec![source];
    (scenario.seconds, scenario.measured_from, scenario.seed) = (120.0, 0.0, seed);
    run(scenario)
}

#[test]
fn a_burst_goes_out_as_a_burst_in_every_shape() {
    let seeds = if crate::full() { 5 } else { 2 };
    let mut cases = Vec::new();
    for headers in [true, false] {
        for (name, shape) in SHAPES {
            cases.extend((1..=seeds).map(|seed| (name, shape, headers, seed)));
        }
    }
    let reports = each(&cases, |(_, shape, headers, seed)| burst(*shape, *headers, *seed));
    let mut broken = Vec::new();
    for ((name, _, headers, seed), report) in cases.iter().zip(&reports) {
        let (seconds, refused) = match (*name, *headers) {
            ("minute", true) => (2.3, 0),
            ("fixed" | "log", true) => (6.0, 0),
            ("second", true) => (29.4, 0),
            ("lying", true) | ("second" | "lying", false) => (30.3, 20),
            ("minute" | "fixed" | "log", false) => (5.6, 0),
            _ => unreachable!(),
        };
        let row = format!(
            "{name}, headers {headers}, seed {seed}: {:.1} s, {} 429s; asked {seconds} s, {refused}",
            report.finished, report.refused_upstream
        );
        println!("{row}");
        if report.finished > seconds || report.refused_upstream > refused || report.done.len() != 600 {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Two callers with four requests a second each, beside one with 3,000 waiting requests. A window
/// or log that no header reports is unknown until its first refusal. It is used up once, and the
/// requests that wait then wait for its end. Later ones do not.
#[test]
fn light_callers_do_not_wait_for_a_bulk() {
    let mut cases = Vec::new();
    for headers in [true, false] {
        cases.extend(SHAPES.map(|(name, shape)| (name, shape, headers, 10.0)));
    }
    cases.extend([SHAPES[3], SHAPES[4]].map(|(name, shape)| (name, shape, false, AFTER_FIRST)));
    let reports = each(&cases, |(_, shape, headers, from)| {
        let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, LIMIT, *shape));
        (scenario.before, scenario.after) = (LATENCY / 2.0, LATENCY);
        (scenario.headers, scenario.numbers, scenario.hint) = (*headers, *headers, *headers);
        let mut bulk = Source::new(0);
        (bulk.backlog, bulk.patience) = (if *from > 10.0 { 15_000 } else { 3000 }, 36_000.0);
        scenario.settings.queue.max_waiting_per_caller = 20_000;
        scenario.sources = vec![bulk, Source::new(1).rate(4.0), Source::new(2).rate(4.0)];
        scenario.measured_from = *from;
        scenario.seconds = if *from > 10.0 { 720.0 } else { 200.0 };
        run(scenario)
    });
    let mut broken = Vec::new();
    for ((name, _, headers, from), report) in cases.iter().zip(&reports) {
        let light: Vec<f64> = [1, 2].iter().flat_map(|caller| report.waits_of[caller].clone()).collect();
        let (p99, used) =
            (percentile(&light, 0.99), report.used.0 as f64 / (LIMIT as f64 / 60.0 * report.measured));
        let row = format!(
            "light callers, {name}, headers {headers}, from {from} s on: p99 {p99:.2} s, max {:.2} s, use {:.1} %, 429s {:?}",
            percentile(&light, 1.0),
            used * 100.0,
            report.refused_by_minute
        );
        println!("{row}");
        let found_by_refusals = !*headers && matches!(*name, "fixed" | "log");
        if (!found_by_refusals || *from > 10.0) && (p99 > 0.3 || *from > 10.0 && used < 0.9) {
            broken.push(row);
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// 240,000 tokens a minute in a bucket of 40,000, with headers of its true rest; 1.5 times the
/// limit for 30 s.
#[test]
fn a_bucket_of_ten_seconds_is_used() {
    for seed in 1..=3 {
        let shape = Shape::Bucket(Depth::Of(Duration::from_secs(10)));
        let mut scenario = Scenario::new(Joint::new().with(Dimension::TokensPerMinute, 240_000, shape).with(
            Dimension::RequestsPerMinute,
            100_000,
            Shape::Bucket(Depth::Window),
        ));
        (scenario.before, scenario.after) = (LATENCY / 2.0, LATENCY);
        let prompts = Tokens::LogNormal { median: 600.0, sigma: 1.0, most: 15_000 };
        // The mean of such prompts is 985 tokens.
        let mut source = Source::new(0).rate(4000.0 * 1.5 / 985.0).tokens(prompts);
        (source.until, source.patience) = (30.0, 60.0);
        scenario.sources = vec![source];
        (scenario.seconds, scenario.measured_from, scenario.seed) = (120.0, 0.0, seed);
        let report = run(scenario);
        let tokens = report.used.1 as f64;
        // The content of the bucket at once, the rest at the rate.
        let ideal = ((tokens - 40_000.0) / 4000.0).max(30.0);
        println!(
            "ten seconds deep, seed {seed}: {:.1} s, ideal {ideal:.1} s, 429s {}, refused {}",
            report.finished, report.refused_upstream, report.deadline_refused
        );
        assert_eq!((report.deadline_refused, report.other_refused), (0, 0));
        assert!(report.finished <= ideal * 1.05 + LATENCY, "{} of {ideal}", report.finished);
        assert!(report.refused_upstream <= 1, "{}", report.refused_upstream);
    }
}

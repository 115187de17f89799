//! Limiters that refuse with a plain 500, and upstreams that fail at random.

use std::collections::VecDeque;

use weir::internals::classify::ErrorClass;
use weir::internals::simulate::limiter::Price;

use crate::strangers::{Chance, Deep, Make, PLAIN, Tells, Windows, scenario, used};
use crate::world::{Report, Scenario, Strange, Stranger, percentile, run};

/// A failure without a sign of a limit.
const FAILED: Strange = Strange::Failed(ErrorClass::InternalServerError);

/// A limiter whose refusals are failures.
#[derive(Debug)]
struct Sheds<S>(S);

impl<S: Stranger> Stranger for Sheds<S> {
    fn take(&mut self, price: Price, at: f64) -> Strange {
        match self.0.take(price, at) {
            Strange::Refused { .. } => FAILED,
            other @ (Strange::Taken { .. } | Strange::Failed(_)) => other,
        }
    }
}

/// A sliding log.
#[derive(Debug)]
struct Log {
    limit: usize,
    window: f64,
    log: VecDeque<f64>,
}

impl Stranger for Log {
    fn take(&mut self, _price: Price, at: f64) -> Strange {
        while self.log.front().is_some_and(|then| at - then >= self.window) {
            self.log.pop_front();
        }
        if self.log.len() >= self.limit {
            return Strange::Failed(ErrorClass::BadGateway);
        }
        self.log.push_back(at);
        PLAIN
    }
}

/// A short delay to the upstream, and a quick response.
fn quickly(make: Make, rate: f64) -> Scenario {
    let mut scenario = scenario(make, rate);
    (scenario.before, scenario.after) = (0.005, 0.05);
    (scenario.seconds, scenario.measured_from) = (90.0, 30.0);
    scenario
}

fn told(name: &str, rate: f64, report: &Report) -> String {
    let row = format!(
        "{name}: {} failed of {} attempts, {} calls lost of {}, {:.1} % used",
        report.refused_upstream,
        report.attempts.len(),
        report.failed.len(),
        report.offered,
        used(report, rate) * 100.0,
    );
    println!("{row}");
    row
}

/// Without detection, six attempts or the retry budget would end these calls. With three calls for
/// two that pass, none needs to fail.
#[test]
fn a_limit_behind_plain_failures_is_found_and_obeyed() {
    let makes: [(&str, f64, Make); 5] = [
        ("windows of 1 s", 10.0, || Box::new(Sheds(Windows::new(10.0, 1.0, false, Tells::Nothing)))),
        ("windows of 10 s", 5.0, || Box::new(Sheds(Windows::new(50.0, 10.0, false, Tells::Nothing)))),
        ("a log of 1 s", 10.0, || Box::new(Log { limit: 10, window: 1.0, log: VecDeque::new() })),
        ("a log of 10 s", 5.0, || Box::new(Log { limit: 50, window: 10.0, log: VecDeque::new() })),
        ("a bucket", 20.0, || Box::new(Sheds(Deep::new(20.0, 1.0, Tells::Nothing)))),
    ];
    let mut broken = Vec::new();
    for (name, rate, make) in makes {
        let mut steady = quickly(make, rate);
        steady.sources[0].rate = rate * 1.3;
        let mut closed = quickly(make, rate);
        (closed.sources[0].rate, closed.sources[0].closed) = (0.0, 30);
        for (traffic, scenario) in [("steady", steady), ("closed", closed)] {
            let report = run(scenario);
            let row = told(&format!("{name}, {traffic}"), rate, &report);
            let lost = report.failed.len() as u64;
            // About ten failures show that they depend on the load.
            let holds = lost * 100 <= report.offered
                && used(&report, rate) >= 0.75
                && report.refused_upstream * 10 <= report.attempts.len() as u64;
            if !holds {
                broken.push(row);
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Failures that do not depend on the rate are no limit: a trial shows this, and the rate is
/// restored.
#[test]
fn failures_independent_of_load_cost_no_throughput() {
    for part in [0.05, 0.15, 0.25] {
        let make: Make = match part {
            0.05 => || Box::new(Chance::new(0.05, FAILED, 3)),
            0.15 => || Box::new(Chance::new(0.15, FAILED, 3)),
            _ => || Box::new(Chance::new(0.25, FAILED, 3)),
        };
        let mut scenario = quickly(make, 20.0);
        (scenario.seconds, scenario.measured_from) = (300.0, 10.0);
        let report = run(scenario);
        let row = told(&format!("{part} fail"), 40.0, &report);
        let wait = percentile(&report.waits, 0.95);
        println!("95 of 100 wait for {wait:.2} s at most");
        // A trial waits for probes seven times, and the queue is then served at twice the load:
        // about ten seconds of waiting in five minutes, less than a twentieth.
        assert!(wait <= 2.0, "{row}: {wait}");
        assert!(used(&report, 40.0) >= 0.95, "{row}");
    }
}

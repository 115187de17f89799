//! Issue 3, 1: log-normal prompts, limits of requests and of tokens, estimates that are wrong by a
//! factor of 0.3 to 3.

use weir::internals::simulate::limiter::{Dimension, Joint, Shape};

use crate::matrix::{SHAPES, each};
use crate::world::{Report, Scenario, Source, Tokens, run};

/// The limits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    /// The median prompt; the mean is 1.65 times that, and the longest 25 times.
    pub(crate) median: f64,
}

/// The limit of tokens is reached if they are charged three times, that of requests if a third. If
/// both are reached, a few in a thousand of each are lost.
pub(crate) const SMALL: Limits = Limits { requests: 1800, tokens: 400_000, median: 100.0 };
pub(crate) const LARGE: Limits = Limits { requests: 6000, tokens: 2_000_000, median: 400.0 };

pub(crate) fn tokens(shape: Shape, headers: bool, charged: f64, limits: Limits, seed: u64) -> Report {
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, limits.requests, shape).with(
        Dimension::TokensPerMinute,
        limits.tokens,
        shape,
    );
    let mut scenario = Scenario::new(upstream);
    scenario.before = 0.05;
    scenario.after = 1.95;
    scenario.headers = headers;
    scenario.charged = charged;
    scenario.seed = seed;
    scenario.seconds = 390.0;
    scenario.measured_from = 150.0;
    let prompts =
        Tokens::LogNormal { median: limits.median, sigma: 1.0, most: (limits.median * 25.0) as u64 };
    let by_tokens = limits.tokens as f64 / 60.0 / (limits.median * 1.6 * charged);
    let rate = by_tokens.min(limits.requests as f64 / 60.0) * 2.0;
    scenario.sources = vec![Source::new(0).rate(rate).tokens(prompts)];
    run(scenario)
}

/// The used fractions of both limits.
pub(crate) fn use_of(report: &Report, limits: Limits) -> (f64, f64) {
    (
        report.used.0 as f64 / (limits.requests as f64 / 60.0 * report.measured),
        report.used.1 as f64 / (limits.tokens as f64 / 60.0 * report.measured),
    )
}

#[test]
fn log_normal_prompts_and_wrong_estimates() {
    let full = crate::full();
    for limits in if full { vec![SMALL, LARGE] } else { vec![SMALL] } {
        for headers in [true, false] {
            for (name, shape) in SHAPES {
                for charged in if full { vec![0.3, 1.0, 3.0] } else { vec![0.3, 3.0] } {
                    let report = tokens(shape, headers, charged, limits, 1);
                    let (requests, tokens) = use_of(&report, limits);
                    let about = format!(
                        "tokens {}, {name}, headers {headers}, charged {charged}: 429s {:?} of {}, use of requests {:.1} %, of tokens {:.1} %",
                        limits.tokens,
                        report.refused_by_minute,
                        report.attempts.len(),
                        requests * 100.0,
                        tokens * 100.0
                    );
                    println!("{about}");
                    // The depth of a second is less than three of the largest prompts, so each
                    // refusal reduces the rate.
                    let shallow = matches!(name, "second" | "lying");
                    let (least, later) = if shallow { (0.96, 1) } else { (0.97, 0) };
                    assert!(requests.max(tokens) >= least, "{about}");
                    let first = report.refused_by_minute.first().copied().unwrap_or(0);
                    let part = if name == "lying" { 0.05 } else { 0.01 };
                    assert!(first as f64 <= report.offered_first_minute as f64 * part, "{about}");
                    assert!(report.refused_from(2) <= later, "{about}");
                }
            }
        }
    }
}

/// Tokens are charged a third of their estimate. Unless this is learned from responses, two thirds
/// of the limit stay unused.
#[test]
fn an_estimate_that_is_far_too_high_costs_no_throughput() {
    let limits = Limits { requests: 6000, tokens: 200_000, median: 100.0 };
    for (name, shape) in SHAPES {
        let report = tokens(shape, true, 0.3, limits, 1);
        let (requests, tokens) = use_of(&report, limits);
        println!(
            "a third, {name}: 429s {:?}, use of requests {:.1} %, of tokens {:.1} %",
            report.refused_by_minute,
            requests * 100.0,
            tokens * 100.0
        );
        assert!(tokens >= 0.95, "{name}: {tokens}");
    }
}

/// Both limits are reached: the mean prompt uses equal fractions of both. Requests that one admits
/// may wait for the other, so neither is fully used. A bucket saves the unused amount up to its
/// depth: a minute's is enough for the full limit; half a second's, the safe burst of the other
/// shapes, is not.
#[test]
fn both_limits_at_once() {
    let seeds = if crate::full() { 1..=10 } else { 1..=1 };
    let shapes = if crate::full() { &SHAPES[..] } else { &SHAPES[..2] };
    let mut cases = Vec::new();
    for &(name, shape) in shapes {
        cases.extend(seeds.clone().map(|seed| (name, shape, seed)));
    }
    // A prompt's mean is 1.55 times its median, cut at 25 times.
    let limits = Limits { requests: 3000, tokens: 465_000, median: 100.0 };
    let reports = each(&cases, |(name, shape, seed)| (*name, tokens(*shape, true, 1.0, limits, *seed)));
    for (name, report) in reports {
        let (requests, tokens) = use_of(&report, limits);
        println!(
            "both, {name}: 429s {:?}, use of requests {:.1} %, of tokens {:.1} %",
            report.refused_by_minute,
            requests * 100.0,
            tokens * 100.0
        );
        assert_eq!(report.refused_from(2), 0, "{name}: {:?}", report.refused_by_minute);
        let least = if name == "minute" { 0.98 } else { 0.92 };
        assert!(requests.max(tokens) >= least, "{name}: {requests} {tokens}");
    }
}

//! Issue 3, 1: tokens with log-normal prompts, both dimensions binding in turn, estimates off by a factor of 0.3 to 3.

use weir::simulate::limiter::{Dimension, Joint, Shape};

use crate::table::SHAPES;
use crate::world::{Report, Scenario, Source, Tokens, run};

const REQUESTS: u64 = 6000;
const TOKENS: u64 = 2_000_000;

pub fn tokens(shape: Shape, headers: bool, charged: f64, median: f64, seed: u64) -> Report {
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, REQUESTS, shape).with(
        Dimension::TokensPerMinute,
        TOKENS,
        shape,
    );
    let mut scenario = Scenario::new("tokens", upstream);
    scenario.before = 0.05;
    scenario.after = 1.95;
    scenario.headers = headers;
    scenario.charged = charged;
    scenario.seed = seed;
    scenario.seconds = 420.0;
    scenario.measured_from = 180.0;
    let prompts = Tokens::LogNormal { median, sigma: 1.0, most: 10_000 };
    // Mean of the log-normal is 1.65 medians.
    let by_tokens = TOKENS as f64 / 60.0 / (median * 1.6 * charged);
    let rate = by_tokens.min(REQUESTS as f64 / 60.0) * 2.0;
    scenario.sources = vec![Source::new(0).rate(rate).tokens(prompts)];
    run(scenario)
}

pub fn use_of(report: &Report) -> (f64, f64) {
    (
        report.used.0 as f64 / (REQUESTS as f64 / 60.0 * report.measured),
        report.used.1 as f64 / (TOKENS as f64 / 60.0 * report.measured),
    )
}

#[test]
fn log_normal_prompts_and_wrong_estimates() {
    for headers in [true, false] {
        for (name, shape) in SHAPES {
            for charged in [0.3, 1.0, 3.0] {
                if std::env::var("ONLY").is_ok_and(|only| only != format!("{name}-{headers}-{charged}")) {
                    continue;
                }
                let report = tokens(shape, headers, charged, 400.0, 1);
                if std::env::var("ONLY").is_ok() {
                    let by: Vec<usize> = (0..84)
                        .map(|at| {
                            report
                                .attempts
                                .iter()
                                .filter(|t| ((at * 5) as f64..(at * 5 + 5) as f64).contains(*t))
                                .count()
                        })
                        .collect();
                    println!("{by:?}");
                }
                let (requests, tokens) = use_of(&report);
                println!(
                    "tokens, {name}, headers {headers}, charged {charged}: 429s {:?} of {}, use of requests {:.1} %, tokens {:.1} %",
                    report.refused_by_minute,
                    report.attempts.len(),
                    requests * 100.0,
                    tokens * 100.0
                );
            }
        }
    }
}

//! Issue 3, 1: after the learning time no shape causes a 429, and the limit is used.

use weir::internals::simulate::limiter::Joint;

use crate::matrix::{Case, LATENCIES, Outcome, SHAPES, Told, print, run_all};
use crate::world::{Scenario, Source, run};

/// The bounds of a cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// 429s of the learning time, as a fraction of the first minute's requests: the avoidable ones,
    /// which were sent after the first one was received; and all.
    avoidable: f64,
    learning: f64,
    /// 429s after it, and as a fraction of all attempts.
    after: u64,
    of_attempts: f64,
    /// The used fraction of the limit while there is work.
    used: f64,
}

/// The bounds, with the cases in which the goal (1 % while learning, none after, 97 %) is
/// impossible:
/// - A bucket that holds ten requests, through delays of up to 2 s before the accounting: arrivals
///   in a second are then almost Poisson. Releases at perfectly even distances of 97.5 % of the
///   rate meet 2.5 refusals in five minutes on average, and up to 6 in the worst of 20 runs; at 96
///   % still 1.2. Nobody can see the delays before they happened.
/// - Requests in flight at the first refusal. Their number grows with rate and delay. A rate slow
///   enough for 1 % of a fixed window's 600 with 2 s of delay would be 60 % of the load, and would
///   throttle an upstream without limits for minutes. Only later requests are avoidable.
/// - Headers that report a deeper bucket than the real one, which shows only by a refused burst.
/// - 30 % of the heads delayed by a minute: refusals and levels arrive late.
/// - Bare 429s, without numbers and time: each probe for a higher rate ends with the refusal of the
///   requests in flight. At most one in a hundred attempts is refused, and each run uses at least
///   90 %.
fn claim(case: &Case) -> Claim {
    let (name, latency) = (SHAPES[case.shape].0, LATENCIES[case.latency]);
    let ten_through_two_seconds =
        matches!(name, "second" | "lying") && latency == (2.0, 0.0, 0.0) && case.limit <= 600;
    let goal = Claim { avoidable: 0.01, learning: 0.01, after: 0, of_attempts: 0.0, used: 0.97 };
    let told = match case.told {
        Told::Headers if name == "lying" => Claim { avoidable: 0.01, learning: 0.05, ..goal },
        Told::Headers | Told::Configured => goal,
        Told::Refusals => {
            let used = if latency.2 > 0.0 { 0.95 } else { 0.97 };
            Claim { avoidable: 0.02, learning: 0.06, used, ..goal }
        }
        Told::Nothing => Claim { avoidable: 0.08, learning: 0.08, of_attempts: 0.01, used: 0.9, ..goal },
    };
    match case.told {
        _ if !ten_through_two_seconds => told,
        Told::Nothing => Claim { used: 0.85, ..told },
        Told::Headers | Told::Configured | Told::Refusals => Claim { after: 9, used: 0.96, ..told },
    }
}

/// The bounds that an outcome exceeds.
fn broken(outcome: &Outcome) -> Vec<String> {
    let case = &outcome.case;
    let claim = claim(case);
    let mut broken = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            broken.push(format!("{}: {what}; 429s by minute {:?}", outcome.name(), outcome.by_minute));
        }
    };
    check(outcome.late == 0, format!("{} granted after their deadline", outcome.late));
    let after = claim.after.max((outcome.attempts as f64 * claim.of_attempts) as u64);
    check(outcome.after <= after, format!("{} 429s after learning", outcome.after));
    check(outcome.learning <= claim.learning, format!("{:.4} refused while learning", outcome.learning));
    check(outcome.avoidable <= claim.avoidable, format!("{:.4} of it avoidable", outcome.avoidable));
    check(outcome.foreign < 0.2, format!("others said to take {:.2}", outcome.foreign));
    if case.factor > 1.0 {
        check(outcome.used >= claim.used, format!("{:.4} of the limit used", outcome.used));
        check(outcome.jain >= 0.99, format!("Jain index {:.4}", outcome.jain));
    } else if case.told != Told::Nothing {
        // At 0.5 and 1 times the limit only the slow start of an unknown scope costs.
        check(outcome.turned_away <= 0.02, format!("{:.4} turned away", outcome.turned_away));
    }
    broken
}

/// The mean use over the runs of a cell.
fn mean_use(case: &Case) -> f64 {
    let claim = claim(case);
    if claim.after > 0 || claim.used <= 0.9 { claim.used } else { 0.97 }
}

fn cases(told: Told) -> Vec<Case> {
    let full = crate::full();
    let mut cases = Vec::new();
    for shape in 0..SHAPES.len() {
        for latency in 0..LATENCIES.len() {
            for limit in [600, 6000] {
                for (load, factor) in [0.5, 1.0, 2.0, 10.0].into_iter().enumerate() {
                    let seeds = match (limit, told) {
                        _ if !full => 1,
                        (600, _) => 20,
                        (_, Told::Nothing) => 1,
                        (_, Told::Headers | Told::Configured | Told::Refusals) => 3,
                    };
                    let quick = limit == 600 && load == 2 && matches!(latency, 0 | 3);
                    if full || quick && (told != Told::Nothing || latency == 0) {
                        cases.extend((1..=seeds).map(|seed| Case {
                            told,
                            shape,
                            latency,
                            limit,
                            factor,
                            seed,
                        }));
                    }
                }
            }
        }
    }
    cases
}

/// Every cell, all failures at once; `--nocapture` prints the table.
#[test]
fn every_shape_and_source_of_the_limit() {
    let cases: Vec<Case> = Told::ALL.into_iter().flat_map(cases).collect();
    let outcomes = run_all(&cases);
    print(&outcomes);
    let mut broken: Vec<String> = outcomes.iter().flat_map(broken).collect();
    for runs in outcomes.chunk_by(Outcome::same_cell) {
        let mean = runs.iter().map(|run| run.used).sum::<f64>() / runs.len() as f64;
        if runs.len() > 1 && runs[0].case.factor > 1.0 && mean < mean_use(&runs[0].case) {
            broken.push(format!("{} and its kin: {mean:.4} of the limit used on average", runs[0].name()));
        }
    }
    assert!(broken.is_empty(), "{} of {} runs:\n{}", broken.len(), cases.len(), broken.join("\n"));
}

#[test]
fn an_upstream_without_limits_is_not_held_back() {
    let mut scenario = Scenario::new(Joint::new());
    scenario.sources = vec![Source::new(0).rate(300.0)];
    scenario.seconds = 120.0;
    scenario.measured_from = 60.0;
    let report = run(scenario);
    assert_eq!(report.refused_upstream + report.deadline_refused + report.other_refused, 0);
    assert!(report.percentile(0.99) < 0.05, "{}", report.percentile(0.99));
}

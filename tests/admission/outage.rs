//! Issue 4, 1 to 3: a flaky upstream, outages of every kind, and no amplification.

use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Report, Scenario, Source, Weather, percentile, run};

/// 40 calls a second on a limit of 6,000 a minute, with one minute without faults first.
fn scenario(weather: Vec<(f64, f64, Weather)>, seconds: f64) -> Scenario {
    let upstream = Joint::new().with(Dimension::RequestsPerMinute, 6000, Shape::Bucket(Depth::Window));
    let mut scenario = Scenario::new(upstream);
    scenario.before = 0.05;
    scenario.after = 1.0;
    scenario.weather = weather;
    scenario.sources = vec![Source::new(0).rate(40.0)];
    scenario.seconds = seconds;
    scenario.measured_from = 60.0;
    scenario
}

fn attempts(report: &Report, from: f64, until: f64) -> usize {
    report.attempts.iter().filter(|at| (from..until).contains(*at)).count()
}

#[test]
fn a_flaky_upstream_costs_no_call() {
    for seed in 1..=3 {
        let mut scenario = scenario(vec![(0.0, 1e9, Weather::Flaky(0.25))], 250.0);
        scenario.seed = seed;
        let report = run(scenario);
        let calls = report.offered as f64;
        let succeeded = report.done.len() as f64;
        let ended =
            succeeded + report.failed.len() as f64 + (report.deadline_refused + report.other_refused) as f64;
        let each = report.attempts.len() as f64 / calls;
        let latency: Vec<f64> = report.done.iter().map(|done| done.1).collect();
        println!(
            "flaky, seed {seed}: {succeeded} of {ended} calls succeeded, {each:.3} attempts a call, latency p50 {:.2} p99 {:.2} s, failed {}, refused {}",
            percentile(&latency, 0.5),
            percentile(&latency, 0.99),
            report.failed.len(),
            report.deadline_refused + report.other_refused,
        );
        assert!(calls > 9_000.0);
        assert!(succeeded / ended >= 0.999, "{succeeded} of {ended}");
        assert!(each <= 1.36, "{each}");
    }
}

#[test]
fn ten_seconds_cost_no_call() {
    for weather in [Weather::Overloaded(0.05), Weather::Refused, Weather::Overloaded(1.0)] {
        let report = run(scenario(vec![(60.0, 70.0, weather)], 140.0));
        let blocked = attempts(&report, 62.0, 70.0) as f64 / (8.0 * 40.0);
        let back = report.done.iter().filter(|done| (70.0..80.0).contains(&done.0)).count();
        let spike =
            (700..1000).map(|at| attempts(&report, f64::from(at) / 10.0, f64::from(at) / 10.0 + 1.0)).max();
        println!(
            "10 s of {weather:?}: failed {}, refused {}, attempts while blocked {:.1} % of the offered, back {back} in 10 s, spike {spike:?} a second",
            report.failed.len(),
            report.other_refused + report.deadline_refused,
            blocked * 100.0,
        );
        assert_eq!(report.failed.len(), 0);
        assert_eq!(report.other_refused + report.deadline_refused, 0);
        assert!(blocked <= 0.05, "{blocked}");
        assert!(back > 200, "{back}");
    }
}

/// The wait for the next probe does not prolong a short outage.
#[test]
fn it_is_back_soon_after_a_short_outage() {
    for length in [2.0, 5.0, 10.0] {
        for seed in 1..=4 {
            let end = 60.0 + length;
            let mut scenario = scenario(vec![(60.0, end, Weather::Refused)], 90.0);
            scenario.seed = seed;
            let report = run(scenario);
            let answers = report.done.iter().map(|done| done.0).filter(|at| *at >= end);
            let back = answers.fold(f64::INFINITY, f64::min) - end;
            println!("{length} s, seed {seed}: the first answer {back:.2} s after");
            assert!(back <= 1.0 + length / 4.0, "{back}");
        }
    }
}

/// During the ramp-up after the first outage: the wait for the second counts from its own start.
#[test]
fn a_second_outage_is_not_the_first() {
    let report = run(scenario(vec![(60.0, 72.0, Weather::Refused), (82.0, 98.0, Weather::Refused)], 160.0));
    let back = report.done.iter().filter(|done| (72.0..82.0).contains(&done.0)).count();
    println!("back {back}, failed {}, refused {}", report.failed.len(), report.other_refused);
    assert!(back > 40, "{back}");
    assert_eq!(report.other_refused + report.deadline_refused, 0);
}

#[test]
fn five_minutes_are_answered_in_time() {
    for weather in [Weather::Overloaded(0.05), Weather::Refused] {
        let report = run(scenario(vec![(60.0, 360.0, weather)], 400.0));
        let blocked = attempts(&report, 62.0, 360.0) as f64 / (298.0 * 40.0);
        let longest = percentile(&report.refused_after, 1.0);
        let back = report.done.iter().filter(|done| (368.0..372.0).contains(&done.0)).count();
        println!(
            "300 s of {weather:?}: refused {}, failed {}, longest wait {longest:.1} s, attempts {:.2} % of the offered, {back} answers from 8 to 12 s after",
            report.other_refused,
            report.failed.len(),
            blocked * 100.0
        );
        assert!(blocked <= 0.05, "{blocked}");
        assert!(longest <= 30.5, "{longest}");
        assert!(back >= 120, "{back}");
    }
}

#[test]
fn without_max_wait_the_refusal_is_immediate() {
    let mut scenario = scenario(vec![(60.0, 120.0, Weather::Refused)], 150.0);
    scenario.settings.breaker.max_wait = std::time::Duration::ZERO;
    let report = run(scenario);
    let longest = percentile(&report.refused_after, 1.0);
    let back = report.done.iter().filter(|done| (128.0..132.0).contains(&done.0)).count();
    println!(
        "no patience: refused {}, the last after {longest:.2} s, {back} answers from 8 to 12 s after",
        report.other_refused
    );
    assert!(percentile(&report.refused_after, 0.95) < 0.001);
    assert!(back >= 120, "{back}");
}

#[test]
fn a_stall_is_noticed() {
    let report = run(scenario(vec![(60.0, 180.0, Weather::Stall)], 260.0));
    let before = attempts(&report, 60.0, 92.0);
    let blocked = attempts(&report, 92.0, 180.0) as f64 / (88.0 * 40.0);
    let back = report.done.iter().filter(|done| (188.0..192.0).contains(&done.0)).count();
    println!(
        "stall: {before} attempts before it was noticed, {:.2} % of the offered after, {back} answers from 8 to 12 s after",
        blocked * 100.0
    );
    let by_second: Vec<usize> =
        (180..200).map(|at| attempts(&report, f64::from(at), f64::from(at) + 1.0)).collect();
    println!(
        "{by_second:?} other {} deadline {} failed {}",
        report.other_refused,
        report.deadline_refused,
        report.failed.len()
    );
    assert!(blocked <= 0.05, "{blocked}");
}

#[test]
fn half_failing_is_shed_not_blocked() {
    let report = run(scenario(vec![(60.0, 240.0, Weather::Flaky(0.5))], 240.0));
    let offered = 180.0 * 40.0;
    let made = attempts(&report, 60.0, 240.0) as f64;
    let done = report.done.iter().filter(|done| done.0 > 60.0).count() as f64;
    let per_second: Vec<f64> =
        (60..239).map(|at| attempts(&report, f64::from(at), f64::from(at) + 1.0) as f64).collect();
    println!(
        "half failing: {made} attempts for {offered} calls, {done} succeeded, refused {}, failed {}, quietest second {}",
        report.other_refused + report.deadline_refused,
        report.failed.len(),
        percentile(&per_second, 0.0)
    );
    assert!(percentile(&per_second, 0.0) >= 5.0, "blocked");
}

#[test]
fn everything_failing_without_a_breaker_amplifies_by_less_than_a_tenth() {
    let mut scenario = scenario(vec![(0.0, 1e9, Weather::Overloaded(0.05))], 60.0);
    scenario.settings.breaker.enabled = false;
    let report = run(scenario);
    let each = report.attempts.len() as f64 / report.offered as f64;
    println!("amplification: {each:.3} over {} requests", report.offered);
    assert!(report.offered >= 1000);
    assert!(each <= 1.1, "{each}");
}

/// Each ramp-up started at ten a second, and the queue grew without bound. Without Weir, with the
/// SDK's two retries, 99 of 100 calls take up to 1.5 s.
#[test]
fn short_failures_stay_short() {
    for seed in 1..=3 {
        let gaps = (0..24).map(|gap| 60.0 + f64::from(gap) * 5.0);
        let mut scenario = scenario(gaps.map(|from| (from, from + 0.5, Weather::Refused)).collect(), 180.0);
        (scenario.seed, scenario.before, scenario.after) = (seed, 0.02, 0.1);
        scenario.upstream =
            Joint::new().with(Dimension::RequestsPerMinute, 30_000, Shape::Bucket(Depth::Window));
        scenario.sources = vec![Source::new(0).rate(100.0)];
        let report = run(scenario);
        let took: Vec<f64> = report.done.iter().filter(|done| done.0 >= 60.0).map(|done| done.1).collect();
        let (half, most) = (percentile(&took, 0.5), percentile(&took, 0.99));
        println!("gone 0.5 s in each 5 s: p50 {half:.2} p99 {most:.2} s, failed {}", report.failed.len());
        assert!(half <= 0.2 && most <= 3.0, "p50 {half}, p99 {most}");
        assert!(report.failed.is_empty() && report.other_refused + report.deadline_refused == 0);
    }
}

/// R05: an upstream whose responses take a minute is not failing.
#[test]
fn slow_and_healthy_is_no_outage() {
    for (slow, rate) in [(1.0, 0.5), (0.5, 0.2), (0.06, 2.0)] {
        let mut scenario = scenario(Vec::new(), 400.0);
        (scenario.slow, scenario.after) = (slow, 0.2);
        scenario.sources = vec![Source { patience: 300.0, ..Source::new(0).rate(rate) }];
        let report = run(scenario);
        println!(
            "{slow} slow: {} refused of {}",
            report.other_refused + report.deadline_refused,
            report.offered
        );
        assert_eq!(report.other_refused + report.deadline_refused, 0, "{slow} of the answers take a minute");
    }
}

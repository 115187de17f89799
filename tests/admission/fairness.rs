//! Issue 3, 4 and 5: fairness, large requests, accurate predictions.

use weir::internals::admission::Guarantee;
use weir::internals::caller::{CallerId, Lane};
use weir::internals::simulate::limiter::{Depth, Dimension, Joint, Shape};

use crate::world::{Scenario, Source, Tokens, percentile, run};

const MINUTE: Shape = Shape::Bucket(Depth::Window);

fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    sum * sum / (values.len() as f64 * squares)
}

fn token_limited(tokens: u64) -> Joint {
    Joint::new().with(Dimension::TokensPerMinute, tokens, MINUTE)
}

#[test]
fn ten_thousand_waiting_delay_nobody_else() {
    let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, 600, MINUTE));
    let mut hog = Source::new(0);
    hog.backlog = 10_000;
    hog.patience = 100_000.0;
    let mut modest = Source::new(1);
    modest.closed = 1;
    modest.from = 90.0;
    scenario.sources = vec![hog, modest];
    scenario.seconds = 300.0;
    scenario.settings.queue.max_waiting_per_caller = 20_000;
    let report = run(scenario);
    let waits = &report.waits_of[&1];
    let worst = percentile(waits, 1.0);
    println!("hog: the other's waits p50 {:.3} max {worst:.3} of {}", percentile(waits, 0.5), waits.len());
    // Two requests of a bucket of ten a second, at the estimated rate.
    assert!(worst <= 0.21, "{worst}");
    assert!(waits.len() > 50);
}

#[test]
fn service_follows_weights_whatever_the_sizes() {
    for seed in 1..=if crate::full() { 3 } else { 1 } {
        let mut scenario = Scenario::new(token_limited(10_000_000));
        scenario.seed = seed;
        let weights = [1, 1, 2, 4, 1, 3, 2, 1];
        for (index, weight) in weights.into_iter().enumerate() {
            let mut source = Source::new(index as u16);
            source.weight = weight;
            source.backlog = if index % 3 == 0 { 40_000 } else { 12_000 };
            source.patience = 1e6;
            source.tokens = match index % 3 {
                0 => Tokens::Fixed(200),
                1 => Tokens::Fixed(3000),
                _ => Tokens::LogNormal { median: 500.0, sigma: 1.0, most: 10_000 },
            };
            scenario.sources.push(source);
        }
        scenario.settings.queue.max_waiting = 1_000_000;
        scenario.settings.queue.max_waiting_per_caller = 100_000;
        scenario.settings.queue.max_bytes = usize::MAX;
        scenario.measured_from = 70.0;
        scenario.seconds = 100.0;
        let report = run(scenario);
        println!(
            "served {:?} 429s {:?} refused {} {}",
            report.served, report.refused_by_minute, report.deadline_refused, report.other_refused
        );
        let shares: Vec<f64> = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| {
                report.served.get(&(index as u16)).copied().unwrap_or(0) as f64 / f64::from(*weight)
            })
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let worst = shares.iter().map(|share| (share / mean - 1.0).abs()).fold(0.0, f64::max);
        println!("weights, seed {seed}: Jain {:.5}, worst deviation {:.2} %", jain(&shares), worst * 100.0);
        assert!(jain(&shares) >= 0.99);
        assert!(worst <= 0.02, "{shares:?}");
    }
}

#[test]
fn the_background_gets_what_is_left_and_never_starves() {
    let mut scenario = Scenario::new(token_limited(600_000));
    let mut front = Source::new(0).rate(200.0);
    front.until = 200.0;
    let mut back = Source::new(1);
    back.lane = Lane::Background;
    back.backlog = 9000;
    back.patience = 1e6;
    scenario.sources = vec![front, back];
    scenario.settings.queue.max_waiting = 100_000;
    scenario.settings.queue.max_waiting_per_caller = 20_000;
    scenario.seconds = 200.0;
    let report = run(scenario);
    let (front, back) = (report.served[&0] as f64, report.served[&1] as f64);
    let share = back / (front + back);
    println!("background: {:.1} % of the service under load", share * 100.0);
    assert!((0.03..=0.08).contains(&share), "{share}");
}

#[test]
fn large_requests_neither_starve_nor_hold_others_for_longer_than_their_cost() {
    // A whole minute's limit in one request, twice, between small ones.
    let mut scenario = Scenario::new(token_limited(600_000));
    let mut small = Source::new(0).rate(50.0);
    small.patience = 1e6;
    let mut large = Source::new(1);
    large.tokens = Tokens::Fixed(580_000);
    large.backlog = 2;
    large.patience = 1e6;
    scenario.sources = vec![small, large];
    scenario.measured_from = 0.0;
    scenario.seconds = 600.0;
    let report = run(scenario);
    let longest = percentile(&report.waits_of[&0], 1.0);
    println!(
        "large: {:?} answered, the small ones waited {longest:.1} s at most, 429s {:?}",
        report.answered.get(&1),
        report.refused_by_minute
    );
    assert_eq!(report.answered.get(&1), Some(&2));
    // Before the limit is known, one of them may be refused.
    assert!(report.refused_upstream <= 1 && report.refused_from(1) == 0);
    assert!(longest <= 2.0 * 60.0 * 1.05, "{longest}");
}

#[test]
fn predictions_hold_in_a_steady_queue() {
    for seed in 1..=3 {
        let mut scenario = Scenario::new(token_limited(1_000_000));
        scenario.seed = seed;
        for caller in 0..5 {
            let mut source = Source::new(caller).rate(7.5);
            source.weight = 1 + u32::from(caller % 2);
            source.tokens = Tokens::LogNormal { median: 400.0, sigma: 0.8, most: 5000 };
            source.patience = 40.0;
            scenario.sources.push(source);
        }
        (scenario.measured_from, scenario.seconds) = (200.0, 480.0);
        let report = run(scenario);
        let errors: Vec<f64> = report
            .predictions
            .iter()
            .filter(|(_, happened)| *happened > 0.5)
            .map(|(predicted, happened)| (predicted / happened - 1.0).abs())
            .collect();
        let (median, worst) = (percentile(&errors, 0.5), percentile(&errors, 0.9));
        println!(
            "predictions, seed {seed}: median error {:.1} %, p90 {:.1} % of {}, refused for their deadline {}, late {}",
            median * 100.0,
            worst * 100.0,
            errors.len(),
            report.deadline_refused,
            report.late
        );
        assert!(errors.len() > 500, "{}", errors.len());
        // Two callers that never wait use half of the limit in requests of random sizes. Over a
        // wait of 35 s this changes the rest by 6.4 % (standard deviation). A measurement of that
        // length has an error of 9 %, and of 15 % in one of ten cases.
        assert!(median <= 0.1 && worst <= 0.2, "{median} {worst}");
        assert_eq!(report.late, 0);
    }
}

/// P01: tokens were compared although the limit of requests was reached; 3 to 192 were served.
#[test]
fn shares_are_even_whichever_limit_binds() {
    let both = |requests, tokens| {
        Joint::new().with(Dimension::RequestsPerMinute, requests, MINUTE).with(
            Dimension::TokensPerMinute,
            tokens,
            MINUTE,
        )
    };
    for (upstream, small, name) in
        [(both(300, 10_000_000), 10, "requests"), (both(100_000, 200_000), 100, "tokens")]
    {
        let mut scenario = Scenario::new(upstream);
        for (caller, tokens) in [(0, small), (1, 1000)] {
            let mut source = Source::new(caller).tokens(Tokens::Fixed(tokens));
            (source.backlog, source.patience) = (10_000, 1e6);
            scenario.sources.push(source);
        }
        (scenario.measured_from, scenario.seconds) = (120.0, 240.0);
        let report = run(scenario);
        let tokens = |caller: u16| report.served[&caller] as f64;
        let (one, other) = match name {
            "requests" => (tokens(0) / small as f64, tokens(1) / 1000.0),
            _ => (tokens(0), tokens(1)),
        };
        println!("{name} bind: {one} and {other} {name} served");
        assert!((one / other - 1.0).abs() <= 0.05, "{one} {other}");
    }
}

/// B3: one interactive worker with one request at a time got everything, and so did one background
/// worker with large requests.
#[test]
fn background_gets_its_part_beside_workers_with_one_request_at_a_time() {
    let worker = |caller, lane, tokens| {
        let mut source = Source::new(caller).tokens(Tokens::Fixed(tokens));
        (source.lane, source.closed, source.patience) = (lane, 1, 1e6);
        source
    };
    let crowd = |caller, lane, tokens| {
        let mut source = worker(caller, lane, tokens);
        (source.closed, source.backlog) = (0, 9000);
        source
    };
    for (limit, sources, seconds) in [
        (30_000, [worker(0, Lane::Interactive, 10_000), crowd(1, Lane::Background, 10_000)], 4.0 * 3600.0),
        (600_000, [crowd(0, Lane::Interactive, 1000), worker(1, Lane::Background, 100_000)], 700.0),
    ] {
        let mut scenario = Scenario::new(token_limited(limit));
        scenario.sources = sources.to_vec();
        (scenario.before, scenario.after) = (0.5, 5.0);
        scenario.settings.queue.max_waiting_per_caller = 20_000;
        (scenario.measured_from, scenario.seconds) = (120.0, seconds);
        let report = run(scenario);
        let served = |caller: u16| report.served.get(&caller).copied().unwrap_or(0) as f64;
        let part = served(1) / (served(0) + served(1));
        println!("limit {limit}: background gets {:.1} %", part * 100.0);
        // One request is a percent of the service in this time.
        assert!((0.035..=0.065).contains(&part), "{part}");
    }
}

/// Other callers with ten times the weight request ten times the limit: the guaranteed caller gets
/// its part, within one request.
#[test]
fn a_guarantee_holds_within_one_request_and_is_given_back_within_a_second() {
    const PART: f64 = 0.3;
    let guarantee = || vec![Guarantee { caller: CallerId(0), family: None, part: PART }];
    for seed in 1..=3 {
        let mut scenario = Scenario::new(token_limited(600_000));
        (scenario.seed, scenario.measured_from, scenario.seconds) = (seed, 70.0, 190.0);
        scenario.settings.guarantees = guarantee();
        scenario.settings.queue.max_waiting = 1_000_000;
        for caller in 0..10 {
            let mut source =
                Source::new(caller).tokens(Tokens::LogNormal { median: 400.0, sigma: 1.0, most: 3_000 });
            (source.backlog, source.patience) = (6_000, 1e6);
            source.weight = if caller == 0 { 1 } else { 10 };
            scenario.sources.push(source);
        }
        let report = run(scenario);
        let all: u64 = report.served.values().sum();
        let (own, due) = (report.served[&0] as f64, all as f64 * PART);
        println!("guarantee, seed {seed}: {own} of {due} due, {:.2} %", own / all as f64 * 100.0);
        // Both ends of the measured time may cut a request.
        assert!((own - due).abs() <= 2.0 * 3_000.0, "{own} of {due}");
    }
    // It is idle for two minutes, and others use everything; then it gets its part back.
    let mut scenario = Scenario::new(token_limited(600_000));
    scenario.settings.guarantees = guarantee();
    scenario.seconds = 180.0;
    let mut bulk = Source::new(1);
    (bulk.backlog, bulk.patience, bulk.weight) = (30_000, 1e6, 100);
    scenario.settings.queue.max_waiting_per_caller = 50_000;
    let mut back = Source::new(0);
    (back.closed, back.from) = (8, 120.0);
    scenario.sources = vec![bulk, back];
    let report = run(scenario);
    let worst = percentile(&report.waits_of[&0], 1.0);
    println!("given back: waits of at most {worst:.3} s, {} of them", report.waits_of[&0].len());
    assert!(worst <= 1.0, "{worst}");
}

/// Two callers below their share wait only for the current request and for each other.
#[test]
fn a_light_caller_hardly_waits_beside_a_bulk() {
    for seed in 1..=3 {
        let mut scenario = Scenario::new(Joint::new().with(Dimension::RequestsPerMinute, 1200, MINUTE));
        (scenario.seed, scenario.before, scenario.after) = (seed, 0.02, 0.05);
        let mut bulk = Source::new(0);
        (bulk.backlog, bulk.patience, bulk.from) = (4000, 1e6, 0.0);
        scenario.sources = vec![bulk];
        for caller in 1..=2 {
            let mut light = Source::new(caller).rate(4.0);
            light.from = 60.0;
            scenario.sources.push(light);
        }
        (scenario.measured_from, scenario.seconds) = (90.0, 180.0);
        let report = run(scenario);
        for caller in 1..=2 {
            let waits = &report.waits_of[&caller];
            let (half, most) = (percentile(waits, 0.5), percentile(waits, 0.99));
            println!(
                "light caller {caller}, seed {seed}: waits p50 {half:.3} p99 {most:.3} s of {}",
                waits.len()
            );
            assert!(most <= 0.25 && waits.len() > 200, "{most}");
        }
    }
}

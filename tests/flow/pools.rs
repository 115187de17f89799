//! Pools: several upstreams behind one queue, each used to its limit; a failing one costs no call.

use std::time::Duration;

use weir::internals::admission::LimitSettings;
use weir::internals::simulate::limiter::{Depth, Shape};
use weir::internals::simulate::{self, Fault, Latency, Limits, Outage};

use super::world::{Answer, Call, Setup, Stand, World, statuses};

const UNKNOWN: LimitSettings = LimitSettings {
    requests_per_minute: None,
    tokens_per_minute: None,
    requests_per_day: None,
    tokens_per_day: None,
    share: 1.0,
    in_flight: None,
    finds_in_flight: false,
};

fn simulator_settings(rpm: u64, shape: Shape) -> simulate::Settings {
    simulate::Settings {
        limits: Limits { rpm: Some(rpm), tpm: Some(1_000_000_000), ..Limits::NONE },
        shape,
        after: Latency::Fixed(Duration::from_millis(100)),
        seed: rpm,
        ..simulate::Settings::default()
    }
}

/// Admitted and refused between these seconds.
fn counts(stand: &Stand, from: u64, to: u64) -> (u64, u64) {
    let history = stand.simulator.stats().history;
    let within = history.iter().filter(|second| (from..to).contains(&second.second));
    within.fold((0, 0), |sum, second| (sum.0 + second.admitted, sum.1 + second.refused))
}

#[tokio::test(start_paused = true)]
async fn limits_of_three_sizes_and_shapes_are_used_together() {
    let members = vec![
        ("small", 0, UNKNOWN, simulator_settings(60, Shape::Bucket(Depth::Window))),
        ("middle", 0, UNKNOWN, simulator_settings(300, Shape::FixedWindow)),
        ("large", 0, UNKNOWN, simulator_settings(600, Shape::SlidingLog)),
    ];
    let (world, stands) = World::pool(Setup::default(), members);
    let (learned, end) = (180, 480);
    let answers = world.offer(18.0, 18 * end, |_| Call::chat().timeout(60)).await;
    println!("{:?}", statuses(&answers));
    let (mut admitted, mut refused) = (0, 0);
    for (stand, limit) in stands.iter().zip([60, 300, 600]) {
        let (own, not) = counts(stand, learned, u64::from(end));
        println!(
            "{limit} a minute: {own} admitted, {not} refused, {} refused in all",
            stand.simulator.stats().refused_total()
        );
        admitted += own;
        refused += not;
    }
    let possible = 960.0 * f64::from(end - 180) / 60.0;
    let used = admitted as f64 / possible;
    println!("{used:.3} of the sum");
    assert!(used >= 0.97, "{used:.3} of the sum of the limits");
    assert_eq!(refused, 0, "refused after three minutes");
}

#[tokio::test(start_paused = true)]
async fn the_better_priority_is_used_up_before_the_other_serves() {
    let members = vec![
        ("reserved", 0, UNKNOWN, simulator_settings(300, Shape::Bucket(Depth::Window))),
        ("on-demand", 1, UNKNOWN, simulator_settings(3_000, Shape::Bucket(Depth::Window))),
    ];
    let (world, stands) = World::pool(Setup::default(), members);
    // Below its limit nothing is spilled.
    world.offer(4.0, 4 * 120, |_| Call::chat().timeout(20)).await;
    assert_eq!(stands[1].simulator.stats().requests, 0, "nothing to spill");
    let from = world.now().as_secs() + 90;
    let answers = world.offer(10.0, 10 * 240, |_| Call::chat().timeout(20)).await;
    let to = world.now().as_secs() - 20;
    let ok = answers.iter().filter(|answer| answer.is_success()).count();
    let (better, _) = counts(&stands[0], from, to);
    let used = better as f64 / (5.0 * (to - from) as f64);
    println!(
        "{ok} of {}: {used:.3} of the better one's limit, {} to the other",
        answers.len(),
        stands[1].simulator.stats().requests
    );
    assert_eq!(ok, answers.len(), "{:?}", statuses(&answers));
    assert!(used >= 0.99, "{used:.3} of the better one's limit");
    assert!(stands[1].simulator.stats().requests > 700, "the rest went to the other one");
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_under_load_costs_no_call() {
    for kind in ["refused", "server_is_overloaded"] {
        let mut dying = simulator_settings(60_000, Shape::Bucket(Depth::Window));
        dying.outages = vec![Outage::parse(&format!("20s+40s:{kind}")).expect("an outage")];
        let healthy = || simulator_settings(60_000, Shape::Bucket(Depth::Window));
        let members =
            vec![("a", 0, UNKNOWN, dying), ("b", 0, UNKNOWN, healthy()), ("c", 0, UNKNOWN, healthy())];
        let (world, stands) = World::pool(Setup::default(), members);
        if kind == "refused" {
            stands[0].wire.refuse(Duration::from_secs(20), Duration::from_mins(1));
        }
        let answers = world.offer(30.0, 30 * 90, |_| Call::chat()).await;
        let failed = answers.iter().filter(|answer| !answer.is_success()).count();
        let attempts: u64 = answers.iter().map(Answer::attempts).sum();
        let each = attempts as f64 / answers.len() as f64;
        let slowest = answers.iter().map(Answer::took).max().expect("answers");
        println!("{kind}: {failed} failed, {each:.3} attempts for each call, the slowest took {slowest:?}");
        assert_eq!(failed, 0, "{kind}: {:?}", statuses(&answers));
        assert!(each <= 1.05, "{kind}: {each:.3} attempts for each call");
        assert!(slowest < Duration::from_secs(3), "{kind}: {slowest:?}");
        let (after, _) = counts(&stands[0], 75, 90);
        assert!(after > 100, "{kind}: it is back, and gets {after} requests in 15 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_takes_its_upstream_out_and_no_call_fails() {
    let mut poor = simulator_settings(60_000, Shape::Bucket(Depth::Window));
    poor.outages = vec![Outage::parse("10s+100s:insufficient_quota").expect("an outage")];
    let rich = simulator_settings(60_000, Shape::Bucket(Depth::Window));
    let (world, stands) =
        World::pool(Setup::default(), vec![("poor", 0, UNKNOWN, poor), ("rich", 1, UNKNOWN, rich)]);
    let answers = world.offer(10.0, 10 * 240, |_| Call::chat()).await;
    assert!(answers.iter().all(Answer::is_success), "{:?}", statuses(&answers));
    let during = attempts_between(&stands[0], 11, 110);
    let (after, _) = counts(&stands[0], 180, 240);
    println!("{during} probes while it was spent, {after} requests in the last minute");
    // After 2, 4, 8, 16 and 32 s, and once a minute from then on.
    assert!(during <= 6, "{during} probes in 100 s");
    assert!(after > 500, "it is back: {after}");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_with_the_upstream_that_has_it() {
    let members = (0..3).map(|number| {
        let names = ["a", "b", "c"];
        (names[number], 0, UNKNOWN, simulator_settings(60_000, Shape::Bucket(Depth::Window)))
    });
    let (world, stands) = World::pool(Setup::default(), members.collect());
    let served = || stands.iter().map(|stand| stand.simulator.stats().requests).collect::<Vec<u64>>();
    let mut owners = std::collections::BTreeSet::new();
    for stream in [false, true] {
        for _ in 0..9 {
            let before = served();
            let body =
                format!(r#"{{"model":"gpt-4o-mini","store":true,"stream":{stream},"input":"Three words."}}"#);
            let answer = world.call(&Call::post("/v1/responses", body)).await;
            assert!(answer.is_success());
            let owner = (0..3).find(|place| served()[*place] > before[*place]).expect("one served it");
            owners.insert(owner);
            let text = String::from_utf8_lossy(&answer.body);
            let start = text.find("resp_").expect("an id");
            let id: String =
                text[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let body = format!(r#"{{"model":"gpt-4o-mini","previous_response_id":"{id}","input":"More."}}"#);
            for _ in 0..4 {
                let before = served();
                world.call(&Call::post("/v1/responses", body.clone())).await;
                let one = (0..3).find(|place| served()[*place] > before[*place]);
                assert_eq!(one, Some(owner), "{id}");
            }
        }
    }
    assert_eq!(owners.len(), 3, "new ones go to all");
    // An object with an unknown owner belongs to the home.
    let before = served();
    world.call(&Call::post("/v1/files", "{}")).await;
    world
        .call(&Call::post(
            "/v1/responses",
            r#"{"model":"m","previous_response_id":"resp_unknown000","input":"x"}"#,
        ))
        .await;
    assert_eq!(served()[0], before[0] + 2, "{before:?} {:?}", served());
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_upstream_at_once() {
    let mut failing = simulator_settings(60_000, Shape::Bucket(Depth::Window));
    failing.faults = vec![(Fault::parse("500").expect("a fault"), 1.0)];
    let healthy = simulator_settings(60_000, Shape::Bucket(Depth::Window));
    let members = vec![("failing", 0, UNKNOWN, failing), ("healthy", 0, UNKNOWN, healthy)];
    let (world, _) = World::pool(Setup::default(), members);
    let answers = world.offer(2.0, 20, |_| Call::chat()).await;
    assert!(answers.iter().all(Answer::is_success), "{:?}", statuses(&answers));
    let retried: Vec<_> = answers.iter().filter(|answer| answer.attempts() > 1).collect();
    assert!(!retried.is_empty());
    for answer in retried {
        assert!(
            answer.took() < Duration::from_millis(400),
            "no pause before another one: {:?}",
            answer.took()
        );
    }
}

/// Requests that a simulator got between these seconds.
fn attempts_between(stand: &Stand, from: u64, to: u64) -> u64 {
    let history = stand.simulator.stats().history;
    history.iter().filter(|second| (from..to).contains(&second.second)).map(|second| second.requests).sum()
}

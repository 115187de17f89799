//! Outages: callers wait for their end, and the upstream gets only probes.

use std::sync::Arc;
use std::time::Duration;

use weir::internals::simulate::{Outage, OutageKind};

use super::world::{Answer, Call, Setup, World, statuses, successes};

const RATE: f64 = 40.0;
const BEGIN: Duration = Duration::from_secs(20);

/// How the upstream fails.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Overloaded,
    Refused,
    Stall,
}

/// An outage, and calls before, during and after it.
async fn ride(
    kind: Kind,
    length: Duration,
    count: u32,
    max_wait: Duration,
    call: Call,
) -> (Arc<World>, Vec<Answer>) {
    let mut setup = Setup::default();
    let outage = match kind {
        Kind::Overloaded => format!("{}s+{}s:server_is_overloaded", BEGIN.as_secs(), length.as_secs()),
        Kind::Refused => format!("{}s+{}s:refused", BEGIN.as_secs(), length.as_secs()),
        Kind::Stall => format!("{}s+{}s:stall", BEGIN.as_secs(), length.as_secs()),
    };
    let outage = Outage::parse(&outage).expect("an outage");
    setup.simulator.outages = vec![outage];
    setup.scopes.breaker.max_wait = max_wait;
    let world = World::new(setup);
    if outage.kind == OutageKind::Refused {
        world.wire.refuse(BEGIN, BEGIN + length);
    }
    let answers = world.offer(RATE, count, |_| call.clone()).await;
    (world, answers)
}

fn during(answers: &[Answer], from: Duration, to: Duration) -> Vec<&Answer> {
    answers.iter().filter(|answer| from <= answer.began && answer.began < to).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_seconds_cost_no_call() {
    for kind in [Kind::Overloaded, Kind::Refused] {
        let length = Duration::from_secs(10);
        let end = BEGIN + length;
        let (world, answers) =
            ride(kind, length, 40 * 60, Duration::from_secs(30), Call::chat().timeout(120)).await;
        assert_eq!(successes(&answers), answers.len(), "{kind:?}: {:?}", statuses(&answers));
        // Blocked within two seconds; from then on probes only.
        let probes = world.attempts(BEGIN + Duration::from_secs(2), end);
        assert!(probes as f64 <= 0.05 * RATE * 8.0, "{kind:?}: {probes} attempts while it is blocked");
        // The queue is admitted at a rising rate, never above the limit.
        let most = world.attempts_by_second().into_iter().filter(|(second, _)| *second >= end.as_secs());
        let most = most.map(|(_, attempts)| attempts).max().unwrap_or_default();
        assert!(most <= 105, "{kind:?}: {most} attempts in a second after the outage");
        // In order of arrival, except for the few that found the outage.
        let waited = during(&answers, BEGIN + Duration::from_secs(2), end);
        let overtaken =
            waited.windows(2).filter(|pair| pair[0].head > pair[1].head + Duration::from_millis(500)).count();
        assert!(overtaken <= waited.len() / 20, "{kind:?}: {overtaken} of {} were overtaken", waited.len());
        let last = answers.iter().map(|answer| answer.ended).max().unwrap_or_default();
        println!(
            "10 s of {kind:?}: probes {probes}, most a second after {most}, overtaken {overtaken}, all done at {last:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn five_minutes_overloaded_are_answered_in_time_and_over_quickly() {
    five_minutes(Kind::Overloaded).await;
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_refused_connections_are_answered_in_time_and_over_quickly() {
    five_minutes(Kind::Refused).await;
}

async fn five_minutes(kind: Kind) {
    let length = Duration::from_mins(5);
    let end = BEGIN + length;
    let patience = Duration::from_secs(30);
    let (world, answers) = ride(kind, length, 40 * 350, patience, Call::chat().timeout(120)).await;
    let probes = world.attempts(BEGIN + Duration::from_secs(2), end);
    let offered = RATE * 298.0;
    let longest = answers.iter().map(Answer::took).max().unwrap_or_default();
    assert!(probes as f64 <= 0.05 * offered, "{kind:?}: {probes} attempts");
    // Each call waited for at most `outage.max_wait` from the opening of the breaker. A probe that
    // fails at that time has one more backoff before its error.
    let pause = Duration::from_secs(4);
    assert!(
        during(&answers, BEGIN, end).iter().all(|answer| answer.took() <= patience + pause),
        "{kind:?}: {longest:?}"
    );
    // After that time the refusal is immediate.
    let late = during(&answers, BEGIN + Duration::from_secs(40), end.saturating_sub(Duration::from_secs(5)));
    let refused = late.iter().filter(|answer| answer.took() < Duration::from_millis(50));
    let refused =
        refused.filter(|answer| answer.header("x-weir-error-class") == Some("weir_breaker_open")).count();
    assert!(refused as f64 >= 0.97 * late.len() as f64, "{kind:?}: {refused} of {}", late.len());
    let after = during(&answers, end + Duration::from_secs(10), Duration::MAX);
    assert!(after.iter().all(|answer| answer.is_success()), "{kind:?}: back within ten seconds");
    let served = world.attempts(end + Duration::from_secs(10), end + Duration::from_secs(20));
    assert!(served as f64 >= 0.95 * RATE * 10.0, "{kind:?}: {served}");
}

#[tokio::test(start_paused = true)]
async fn a_stall_blocks_once_its_time_has_passed() {
    let length = Duration::from_mins(5);
    let end = BEGIN + length;
    let patience = Duration::from_secs(30);
    let (world, answers) = ride(Kind::Stall, length, 40 * 350, patience, Call::chat().timeout(120)).await;
    // 30 s of silence, then probes.
    let silent = BEGIN + Duration::from_secs(31);
    let probes = world.attempts(silent, end);
    let offered = RATE * end.saturating_sub(silent).as_secs_f64();
    let peak = world.simulator.stats().in_flight_peak;
    println!(
        "5 min of stall: {:?}, {probes} attempts while {offered} calls were offered, {peak} in flight at most",
        statuses(&answers)
    );
    assert!(probes as f64 <= 0.05 * offered, "{probes}");
    assert!(peak as f64 <= RATE * 31.0 + 60.0, "{peak}");
    let timed_out = answers.iter().filter(|answer| answer.status == 504).count();
    assert!(timed_out as f64 <= RATE * 31.0 + 60.0, "only what was sent before may time out: {timed_out}");
    let after = during(&answers, end + Duration::from_secs(10), Duration::MAX);
    assert!(after.iter().all(|answer| answer.is_success()), "back within ten seconds");
    let served = world.attempts(end + Duration::from_secs(10), end + Duration::from_secs(20));
    assert!(served as f64 >= 0.95 * RATE * 10.0, "{served}");
}

#[tokio::test(start_paused = true)]
async fn a_short_stall_blocks_nothing() {
    let (_world, answers) = ride(
        Kind::Stall,
        Duration::from_secs(10),
        40 * 60,
        Duration::from_secs(30),
        Call::chat().timeout(60),
    )
    .await;
    println!("10 s of stall: {:?}", statuses(&answers));
    // Requests sent during the stall never get a response; all others do.
    let (lost, whole): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| !answer.is_success());
    assert!(lost.iter().all(
        |answer| answer.status == 504 && (BEGIN..BEGIN + Duration::from_secs(10)).contains(&answer.began)
    ));
    assert!(whole.iter().all(|answer| answer.took() < Duration::from_secs(1)));
}

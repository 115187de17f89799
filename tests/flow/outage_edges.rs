//! Edge cases of outages: shedding, separate scopes, long responses, short deadlines.

use std::sync::Arc;
use std::time::Duration;

use weir::internals::clock;
use weir::internals::simulate::{Fault, Outage};

use super::world::{Answer, Call, Setup, World, statuses, successes};

#[tokio::test(start_paused = true)]
async fn half_failing_is_shed_not_blocked() {
    let mut setup = Setup::default();
    setup.simulator.faults = vec![(Fault::parse("500").expect("a fault"), 0.5)];
    let world = World::new(setup);
    let answers = world.offer(40.0, 40 * 120, |_| Call::chat().timeout(60)).await;
    let ratio = world.simulator.stats().requests as f64 / answers.len() as f64;
    let status = &world.scopes.snapshot()[0];
    println!(
        "half failing: {} of {} succeed, {ratio:.3} attempts a call, opened {} times, {:?}",
        successes(&answers),
        answers.len(),
        status.breaker_opened,
        statuses(&answers),
    );
    assert_eq!(status.breaker_opened, 0, "thinned, not blocked");
    // Without Weir half would succeed. All six attempts would make it 98 %, with twice the load on
    // a failing upstream.
    assert!(successes(&answers) as f64 >= 0.55 * answers.len() as f64, "{:?}", statuses(&answers));
    assert!(ratio <= 1.4, "{ratio}");
    assert!(
        answers.iter().all(|answer| answer.took() < Duration::from_secs(20)),
        "nobody waits in line for ever"
    );
    let second = |from: u64| world.attempts(Duration::from_secs(from), Duration::from_secs(from + 10));
    assert!((0..12).all(|tens| second(tens * 10) >= 400), "every call gets its first attempt");
}

#[tokio::test(start_paused = true)]
async fn one_scopes_outage_is_not_anothers() {
    let world = World::new(Setup::default());
    let other = r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"Three words."}]}"#;
    let failing = Arc::clone(&world);
    let outage = clock::spawn(async move {
        failing.offer(20.0, 400, |_| Call::chat().timeout(90).simulate("status=503")).await
    });
    let answers = world.offer(20.0, 400, |_| Call::post("/v1/chat/completions", other)).await;
    assert_eq!(successes(&answers), 400, "{:?}", statuses(&answers));
    assert!(answers.iter().all(|answer| answer.took() < Duration::from_secs(1)), "nobody waited");
    let failed = outage.await.expect("no panic");
    assert_eq!(successes(&failed), 0);
    let opened: Vec<_> =
        world.scopes.snapshot().iter().map(|scope| (scope.name.clone(), scope.breaker_opened)).collect();
    assert!(opened.iter().all(|(name, opened)| (*opened > 0) == (&**name == "gpt-4o-mini")), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn without_max_wait_the_refusal_is_immediate_with_its_cause() {
    let mut setup = Setup::default();
    setup.scopes.breaker.max_wait = Duration::ZERO;
    setup.simulator.outages = vec![Outage::parse("10s+60s:server_is_overloaded").expect("an outage")];
    let world = World::new(setup);
    let answers = world.offer(40.0, 40 * 100, |_| Call::chat().timeout(120)).await;
    let during: Vec<&Answer> =
        answers.iter().filter(|answer| (12..70).contains(&answer.began.as_secs())).collect();
    let refused: Vec<_> = during
        .iter()
        .filter(|answer| answer.header("x-weir-error-class") == Some("weir_breaker_open"))
        .collect();
    println!("no patience: {:?}, {} of {} refused at once", statuses(&answers), refused.len(), during.len());
    assert!(refused.len() as f64 >= 0.95 * during.len() as f64);
    assert!(refused.iter().all(|answer| answer.took() < Duration::from_millis(50) && answer.status == 503));
    assert!(refused.iter().all(|answer| answer.text().contains("has been failing for")));
    assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()));
    let attempts = world.attempts(Duration::from_secs(12), Duration::from_secs(70));
    assert!(attempts as f64 <= 0.05 * 40.0 * 58.0, "{attempts}");
    assert!(
        answers.iter().filter(|answer| answer.began.as_secs() >= 80).all(Answer::is_success),
        "back within 10 s"
    );
}

/// A response's head shows that the upstream works; its body may take minutes.
#[tokio::test(start_paused = true)]
async fn long_answers_under_way_do_not_look_like_an_outage() {
    let mut setup = Setup::default();
    setup.simulator.faults = vec![(Fault::parse("500").expect("a fault"), 0.25)];
    // A head counts at once: here the first word arrives a second later.
    setup.policy.hold = Duration::ZERO;
    let world = World::new(setup);
    let answers = world
        .offer(10.0, 300, |_| Call::chat_stream().timeout(600).simulate("chunks=60;chunk-delay=1s"))
        .await;
    // The header requests no fault, so that the rates decide.
    assert!(successes(&answers) >= 299, "{:?}", statuses(&answers));
    assert_eq!(world.scopes.snapshot()[0].breaker_opened, 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_streams_for_minutes_frees_the_others_with_its_head() {
    let mut setup = Setup::default();
    setup.simulator.outages = vec![Outage::parse("10s+8s:server_is_overloaded").expect("an outage")];
    let world = World::new(setup);
    let slow = || Call::chat_stream().timeout(600).simulate("chunks=120;chunk-delay=1s");
    let answers = world.offer(10.0, 300, |_| slow()).await;
    assert_eq!(successes(&answers), 300, "{:?}", statuses(&answers));
    let latest = answers.iter().filter(|answer| answer.began.as_secs() < 18).map(|answer| answer.head).max();
    assert!(latest.is_some_and(|latest| latest <= Duration::from_secs(30)), "{latest:?}");
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_open_no_breaker() {
    let world = World::new(Setup::default());
    assert!(world.call(&Call::chat()).await.is_success());
    let hurried = Arc::clone(&world);
    let hurried = clock::spawn(async move {
        hurried.offer(20.0, 400, |_| Call::chat().with("x-weir-deadline", "2s").simulate("after=10s")).await
    });
    let patient = world.offer(1.0, 20, |_| Call::chat().simulate("after=10s")).await;
    assert_eq!(successes(&patient), 20, "{:?}", statuses(&patient));
    let hurried = hurried.await.expect("no panic");
    assert!(hurried.iter().all(|answer| answer.status == 504), "{:?}", statuses(&hurried));
    assert!(hurried.iter().all(|answer| answer.took() <= Duration::from_secs(2)));
    assert_eq!(world.scopes.snapshot()[0].breaker_opened, 0);
}

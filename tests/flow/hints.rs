//! The upstream's hint when to retry is a minimum, and equal hints get jitter.

use std::time::Duration;

use weir::internals::clock;

use super::world::{Call, Setup, World};

/// The time from a call's first response to its second attempt.
async fn pause(directive: &str, headers: &[(&'static str, String)]) -> (Duration, u64) {
    let world = World::new(Setup::default());
    assert!(world.call(&Call::chat()).await.is_success());
    let mut call = Call::chat().timeout(600).with("x-job-id", "one").simulate(directive);
    for (name, value) in headers {
        call = call.with(name, value.clone());
    }
    let answer = world.call(&call).await;
    assert!(answer.is_success(), "{directive}: {} {}", answer.status, answer.text());
    // Two attempts take 100 ms each.
    (answer.took().saturating_sub(Duration::from_millis(200)), answer.attempts())
}

#[tokio::test(start_paused = true)]
async fn every_form_of_a_hint_is_a_minimum() {
    for (directive, least) in [
        ("status=503;times=1;retry-after-ms=2500", 2_500),
        ("status=503;times=1;retry-after=3", 3_000),
        ("status=500;times=1;retry-after=1.5", 1_500),
        ("status=503;times=1;retry-after-ms=2500;retry-after=9", 2_500),
        ("error=rate_limit_plain;times=1;retry-after=4", 4_000),
        ("error=resource_unavailable;times=1;retry-after=2", 2_000),
    ] {
        let least = Duration::from_millis(least);
        let (waited, attempts) = pause(directive, &[]).await;
        println!("{directive}: {waited:?}");
        assert_eq!(attempts, 2, "{directive}");
        assert!(waited >= least, "{directive}: {waited:?}");
        assert!(waited <= least.mul_f64(1.5) + Duration::from_secs(1), "{directive}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn absurd_hints_are_ignored() {
    for value in ["-5", "0", "NaN", "1e300", "soon", "99999999999999999999"] {
        let (waited, attempts) = pause(&format!("status=500;times=1;retry-after={value}"), &[]).await;
        assert_eq!(attempts, 2, "{value}");
        assert!(waited <= Duration::from_millis(700), "{value}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_deadline_is_left_to_the_caller() {
    let world = World::new(Setup::default());
    let call = Call::chat().timeout(10).simulate("status=503;retry-after=60");
    let answer = world.call(&call).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (503, 1));
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(answer.header("x-should-retry"), None, "Weir did not try: the SDK may");
    assert!(answer.took() < Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn twenty_calls_with_equal_hints_do_not_retry_together() {
    for directive in ["status=500;times=1;retry-after=5", "error=rate_limit_plain;times=1;retry-after=5"] {
        let world = World::new(Setup::default());
        for _ in 0..20 {
            assert!(world.call(&Call::chat()).await.is_success());
        }
        let mut running = Vec::new();
        for number in 0..20 {
            let world = std::sync::Arc::clone(&world);
            let call =
                Call::chat().timeout(600).with("x-job-id", format!("job {number}")).simulate(directive);
            running.push(clock::spawn(async move { world.call(&call).await }));
        }
        let mut woken = Vec::new();
        for call in running {
            let answer = call.await.expect("no panic");
            assert!(answer.is_success(), "{directive}: {}", answer.text());
            assert!(answer.took() >= Duration::from_secs(5), "{directive}: {:?}", answer.took());
            woken.push(answer.head);
        }
        woken.sort_unstable();
        println!("{directive}: the first at {:?}, the last at {:?}", woken[0], woken[19]);
        assert!(woken[19].saturating_sub(woken[0]) >= Duration::from_millis(100), "{directive}: {woken:?}");
        for five in woken.windows(6) {
            assert!(five[5] > five[0], "{directive}: six at once: {woken:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_with_numbers_goes_back_to_the_head_of_the_queue() {
    let mut setup = Setup::default();
    // The limiter is stricter than its headers: its depth is one second.
    setup.simulator.shape = weir::internals::simulate::limiter::Shape::Bucket(
        weir::internals::simulate::limiter::Depth::Of(Duration::from_secs(1)),
    );
    setup.simulator.limits.rpm = Some(600);
    let world = World::new(setup);
    let answers = world.offer(9.0, 270, |_| Call::chat().timeout(120)).await;
    assert_eq!(super::world::successes(&answers), answers.len(), "{:?}", super::world::statuses(&answers));
}

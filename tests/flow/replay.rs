//! Bodies kept for a retry, with a limit for each and one for all.

use std::sync::Arc;
use std::time::Duration;

use weir::internals::clock;

use super::world::{Call, Setup, World};

fn chat_of(bytes: usize) -> Call {
    let mut call = Call::chat();
    let text = "x".repeat(bytes);
    call.body =
        format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}]}}"#).into();
    call
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_cap_is_sent_again_byte_for_byte() {
    let mut setup = Setup::default();
    setup.policy.replay.keep = 1 << 20;
    let world = World::new(setup);
    let call = chat_of(1_000_000).timeout(60).with("x-job-id", "kept").simulate("status=500;times=2");
    let answer = world.call(&call).await;
    assert!(answer.is_success() && answer.attempts() == 3, "{}", answer.text());
    assert_eq!(world.kept_bodies.used(), 0, "given back");
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_cap_is_streamed_in_one_attempt() {
    let mut setup = Setup::default();
    setup.policy.replay.keep = 1 << 20;
    let world = World::new(setup);
    let large = chat_of(3_000_000).timeout(60);
    assert!(world.call(&large).await.is_success());
    let answer = world.call(&large.with("x-job-id", "large").simulate("status=500;times=2")).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (500, 1));
    assert_eq!(answer.header("x-should-retry"), None, "the SDK still has the body, and may try");
    assert_eq!(world.metric("weir_replay_skipped_total{reason=\"too_large\"}"), 2);
    assert_eq!(world.metric("weir_retries_stopped_total{reason=\"body_not_kept\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn all_bodies_together_have_a_cap_too() {
    let setup = Setup { kept: 1 << 20, ..Setup::default() };
    let world = World::new(setup);
    let mut running = Vec::new();
    for _ in 0..4 {
        let world = Arc::clone(&world);
        let call = chat_of(400_000).timeout(60).simulate("status=500;after=2s;rate=1");
        running.push(clock::spawn(async move { world.call(&call).await }));
    }
    clock::sleep(Duration::from_secs(1)).await;
    assert!(world.kept_bodies.used() <= 1 << 20, "{}", world.kept_bodies.used());
    let mut once = 0;
    for call in running {
        once += u32::from(call.await.expect("no panic").attempts() == 1);
    }
    assert_eq!(once, 2, "two fit, two went once");
    assert_eq!(world.metric("weir_replay_skipped_total{reason=\"budget\"}"), 2);
    assert_eq!(world.kept_bodies.used(), 0);
}

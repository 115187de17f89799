//! A quarter of all attempts fails; nearly all calls succeed.

use std::time::Duration;

use weir::internals::simulate::{Fault, Limits};

use super::world::{Call, Setup, World, quantile, statuses, successes};

fn fault(name: &str) -> Fault {
    Fault::parse(name).expect("a fault")
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_through_a_flaky_upstream() {
    let mut setup = Setup::default();
    setup.simulator.limits = Limits { rpm: Some(60_000), ..setup.simulator.limits };
    setup.simulator.faults =
        ["500", "503", "reset-before-head", "html-502"].map(|name| (fault(name), 0.0625)).into();
    setup.simulator.retry_after = false;
    let world = World::new(setup);
    let answers = world.offer(40.0, 10_000, |_| Call::chat()).await;
    let attempts: u64 = answers.iter().map(super::world::Answer::attempts).sum();
    let per_call = attempts as f64 / answers.len() as f64;
    let added = answers.iter().map(|answer| answer.took().saturating_sub(Duration::from_millis(100)));
    println!(
        "flaky: {} of {} succeed, {per_call:.4} attempts a call, added p50 {:?} p99 {:?}, {:?}",
        successes(&answers),
        answers.len(),
        quantile(added.clone().collect(), 0.5),
        quantile(added.collect(), 0.99),
        statuses(&answers),
    );
    assert!(successes(&answers) >= 9_990, "{:?}", statuses(&answers));
    assert!(per_call <= 1.36, "{per_call}");
    assert_eq!(world.simulator.stats().requests, attempts);
}

//! Retries add little load when the whole upstream fails.

use std::time::Duration;

use weir::internals::simulate::Outage;

use super::world::{Call, Setup, World, statuses};

#[tokio::test(start_paused = true)]
async fn total_failure_amplifies_by_a_tenth_at_most() {
    for (fault, per_second) in [("500", 40.0), ("server_is_overloaded", 40.0), ("reset", 40.0), ("500", 2.0)]
    {
        let mut setup = Setup::default();
        setup.scopes.breaker.enabled = false;
        setup.simulator.outages = vec![Outage::parse(&format!("0s+10000s:{fault}")).expect("an outage")];
        setup.simulator.retry_after = false;
        let world = World::new(setup);
        let answers = world.offer(per_second, 1_000, |_| Call::chat().timeout(120)).await;
        let attempts = world.simulator.stats().requests;
        let ratio = attempts as f64 / answers.len() as f64;
        println!("amplification, all {fault} at {per_second}/s: {ratio:.3}, {:?}", statuses(&answers));
        assert!(ratio <= 1.1, "{fault}: {attempts} attempts for {} requests", answers.len());
        // The SDK does not retry what Weir has given up.
        assert!(answers.iter().all(|answer| answer.header("x-should-retry") == Some("false")));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_connections_amplify_no_more() {
    let mut setup = Setup::default();
    setup.scopes.breaker.enabled = false;
    let world = World::new(setup);
    world.wire.refuse(Duration::ZERO, Duration::from_hours(3));
    let answers = world.offer(40.0, 1_000, |_| Call::chat().timeout(120)).await;
    let attempts = world.attempts(Duration::ZERO, Duration::from_hours(3));
    println!("amplification, all refused: {:.3}", attempts as f64 / 1_000.0);
    assert!(attempts <= 1_100, "{attempts}");
    assert!(answers.iter().all(|answer| answer.status == 502));
}

//! Nothing works for a while: callers wait it out, the upstream is left in peace.

use std::sync::Arc;
use std::time::Duration;

use weir::simulate::{Outage, OutageKind};

use super::world::{Answer, Call, Setup, World, statuses, successes};

const RATE: f64 = 40.0;
const BEGIN: Duration = Duration::from_secs(20);

/// How the upstream fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Overloaded,
    Refused,
    Stall,
}

/// An outage, and calls before, during and after it.
async fn ride(kind: Kind, length: Duration, count: u32, max_wait: Duration, call: Call) -> (Arc<World>, Vec<Answer>) {
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

fn report(name: &str, world: &World, answers: &[Answer]) {
    println!("{name}: {:?}; attempts by second {:?}", statuses(answers), world.attempts_by_second());
}

#[tokio::test(start_paused = true)]
async fn ten_seconds_cost_no_call() {
    for kind in [Kind::Overloaded, Kind::Refused] {
        let length = Duration::from_secs(10);
        let end = BEGIN + length;
        let (world, answers) = ride(kind, length, 40 * 60, Duration::from_secs(30), Call::chat().timeout(120)).await;
        report(&format!("10 s of {kind:?}"), &world, &answers);
        assert_eq!(successes(&answers), answers.len(), "{kind:?}: {:?}", statuses(&answers));
        // Blocked within two seconds; from then on probes only.
        let probes = world.attempts(BEGIN + Duration::from_secs(2), end);
        assert!(probes as f64 <= 0.05 * RATE * 8.0, "{kind:?}: {probes} attempts while it is blocked");
        // The queue is let go at a rising pace, never above what the limit allows.
        let most = world.attempts_by_second().into_iter().filter(|(second, _)| *second >= end.as_secs());
        let most = most.map(|(_, attempts)| attempts).max().unwrap_or_default();
        assert!(most <= 105, "{kind:?}: {most} attempts in a second after the outage");
        // In fair order: those that came first are answered first, but for the few that found out.
        let waited = during(&answers, BEGIN + Duration::from_secs(2), end);
        let overtaken = waited.windows(2).filter(|pair| pair[0].head > pair[1].head + Duration::from_millis(500)).count();
        assert!(overtaken <= waited.len() / 20, "{kind:?}: {overtaken} of {} were overtaken", waited.len());
        let last = answers.iter().map(|answer| answer.ended).max().unwrap_or_default();
        println!("10 s of {kind:?}: probes {probes}, most a second after {most}, overtaken {overtaken}, all done at {last:?}");
    }
}

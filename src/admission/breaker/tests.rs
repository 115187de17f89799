//! When the breaker opens, and how an outage ends.

use super::*;
use crate::classify::ErrorClass;
use crate::retry::health;

const SETTINGS: fn() -> BreakerSettings = BreakerSettings::default;

fn at(seconds: f64) -> Moment {
    Moment::START.plus_seconds(seconds)
}

/// A breaker with a hundred good attempts a second for ten seconds, and the generator for it.
fn busy() -> (Breaker, fastrand::Rng) {
    let (mut breaker, mut rng) = (Breaker::new(Moment::START), fastrand::Rng::with_seed(5));
    for attempt in 0..1000 {
        let now = at(f64::from(attempt) * 0.01);
        breaker.passed(false, &SETTINGS(), now);
        breaker.ended(Health::Alive, false, now, &SETTINGS(), &mut rng, now);
    }
    (breaker, rng)
}

fn fail(breaker: &mut Breaker, rng: &mut fastrand::Rng, from: f64, count: u32) {
    for attempt in 0..count {
        let now = at(from + f64::from(attempt) * 0.01);
        breaker.passed(false, &SETTINGS(), now);
        breaker.ended(Health::Failing, false, now, &SETTINGS(), rng, now);
    }
}

fn gate(breaker: &mut Breaker, waiting: usize, now: Moment) -> Gate {
    breaker.gate(&SETTINGS(), || None, Load { waiting, in_flight: 1 }, now)
}

/// B4: nothing asks the gate in the observe mode, and no attempt is a probe.
#[test]
fn an_outage_ends_by_a_good_answer_of_any_attempt_that_began_in_it() {
    let (mut breaker, mut rng) = busy();
    fail(&mut breaker, &mut rng, 10.0, 10);
    assert_eq!(breaker.state(0, at(10.2)), BreakerState::Open);
    // Sent before the outage, answered late: it says nothing of it.
    breaker.ended(Health::Alive, false, at(9.9), &SETTINGS(), &mut rng, at(10.3));
    assert_eq!(breaker.state(0, at(10.3)), BreakerState::Open);
    breaker.ended(Health::Alive, false, at(15.0), &SETTINGS(), &mut rng, at(15.1));
    assert_eq!(breaker.state(100_000, at(15.1)), BreakerState::HalfOpen);
    assert_eq!(breaker.state(0, at(60.0)), BreakerState::Closed, "whether anybody asks it or not");
}

/// B9: it closed only when nothing waited.
#[test]
fn the_ramp_up_ends_while_requests_wait() {
    for (waiting, pace, most) in [(500, None, 8.0), (100_000, None, 16.0), (100_000, Some(100.0), 16.0)] {
        let (mut breaker, mut rng) = busy();
        fail(&mut breaker, &mut rng, 10.0, 10);
        breaker.ended(Health::Alive, true, at(30.0), &SETTINGS(), &mut rng, at(30.0));
        let mut now = at(30.0);
        let load = Load { waiting, in_flight: 1 };
        while breaker.gate(&SETTINGS(), || pace, load, now) != Gate::Pass
            || breaker.state(waiting, now) != BreakerState::Closed
        {
            now = now.plus(Duration::from_millis(50));
            assert!(now < at(30.0 + most), "{waiting} waiting: half open after {most} s");
        }
        assert!(now > at(32.0), "it rises from a part of the rate before");
    }
}

#[test]
fn a_ramp_up_starts_at_what_the_length_of_the_outage_justifies() {
    let rate_after = |length: f64| {
        let (mut breaker, mut rng) = busy();
        fail(&mut breaker, &mut rng, 10.0, 10);
        let back = at(10.0 + length);
        breaker.ended(Health::Alive, true, back, &SETTINGS(), &mut rng, back);
        let mut passed = 0;
        for millisecond in 0..200_u32 {
            let now = back.plus(Duration::from_millis(u64::from(millisecond)));
            if gate(&mut breaker, 1000, now) == Gate::Pass {
                breaker.passed(false, &SETTINGS(), now);
                passed += 1;
            }
        }
        f64::from(passed) * 5.0
    };
    let [blip, short, long] = [0.5, 4.0, 60.0].map(rate_after);
    assert!((90.0..125.0).contains(&blip), "{blip} a second after half a second");
    assert!((20.0..40.0).contains(&short), "{short} a second after four");
    assert!((5.0..20.0).contains(&long), "{long} a second after a minute");
}

/// R05 of the world's reports: waiting requests were refused at the moment at which the stall was
/// noticed.
#[test]
fn a_stall_is_a_silence_of_most_that_flies_and_the_wait_counts_from_the_opening() {
    let silent = |in_flight: u32| {
        let mut breaker = Breaker::new(Moment::START);
        breaker.sent(at(0.0));
        breaker.no_longer_headless(Some(Duration::from_millis(200)), at(0.2));
        for _ in 0..4 {
            breaker.sent(at(1.0));
        }
        let load = Load { waiting: 1, in_flight };
        breaker.gate(&SETTINGS(), || None, load, at(30.0));
        assert!(breaker.outage().is_none());
        breaker.gate(&SETTINGS(), || None, load, at(31.0));
        breaker
    };
    assert!(silent(12).outage().is_none(), "eight others are being answered");
    let mut breaker = silent(4);
    let outage = breaker.outage().expect("nothing is answered");
    assert_eq!((outage.since, outage.opened), (at(1.0), at(31.0)));
    // Slow, and good: sent long before the opening.
    let mut rng = fastrand::Rng::with_seed(5);
    breaker.no_longer_headless(Some(Duration::from_secs(34)), at(35.0));
    breaker.ended(Health::Alive, false, at(1.0), &SETTINGS(), &mut rng, at(35.0));
    assert!(breaker.outage().is_none());
}

#[test]
fn backpressure_is_no_failure() {
    for class in [ErrorClass::SlowDown, ErrorClass::RateLimitOther, ErrorClass::ResourceUnavailable] {
        let (mut breaker, mut rng) = busy();
        for attempt in 0..200 {
            let now = at(10.0 + f64::from(attempt) * 0.01);
            breaker.passed(false, &SETTINGS(), now);
            breaker.ended(health(class), false, now, &SETTINGS(), &mut rng, now);
        }
        assert_eq!(breaker.state(0, at(12.0)), BreakerState::Closed, "{class:?}");
    }
}

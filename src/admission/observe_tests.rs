//! What the observe mode says, and what it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Arrival, Machine, Outcome, Request};
use super::*;
use crate::caller::{CallerId, Lane, Mode};
use crate::classify::ErrorClass;

fn machine(requests_per_minute: u64, share: f64) -> Machine<()> {
    let limits =
        LimitSettings { requests_per_minute: Some(requests_per_minute), share, ..LimitSettings::default() };
    Machine::new(Arc::new(Settings { limits, ..Settings::default() }), "family", 1, Moment::START)
}

fn request(mode: Mode, now: Moment) -> Request {
    Request {
        caller: CallerId(0),
        weight: 1,
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 100, ..Cost::default() },
        bytes: 100,
        deadline: now.plus(Duration::from_mins(1)),
        head_due: false,
        turn: Turn::First,
        mode,
        route: Route::default(),
    }
}

/// One observed request with its end. Returns what would have been done.
fn observe(machine: &mut Machine<()>, outcome: Outcome, now: Moment) -> Would {
    let Arrival::Granted(mut attempt) = machine.arrive(&request(Mode::Observe, now), now, &mut Vec::new())
    else {
        panic!("nothing is held back");
    };
    let would = attempt.would().clone();
    machine.sent(&mut attempt, now);
    machine.settle(attempt, outcome, now);
    would
}

/// B4: each day at more than the share left hours of debt, for which every request was refused
/// after the switch.
#[test]
fn after_a_day_of_observing_enforcing_refuses_nobody() {
    // Of 60 a minute the share is 30: 18 are 60 % of the share, 36 are 60 % of the limit.
    for rate in [18.0, 36.0] {
        let mut machine = machine(60, 0.5);
        let calls = 6.0 * 60.0 * rate;
        let (mut now, mut refused) = (Moment::START, 0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
        for _ in 0..calls as u32 {
            now = now.plus_seconds(60.0 / rate);
            refused += u32::from(matches!(observe(&mut machine, Outcome::Done, now), Would::Refuse(_)));
        }
        let part = f64::from(refused) / calls;
        if rate < 30.0 {
            assert_eq!(refused, 0, "all of it is within the share");
        } else {
            // Enforcing would serve 30 of 36; the rest would not make its deadline.
            assert!((0.12..0.2).contains(&part), "{part}");
        }
        for _ in 0..20 {
            now = now.plus_seconds(60.0 / rate);
            while machine.due() <= now {
                machine.pump(machine.due(), &mut Vec::new());
            }
            match machine.arrive(&request(Mode::Enforce, now), now, &mut Vec::new()) {
                Arrival::Granted(attempt) => {
                    machine.settle(attempt, Outcome::Done, now);
                }
                // Seconds at most: some of what was sent without waiting is still owed.
                Arrival::Waiting(_) => {}
                Arrival::Refused(refused) => panic!("{rate} a minute: {refused:?}"),
            }
        }
        let counts = machine.status("", "", now).counts;
        assert!(counts.deadline == 0 && machine.waiting() <= 8, "{} wait", machine.waiting());
    }
}

#[test]
fn it_says_what_a_burst_would_have_waited() {
    let mut machine = machine(60, 1.0);
    let now = Moment::START.plus_seconds(10.0);
    let would: Vec<Would> = (0..90).map(|_| observe(&mut machine, Outcome::Done, now)).collect();
    let delayed: Vec<f64> = (would.iter())
        .filter_map(|would| match would {
            Would::Delay(wait) => Some(wait.as_secs_f64()),
            Would::Pass | Would::Refuse(_) => None,
        })
        .collect();
    assert!(would[0] == Would::Pass && delayed.len() > 50 && delayed.is_sorted(), "{delayed:?}");
    assert!(matches!(would[89], Would::Refuse(Refused::Deadline { .. })), "{:?}", would[89]);
    // When the virtual queue has gone, all is as before.
    assert_eq!(observe(&mut machine, Outcome::Done, now.plus(Duration::from_mins(2))), Would::Pass);
}

#[test]
fn an_outage_that_is_observed_ends_by_any_good_answer() {
    let mut machine = machine(6000, 1.0);
    let at = |seconds: u32| Moment::START.plus_seconds(f64::from(seconds));
    for second in 0..12 {
        observe(&mut machine, Outcome::Failed(ErrorClass::Overloaded), at(second));
    }
    assert!(matches!(
        observe(&mut machine, Outcome::Done, at(20)),
        Would::Refuse(Refused::BreakerOpen { .. })
    ));
    assert_eq!(observe(&mut machine, Outcome::Done, at(30)), Would::Pass);
    assert_eq!(machine.status("", "", at(60)).breaker, BreakerState::Closed);
}

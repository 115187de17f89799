//! Limits that nobody tells of: when a refusal without numbers is taken for one of theirs.

use crate::admission::settings::LimitSettings;

use super::*;

fn at(seconds: f64) -> Moment {
    Moment::START.plus_seconds(seconds)
}

fn times(seconds: f64) -> Times {
    Times { sent: at(seconds), head: at(seconds), processing: None }
}

/// The limits of a scope that was told what is left of 60,000 requests and of 2,000,000 tokens.
fn told(requests: Option<u64>, tokens: Option<u64>) -> Limits {
    let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
    let report = |limit, remaining| LimitReport { limit, remaining, reset: None };
    let reports = LimitReports {
        requests: requests.map(|left| report(60_000, left)),
        tokens: tokens.map(|left| report(2_000_000, left)),
        ..LimitReports::default()
    };
    limits.told(&reports, Cost::default(), Charge::default(), Marks::default(), &times(1.0), at(1.0));
    limits
}

fn refuse(limits: &mut Limits, unit: Option<Unit>, seconds: f64) {
    let refusal = Refusal {
        unit,
        by_load: false,
        numbers: None,
        hint: None,
        cost: Cost { requests: 1, tokens: 100, ..Cost::default() },
        charge: Charge { requests: 1, tokens: 100 },
        marks: Marks::default(),
        times: &times(seconds),
    };
    limits.refused(&refusal, &mut fastrand::Rng::with_seed(1), at(seconds));
}

fn found(limits: &Limits) -> Vec<Slot> {
    let all = limits.status(at(9.0)).into_iter();
    all.filter(|limit| limit.source == Source::Found).map(|limit| limit.slot).collect()
}

#[test]
fn what_no_header_tells_of_is_searched_for_at_once() {
    for (said, slot) in [(None, Slot::TokensPerMinute), (Some(Unit::Tokens), Slot::TokensPerMinute)] {
        let mut limits = told(Some(59_000), None);
        refuse(&mut limits, said, 2.0);
        assert_eq!(found(&limits), [slot], "{said:?}");
    }
    let mut limits = told(None, Some(1_900_000));
    refuse(&mut limits, None, 2.0);
    assert_eq!(found(&limits), [Slot::RequestsPerMinute]);
}

#[test]
fn what_was_found_is_what_holds_also_where_nothing_is_told() {
    let charge = Charge { requests: 1, tokens: 100 };
    let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
    assert_eq!((found(&limits), limits.holding(charge, 0, at(1.0))), (vec![], None));
    refuse(&mut limits, Some(Unit::Tokens), 2.0);
    assert_eq!(found(&limits), [Slot::TokensPerMinute]);
    assert_eq!(limits.holding(charge, 0, at(2.0)), Some(Slot::TokensPerMinute));
}

#[test]
fn what_is_told_is_doubted_when_it_happens_again() {
    let mut limits = told(Some(59_000), Some(1_900_000));
    refuse(&mut limits, None, 2.0);
    assert_eq!(found(&limits), []);
    // Sent with the first.
    refuse(&mut limits, None, 1.9);
    assert_eq!(found(&limits), []);
    refuse(&mut limits, None, 70.0);
    assert_eq!(found(&limits), [], "that was too long ago");
    refuse(&mut limits, Some(Unit::Tokens), 80.0);
    assert_eq!(found(&limits), [Slot::TokensPerMinute]);
    assert_eq!(limits.status(at(81.0)).len(), 2, "it stands in the place of the one that is told");
}

#[test]
fn a_limit_that_is_nearly_used_explains_it() {
    let mut limits = told(Some(3_000), None);
    refuse(&mut limits, None, 2.0);
    refuse(&mut limits, Some(Unit::Requests), 3.0);
    refuse(&mut limits, Some(Unit::Requests), 4.0);
    assert_eq!(found(&limits), []);
}

#[test]
fn headers_that_tell_of_it_end_the_search_and_others_do_not() {
    let mut limits = told(Some(59_000), None);
    refuse(&mut limits, None, 2.0);
    let report = LimitReport { limit: 60_000, remaining: 58_000, reset: None };
    let requests = LimitReports { requests: Some(report), tokens: None, ..LimitReports::default() };
    limits.told(&requests, Cost::default(), Charge::default(), Marks::default(), &times(3.0), at(3.0));
    assert_eq!(found(&limits), [Slot::TokensPerMinute]);
    let report = LimitReport { limit: 90_000, remaining: 80_000, reset: None };
    let tokens = LimitReports { requests: None, tokens: Some(report), ..LimitReports::default() };
    limits.told(&tokens, Cost::default(), Charge::default(), Marks::default(), &times(4.0), at(4.0));
    assert_eq!(found(&limits), []);
}

/// Ten go at once, four are taken, and six are refused within a few milliseconds: that is no count
/// of a rate, and one answer to one question.
#[test]
fn a_burst_that_is_refused_at_once_is_no_count_of_a_rate() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
    let (cost, charge) =
        (Cost { requests: 1, tokens: 0, ..Cost::default() }, Charge { requests: 1, tokens: 0 });
    let send = |limits: &mut Limits, in_flight: u32, seconds: f64| {
        limits.take(cost, charge, Duration::ZERO, in_flight, at(seconds));
        limits.sent(cost, at(seconds))
    };
    let marks: Vec<Marks> = (0..10).map(|index| send(&mut limits, index, 0.001 * f64::from(index))).collect();
    for (marks, index) in marks[4..].iter().zip(4..) {
        let times = Times { sent: at(0.001 * f64::from(index)), head: at(0.006), processing: None };
        let refusal = Refusal {
            unit: None,
            by_load: false,
            numbers: None,
            hint: None,
            cost,
            charge,
            marks: *marks,
            times: &times,
        };
        limits.refused(&refusal, &mut rng, at(0.006));
    }
    let pause = limits.wait(charge, false, 4, at(0.006));
    assert!(pause <= Duration::from_millis(350), "{pause:?}");
    let marks = send(&mut limits, 0, 0.4);
    limits.accepted(charge, marks, true, at(0.4), at(0.5));
    let waits = limits.wait(charge, false, 0, at(0.5));
    assert!(waits <= Duration::from_millis(300), "{waits:?}");
}

/// Tells of a limit of requests that is spent, and is free again after this time in seconds.
fn spent(limits: &mut Limits, limit: u64, reset: f64, of_error: bool, seconds: f64) {
    let report = LimitReport { limit, remaining: 0, reset: Some(Duration::from_secs_f64(reset)) };
    let reports = LimitReports { requests: Some(report), of_error, ..LimitReports::default() };
    let marks = Marks::default();
    limits.told(&reports, Cost::default(), Charge::default(), marks, &times(seconds), at(seconds));
}

#[test]
fn what_only_refusals_tell_of_is_no_limit_that_answers_would_free() {
    let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
    spent(&mut limits, 10, 1.0, true, 1.0);
    assert!(!limits.is_known());
    spent(&mut limits, 10, 1.0, false, 2.0);
    assert!(limits.is_known());
    spent(&mut limits, 20, 1.0, true, 3.0);
    let told = limits.status(at(3.0))[0].limit;
    assert!((told - 20.0).abs() < 1e-9, "what answers tell of, refusals tell of too: {told}");
}

#[test]
fn nobody_is_sent_away_for_a_window_that_is_only_assumed() {
    let one = Charge { requests: 1, tokens: 100 };
    for reset in [0.05, 1.0, 0.0] {
        let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
        for _ in 0..10 {
            limits.take(
                Cost { requests: 1, tokens: 100, ..Cost::default() },
                one,
                Duration::ZERO,
                0,
                at(0.5),
            );
            limits.sent(Cost { requests: 1, tokens: 100, ..Cost::default() }, at(0.5));
        }
        spent(&mut limits, 1, reset, false, 1.0);
        assert!(limits.wait(one, false, 0, at(1.0)) <= Duration::from_mins(1), "{reset}");
        let ahead = Charge { requests: 100, tokens: 10_000 };
        assert!(limits.predict(ahead, one, at(1.0)) < 120.0, "{reset}");
    }
}

/// "Rate limit reached on requests per min (RPM): Limit 10" of a limit that counts by the second:
/// kept to, it took ten requests a minute, and 405 of 426 calls were lost.
#[test]
fn a_window_that_only_a_name_tells_of_is_not_believed() {
    let numbers = |limit, used, wait| RefusalNumbers {
        slot: Slot::RequestsPerMinute,
        window: None,
        limit,
        used,
        requested: None,
        wait,
        apart: false,
    };
    let second = Duration::from_secs(1);
    for (numbers, hint, is_believed) in [
        (numbers(10, None, None), None, false),
        (numbers(10, None, None), Some(second), true),
        (numbers(10, None, Some(second)), None, true),
        (numbers(10, Some(10), None), None, true),
    ] {
        let mut limits = Limits::new(&LimitSettings::default(), at(0.0));
        let refusal = Refusal {
            unit: Some(Unit::Requests),
            by_load: false,
            numbers: Some(&numbers),
            hint,
            cost: Cost { requests: 1, tokens: 100, ..Cost::default() },
            charge: Charge { requests: 1, tokens: 100 },
            marks: Marks::default(),
            times: &times(2.0),
        };
        limits.refused(&refusal, &mut fastrand::Rng::with_seed(1), at(2.0));
        let learned = limits.status(at(3.0)).iter().any(|limit| limit.source == Source::Learned);
        assert_eq!(learned, is_believed, "{numbers:?} {hint:?}");
    }
}

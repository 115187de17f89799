//! How reports are filed, and what refusals take back.

use std::time::Duration;

use crate::admission::moment::duration;
use crate::openai::Endpoint;

use super::*;

fn at(seconds: f64) -> Moment {
    Moment::START.plus_seconds(seconds)
}

const ONE: Cost = Cost { requests: 1, tokens: 100, endpoint: Endpoint::ChatCompletions };

/// A limits whose attempts are sent, answered and refused at moments of the test's.
struct Scope {
    limits: Limits,
    rng: fastrand::Rng,
}

impl Scope {
    fn new(limits: LimitSettings) -> Self {
        Self { limits: Limits::new(&limits, at(0.0)), rng: fastrand::Rng::with_seed(1) }
    }

    fn send(&mut self, cost: Cost, now: f64) -> (Charge, Marks) {
        let charge = self.limits.charge(cost);
        self.limits.take(cost, charge, Duration::ZERO, 0, at(now));
        (charge, self.limits.sent(cost, at(now)))
    }

    /// An answer a tenth of a second after the send, with a header about requests.
    fn answered(&mut self, now: f64, limit: u64, remaining: u64, reset: f64) {
        let (charge, marks) = self.send(ONE, now);
        let report = LimitReport { limit, remaining, reset: Some(Duration::from_secs_f64(reset)) };
        let reports = LimitReports { requests: Some(report), tokens: None, ..LimitReports::default() };
        let times = Times { sent: at(now), head: at(now + 0.1), processing: Some(Duration::from_millis(90)) };
        self.limits.told(&reports, ONE, charge, marks, &times, at(now + 0.1));
        self.limits.accepted(charge, marks, true, at(now), at(now + 0.1));
    }

    fn refuse(&mut self, sent: (Charge, Marks), cost: Cost, numbers: RefusalNumbers, now: f64) -> Moment {
        let times = Times { sent: at(now), head: at(now + 0.1), processing: None };
        let refusal = Refusal {
            unit: Some(numbers.slot.unit()),
            by_load: false,
            numbers: Some(&numbers),
            hint: None,
            cost,
            charge: sent.0,
            marks: sent.1,
            times: &times,
        };
        self.limits.refused(&refusal, &mut self.rng, at(now + 0.1)).not_before
    }

    fn limit(&self, slot: Slot, now: f64) -> Option<f64> {
        self.limits.status(at(now)).iter().find(|limit| limit.slot == slot).map(|limit| limit.limit)
    }
}

fn numbers(slot: Slot, limit: u64, used: u64, requested: u64) -> RefusalNumbers {
    let wait = Some(Duration::from_millis(500));
    RefusalNumbers {
        slot,
        window: None,
        limit,
        used: Some(used),
        requested: Some(requested),
        wait,
        apart: false,
    }
}

/// Answers that tell of 10,000 requests a day in the header that also tells of minutes.
fn tell_of_the_day(scope: &mut Scope, from: f64) {
    for used in 1..=6_u32 {
        let remaining = 10_000 - u64::from(used) * 3;
        scope.answered(from + f64::from(used), 10_000, remaining, 8.64 * 3.0 * f64::from(used));
    }
}

#[test]
fn a_days_header_leaves_a_configured_minute_alone() {
    let mut scope = Scope::new(LimitSettings { requests_per_minute: Some(500), ..LimitSettings::default() });
    tell_of_the_day(&mut scope, 0.0);
    assert_eq!(scope.limit(Slot::RequestsPerMinute, 10.0), Some(500.0));
    assert_eq!(scope.limit(Slot::RequestsPerDay, 10.0), Some(10_000.0));
}

#[test]
fn a_days_header_leaves_a_minute_alone_that_a_refusal_named() {
    let mut scope = Scope::new(LimitSettings::default());
    let sent = scope.send(ONE, 0.0);
    scope.refuse(sent, ONE, numbers(Slot::RequestsPerMinute, 500, 500, 1), 0.0);
    tell_of_the_day(&mut scope, 1.0);
    assert_eq!(scope.limit(Slot::RequestsPerMinute, 10.0), Some(500.0));
    assert_eq!(scope.limit(Slot::RequestsPerDay, 10.0), Some(10_000.0));
}

#[test]
fn a_refusal_by_the_day_does_not_take_the_minutes_header() {
    let mut scope = Scope::new(LimitSettings::default());
    let sent = scope.send(ONE, 0.0);
    scope.refuse(sent, ONE, numbers(Slot::RequestsPerDay, 200, 200, 1), 0.0);
    scope.answered(1.0, 500, 499, 0.12);
    assert_eq!(scope.limit(Slot::RequestsPerMinute, 2.0), Some(500.0));
    assert_eq!(scope.limit(Slot::RequestsPerDay, 2.0), Some(200.0));
}

#[test]
fn a_limit_that_is_no_longer_configured_is_gone() {
    let mut scope = Scope::new(LimitSettings { requests_per_minute: Some(60), ..LimitSettings::default() });
    scope.limits.configure(&LimitSettings::default(), at(1.0));
    assert_eq!(scope.limit(Slot::RequestsPerMinute, 1.0), None);
    assert!(scope.limits.wait(scope.limits.charge(ONE), true, 0, at(1.0)).is_zero());
}

#[test]
fn a_refusal_by_one_limit_gives_back_what_the_others_were_charged() {
    let limits = LimitSettings {
        requests_per_minute: Some(600),
        tokens_per_minute: Some(60_000),
        ..LimitSettings::default()
    };
    let mut scope = Scope::new(limits);
    let level = |scope: &Scope, now: f64| {
        let all = scope.limits.status(at(now));
        all.iter().find(|limit| limit.slot == Slot::TokensPerMinute).map_or(0.0, |limit| limit.level)
    };
    let large = Cost { tokens: 30_000, ..ONE };
    let sent = scope.send(large, 0.0);
    assert!(level(&scope, 0.0) > 29_000.0);
    scope.refuse(sent, large, numbers(Slot::RequestsPerMinute, 600, 600, 1), 0.0);
    assert!(level(&scope, 0.1) < 1.0, "{}", level(&scope, 0.1));
}

#[test]
fn what_was_refused_as_too_large_leaves_no_debt() {
    let limits = LimitSettings { tokens_per_minute: Some(60_000), ..LimitSettings::default() };
    let mut scope = Scope::new(limits);
    let large = Cost { tokens: 80_000, ..ONE };
    let (charge, marks) = scope.send(large, 0.0);
    assert!(!scope.limits.wait(scope.limits.charge(ONE), true, 0, at(0.1)).is_zero());
    scope.limits.too_large(large, charge, marks, at(0.0), at(0.2));
    assert!(scope.limits.wait(scope.limits.charge(ONE), true, 0, at(0.2)).is_zero(), "others go on at once");
}

#[test]
fn a_refusal_about_images_holds_its_own_request_alone() {
    let mut scope = Scope::new(LimitSettings::default());
    scope.answered(0.0, 600, 599, 0.1);
    let sent = scope.send(ONE, 1.0);
    let wait = Some(Duration::from_secs(12));
    let apart = RefusalNumbers { limit: 0, wait, apart: true, ..numbers(Slot::RequestsPerMinute, 0, 0, 0) };
    let not_before = scope.refuse(sent, ONE, apart, 1.0);
    assert!(not_before >= at(13.0));
    assert!(scope.limits.wait(scope.limits.charge(ONE), true, 0, at(1.5)).is_zero(), "text goes on");
}

#[test]
fn a_small_request_that_was_refused_for_what_is_not_seen_leaves_the_price_of_large_ones() {
    let mut scope = Scope::new(LimitSettings::default());
    let small = Cost { tokens: 29, endpoint: Endpoint::Responses, requests: 1 };
    let sent = scope.send(small, 0.0);
    scope.refuse(sent, small, numbers(Slot::TokensPerMinute, 30_000, 29_900, 700), 0.0);
    let priced = |tokens| scope.limits.charge(scope.limits.expected(Cost { tokens, ..small })).tokens;
    let (again, large) = (priced(29), priced(10_000));
    assert!((200..=1000).contains(&again), "a like request: {again}");
    assert!(large <= 16_000, "a large one: {large}");
}

#[test]
fn what_is_refused_leaves_the_marks_of_what_was_sent_after_it() {
    let mut own = OwnUse::new();
    let first = own.send(ONE, at(0.0));
    let refused: Vec<Marks> = (0..5).map(|_| own.send(ONE, at(0.1))).collect();
    let last = own.send(ONE, at(0.2));
    own.send(ONE, at(0.3));
    for mark in refused {
        own.retract(ONE, mark, at(0.1));
    }
    let since = |mark: Marks| own.of(Unit::Requests, 1.0).since(mark.of(Unit::Requests));
    assert!((since(last) - 1.0).abs() < 1e-9, "one was sent after it: {}", since(last));
    assert!((since(first) - 2.0).abs() < 1e-9, "the refused ones count for nothing: {}", since(first));
    assert!((own.kept_by(last.of(Unit::Requests), Unit::Requests) - 2.0).abs() < 1e-9);
}

#[test]
fn a_share_divides_the_burst_and_does_not_pace_a_day() {
    let limits = |share| LimitSettings {
        requests_per_minute: Some(600),
        requests_per_day: Some(10_000),
        share,
        ..LimitSettings::default()
    };
    let at_once = |share: f64| {
        let mut scope = Scope::new(limits(share));
        let mut sent = 0;
        while sent < 1000 && scope.limits.wait(scope.limits.charge(ONE), true, 0, at(1.0)).is_zero() {
            scope.send(ONE, 1.0);
            sent += 1;
        }
        sent
    };
    let (whole, tenth) = (at_once(1.0), at_once(0.1));
    assert!(whole <= 6 && tenth <= 1, "{whole} and {tenth}");
    // A day's limit alone: its part may be used at once.
    let day = LimitSettings { requests_per_minute: None, ..limits(0.5) };
    let mut scope = Scope::new(day);
    for second in 0..4900_u32 {
        let now = f64::from(second) * 0.01;
        assert!(scope.limits.wait(scope.limits.charge(ONE), true, 0, at(now)).is_zero(), "{second}");
        scope.send(ONE, now);
    }
}

#[test]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is compared with")]
fn counts_are_rounded_up_as_by_the_library() {
    for value in [0.0, -0.5, -1.5, 0.1, 1.0, 1.000_000_1, 149.999, 1e12, 1e12 + 0.5, f64::NAN, -f64::INFINITY]
    {
        assert_eq!(ceil(value), value.ceil() as u64, "{value}");
    }
    assert!(ceil(f64::INFINITY) >= 1 << 63);
}

#[test]
fn a_minute_and_a_day_in_one_answer_are_two_limits() {
    let mut scope = Scope::new(LimitSettings { requests_per_day: Some(20_000), ..LimitSettings::default() });
    for used in 1..=20_u64 {
        let now = used as f64;
        let (charge, marks) = scope.send(ONE, now);
        let report = |limit: u64, window: f64, tokens: u64| LimitReport {
            limit,
            remaining: limit - used * tokens,
            reset: Some(Duration::from_secs_f64(window * (used * tokens) as f64 / limit as f64)),
        };
        let day = |unit, limit, tokens| {
            let report = report(limit, 86_400.0, tokens);
            WindowReport { unit, window: Duration::from_hours(24), report }
        };
        let reports = LimitReports {
            requests: Some(report(30, 60.0, 1)),
            tokens: Some(report(60_000, 60.0, 100)),
            windows: vec![day(Unit::Requests, 14_400, 1), day(Unit::Tokens, 1_000_000, 100)],
            ..LimitReports::default()
        };
        let times = Times { sent: at(now), head: at(now + 0.1), processing: None };
        scope.limits.told(&reports, ONE, charge, marks, &times, at(now + 0.1));
        scope.limits.accepted(charge, marks, true, at(now), at(now + 0.1));
    }
    let found: Vec<(Slot, f64)> =
        scope.limits.status(at(21.0)).iter().map(|limit| (limit.slot, limit.limit)).collect();
    for expected in [
        (Slot::RequestsPerMinute, 30.0),
        (Slot::TokensPerMinute, 60_000.0),
        (Slot::RequestsPerDay, 14_400.0),
        (Slot::TokensPerDay, 1_000_000.0),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    // The minute's bucket is empty long before the day's.
    let charge = scope.limits.charge(ONE);
    let wait = scope.limits.wait(charge, false, 0, at(21.0));
    assert!(wait < Duration::from_mins(1), "{wait:?}");
}

impl Scope {
    /// An answer a tenth of a second after the send, about requests in a window that is told.
    fn told_by_window(&mut self, now: f64, window: u64, limit: u64, remaining: u64, reset: f64) {
        let (charge, marks) = self.send(ONE, now);
        let report = LimitReport { limit, remaining, reset: Some(Duration::from_secs_f64(reset)) };
        let window = Duration::from_secs(window);
        let windows = vec![WindowReport { unit: Unit::Requests, window, report }];
        let reports = LimitReports { windows, ..LimitReports::default() };
        let times = Times { sent: at(now), head: at(now + 0.1), processing: None };
        assert_eq!(self.limits.told(&reports, ONE, charge, marks, &times, at(now + 0.1)), 0);
    }
}

#[test]
fn a_limit_is_filed_with_the_window_that_the_upstream_names() {
    for (window, limit, slot) in [
        (1, 10, Slot::RequestsPerMinute),
        (10, 50, Slot::RequestsPerMinute),
        (300, 90, Slot::RequestsPerMinute),
        (3600, 100, Slot::RequestsPerMinute),
        (7200, 100, Slot::RequestsPerDay),
        (86_400, 1000, Slot::RequestsPerDay),
    ] {
        let settings = LimitSettings { requests_per_minute: Some(6000), ..LimitSettings::default() };
        let mut scope = Scope::new(settings);
        scope.told_by_window(0.0, window, limit, limit - 1, window as f64 - 0.1);
        scope.told_by_window(window as f64 * 0.5, window, limit, limit - 2, window as f64 * 0.5 - 0.1);
        let told: Vec<_> = (scope.limits.entries.iter())
            .filter(|entry| entry.origin == Origin::Headers)
            .map(|entry| (entry.slot, ceil(entry.limit.stated), duration(entry.limit.window).as_secs()))
            .collect();
        assert_eq!(told, [(slot, limit, window)]);
        assert_eq!(scope.limits.entries.len(), 2, "the configured minute stands beside it");
        assert!(scope.limits.learned().iter().all(|(_, told)| *told > 999.0), "no slot alone says it");
        // It is spent: the next one waits for some of the window, and not for longer.
        scope.told_by_window(window as f64 * 0.6, window, limit, 0, window as f64 * 0.4 - 0.1);
        let charge = scope.limits.charge(ONE);
        let wait = scope.limits.wait(charge, false, 0, at(window as f64 * 0.6 + 0.1)).as_secs_f64();
        assert!(wait > 0.0 && wait <= window as f64, "{wait} of {window}");
    }
}

#[test]
fn what_a_fifth_owner_tells_finds_no_place() {
    let mut scope = Scope::new(LimitSettings::default());
    let report = |limit| Some(LimitReport { limit, remaining: limit - 1, reset: None });
    for owner in 1..=5 {
        let (charge, marks) = scope.send(ONE, owner as f64);
        let reports =
            LimitReports { requests: report(owner * 100), owner: Some(owner), ..LimitReports::default() };
        let times = Times { sent: at(owner as f64), head: at(owner as f64 + 0.1), processing: None };
        let unfiled = scope.limits.told(&reports, ONE, charge, marks, &times, at(owner as f64 + 0.1));
        assert_eq!(unfiled, u32::from(owner == 5));
    }
    assert_eq!(scope.limits.entries.len(), 4);
}

/// Each of ten replicas took what its siblings send for others that use most of the limit, and sent
/// its bursts one by one: 53 % of the limit were used.
#[test]
fn the_other_replicas_parts_are_no_use_that_shrinks_a_burst() {
    // The burst as a part of what may be used here, where `others` is the part that is not ours.
    let burst = |part: f64, others: f64| {
        let mut limit = Limit::new(6000.0, 60.0, Source::Learned, part, at(0.0));
        for _ in 0..100 {
            limit.foreign.by_level(others * 6000.0, 0.0, 6000.0);
        }
        limit.reshape(at(0.0));
        limit.shaper_burst() / (6000.0 * part)
    };
    let alone = burst(1.0, 0.0);
    for part in [0.1, 0.25, 0.5] {
        let with_replicas = burst(part, 1.0 - part);
        assert!((with_replicas / alone - 1.0).abs() < 0.05, "{part}: {with_replicas} of {alone}");
    }
    assert!(burst(0.5, 0.9) < alone / 2.0, "others who use most of this part, too, are told of it");
    assert!(burst(1.0, 0.9) < alone / 2.0);
}

/// The pace after a burst was kept for a part of the old window: minutes after a day's.
#[test]
fn the_pace_after_a_burst_ends_with_the_window_and_the_part_that_it_is_of() {
    // 700 of 1,200 a minute at once, in a window of which the headers tell.
    let burst = || {
        let mut scope = Scope::new(LimitSettings::default());
        for used in 1..=700_u64 {
            let now = used as f64 * 0.001;
            scope.answered(now, 1200, 1200 - used, 60.0 - now);
        }
        let tail = scope.limits.entries[0].limit.tail;
        assert!((8.0..=10.5).contains(&tail), "what is left lasts for the window: {tail}");
        scope
    };
    let after = |change: &dyn Fn(&mut Scope)| {
        let mut scope = burst();
        change(&mut scope);
        scope.limits.entries[0].limit.tail.is_infinite()
    };
    let part = Part { part: 0.5, ..Part::default() };
    assert!(after(&|scope| scope.limits.set_part(part, at(1.0))));
    let told = |limit, reset: f64| move |scope: &mut Scope| scope.answered(1.0, limit, limit / 4, reset);
    assert!(after(&told(600, 59.0)), "a lower limit is another");
    let of_an_hour = |scope: &mut Scope| {
        // One long reset alone makes no hour of a minute.
        for second in 1..=2 {
            scope.answered(f64::from(second), 1200, 400, 1800.0);
        }
    };
    assert!(after(&of_an_hour), "an hour has another pace");
}

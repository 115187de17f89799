//! Requests that are larger than a limit, or were priced too high or too low.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ask, succeed};
use super::*;
use crate::classify::ErrorClass;
use crate::clock;

/// A scope of 600 requests and 60,000 tokens a minute.
fn limited() -> Arc<Scope> {
    let limits = LimitSettings {
        requests_per_minute: Some(600),
        tokens_per_minute: Some(60_000),
        ..LimitSettings::default()
    };
    Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None)
}

#[tokio::test(start_paused = true)]
async fn what_is_much_larger_than_a_limit_is_tried_in_its_turn_and_holds_up_nobody() {
    let scope = limited();
    let began = clock::now();
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let scope = Arc::clone(&scope);
        tasks.push(clock::spawn(async move {
            succeed(scope.admit(ask(0)).await.expect("within its deadline")).await;
        }));
    }
    tokio::task::yield_now().await;
    let large = Ask { cost: Cost { requests: 1, tokens: 100_000, ..Cost::default() }, ..ask(1) };
    let waiting = clock::spawn({
        let scope = Arc::clone(&scope);
        async move { scope.admit(large).await }
    });
    tokio::task::yield_now().await;
    // Who comes after it is not told to wait until 100,000 tokens have drained, which takes 100 s.
    let wait = scope.expected_wait(&ask(1));
    assert!(wait < Duration::from_secs(4), "{wait:?}");
    let mut permit = waiting.await.expect("no panic").expect("it goes");
    assert!(
        clock::now() - began < Duration::from_secs(1),
        "its turn comes after those of the other caller's first"
    );
    permit.sent();
    permit.fail(ErrorClass::RequestExceedsLimit);
    for task in tasks {
        task.await.expect("no panic");
    }
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(4), "30 requests at 10 a second took {took:?}");
}

/// A caller is told that a request can never pass as soon as the upstream says so: that request
/// does not wait behind those of its caller that came first.
#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_limit_is_tried_before_the_other_requests_of_its_caller() {
    let scope = limited();
    let began = clock::now();
    // Two callers with 20 s of work between them.
    for number in 0..200 {
        let scope = Arc::clone(&scope);
        drop(clock::spawn(async move { scope.admit(ask(number % 2)).await.map(succeed) }));
    }
    tokio::task::yield_now().await;
    let large = Ask { cost: Cost { requests: 1, tokens: 100_000, ..Cost::default() }, ..ask(1) };
    let permit = scope.admit(large).await.expect("its turn comes");
    let waited = clock::now() - began;
    assert!(waited < Duration::from_millis(500), "{waited:?}");
    drop(permit);
}

/// A failing upstream answers before it looks at its limits: what is larger than a limit can't have
/// passed it.
#[tokio::test(start_paused = true)]
async fn a_request_larger_than_the_limit_that_meets_an_outage_is_no_debt() {
    let limits = LimitSettings { tokens_per_minute: Some(30_000), ..LimitSettings::default() };
    let scope = Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None);
    let of = |tokens| Ask { cost: Cost { requests: 1, tokens, ..Cost::default() }, ..ask(1) };
    let mut permit = scope.admit(of(40_000)).await.expect("it is tried");
    permit.sent();
    permit.head(&HeadReport::default(), None, None);
    permit.fail(ErrorClass::Overloaded);
    let wait = scope.expected_wait(&of(100));
    assert!(wait < Duration::from_secs(1), "{wait:?}");
}

/// What an upstream does that refuses `large` with a named wait until its bucket is free after a
/// minute: the attempts made.
async fn attempts_while_refused(tokens: u64) -> u32 {
    let limits = LimitSettings { tokens_per_minute: Some(30_000), ..LimitSettings::default() };
    let scope = Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None);
    let began = clock::now();
    let large = Ask { cost: Cost { requests: 1, tokens, ..Cost::default() }, ..ask(1) };
    let (mut attempts, mut turn, mut before) = (0, Turn::First, began);
    loop {
        let mut permit = scope
            .admit(Ask { turn, deadline: began + Duration::from_mins(10), ..large })
            .await
            .expect("a turn");
        assert!(clock::now() >= before, "not before the time that the refusal names");
        permit.sent();
        clock::sleep(Duration::from_millis(150)).await;
        let passed = clock::now() - began;
        permit.head(&HeadReport::default(), None, None);
        attempts += 1;
        let Some(wait) = Duration::from_mins(1).checked_sub(passed) else { break permit.done() };
        let numbers = RefusalNumbers {
            slot: Slot::TokensPerMinute,
            window: None,
            limit: 30_000,
            used: Some(20_000),
            requested: Some(28_000),
            wait: Some(wait / 2),
            apart: false,
        };
        before = clock::now() + wait / 2;
        turn = Turn::Requeued(permit.rate_limited(
            ErrorClass::RateLimitTokens,
            Some(numbers),
            Some(wait / 2),
            None,
            attempts - 1,
        ));
    }
    attempts
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_priced_above_the_limit_keeps_the_waits_that_refusals_name() {
    for tokens in [20_000, 33_000, 60_000, 900_000] {
        let attempts = attempts_while_refused(tokens).await;
        // Each wait is half of what is left, and the third on grows by itself.
        assert!(attempts <= 8, "{tokens} tokens: {attempts} attempts in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_grows_with_each_refusal_of_the_same_request() {
    let scope = Scopes::new(Settings::default(), 7).resolve(CredentialId(1), None);
    let began = clock::now();
    let (mut attempts, mut turn) = (0, Turn::First);
    while clock::now() - began < Duration::from_mins(9) {
        let ask = Ask { turn, deadline: began + Duration::from_mins(10), ..ask(0) };
        let Ok(mut permit) = scope.admit(ask).await else { break };
        permit.sent();
        clock::sleep(Duration::from_millis(20)).await;
        let hint = Some(Duration::from_millis(100));
        turn = Turn::Requeued(permit.rate_limited(ErrorClass::RateLimitOther, None, hint, None, attempts));
        attempts += 1;
    }
    assert!(attempts < 60, "{attempts} attempts in nine minutes, where each refusal names 100 ms");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_large_request_holds_up_nobody_whom_its_numbers_let_pass() {
    let limits = LimitSettings { tokens_per_minute: Some(600_000), ..LimitSettings::default() };
    let scope = Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None);
    let large = Ask { cost: Cost { tokens: 200_000, ..ask(0).cost }, ..ask(0) };
    let mut permit = scope.admit(large).await.expect("passes");
    permit.sent();
    // The refusal takes a while: the pacer has its second's worth again.
    clock::sleep(Duration::from_secs(25)).await;
    // Others have used 500,000 of it: room for the small ones, and for the large one in ten
    // seconds.
    let numbers = RefusalNumbers {
        slot: Slot::TokensPerMinute,
        window: None,
        limit: 600_000,
        used: Some(500_000),
        requested: Some(200_000),
        wait: Some(Duration::from_secs(10)),
        apart: false,
    };
    let ticket = permit.rate_limited(ErrorClass::RateLimitTokens, Some(numbers), None, None, 0);
    let began = clock::now();
    let again = {
        let scope = Arc::clone(&scope);
        clock::spawn(async move {
            let permit =
                scope.admit(Ask { turn: Turn::Requeued(ticket), ..large }).await.expect("its turn comes");
            succeed(permit).await;
            clock::now()
        })
    };
    tokio::task::yield_now().await;
    // Its own caller's and others', a hundredth of the rate: nothing else holds them.
    let mut longest = Duration::ZERO;
    for number in 0..90 {
        let asked = clock::now();
        let permit = scope.admit(ask(number % 2)).await.expect("passes");
        longest = longest.max(clock::now() - asked);
        clock::spawn(succeed(permit));
        clock::sleep(Duration::from_millis(100)).await;
    }
    assert!(longest < Duration::from_millis(50), "a small one waited {longest:?}");
    let took = again.await.expect("no panic") - began;
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_large_request_that_is_refused_at_once_costs_the_others_one_turn_of_it() {
    let limits = LimitSettings {
        requests_per_minute: Some(6000),
        tokens_per_minute: Some(600_000),
        ..LimitSettings::default()
    };
    // What the headers of a bucket tell, which is a minute deep.
    let told = |used: u64| {
        let reset = Some(Duration::from_millis(used / 10));
        let tokens = Some(LimitReport { limit: 600_000, remaining: 600_000 - used, reset });
        HeadReport {
            limits: LimitReports { requests: None, tokens, ..LimitReports::default() },
            ..HeadReport::default()
        }
    };
    // Whatever it is refused for, its tokens were not served.
    for (slot, headers) in
        [(Slot::TokensPerMinute, false), (Slot::RequestsPerMinute, false), (Slot::TokensPerMinute, true)]
    {
        let scope = Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None);
        let large = Ask { cost: Cost { tokens: 200_000, ..ask(0).cost }, ..ask(0) };
        for used in [100_000, 170_000, 260_000].into_iter().filter(|_| headers) {
            let tiny = Ask { cost: Cost { tokens: 10, ..ask(0).cost }, ..ask(0) };
            let mut permit = scope.admit(tiny).await.expect("passes");
            permit.sent();
            permit.head(&told(used), None, None);
            permit.done();
        }
        let mut permit = scope.admit(large).await.expect("passes");
        permit.sent();
        if headers {
            permit.head(&told(500_000), None, None);
        }
        let (class, limit, used, requested) = match slot.unit() {
            Unit::Tokens => (ErrorClass::RateLimitTokens, 600_000, 500_000, 200_000),
            Unit::Requests => (ErrorClass::RateLimitRequests, 6000, 5000, 1),
        };
        let numbers = RefusalNumbers {
            slot,
            window: None,
            limit,
            used: Some(used),
            requested: Some(requested),
            wait: Some(Duration::from_secs(10)),
            apart: false,
        };
        let ticket = permit.rate_limited(class, Some(numbers), None, None, 0);
        let again = {
            let scope = Arc::clone(&scope);
            clock::spawn(async move {
                let permit = scope.admit(Ask { turn: Turn::Requeued(ticket), ..large }).await;
                let at = clock::now();
                succeed(permit.expect("its turn comes")).await;
                at
            })
        };
        tokio::task::yield_now().await;
        let wait_of_a_small_one = async |caller| {
            let asked = clock::now();
            drop(clock::spawn(succeed(scope.admit(ask(caller)).await.expect("passes"))));
            clock::now() - asked
        };
        for number in 0..80 {
            let waited = wait_of_a_small_one(number % 2).await;
            assert!(waited < Duration::from_millis(50), "before its turn a small one waited {waited:?}");
            clock::sleep(Duration::from_millis(100)).await;
        }
        let turn = again.await.expect("no panic");
        wait_of_a_small_one(1).await;
        let waited = clock::now() - turn;
        assert!(waited < Duration::from_secs(23), "after its turn a small one waited {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_header_tells_what_answers_used_sets_the_pace() {
    let limits = LimitSettings { tokens_per_minute: Some(60_000), ..LimitSettings::default() };
    let mut took = Vec::new();
    for used in [None, Some(1000)] {
        let scopes = Scopes::new(Settings { limits, ..Settings::default() }, 7);
        let scope = scopes.resolve(CredentialId(1), None);
        let began = clock::now();
        for _ in 0..40 {
            let ask = Ask { cost: Cost { tokens: 500, ..ask(0).cost }, ..ask(0) };
            let mut permit = scope.admit(ask).await.expect("within its deadline");
            if let Some(used) = used {
                permit.used(used);
            }
            succeed(permit).await;
        }
        took.push((clock::now() - began).as_secs_f64());
    }
    // 40 × 500 tokens at 1,000 a second, then 40 × 1,000, which the first few answers tell.
    assert!((18.0..22.0).contains(&took[0]) && (35.0..42.0).contains(&took[1]), "{took:?}");
}

//! The front: permits over a paused runtime.

use std::sync::Arc;
use std::time::Duration;

use crate::caller::{CallerId, Lane, Mode};
use crate::classify::ErrorClass;
use crate::clock;

use super::*;

pub(super) fn ask(caller: u16) -> Ask {
    Ask {
        caller: CallerId(caller),
        weight: 1,
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 100, ..Cost::default() },
        body_bytes: 100,
        deadline: clock::now() + Duration::from_mins(1),
        head_due: false,
        turn: Turn::First,
        mode: Mode::Enforce,
        route: Route::default(),
    }
}

pub(super) fn limited(requests_per_minute: u64) -> Scopes {
    let limits = LimitSettings { requests_per_minute: Some(requests_per_minute), ..LimitSettings::default() };
    Scopes::new(Settings { limits, ..Settings::default() }, 7)
}

pub(super) async fn succeed(mut permit: Permit) {
    permit.sent();
    clock::sleep(Duration::from_millis(300)).await;
    permit.head(&HeadReport::default(), None, None);
    permit.done();
}

#[tokio::test(start_paused = true)]
async fn requests_wait_their_turn_and_all_are_served() {
    let scope = limited(600).resolve(CredentialId(1), Some("gpt-4o"));
    let began = clock::now();
    let mut tasks = Vec::new();
    for caller in 0..100 {
        let scope = Arc::clone(&scope);
        tasks.push(clock::spawn(async move {
            let permit = scope.admit(ask(caller % 7)).await.expect("within its deadline");
            succeed(permit).await;
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let took = clock::now() - began;
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(11), "{took:?}");
    assert_eq!(scope.in_flight(), 0);
    assert_eq!(scope.status().counts.granted, 100);
}

#[tokio::test(start_paused = true)]
async fn what_is_much_larger_than_a_limit_is_tried_in_its_turn_and_holds_up_nobody() {
    let limits = LimitSettings {
        requests_per_minute: Some(600),
        tokens_per_minute: Some(60_000),
        ..LimitSettings::default()
    };
    let scope = Scopes::new(Settings { limits, ..Settings::default() }, 7).resolve(CredentialId(1), None);
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
async fn a_dropped_future_leaves_at_once() {
    let scope = limited(60).resolve(CredentialId(1), None);
    let first = scope.admit(ask(0)).await.expect("the first passes");
    let mut waiting = Box::pin(scope.admit(ask(0)));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("the second waits"),
        () = clock::sleep(Duration::from_millis(1)) => {}
    }
    assert_eq!(scope.status().queue[0].waiting, 1);
    drop(waiting);
    assert!(scope.status().queue.is_empty());
    drop(first);
    assert_eq!(scope.in_flight(), 0);
    // What was given back unsent can be had again at once.
    drop(scope.admit(ask(0)).await.expect("given back"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_met_is_refused_without_waiting() {
    let scope = limited(60).resolve(CredentialId(1), None);
    let began = clock::now();
    let mut held = Vec::new();
    for _ in 0..100 {
        match scope.ask(&ask(0), clock::now()) {
            Admission::Refused(Refused::Deadline { predicted, retry_after }) => {
                assert!(predicted > Duration::from_mins(1) && retry_after == predicted, "{predicted:?}");
            }
            other @ (Admission::Granted(_) | Admission::Refused(_) | Admission::Waits(_)) => held.push(other),
        }
    }
    // The lower bound of what is predicted misses the deadline from about the 76th on.
    assert!((62..85).contains(&held.len()), "{}", held.len());
    assert_eq!(clock::now(), began);
    // A newcomer is not behind the others, and of one caller's the earliest deadline is first.
    let hurried = |caller| Ask { deadline: began + Duration::from_secs(5), ..ask(caller) };
    assert!(scope.admit(hurried(1)).await.is_ok());
    assert!(scope.admit(hurried(0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_what_waits_and_keeps_what_flies() {
    let scopes = limited(60);
    let scope = scopes.resolve(CredentialId(1), None);
    let mut permit = scope.admit(ask(0)).await.expect("passes");
    permit.sent();
    let waiting = {
        let scope = Arc::clone(&scope);
        clock::spawn(async move { scope.admit(ask(0)).await.map(drop) })
    };
    tokio::task::yield_now().await;
    scopes.drain();
    assert_eq!(waiting.await.expect("no panic"), Err(Refused::Draining));
    assert_eq!(scope.admit(ask(0)).await.map(drop), Err(Refused::Draining));
    assert_eq!(scope.in_flight(), 1);
    permit.done();
    assert_eq!(scope.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_of_one_project_are_merged_and_random_keys_are_bounded() {
    let scopes = Scopes::new(Settings::default(), 1);
    let report = HeadReport::default();
    for credential in 1..=3 {
        let scope = scopes.resolve(CredentialId(credential), Some("gpt-4o"));
        let mut permit = scope.admit(ask(0)).await.expect("passes");
        permit.sent();
        permit.head(&report, Some("org-a"), Some("proj-a"));
        permit.done();
    }
    let one = scopes.resolve(CredentialId(1), Some("gpt-4o"));
    assert!(Arc::ptr_eq(&one, &scopes.resolve(CredentialId(2), Some("gpt-4o-2024-08-06"))));
    assert!(Arc::ptr_eq(&one, &scopes.resolve(CredentialId(3), Some("gpt-4o"))));
    assert_eq!(scopes.counts().merged, 2);
    for token in 0..3_000 {
        let scope = scopes.resolve(CredentialId(1_000_000 + token), Some("gpt-4o"));
        drop(scope.admit(ask(0)).await);
    }
    let counts = scopes.counts();
    assert_eq!(counts.scopes, 1000);
    assert!(counts.evicted >= 2_000);
    assert!(Arc::ptr_eq(&one, &scopes.resolve(CredentialId(2), Some("gpt-4o"))), "what is proven is kept");
    for model in 0..1000 {
        scopes.resolve(CredentialId(1), Some(&format!("made-up-{model}")));
    }
    assert!(scopes.counts().scopes <= 1000);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_request_goes_back_to_the_head() {
    let scope = limited(600).resolve(CredentialId(1), None);
    let mut permit = scope.admit(ask(0)).await.expect("passes");
    permit.sent();
    let numbers = RefusalNumbers {
        slot: Slot::RequestsPerMinute,
        limit: 600,
        used: Some(600),
        requested: Some(1),
        wait: Some(Duration::from_millis(100)),
        apart: false,
    };
    let ticket = permit.rate_limited(ErrorClass::RateLimitRequests, Some(numbers), None, None, 0);
    let began = clock::now();
    let again = scope.admit(Ask { turn: Turn::Requeued(ticket), ..ask(0) }).await.expect("passes");
    let waited = clock::now() - began;
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_millis(500), "{waited:?}");
    again.done();
}

#[tokio::test(start_paused = true)]
async fn permits_are_settled_exactly_once_whatever_happens() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scopes = limited(rng.u64(60..6000));
        let scope = scopes.resolve(CredentialId(seed), Some("gpt-4o"));
        let mut tasks = Vec::new();
        for _ in 0..80 {
            let (scope, seed) = (Arc::clone(&scope), rng.u64(..));
            tasks.push(clock::spawn(async move { wander(&scope, fastrand::Rng::with_seed(seed)).await }));
        }
        clock::sleep(Duration::from_millis(rng.u64(0..20_000))).await;
        match rng.u8(0..3) {
            0 => scopes.drain(),
            1 => tasks.iter().for_each(tokio::task::JoinHandle::abort),
            _ => {}
        }
        for task in tasks {
            // Some panic, some are aborted.
            drop(task.await);
        }
        let status = scope.status();
        assert_eq!(status.in_flight, 0, "seed {seed}");
        assert!(status.queue.is_empty(), "seed {seed}: {:?}", status.queue);
        assert_eq!(status.queue_bytes, 0, "seed {seed}");
    }
}

/// One call with everything that can happen to it.
async fn wander(scope: &Arc<Scope>, mut rng: fastrand::Rng) {
    clock::sleep(Duration::from_millis(rng.u64(0..10_000))).await;
    let mut turn = Turn::First;
    for _ in 0..6 {
        let lane = if rng.bool() { Lane::Interactive } else { Lane::Background };
        let mode =
            [Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Observe, Mode::Bypass][rng.usize(0..5)];
        let deadline = clock::now() + Duration::from_millis(rng.u64(0..30_000));
        let ask = Ask { lane, deadline, turn, mode, ..ask(rng.u16(0..5)) };
        let patience = Duration::from_millis(rng.u64(0..20_000));
        let Ok(Ok(mut permit)) = tokio::time::timeout(patience, scope.admit(ask)).await else { return };
        assert!(clock::now() <= deadline || mode != Mode::Enforce, "dispatched after its deadline");
        if rng.u8(0..10) == 0 {
            return;
        }
        permit.sent();
        clock::sleep(Duration::from_millis(rng.u64(0..3000))).await;
        assert!(rng.u8(0..20) != 0, "a task that panics with a permit in hand");
        let class = ErrorClass::ALL[rng.usize(0..ErrorClass::ALL.len())];
        match rng.u8(0..6) {
            0 => {
                permit.fail(class);
                return;
            }
            1 => {
                let hint = Duration::from_millis(rng.u64(0..500));
                turn = Turn::Requeued(permit.rate_limited(class, None, Some(hint), None, 0));
            }
            2 if rng.u8(0..8) == 0 => {
                let answer = UpstreamWords { message: "spent".into(), ..UpstreamWords::of_status(429) };
                permit.quota_exhausted(Some(answer));
                return;
            }
            3 => {
                permit.fail(class);
                let Ok(_ticket) = scope.retry_ticket(crate::retry::cost(class)) else { return };
                clock::sleep(Duration::from_millis(rng.u64(0..2000))).await;
                turn = Turn::Retry;
            }
            4 => {
                drop(permit);
                return;
            }
            _ => {
                permit.head(&HeadReport::default(), Some("org"), None);
                permit.done();
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn observe_delays_nothing_and_says_what_it_would_have_done() {
    let scope = limited(60).resolve(CredentialId(1), None);
    let began = clock::now();
    let mut would = Vec::new();
    let mut held = Vec::new();
    for _ in 0..100 {
        let ask = Ask { mode: Mode::Observe, deadline: began + Duration::from_secs(30), ..ask(0) };
        let mut permit = scope.admit(ask).await.expect("observe lets everything pass");
        permit.sent();
        would.push(permit.would());
        held.push(permit);
    }
    assert_eq!(clock::now(), began);
    assert_eq!(would[0], Would::Pass);
    assert!(would.iter().any(|would| matches!(would, Would::Delay(_))));
    assert!(matches!(would[99], Would::Refuse(Refused::Deadline { .. })), "{:?}", would[99]);
    drop(held);
    assert_eq!(scope.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn settings_are_reloaded_without_forgetting() {
    let scopes = limited(60);
    let scope = scopes.resolve(CredentialId(1), None);
    drop(scope.admit(ask(0)).await);
    let limits = LimitSettings { requests_per_minute: Some(6000), ..LimitSettings::default() };
    scopes.reload(Settings { limits, ..Settings::default() });
    assert!(Arc::ptr_eq(&scope, &scopes.resolve(CredentialId(1), None)));
    let dimensions = scope.status().dimensions;
    assert!((dimensions[0].limit - 6000.0).abs() < 1e-9, "{dimensions:?}");
}

#[test]
fn a_driver_that_dies_with_its_worker_is_replaced() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    let (one, two) = (runtime(), runtime());
    let scope = one.block_on(async { limited(60).resolve(CredentialId(1), None) });
    let first = one.block_on(scope.admit(ask_in(&one))).expect("passes");
    let wait_on = |runtime: &tokio::runtime::Runtime| {
        let scope = Arc::clone(&scope);
        let ask = ask_in(runtime);
        let _entered = runtime.enter();
        let task = clock::spawn(async move { scope.admit(ask).await.map(drop) });
        runtime.block_on(tokio::task::yield_now());
        task
    };
    let _dies = wait_on(&one);
    let lives = wait_on(&two);
    drop(one);
    // Without a runtime around, too.
    drop(first);
    assert_eq!(two.block_on(lives).expect("no panic"), Ok(()));
    assert_eq!(scope.in_flight(), 0);
}

fn ask_in(runtime: &tokio::runtime::Runtime) -> Ask {
    runtime.block_on(async { ask(0) })
}

#[tokio::test(start_paused = true)]
async fn a_spent_quota_blocks_a_family_then_the_credential_and_is_asked_about_ever_less_often() {
    let scopes = limited(6000);
    let scope = scopes.resolve(CredentialId(1), Some("gpt-4o"));
    let other = scopes.resolve(CredentialId(1), Some("gpt-5"));
    let words = UpstreamWords { code: Some("insufficient_quota".into()), ..UpstreamWords::of_status(429) };
    let spent = |mut permit: Permit| {
        permit.sent();
        permit.quota_exhausted(Some(words.clone()));
    };
    spent(scope.admit(ask(0)).await.expect("passes"));
    assert!(matches!(scope.admit(ask(0)).await, Err(Refused::QuotaExhausted(_))));
    let unconfirmed = other.admit(ask(0)).await.expect("another family passes");
    assert!(!unconfirmed.is_probe());
    spent(unconfirmed);
    let mut probes = 0;
    for _ in 0..1000 {
        clock::sleep(Duration::from_millis(300)).await;
        for scope in [&other, &scope] {
            match scope.admit(ask(0)).await {
                Ok(permit) => {
                    assert!(permit.is_probe());
                    spent(permit);
                    probes += 1;
                }
                Err(Refused::QuotaExhausted(told)) => assert_eq!(*told, words),
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }
    assert!((9..=10).contains(&probes), "{probes} probes in five minutes");
    clock::sleep(Duration::from_mins(1)).await;
    let mut permit = scope.admit(ask(0)).await.expect("a probe");
    permit.sent();
    permit.done();
    assert!(!scope.admit(ask(0)).await.expect("the quota is back").is_probe());
    assert!(!other.admit(ask(0)).await.expect("the quota is back").is_probe());
}

/// "This request can only afford 100 tokens" is about the request.
#[tokio::test(start_paused = true)]
async fn money_that_lacks_for_one_request_blocks_nobody() {
    let scope = limited(6000).resolve(CredentialId(1), Some("gpt-4o"));
    for _ in 0..3 {
        let mut permit = scope.admit(ask(0)).await.expect("passes");
        assert!(!permit.is_probe());
        permit.sent();
        permit.quota_exhausted(None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_have_a_bound_of_its_own() {
    let limits = LimitSettings { requests_per_minute: Some(600), ..LimitSettings::default() };
    let settings = Settings { limits, max_waiting_of: vec![None, Some(2)], ..Settings::default() };
    let scope = Scopes::new(settings, 7).resolve(CredentialId(1), None);
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let scope = Arc::clone(&scope);
        waiting.push(clock::spawn(async move { scope.admit(ask(0)).await.map(succeed) }));
    }
    for _ in 0..2 {
        let scope = Arc::clone(&scope);
        waiting.push(clock::spawn(async move { scope.admit(ask(1)).await.map(succeed) }));
    }
    tokio::task::yield_now().await;
    let began = clock::now();
    assert!(matches!(scope.admit(ask(1)).await, Err(Refused::CallerLimit { .. })), "its third has no room");
    assert_eq!(clock::now(), began, "and is told so at once");
    for task in waiting {
        task.await.expect("no panic").expect("within its deadline").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_go_at_once_goes_and_who_may_not_leaves_when_dropped() {
    let scope = limited(60).resolve(CredentialId(1), None);
    let Admission::Granted(first) = scope.ask(&ask(0), clock::now()) else { panic!("the first passes") };
    let Admission::Waits(second) = scope.ask(&ask(0), clock::now()) else { panic!("the second waits") };
    assert_eq!(scope.status().queue[0].waiting, 1);
    drop(second);
    assert!(scope.status().queue.is_empty());
    let Admission::Waits(third) = scope.ask(&ask(0), clock::now()) else { panic!("the third waits") };
    drop(first);
    drop(third.await.expect("what the first gave back"));
    let late = Ask { deadline: clock::now(), ..ask(0) };
    drop(scope.ask(&ask(0), clock::now()));
    let Admission::Granted(_holds) = scope.ask(&ask(0), clock::now()) else { panic!("passes") };
    assert!(matches!(scope.ask(&late, clock::now()), Admission::Refused(Refused::Deadline { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_answer_told_in_one_step_counts_as_in_three() {
    let mut stood = Vec::new();
    for together in [false, true] {
        let scopes = Scopes::new(Settings::default(), 7);
        let scope = scopes.resolve(CredentialId(1), Some("gpt-4o"));
        while scope.retry_ticket(crate::retry::cost(ErrorClass::Overloaded)).is_ok() {}
        let limit = |limit, remaining| Some(LimitReport { limit, remaining, reset: None });
        let limits = LimitReports {
            requests: limit(600, 599),
            tokens: limit(60_000, 59_900),
            ..LimitReports::default()
        };
        let report = HeadReport { limits, ..HeadReport::default() };
        let mut permit = scope.admit(ask(0)).await.expect("passes");
        permit.sent();
        if together {
            permit.head_at(&report, Some("org"), Some("proj"), true, clock::now());
        } else {
            permit.head(&report, Some("org"), Some("proj"));
        }
        permit.accepted();
        permit.accepted();
        permit.done();
        let ScopeStatus { dimensions, budget, in_flight, .. } = scope.status();
        let levels: Vec<f64> = dimensions.iter().map(|dimension| dimension.level).collect();
        stood.push((levels, budget, in_flight));
    }
    assert_eq!(stood[0], stood[1]);
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

/// How long `count` requests take that come at once.
async fn time_for(scope: &Arc<Scope>, requests: usize) -> f64 {
    let began = clock::now();
    for _ in 0..requests {
        let permit = scope.admit(ask(0)).await.expect("within its deadline");
        clock::spawn(succeed(permit));
    }
    (clock::now() - began).as_secs_f64()
}

fn part(part: f64) -> Part {
    Part { part, ..Part::default() }
}

#[tokio::test(start_paused = true)]
async fn a_replica_keeps_to_its_part_and_a_larger_one_counts_at_once() {
    let scopes = limited(600);
    scopes.share(Newcomer::new(|family| part(if family == "gpt-4o" { 0.25 } else { 1.0 })));
    let scope = scopes.resolve(CredentialId(1), Some("gpt-4o"));
    let part_of = |scope: &Scope| format!("{:.3}", scope.status().part);
    assert_eq!(part_of(&scope), "0.250");
    time_for(&scope, 10).await;
    let took = time_for(&scope, 50).await;
    assert!((19.0..22.0).contains(&took), "{took}");
    let waiting = clock::spawn({
        let scope = Arc::clone(&scope);
        async move { time_for(&scope, 50).await }
    });
    clock::sleep(Duration::from_millis(10)).await;
    scope.set_part(part(1.0));
    let took = waiting.await.expect("no panic");
    assert!((4.5..6.0).contains(&took), "{took}");
    assert_eq!(part_of(&scopes.resolve(CredentialId(1), Some("gpt-5"))), "1.000");
}

#[tokio::test(start_paused = true)]
async fn a_part_paces_no_limit_by_the_day() {
    let limits = LimitSettings { requests_per_day: Some(1000), ..LimitSettings::default() };
    let scopes = Scopes::new(Settings { limits, ..Settings::default() }, 7);
    scopes.share(Newcomer::new(|_| part(0.25)));
    let scope = scopes.resolve(CredentialId(1), None);
    assert!(time_for(&scope, 200).await < 1.0);
    assert_eq!(scope.demand().limit_requests, None);
}

/// How many of `count` requests that come at once may go.
fn passing(scope: &Arc<Scope>, requests: usize) -> Vec<Permit> {
    let asked = (0..requests).map(|_| scope.ask(&ask(0), clock::now()));
    asked
        .filter_map(|asked| if let Admission::Granted(permit) = asked { Some(permit) } else { None })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn of_a_day_s_limit_replicas_divide_what_is_left() {
    let limits = LimitSettings { requests_per_day: Some(100), ..LimitSettings::default() };
    let scopes = Scopes::new(Settings { limits, ..Settings::default() }, 7);
    scopes.share(Newcomer::new(|_| part(0.5)));
    let scope = scopes.resolve(CredentialId(1), None);
    let held = passing(&scope, 200);
    assert_eq!(held.len(), 50);
    // The other one used its half too: nothing is left.
    scope.set_part(Part { part: 0.5, others_sent: [50.0, 0.0], ..Part::default() });
    assert_eq!(passing(&scope, 200).len(), 0);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_part_is_of_the_requests_in_flight_too() {
    let limits = LimitSettings { in_flight: Some(10), ..LimitSettings::default() };
    let scopes = Scopes::new(Settings { limits, ..Settings::default() }, 7);
    scopes.share(Newcomer::new(|_| part(0.3)));
    let scope = scopes.resolve(CredentialId(1), None);
    let held = passing(&scope, 20);
    assert_eq!((held.len(), scope.demand().bound), (3, Some(10)));
    scope.set_part(part(0.01));
    drop(held);
    assert_eq!(passing(&scope, 20).len(), 1, "never none");
}

#[tokio::test(start_paused = true)]
async fn what_others_used_of_a_part_is_no_burst_for_who_gains_it() {
    for (fresh, least, most) in [(0.0, 1, 8), (1.0, 20, 40)] {
        let scopes = limited(6000);
        scopes.share(Newcomer::new(|_| part(0.1)));
        let scope = scopes.resolve(CredentialId(1), None);
        drop(passing(&scope, 1));
        scope.set_part(Part { part: 0.5, fresh, ..Part::default() });
        let went = passing(&scope, 100).len();
        assert!((least..=most).contains(&went), "{fresh}: {went}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_whose_lease_is_over_lets_nothing_through_until_there_is_another() {
    let scope = limited(600).resolve(CredentialId(1), None);
    scope.set_part(Part { part: 0.5, valid: Duration::from_secs(3), ..Part::default() });
    assert!(!passing(&scope, 1).is_empty());
    clock::sleep(Duration::from_secs(30)).await;
    assert!(passing(&scope, 10).is_empty());
    scope.set_part(part(0.3));
    assert!(!passing(&scope, 1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_predicted_by_the_part_that_will_be_had() {
    let wait = |prospect| {
        let scope = limited(600).resolve(CredentialId(1), None);
        scope.set_part(Part { part: 0.002, prospect, ..Part::default() });
        let held = passing(&scope, 1);
        let wait = scope.expected_wait(&ask(0)).as_secs_f64();
        drop(held);
        wait
    };
    assert!(wait(0.002) > 20.0 && wait(0.5) < 1.0, "{} {}", wait(0.002), wait(0.5));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_a_part_that_will_grow() {
    let scope = limited(600).resolve(CredentialId(1), None);
    let part = Part { part: 0.0005, prospect: 0.5, ..Part::default() };
    scope.set_part(part);
    let held = passing(&scope, 1);
    let Admission::Waits(waiting) = scope.ask(&ask(0), clock::now()) else { panic!("it waits") };
    scope.set_part(part);
    let ended = clock::timeout_at(clock::now() + Duration::from_secs(1), waiting).await;
    assert!(ended.is_err(), "it still waits: {ended:?}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_learned_holds_here() {
    let scope = Scopes::new(Settings::default(), 7).resolve(CredentialId(1), None);
    scope.told_elsewhere(&Told::Limits(vec![(Slot::RequestsPerMinute, 600.0)]));
    assert_eq!(scope.demand().limit_requests, Some(10.0));
    assert_eq!(scope.knowledge().limits, [(Slot::RequestsPerMinute, 600.0)]);
    // Its own headers know better.
    scope.told_elsewhere(&Told::Limits(vec![(Slot::RequestsPerMinute, 60.0)]));
    assert_eq!(scope.demand().limit_requests, Some(10.0));
    scope.told_elsewhere(&Told::Pause(Duration::from_secs(7)));
    assert!(scope.knowledge().pause > Duration::from_secs(6) && passing(&scope, 1).is_empty());
    clock::sleep(Duration::from_secs(8)).await;
    assert_eq!(passing(&scope, 1).len(), 1);
    scope.told_elsewhere(&Told::Failing(Duration::from_secs(2)));
    assert_eq!(scope.status().breaker, BreakerState::Open);
    scope.told_elsewhere(&Told::Recovered);
    let mut probe = passing(&scope, 1).pop().expect("it asks at once");
    probe.sent();
    probe.head(&HeadReport::default(), None, None);
    probe.done();
    assert_ne!(scope.status().breaker, BreakerState::Open);
    // Who has had a good answer just now knows better.
    scope.told_elsewhere(&Told::Failing(Duration::from_secs(2)));
    assert_ne!(scope.status().breaker, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_another_replica_found_spent_is_spent_here_until_it_is_back() {
    let scope = Scopes::new(Settings::default(), 7).resolve(CredentialId(1), None);
    let words = UpstreamWords { code: Some("insufficient_quota".into()), ..UpstreamWords::of_status(429) };
    scope.told_elsewhere(&Told::Spent(words.clone()));
    let Err(Refused::QuotaExhausted(told)) = scope.admit(ask(0)).await else { panic!("it is blocked") };
    assert_eq!((&*told, scope.knowledge().spent.as_deref()), (&words, Some(&words)));
    clock::sleep(Duration::from_secs(1)).await;
    scope.told_elsewhere(&Told::Refilled);
    assert_eq!(passing(&scope, 1).len(), 1);
    assert_eq!(scope.knowledge().spent, None);
}

#[tokio::test(start_paused = true)]
async fn all_replicas_name_a_scope_by_its_organization_once_they_know_it() {
    let named = |scopes: Scopes, name: u64| async move {
        let scope = scopes.resolve_named(CredentialId(fastrand::u64(..)), Some("gpt-4o"), || name);
        let before = scope.shared_name();
        let mut permit = scope.admit(ask(0)).await.expect("passes");
        permit.sent();
        permit.head(&HeadReport::default(), Some("org-a"), Some("proj-a"));
        permit.done();
        (before, scope.shared_name())
    };
    let sharing = || {
        let scopes = limited(600);
        scopes.share(Newcomer::new(|_| part(0.5)));
        scopes
    };
    let (one, other) = (named(sharing(), 7).await, named(sharing(), 8).await);
    assert_eq!((one.0, other.0), (7, 8));
    assert_eq!(one.1, other.1);
    assert!(one.1 != 7 && one.1 != 0);
    assert_eq!(named(sharing(), EVERYBODY).await, (EVERYBODY, EVERYBODY));
    assert_eq!(named(limited(600), 7).await, (0, 0), "nobody asks where nothing is shared");
}

#[tokio::test(start_paused = true)]
async fn what_waits_and_what_was_sent_is_demand() {
    let scope = limited(600).resolve(CredentialId(1), None);
    let permits: Vec<Permit> = {
        let mut permits = Vec::new();
        for _ in 0..5 {
            let mut permit = scope.admit(ask(0)).await.expect("the burst");
            permit.sent();
            permits.push(permit);
        }
        permits
    };
    let waiting: Vec<_> = (0..3).map(|_| scope.ask(&ask(0), clock::now())).collect();
    let demand = scope.demand();
    assert_eq!((demand.sent_requests, demand.waiting_requests, demand.in_flight), (5.0, 3.0, 5));
    assert_eq!(demand.limit_requests, Some(10.0));
    assert!(demand.waiting_tokens >= 300.0 && demand.sent_tokens >= 500.0, "{demand:?}");
    drop((waiting, permits));
}

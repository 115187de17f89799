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
        window: None,
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

/// How long `count` requests take that come at once.
pub(super) async fn time_for(scope: &Arc<Scope>, requests: usize) -> f64 {
    let began = clock::now();
    for _ in 0..requests {
        let permit = scope.admit(ask(0)).await.expect("within its deadline");
        clock::spawn(succeed(permit));
    }
    (clock::now() - began).as_secs_f64()
}

//! The front: permits over a paused runtime.

use std::sync::Arc;
use std::time::Duration;

use crate::caller::{CallerId, Lane, Mode};
use crate::classify::ErrorClass;
use crate::clock;

use super::*;

fn ask(caller: u16) -> Ask {
    Ask {
        caller: CallerId(caller),
        weight: 1,
        lane: Lane::Interactive,
        cost: Cost { requests: 1, tokens: 100 },
        body_bytes: 100,
        deadline: clock::now() + Duration::from_secs(60),
        turn: Turn::First,
        mode: Mode::Enforce,
    }
}

fn limited(requests_per_minute: u64) -> Scopes {
    let limits = LimitSettings { requests_per_minute: Some(requests_per_minute), ..LimitSettings::default() };
    Scopes::new(Settings { limits, ..Settings::default() }, 7)
}

async fn succeed(mut permit: Permit) {
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
async fn what_is_larger_than_a_limit_goes_at_once_and_holds_up_nobody() {
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
    let large = Ask { cost: Cost { requests: 1, tokens: 60_001 }, ..ask(1) };
    let mut permit = scope.admit(large).await.expect("it goes");
    assert_eq!(clock::now(), began);
    permit.sent();
    permit.fail(ErrorClass::RequestExceedsLimit);
    for task in tasks {
        task.await.expect("no panic");
    }
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(4), "30 requests at 10 a second took {took:?}");
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
    let mut held = Vec::new();
    for _ in 0..30 {
        let scope = Arc::clone(&scope);
        held.push(clock::spawn(async move {
            if let Ok(permit) = scope.admit(ask(0)).await {
                succeed(permit).await;
            }
        }));
    }
    tokio::task::yield_now().await;
    let began = clock::now();
    let hurried = Ask { deadline: began + Duration::from_secs(5), ..ask(0) };
    match scope.admit(hurried).await {
        Err(Refused::Deadline { predicted }) => assert!(predicted > Duration::from_secs(25), "{predicted:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(clock::now(), began);
    // A newcomer is not behind the others' thirty.
    let other = Ask { deadline: began + Duration::from_secs(5), ..ask(1) };
    assert!(scope.admit(other).await.is_ok());
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
    };
    let ticket = permit.rate_limited(ErrorClass::RateLimitRequests, Some(numbers), None);
    let began = clock::now();
    let again = scope.admit(Ask { turn: Turn::Requeued(ticket), ..ask(0) }).await.expect("passes");
    let waited = clock::now() - began;
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_millis(500), "{waited:?}");
    again.done();
}

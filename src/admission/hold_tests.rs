//! A limit that comes back in hours, a quota that is spent, and a queue that is full.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ask, limited};
use super::*;
use crate::caller::Lane;
use crate::classify::ErrorClass;
use crate::clock;

const HOURS: Duration = Duration::from_hours(3);

/// R03: 4 to 10 of 40 were told, the others waited out their deadlines.
#[tokio::test(start_paused = true)]
async fn a_limit_that_comes_back_in_hours_is_told_to_all_and_asked_about_once_a_minute() {
    let scope = limited(60).resolve(CredentialId(1), None);
    let mut permit = scope.admit(ask(0)).await.expect("passes");
    let waiting: Vec<_> = (0..20)
        .map(|caller| {
            let scope = Arc::clone(&scope);
            clock::spawn(async move { scope.admit(ask(caller)).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    permit.sent();
    let refused_at = clock::now();
    permit.rate_limited(ErrorClass::RateLimitRequests, None, Some(HOURS), None, 0);
    for task in waiting {
        match task.await.expect("no panic") {
            Err(Refused::Deadline { retry_after, .. }) => {
                assert!(retry_after > HOURS.mul_f64(0.999), "{retry_after:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(clock::now(), refused_at, "at once");
    let mut probes = 0;
    for _ in 0..300 {
        clock::sleep(Duration::from_secs(1)).await;
        match scope.ask(&ask(1), clock::now()) {
            Admission::Granted(mut permit) => {
                probes += 1;
                permit.sent();
                permit.rate_limited(ErrorClass::RateLimitRequests, None, Some(HOURS), None, 0);
            }
            Admission::Refused(Refused::Deadline { retry_after, .. }) => {
                assert!(retry_after > HOURS / 2, "{retry_after:?}");
            }
            other @ (Admission::Refused(_) | Admission::Waits(_)) => panic!("{other:?}"),
        }
    }
    assert!((3..=5).contains(&probes), "{probes} probes in five minutes");
    // It was raised: the next one that asks finds out.
    let mut answered = 0;
    for _ in 0..70 {
        clock::sleep(Duration::from_secs(2)).await;
        if let Admission::Granted(mut permit) = scope.ask(&ask(1), clock::now()) {
            answered += 1;
            permit.sent();
            permit.head_at(&HeadReport::default(), None, None, true, clock::now());
            permit.done();
        }
    }
    assert!(answered > 30, "{answered}");
}

/// The words are for those whose deadline comes before the time that they name, and for as long as
/// they hold.
#[tokio::test(start_paused = true)]
async fn the_upstreams_words_go_to_whoever_cannot_wait_for_its_time() {
    let scope = limited(600).resolve(CredentialId(1), None);
    let words = Arc::new(UpstreamWords { message: "in 40 s".into(), ..UpstreamWords::of_status(429) });
    let within = |seconds| Ask { deadline: clock::now() + Duration::from_secs(seconds), ..ask(1) };
    let mut permit = scope.admit(ask(0)).await.expect("passes");
    permit.sent();
    let told = Some(Arc::clone(&words));
    permit.rate_limited(ErrorClass::RateLimitOther, None, Some(Duration::from_secs(40)), told, 0);
    match scope.ask(&within(20), clock::now()) {
        Admission::Refused(Refused::Told { words: told, retry_after }) => {
            assert_eq!((told, retry_after), (words, Duration::from_secs(40)));
        }
        other @ (Admission::Granted(_) | Admission::Refused(_) | Admission::Waits(_)) => panic!("{other:?}"),
    }
    let patient = scope.ask(&within(120), clock::now());
    let Admission::Waits(patient) = patient else { panic!("{patient:?}") };
    let began = clock::now();
    let mut permit = patient.await.expect("its turn");
    assert!(clock::now() - began >= Duration::from_secs(40));
    permit.sent();
    permit.done();
    let after = scope.ask(&within(20), clock::now());
    assert!(!matches!(after, Admission::Refused(_)), "it is over: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_youngest_background_request_gives_way_to_interactive_work() {
    let limits = LimitSettings { requests_per_minute: Some(60), ..LimitSettings::default() };
    let mut settings = Settings { limits, ..Settings::default() };
    settings.queue.max_waiting = 3;
    let scope = Scopes::new(settings, 7).resolve(CredentialId(1), None);
    let _first = scope.admit(ask(0)).await.expect("passes");
    let background = Ask { lane: Lane::Background, ..ask(1) };
    let waits = |ask: &Ask| match scope.ask(ask, clock::now()) {
        Admission::Waits(waiting) => waiting,
        other @ (Admission::Granted(_) | Admission::Refused(_)) => panic!("{other:?}"),
    };
    let (_one, _two, youngest) = (waits(&background), waits(&background), waits(&background));
    let _interactive = waits(&ask(2));
    assert!(matches!(youngest.await, Err(Refused::QueueFull { .. })));
    assert!(matches!(scope.ask(&background, clock::now()), Admission::Refused(Refused::QueueFull { .. })));
    assert_eq!(scope.status().counts.queue_full, 2);
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

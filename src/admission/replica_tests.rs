//! Replicas that divide limits, and tell each other what they learned.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ask, limited, time_for};
use super::*;
use crate::clock;

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
    scope.apply_peer_update(&PeerUpdate::Limits(vec![(Slot::RequestsPerMinute, 600.0)]));
    assert_eq!(scope.demand().limit_requests, Some(10.0));
    assert_eq!(scope.knowledge().limits, [(Slot::RequestsPerMinute, 600.0)]);
    // Its own headers know better.
    scope.apply_peer_update(&PeerUpdate::Limits(vec![(Slot::RequestsPerMinute, 60.0)]));
    assert_eq!(scope.demand().limit_requests, Some(10.0));
    scope.apply_peer_update(&PeerUpdate::Pause(Duration::from_secs(7)));
    assert!(scope.knowledge().pause > Duration::from_secs(6) && passing(&scope, 1).is_empty());
    clock::sleep(Duration::from_secs(8)).await;
    assert_eq!(passing(&scope, 1).len(), 1);
    scope.apply_peer_update(&PeerUpdate::Failing(Duration::from_secs(2)));
    assert_eq!(scope.status().breaker, BreakerState::Open);
    scope.apply_peer_update(&PeerUpdate::Recovered);
    let mut probe = passing(&scope, 1).pop().expect("it asks at once");
    probe.sent();
    probe.head(&HeadReport::default(), None, None);
    probe.done();
    assert_ne!(scope.status().breaker, BreakerState::Open);
    // Who has had a good answer just now knows better.
    scope.apply_peer_update(&PeerUpdate::Failing(Duration::from_secs(2)));
    assert_ne!(scope.status().breaker, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_another_replica_found_spent_is_spent_here_until_it_is_back() {
    let scope = Scopes::new(Settings::default(), 7).resolve(CredentialId(1), None);
    let words = UpstreamWords { code: Some("insufficient_quota".into()), ..UpstreamWords::of_status(429) };
    scope.apply_peer_update(&PeerUpdate::Spent(words.clone()));
    let Err(Refused::QuotaExhausted(told)) = scope.admit(ask(0)).await else { panic!("it is blocked") };
    assert_eq!((&*told, scope.knowledge().spent.as_deref()), (&words, Some(&words)));
    clock::sleep(Duration::from_secs(1)).await;
    scope.apply_peer_update(&PeerUpdate::Refilled);
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

/// A newcomer's part is next to nothing: however it came by it, what it is given then is as deep
/// as for any other.
#[tokio::test(start_paused = true)]
async fn a_part_that_was_next_to_nothing_is_used_as_soon_as_it_is_more() {
    for (first, then) in [(1e-6, 0.5), (0.002, 0.1), (0.0067, 0.33)] {
        let scopes = limited(6000);
        scopes.share(Newcomer::new(move |_| part(first)));
        let scope = scopes.resolve(CredentialId(1), None);
        // The headers tell of a bucket that is nearly full.
        let mut permit = scope.admit(ask(0)).await.expect("passes");
        permit.sent();
        clock::sleep(Duration::from_millis(100)).await;
        let limit = LimitReport { limit: 6000, remaining: 300, reset: Some(Duration::from_secs(57)) };
        let limits = LimitReports { requests: Some(limit), ..LimitReports::default() };
        permit.head(&HeadReport { limits, ..HeadReport::default() }, None, None);
        permit.done();
        scope.set_part(part(then));
        let took = time_for(&scope, 20).await;
        let paced = 20.0 / (100.0 * then);
        assert!(took < paced * 1.1 + 0.6, "{first} {then}: {took} s, paced {paced} s");
    }
}

/// Before anything is known ten begin together as one would, however little of a part each has.
#[tokio::test(start_paused = true)]
async fn replicas_that_know_nothing_yet_begin_together_as_one_would() {
    let begun = |replicas: u32| {
        let prospect = 1.0 / f64::from(replicas);
        let first = if replicas == 1 { 1.0 } else { 1e-6 };
        let held = (0..replicas).map(|_| {
            let scopes = Scopes::new(Settings::default(), 7);
            scopes.share(Newcomer::new(move |_| Part { prospect, ..part(first) }));
            passing(&scopes.resolve(CredentialId(1), None), 30)
        });
        held.collect::<Vec<_>>()
    };
    let count = |replicas| begun(replicas).iter().map(Vec::len).sum::<usize>();
    assert_eq!((count(1), count(10)), (10, 10));
    assert!((9..=10).contains(&count(3)), "{}", count(3));
    // More than what one begins with: each has one at least.
    assert_eq!(count(30), 30);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_searches_grows_for_all_of_them() {
    // Answers take 0.3 s; nobody tells of any limit.
    let scopes = Scopes::new(Settings::default(), 7);
    scopes.share(Newcomer::new(|_| Part { prospect: 0.1, ..part(0.1) }));
    let scope = scopes.resolve(CredentialId(1), None);
    let (ten, lone) = (time_for(&scope, 60).await, {
        let scopes = Scopes::new(Settings::default(), 7);
        time_for(&scopes.resolve(CredentialId(1), None), 600).await
    });
    assert!((ten / lone - 1.0).abs() < 0.25, "{ten} {lone}");
}

//! Which scopes there are: merged, bounded, and reached until they are empty.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ask, limited};
use super::*;
use crate::clock;

/// One good answer that names the organization.
async fn answered(scope: &Arc<Scope>, organization: &str) {
    let mut permit = scope.admit(ask(0)).await.expect("passes");
    permit.sent();
    permit.head_at(&HeadReport::default(), Some(organization), Some("proj"), true, clock::now());
    permit.done();
}

/// B7: a scope that credentials were merged into was never evicted, and all others were in its
/// place.
#[tokio::test(start_paused = true)]
async fn merged_credentials_are_bounded_and_push_out_nothing_learned() {
    let scopes = Scopes::new(Settings { max_scopes: 100, ..Settings::default() }, 1);
    let theirs = scopes.resolve(CredentialId(1), Some("gpt-4o"));
    answered(&theirs, "org-b").await;
    for credential in 1000..3000 {
        answered(&scopes.resolve(CredentialId(credential), Some("gpt-4o")), "org-a").await;
    }
    assert!(scopes.counts().scopes <= 100, "{:?}", scopes.counts());
    assert!(Arc::ptr_eq(&theirs, &scopes.resolve(CredentialId(1), Some("gpt-4o"))));
    assert!(scopes.all().len() <= 3, "what was merged is forgotten");
    // In use, it is not: as many as are in use exceed the bound, and are forgotten later.
    let mut held = Vec::new();
    for credential in 5000..5200 {
        let scope = scopes.resolve(CredentialId(credential), Some("gpt-4o"));
        held.push(scope.admit(ask(0)).await.expect("passes"));
    }
    assert!(scopes.counts().scopes >= 200);
    held.clear();
    for credential in 6000..6200 {
        scopes.resolve(CredentialId(credential), Some("gpt-4o"));
    }
    assert!(scopes.counts().scopes <= 100, "{:?}", scopes.counts());
}

/// B11: after 64 names every further model of a credential shared one scope, for ever.
#[tokio::test(start_paused = true)]
async fn names_that_never_worked_or_are_unused_make_place_for_others() {
    let scopes = Scopes::new(Settings::default(), 1);
    let named = |model: &str| scopes.resolve(CredentialId(1), Some(model));
    for typo in 0..500 {
        assert_eq!(named(&format!("typo-{typo}")).family(), format!("typo-{typo}"));
    }
    for model in 0..64 {
        answered(&named(&format!("model-{model}")), "org").await;
    }
    assert_eq!(named("model-64").family(), "other", "64 that work are in use");
    assert_eq!(named("model-3").family(), "model-3");
    clock::sleep(Duration::from_mins(11)).await;
    assert_eq!(named("model-65").family(), "model-65");
    assert!(scopes.counts().scopes <= 65);
}

/// B15: what waited in a scope that was merged away was paced by a limit of its own, and no drain
/// reached it.
#[tokio::test(start_paused = true)]
async fn what_waits_follows_a_merge_and_what_flies_is_reached_until_it_ends() {
    let scopes = limited(600);
    let one = scopes.resolve(CredentialId(1), Some("gpt-4o"));
    answered(&one, "org").await;
    let other = scopes.resolve(CredentialId(2), Some("gpt-4o"));
    let mut flying = other.admit(ask(0)).await.expect("passes");
    flying.sent();
    let mut waiting = Vec::new();
    for scope in [&one, &other] {
        for caller in 0..40 {
            let scope = Arc::clone(scope);
            waiting.push(clock::spawn(async move {
                let mut permit = scope.admit(ask(caller)).await.expect("its turn comes");
                permit.sent();
                permit.done();
            }));
        }
    }
    clock::sleep(Duration::from_millis(10)).await;
    let began = clock::now();
    flying.head(&HeadReport::default(), Some("org"), Some("proj"));
    tokio::task::yield_now().await;
    let status = other.status();
    assert!(status.queue.is_empty() && status.in_flight == 1, "{:?}", status.queue);
    assert!(one.status().queue.iter().map(|line| line.waiting).sum::<usize>() > 40);
    // A conversation that still holds the old scope asks the new one.
    let again = other.admit(ask(3)).await.expect("its turn comes");
    assert!(Arc::ptr_eq(&again.scope, &one));
    drop(again);
    for task in waiting {
        task.await.expect("no panic");
    }
    let took = clock::now() - began;
    assert!(took > Duration::from_secs(6), "one limit paces all: {took:?}");
    let known = |scopes: &Scopes| scopes.all().iter().any(|scope| Arc::ptr_eq(scope, &other));
    assert!(known(&scopes), "a permit of it is in flight");
    flying.done();
    drop(other);
    assert_eq!(scopes.all().len(), 1);
    scopes.drain();
    assert!(matches!(one.admit(ask(0)).await, Err(Refused::Draining)));
}

//! The findings for a status: the first sentence of each, and their order.

mod headlines;

use super::*;
use crate::admin::samples::{self, met};
use crate::admin::status::{
    BreakerState, CallerErrors, CallerStatus, ErrorStatus, FailureLine, QuotaSpent, Reload, ReplicasStatus,
    ScopeStatus, UpstreamState, UpstreamStatus,
};
use crate::metrics::{Quantiles, Slowness};

fn error(class: &str, callers: Vec<CallerErrors>) -> ErrorStatus {
    ErrorStatus {
        class: class.to_owned(),
        callers,
        solution: format!("solve {class}"),
        ..ErrorStatus::default()
    }
}

fn with_errors(errors: Vec<ErrorStatus>) -> Status {
    Status { errors, recent_requests: 100, ..Status::default() }
}

/// `requests` of the caller chat ended with `class`.
fn of_chat(class: &str, requests: u64) -> Status {
    with_errors(vec![error(class, vec![met("chat", requests, requests)])])
}

fn scope(name: &str) -> ScopeStatus {
    ScopeStatus { name: name.to_owned(), ..ScopeStatus::default() }
}

fn failing(class: &str) -> Status {
    let mut scope = scope("gpt-5");
    scope.breaker.state = BreakerState::Open;
    scope.breaker.failing_since = Some("2026-11-22T03:02:11.000Z".to_owned());
    scope.breaker.next_probe_seconds = Some(3.2);
    scope.breaker.last_class = Some(class.to_owned());
    Status { scopes: vec![scope], upstream: "https://api.internal".to_owned(), ..Status::default() }
}

/// A request that spent its time in our queue was not delayed by the upstream.
#[test]
fn a_timeout_that_was_spent_in_our_queue_is_about_the_queue() {
    let queued = |queued| CallerErrors { queued, ..met("chat", 3, 3) };
    let mut status = of_chat("weir_deadline", 40);
    status.errors.push(error("timeout_response", vec![queued(true)]));
    let all = findings(&status);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((all[0].blame, all[0].requests), (Blame::Limits, 43));
    status.errors[1].callers = vec![queued(false)];
    assert!(findings(&status).iter().any(|finding| finding.blame == Blame::Upstream));
}

#[test]
fn the_finding_that_hurts_most_requests_comes_first_and_names_its_callers() {
    let mut status = of_chat("model_not_found", 8);
    status.errors.push(error("overloaded", vec![met("search", 30, 12)]));
    let all = findings(&status);
    let told: Vec<(Blame, u64, &str)> =
        all.iter().map(|finding| (finding.blame, finding.requests, finding.callers[0].as_str())).collect();
    assert_eq!(told, [(Blame::Upstream, 12, "search"), (Blame::Us, 8, "chat")]);
    assert_eq!(all[1].class.as_deref(), Some("model_not_found"));
}

#[test]
fn what_is_over_is_green_and_says_when_it_was_last() {
    let mut status = of_chat("authentication_incorrect_key", 60);
    status.errors[0].callers[0].last_seconds = 90.0;
    status.errors[0].callers[0].last = "2026-11-22T18:15:22.000Z".to_owned();
    assert_eq!(findings(&status)[0].level, Level::Critical, "nothing has succeeded since");
    status.callers = vec![CallerStatus {
        name: "chat".to_owned(),
        last_success_seconds: Some(20.0),
        ..CallerStatus::default()
    }];
    let all = findings(&status);
    assert_eq!(all.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Ok, Level::Ok]);
    assert_eq!(
        all[1].sentence,
        "Recovered: the upstream refused the key of chat for 60 requests (authentication_incorrect_key), last at 18:15:22 UTC."
    );
}

/// A caller with far more than its share, and another one that is served.
fn hog() -> Status {
    let mut status = samples::rate_limited();
    status.scopes[0].limits[1].foreign_use_ratio = 0.0;
    status.callers = vec![
        CallerStatus {
            name: "chat".to_owned(),
            weight: 1,
            recent_requests: 300,
            waiting_interactive: 1_771,
            longest_wait_seconds: 22.0,
            ..CallerStatus::default()
        },
        CallerStatus {
            name: "search".to_owned(),
            weight: 1,
            recent_requests: 110,
            ..CallerStatus::default()
        },
    ];
    status
}

#[test]
fn the_root_stands_before_its_symptoms() {
    let all = findings(&samples::rate_limited());
    assert_eq!(all[0].blame, Blame::Us, "{all:?}");
    assert_eq!(
        all[0].sentence,
        "Others use 31 % of tokens per minute of acme · gpt-5 with the same credential; 214 requests of ours wait."
    );
    assert!(!all.iter().any(|finding| finding.sentence.starts_with("Waiting at our limit")), "{all:?}");

    let all = findings(&hog());
    assert_eq!(
        all[0].sentence,
        "chat asks for 10 × its share of acme · gpt-5 (2,000,000 tokens per minute): 1,771 requests wait, the longest for 22 s."
    );
    assert_eq!(
        (all[0].level, all[0].blame, &*all[0].callers),
        (Level::Notice, Blame::Us, &["chat".to_owned()][..])
    );
    assert!(all[0].advice.starts_with("The other callers are served."), "{}", all[0].advice);

    let mut even = hog();
    even.callers[1].waiting_interactive = 1_500;
    let all = findings(&even);
    assert!(
        all[0]
            .sentence
            .starts_with("Waiting at our limit: 3,271 requests for acme · gpt-5 (2,000,000 tokens"),
        "{all:?}"
    );
    assert_eq!(all[0].blame, Blame::Limits);
}

#[test]
fn an_upstream_of_a_pool_is_out_by_its_own_fault_or_by_ours() {
    for (state, because, blame) in [
        (UpstreamState::Failing, "overloaded", Blame::Upstream),
        (UpstreamState::Failing, "connection_dns", Blame::Network),
        (UpstreamState::Refused, "invalid_api_key", Blame::Us),
        (UpstreamState::Refused, "insufficient_quota", Blame::Quota),
        (UpstreamState::Refused, "of_a_newer_guide", Blame::Us),
    ] {
        let (because, since) = (Some(because.to_owned()), Some("2026-11-22T03:02:11.000Z".to_owned()));
        let out = UpstreamStatus { name: "one".to_owned(), state, because, since, ..Default::default() };
        let mut scope = scope("gpt-5");
        scope.upstreams = vec![out, UpstreamStatus { name: "two".to_owned(), ..Default::default() }];
        let all = findings(&Status { scopes: vec![scope], ..Status::default() });
        assert_eq!((all[0].level, all[0].blame), (Level::Warning, blame), "{all:?}");
    }
}

#[test]
fn a_bound_on_requests_in_flight_is_named() {
    let mut status = hog();
    status.scopes[0].held_by = Some("requests in flight".to_owned());
    status.scopes[0].in_flight_limit = Some(8);
    let all = findings(&status);
    assert!(all[0].sentence.contains("acme · gpt-5 (limits.in_flight: 8 requests in flight)"), "{all:?}");
    status.scopes[0].in_flight_is_found = true;
    let all = findings(&status);
    assert!(all[0].sentence.contains("acme · gpt-5 (8 requests in flight, as found)"), "{all:?}");
}

#[test]
fn a_stated_limit_that_the_upstream_tells_otherwise_is_shown() {
    let mut status = samples::healthy();
    status.scopes[0].limits[0].configured = Some(30.0);
    let all = findings(&status);
    let sentence = "The configuration states 30 requests per minute for acme · gpt-5, the upstream tells 10,000: Weir paces by 10,000.";
    assert_eq!((all[0].level, all[0].sentence.as_str()), (Level::Notice, sentence));
}

/// At the start, with an upstream that accepts requests and sends no responses.
#[test]
fn silence_is_not_told_as_a_limit() {
    let mut status = samples::rate_limited();
    status.scopes.truncate(1);
    status.scopes[0].limits.clear();
    status.scopes[0].held_by = None;
    let all = findings(&status);
    let first = &all[0];
    assert_eq!((first.level, first.blame), (Level::Warning, Blame::Upstream), "{first:?}");
    assert!(first.sentence.starts_with("Waiting for the upstream to answer: "), "{first:?}");
    for caller in &mut status.callers {
        caller.longest_wait_seconds = caller.longest_wait_seconds.min(2.0);
    }
    assert_eq!(findings(&status)[0].level, Level::Notice);
    status.errors = vec![error("weir_deadline", vec![met("chat", 0, 20)])];
    let all = findings(&status);
    assert!(all[0].sentence.starts_with("The upstream answers more slowly than it is asked"), "{all:?}");
    assert!(!all.iter().any(|finding| finding.blame == Blame::Limits), "{all:?}");
}

/// Requests that wait for a failing upstream do not wait for a limit.
#[test]
fn an_outage_is_not_told_as_a_limit() {
    let all = findings(&samples::outage());
    assert!(!all.iter().any(|finding| finding.blame == Blame::Limits), "{all:?}");
    assert!(all[0].advice.starts_with("38 requests are waiting for it to recover."), "{}", all[0].advice);
    let mut refusing = samples::outage();
    refusing.errors.push(error("weir_deadline", vec![met("chat", 0, 20)]));
    let all = findings(&refusing);
    assert!(!all.iter().any(|finding| finding.blame == Blame::Limits), "{all:?}");
}

/// The vendor's status page can't report on our resolver, nor on another vendor's server.
#[test]
fn only_the_vendors_failures_lead_to_its_status_page() {
    for (status, leads) in [
        (failing("connection_dns"), false),
        (failing("overloaded"), false),
        (Status { upstream: "https://api.openai.com".to_owned(), ..failing("overloaded") }, true),
        (Status { upstream: "https://api.openai.com".to_owned(), ..failing("connection_tls") }, false),
    ] {
        let all = findings(&status);
        assert_eq!(all[0].advice.contains("status.openai.com"), leads, "{:?}", all[0]);
    }
}

/// Each class leads to a finding with the class's own blame, or needs none.
#[test]
fn no_class_goes_unseen() {
    use crate::classify::ErrorClass;
    for class in ErrorClass::ALL {
        let subject = class.meaning().subject;
        let all = findings(&of_chat(class.as_str(), 30));
        match subject {
            // Reported by the scope's own state.
            Subject::Quota | Subject::Told => assert_eq!(all[0].level, Level::Ok, "{class:?}"),
            Subject::Keys
            | Subject::UnknownKeys
            | Subject::Rights
            | Subject::Invalid
            | Subject::Collisions
            | Subject::Limits
            | Subject::Queue
            | Subject::CallerLimit
            | Subject::Network
            | Subject::Upstream
            | Subject::Weir => {
                assert_eq!(all[0].blame, subject.blame(), "{class:?}");
                assert_ne!(all[0].level, Level::Ok, "{class:?}");
                assert_eq!(all[0].class.as_deref(), Some(class.as_str()));
            }
        }
    }
}

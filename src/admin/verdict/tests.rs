use super::*;
use crate::admin::samples::{self, met};
use crate::admin::status::{
    BreakerState, CallerErrors, CallerStatus, ErrorStatus, FailureLine, Overhead, PaceStatus, QuotaSpent,
    Reload, ReplicasStatus, ScopeStatus, UpstreamState, UpstreamStatus,
};

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

/// `requests` of the caller chat ended so.
fn of_chat(class: &str, requests: u64) -> Status {
    with_errors(vec![error(class, vec![met("chat", requests, requests)])])
}

type Case = (Status, Level, Blame, &'static str);

fn check(cases: Vec<Case>) {
    for (status, level, blame, sentence) in cases {
        let all = findings(&status);
        let first = &all[0];
        assert_eq!((first.level, first.blame, first.sentence.as_str()), (level, blame, sentence));
        assert!(
            all.is_sorted_by_key(|finding| std::cmp::Reverse((finding.level, finding.requests)))
                || level == Level::Ok
        );
    }
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

#[test]
fn replicas_that_keep_their_parts_are_no_matter_and_those_that_lost_them_are() {
    let with = |agreed, last_exchange_seconds| Status {
        replicas: Some(ReplicasStatus {
            replicas: 2,
            agreed,
            last_exchange_seconds,
            ..ReplicasStatus::default()
        }),
        ..Status::default()
    };
    check(vec![
        (with(true, Some(4.0)), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
        (
            with(false, Some(90.0)),
            Level::Warning,
            Blame::Us,
            "Replicas have not agreed for 1 min 30 s: each takes an equal share.",
        ),
        (
            with(false, None),
            Level::Warning,
            Blame::Us,
            "Replicas have not agreed since the start: each takes an equal share.",
        ),
    ]);
}

#[test]
fn headlines_about_the_upstream_the_way_to_it_and_the_quota() {
    let spent = QuotaSpent {
        code: "insufficient_quota".to_owned(),
        since: "2026-11-22T03:04:05.678Z".to_owned(),
        next_probe_seconds: Some(540.0),
    };
    let spent = ScopeStatus { quota_spent: Some(spent), ..scope("key 1 · gpt-5") };
    let releasing = {
        let mut scope = ScopeStatus { waiting: 40, ..scope("acme · gpt-5") };
        scope.breaker.state = BreakerState::Releasing;
        Status { scopes: vec![scope], ..Status::default() }
    };
    let pace =
        |now_seconds| PaceStatus { model: "gpt-5".to_owned(), now_seconds, usual_seconds: 0.4, answers: 9 };
    let paced = |now| Status { paces: vec![pace(now)], ..Status::default() };
    let cases = vec![
        (Status::default(), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
        (
            samples::healthy(),
            Level::Ok,
            Blame::Nobody,
            "Healthy: nothing waits and nothing fails. 7 requests under way.",
        ),
        (
            Status { scopes: vec![spent], ..Status::default() },
            Level::Critical,
            Blame::Quota,
            "The quota is spent for key 1 · gpt-5 since 03:04:05 UTC (insufficient_quota). \
             Weir asks again in 9 min.",
        ),
        (
            samples::outage(),
            Level::Critical,
            Blame::Upstream,
            "The upstream has been failing since 03:02:11 UTC (4 min 20 s): overloaded, for acme · gpt-5. \
             Next probe in 3.2 s.",
        ),
        (
            failing("connection_dns"),
            Level::Critical,
            Blame::Network,
            "The upstream has not been reached since 03:02:11 UTC: the name of https://api.internal does not resolve \
             (connection_dns). Next probe in 3.2 s.",
        ),
        (
            failing("connection_tls"),
            Level::Critical,
            Blame::Network,
            "The upstream has not been reached since 03:02:11 UTC: the TLS handshake with https://api.internal fails \
             (connection_tls). Next probe in 3.2 s.",
        ),
        (
            releasing,
            Level::Notice,
            Blame::Upstream,
            "The upstream answers again after a failure, for acme · gpt-5: Weir sends 40 waiting requests at a rising rate.",
        ),
        (
            with_errors(vec![
                error("overloaded", vec![met("chat", 90, 0)]),
                error("connection_reset", vec![met("chat", 9, 0)]),
            ]),
            Level::Notice,
            Blame::Network,
            "9 attempts did not reach the upstream in the last 5 minutes (connection_reset). Retries hid all of them from callers.",
        ),
        (
            of_chat("overloaded", 30),
            Level::Warning,
            Blame::Upstream,
            "30 attempts failed at the upstream in the last 5 minutes (overloaded); 30 requests of chat ended in an error.",
        ),
        (
            of_chat("connection_refused", 30),
            Level::Warning,
            Blame::Network,
            "30 attempts did not reach the upstream in the last 5 minutes (connection_refused); 30 requests of chat ended in an error.",
        ),
        (
            paced(21.0),
            Level::Warning,
            Blame::Upstream,
            "Answers of gpt-5 take 21 s to begin, usually 400 ms.",
        ),
        (paced(1.0), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
    ];
    check(cases);
}

#[test]
fn a_minute_of_unknown_paths_is_told() {
    let status = Status { unknown_last_minute: Some(3), requests_last_minute: Some(3), ..Status::default() };
    let headline = "No known endpoint was asked in the last minute: 3 requests, all to other paths.";
    check(vec![(status, Level::Notice, Blame::Us, headline)]);
}

#[test]
fn headlines_about_us_and_our_limits() {
    let peer = |peer: &str| FailureLine {
        class: "weir_caller_unknown".to_owned(),
        caller: format!("unknown, from {peer}"),
        ..FailureLine::default()
    };
    let unknown = Status {
        failures: vec![peer("10.0.3.7"), peer("10.0.3.9")],
        ..with_errors(vec![error("weir_caller_unknown", vec![met("default", 0, 75)])])
    };
    let refused = FailureLine {
        class: "weir_not_allowed".to_owned(),
        message: "This caller may not do this: files:write is not in callers[0].allow (line 5).".to_owned(),
        ..FailureLine::default()
    };
    let cases = vec![
        (
            Status { failures: vec![refused], ..of_chat("weir_not_allowed", 40) },
            Level::Warning,
            Blame::Us,
            "40 requests of chat were refused in the last 5 minutes, because Weir's configuration does not allow them: files:write is not in \
             callers[0].allow (line 5).",
        ),
        (
            of_chat("authentication_incorrect_key", 60),
            Level::Critical,
            Blame::Us,
            "The upstream refuses the key of chat: 60 requests in the last 5 minutes (authentication_incorrect_key).",
        ),
        (
            Status { own_credential: true, ..of_chat("authentication_incorrect_key", 60) },
            Level::Critical,
            Blame::Us,
            "The upstream refuses Weir's own key (upstream.credential): 60 requests of chat in the last 5 minutes \
             (authentication_incorrect_key).",
        ),
        (
            of_chat("authentication_incorrect_key", 1),
            Level::Notice,
            Blame::Us,
            "The upstream refuses the key of chat: 1 request in the last 5 minutes (authentication_incorrect_key).",
        ),
        (
            unknown,
            Level::Critical,
            Blame::Us,
            "Weir rejects keys that match no [[callers]] entry: 75 requests in the last 5 minutes, from 10.0.3.7 and 10.0.3.9.",
        ),
        (
            of_chat("weir_queue_full", 3),
            Level::Warning,
            Blame::Limits,
            "Demand exceeds our limits: Weir rejected 3 requests of chat in the last 5 minutes (weir_queue_full).",
        ),
        (
            of_chat("weir_caller_limit", 3),
            Level::Warning,
            Blame::Us,
            "chat reached the limit of waiting requests that Weir's configuration sets: 3 requests rejected in the last 5 minutes.",
        ),
        (
            of_chat("model_not_found", 4),
            Level::Notice,
            Blame::Us,
            "4 requests of chat were rejected as invalid in the last 5 minutes (model_not_found).",
        ),
        (
            of_chat("rate_limit_tokens", 2),
            Level::Warning,
            Blame::Limits,
            "Rate limits of the upstream reached callers: 2 requests of chat in the last 5 minutes (rate_limit_tokens).",
        ),
        (
            with_errors(vec![error("rate_limit_tokens", vec![met("chat", 9, 0)])]),
            Level::Ok,
            Blame::Nobody,
            "Healthy: no request has come yet.",
        ),
        (
            of_chat("conflict", 1),
            Level::Notice,
            Blame::Us,
            "1 request of chat collided or came too slowly in the last 5 minutes (conflict). Their SDKs retry by themselves.",
        ),
    ];
    check(cases);
}

#[test]
fn headlines_about_weir() {
    let slow = Overhead { count: 100, p50_seconds: 0.001, p99_seconds: 0.2 };
    let rejected = Reload { successful: false, error: Some("line 3".to_owned()), ..Reload::default() };
    let waiting = ["server.workers", "upstream.url"].map(str::to_owned).to_vec();
    let waits = Reload { waiting, ..Reload::default() };
    let cases = vec![
        (
            of_chat("weir_internal", 1),
            Level::Critical,
            Blame::Weir,
            "Weir itself failed: 1 internal error in the last 5 minutes.",
        ),
        (
            Status { draining: true, ..samples::healthy() },
            Level::Warning,
            Blame::Weir,
            "Weir is draining: it takes no new work; 7 requests left to finish.",
        ),
        (
            Status { reload: rejected, ..Status::default() },
            Level::Warning,
            Blame::Weir,
            "The last configuration was rejected; the one before is in force: line 3",
        ),
        (
            Status { reload: waits, ..Status::default() },
            Level::Notice,
            Blame::Weir,
            "Read, but in force only after a restart: server.workers and upstream.url.",
        ),
        (
            Status { overhead: slow, ..Status::default() },
            Level::Notice,
            Blame::Weir,
            "Weir itself adds 200 ms to a request (99th percentile).",
        ),
        (
            Status { mode: "observe".to_owned(), ..Status::default() },
            Level::Notice,
            Blame::Nobody,
            "Weir only observes: it delays, holds and retries nothing.",
        ),
    ];
    check(cases);
}

/// A request that spent its time in our queue has not met a failing upstream.
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

/// One caller with far more than its share, and another that is served.
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

/// At the start, with an upstream that takes requests and answers none.
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

/// What waits for a failing upstream does not wait at our limit.
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

/// The vendor's status page knows nothing of our resolver, nor of another vendor's server.
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

/// Every class of the table leads to a finding whose blame is the class's own, or is one that needs
/// none.
#[test]
fn no_class_goes_unseen() {
    use crate::classify::ErrorClass;
    for class in ErrorClass::ALL {
        let subject = class.meaning().subject;
        let all = findings(&of_chat(class.as_str(), 30));
        match subject {
            // Told by the state of the scope itself.
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

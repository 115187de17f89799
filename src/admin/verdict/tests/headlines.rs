//! The first sentence of each finding, word for word.

use super::*;

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
        |now_seconds| Slowness { model: "gpt-5".to_owned(), now_seconds, usual_seconds: 0.4, answers: 9 };
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
    let slow = Quantiles { count: 100, p50_seconds: 0.001, p99_seconds: 0.2 };
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

use super::*;
use crate::admin::samples;
use crate::admin::status::{Overhead, QuotaSpent, Reload};

fn error(class: &str, now: u32, requests: u64) -> ErrorStatus {
    let mut minutes = vec![0; 60];
    minutes[59] = now;
    ErrorStatus {
        class: class.to_owned(),
        attempts: u64::from(now),
        requests,
        minutes,
        solution: format!("solve {class}"),
        ..ErrorStatus::default()
    }
}

fn with_errors(errors: Vec<ErrorStatus>) -> Status {
    Status { errors, ..Status::default() }
}

type Case = (Status, Level, Blame, &'static str);

fn check(cases: Vec<Case>) {
    for (status, level, blame, sentence) in cases {
        let all = findings(&status);
        let first = &all[0];
        assert_eq!((first.level, first.blame, first.sentence.as_str()), (level, blame, sentence));
        assert!(all.is_sorted_by_key(|finding| std::cmp::Reverse(finding.level)), "{all:?}");
    }
}

#[test]
fn replicas_that_keep_their_parts_are_no_matter_and_those_that_lost_them_are() {
    use crate::admin::status::ReplicasStatus;
    let with = |agreed, last_exchange_seconds| Status {
        replicas: Some(ReplicasStatus { replicas: 2, redis_up: false, agreed, last_exchange_seconds }),
        ..Status::default()
    };
    check(vec![
        (with(true, Some(4.0)), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
        (with(false, Some(90.0)), Level::Warning, Blame::Us, "Redis has been out of reach for 1 min 30 s."),
        (with(false, None), Level::Warning, Blame::Us, "Redis has not been reached since the start."),
    ]);
}

#[test]
fn headlines_about_the_upstream_and_the_quota() {
    let old = {
        let mut old = error("overloaded", 0, 50);
        old.minutes[54] = 50;
        old
    };
    let spent = QuotaSpent {
        code: "insufficient_quota".to_owned(),
        since: "2026-11-22T03:04:05.678Z".to_owned(),
        next_probe_seconds: Some(540.0),
    };
    let spent =
        ScopeStatus { name: "key 1 · gpt-5".to_owned(), quota_spent: Some(spent), ..ScopeStatus::default() };
    let releasing = {
        let mut scope =
            ScopeStatus { name: "acme · gpt-5".to_owned(), waiting: 40, ..ScopeStatus::default() };
        scope.breaker.state = BreakerState::Releasing;
        Status { scopes: vec![scope], ..Status::default() }
    };
    let cases = vec![
        (Status::default(), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
        (
            samples::healthy(),
            Level::Ok,
            Blame::Nobody,
            "Healthy: nothing waits and nothing fails. 7 requests under way.",
        ),
        (with_errors(vec![old]), Level::Ok, Blame::Nobody, "Healthy: no request has come yet."),
        (
            samples::rate_limited(),
            Level::Notice,
            Blame::Quota,
            "Waiting at our limit: 214 requests for acme · gpt-5 (2,000,000 tokens per minute), \
             the longest for 22 s so far.",
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
            releasing,
            Level::Notice,
            Blame::Upstream,
            "The upstream answers again after a failure, for acme · gpt-5: 40 waiting requests let go at a rising pace.",
        ),
        (
            with_errors(vec![error("authentication_incorrect_key", 12, 12), error("overloaded", 90, 2)]),
            Level::Critical,
            Blame::Us,
            "The upstream refuses a key: 12 requests in the last 5 minutes (authentication_incorrect_key).",
        ),
        (
            with_errors(vec![error("overloaded", 90, 0), error("connection_reset", 9, 0)]),
            Level::Notice,
            Blame::Upstream,
            "Some attempts fail upstream: 99 in the last 5 minutes, most of them overloaded. \
             Retries have hidden all of them from callers in the last hour.",
        ),
        (
            with_errors(vec![error("overloaded", 90, 1)]),
            Level::Warning,
            Blame::Upstream,
            "Some attempts fail upstream: 90 in the last 5 minutes, all overloaded. In the last hour 1 error reached callers.",
        ),
    ];
    check(cases);
}

#[test]
fn headlines_about_us_and_weir() {
    let slow = Overhead { count: 100, p50_seconds: 0.001, p99_seconds: 0.2 };
    let rejected = Reload { successful: false, error: Some("line 3".to_owned()), ..Reload::default() };
    let waiting = ["server.workers", "upstream.url"].map(str::to_owned).to_vec();
    let waits = Reload { waiting, ..Reload::default() };
    let cases = vec![
        (
            with_errors(vec![error("weir_deadline", 3, 3)]),
            Level::Warning,
            Blame::Quota,
            "More is asked for than our limits let through: Weir turned away 3 requests in the last 5 minutes, all weir_deadline.",
        ),
        (
            with_errors(vec![error("bad_request", 4, 4)]),
            Level::Notice,
            Blame::Us,
            "Some requests are wrong in themselves: 4 in the last 5 minutes, all bad_request.",
        ),
        (
            with_errors(vec![error("rate_limit_tokens", 9, 2)]),
            Level::Warning,
            Blame::Quota,
            "The upstream's limits reached callers: 2 requests in the last hour, all rate_limit_tokens.",
        ),
        (
            with_errors(vec![error("rate_limit_tokens", 9, 0)]),
            Level::Ok,
            Blame::Nobody,
            "Healthy: no request has come yet.",
        ),
        (
            with_errors(vec![error("conflict", 1, 1)]),
            Level::Notice,
            Blame::Us,
            "Some requests are late or collide: 1 in the last 5 minutes, all conflict. Their SDKs try again by themselves.",
        ),
        (
            with_errors(vec![error("weir_internal", 1, 1)]),
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
            "Weir itself adds up to 200 ms to 99 of 100 requests.",
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

#[test]
fn the_rest_is_told_too() {
    let all = findings(&samples::rate_limited());
    assert!(
        all.iter().any(|finding| finding.sentence.starts_with("Others use 31 % of tokens per minute")),
        "{all:?}"
    );
    assert!(all.iter().all(|finding| finding.level != Level::Ok), "{all:?}");
}

/// At the start, with an upstream that takes requests and answers none.
#[test]
fn silence_is_not_told_as_a_limit() {
    let mut status = samples::rate_limited();
    status.scopes.truncate(1);
    status.scopes[0].limits.clear();
    let all = findings(&status);
    let first = &all[0];
    assert_eq!((first.level, first.blame), (Level::Warning, Blame::Upstream), "{first:?}");
    assert!(first.sentence.starts_with("Waiting for the upstream to answer: "), "{first:?}");
    for caller in &mut status.callers {
        caller.longest_wait_seconds = caller.longest_wait_seconds.min(2.0);
    }
    assert_eq!(findings(&status)[0].level, Level::Notice);
    status.errors = vec![error("weir_deadline", 20, 20)];
    let all = findings(&status);
    assert!(all[0].sentence.starts_with("The upstream answers more slowly than it is asked"), "{all:?}");
    assert!(!all.iter().any(|finding| finding.blame == Blame::Quota), "{all:?}");
}

/// What waits for a failing upstream does not wait at our limit.
#[test]
fn an_outage_is_not_told_as_a_limit() {
    let all = findings(&samples::outage());
    assert!(!all.iter().any(|finding| finding.sentence.contains("Waiting at our limit")), "{all:?}");
    assert!(all[0].advice.contains("38 requests wait it out"), "{}", all[0].advice);
    let mut refusing = samples::outage();
    refusing.errors.push(error("weir_deadline", 20, 20));
    let all = findings(&refusing);
    assert!(!all.iter().any(|finding| finding.sentence.contains("our limits")), "{all:?}");
}

/// Every class of the table leads to some finding, or is one that needs none.
#[test]
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is what is tested")]
fn no_class_goes_unseen() {
    use crate::classify::ErrorClass;
    let needs_none = |class: ErrorClass| match class {
        class if class.is_quota() => true,
        // Told by the breakers and the draining flag themselves.
        ErrorClass::WeirBreakerOpen
        | ErrorClass::WeirBillingBlock
        | ErrorClass::WeirDraining
        // Nobody's fault.
        | ErrorClass::WeirClientClosed => true,
        _ => {
            let all = findings(&with_errors(vec![error(class.as_str(), 3, 3)]));
            assert_ne!(all[0].level, Level::Ok, "{class:?}");
            false
        }
    };
    assert_eq!(ErrorClass::ALL.into_iter().filter(|class| needs_none(*class)).count(), 10);
}

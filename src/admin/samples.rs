//! Sample states for tests, such as an outage.

use super::status::{
    BreakerState, BreakerStatus, Build, CallerErrors, CallerStatus, ErrorStatus, FailureLine, LimitStatus,
    QuotaSpent, Reload, ScopeStatus, Status, UpstreamState, UpstreamStatus,
};
use crate::catalog;
use crate::classify::ErrorClass;
use crate::metrics::{Quantiles, Slowness};

pub(super) fn healthy() -> Status {
    Status {
        time: "2026-11-22T03:06:31.204Z".to_owned(),
        host: "weir-7d9f".to_owned(),
        listen: "127.0.0.1:8080".to_owned(),
        recent_requests: 2_000,
        build: Build { version: "0.1.0".to_owned(), revision: "4c9ef5c".to_owned() },
        uptime_seconds: 273_600,
        mode: "enforce".to_owned(),
        upstream: "https://api.openai.com".to_owned(),
        reload: Reload { time: "2026-11-19T01:02:03.000Z".to_owned(), ..Reload::default() },
        overhead: Quantiles { count: 1_204_331, p50_seconds: 0.000_041, p99_seconds: 0.000_19 },
        requests_last_minute: Some(412),
        paces: vec![Slowness {
            model: "gpt-5".to_owned(),
            now_seconds: 0.48,
            usual_seconds: 0.412,
            answers: 800,
        }],
        callers: vec![
            caller("checkout", 4, 3, 0, 0, 0.0),
            caller("search-index", 2, 4, 0, 0, 0.0),
            caller("nightly-batch", 1, 0, 0, 0, 0.0),
        ],
        scopes: vec![
            scope(
                "acme · gpt-5",
                &[("requests per minute", 10_000.0, 412.0), ("tokens per minute", 2e6, 388_120.0)],
            ),
            scope(
                "acme · text-embedding-3",
                &[("requests per minute", 5_000.0, 71.0), ("tokens per minute", 5e6, 1_200_000.0)],
            ),
        ],
        errors: vec![overloaded(3, 0, 17)],
        ..Status::default()
    }
}

pub(super) fn rate_limited() -> Status {
    let mut status = healthy();
    status.callers = vec![
        waiting(caller("checkout", 4, 22, 6, 0, 1.8), 2.4),
        waiting(caller("search-index", 2, 61, 38, 0, 9.1), 12.0),
        waiting(caller("nightly-batch", 1, 171, 0, 170, 22.4), 31.0),
    ];
    status.scopes[0].limits[0].used = 4_120.0;
    status.scopes[0].limits[0].admitted_last_minute = Some(4_120.0);
    status.scopes[0].limits[1].used = 998_004.0;
    status.scopes[0].limits[1].admitted_last_minute = Some(1_998_004.0);
    status.scopes[0].limits[1].holds = true;
    status.scopes[0].limits[1].foreign_use_ratio = 0.31;
    status.scopes[0].in_flight = 40;
    status.scopes[0].waiting = 214;
    status.scopes[0].held_by = Some("tokens per minute".to_owned());
    let mut tokens = error("rate_limit_tokens", 11, 0);
    tokens.minutes[58] = 2;
    tokens.minutes[31] = 9;
    status.errors.insert(0, tokens);
    status
}

pub(super) fn quota_spent() -> Status {
    let mut status = healthy();
    status.scopes[0].quota_spent = Some(QuotaSpent {
        code: "insufficient_quota".to_owned(),
        since: "2026-11-22T02:58:40.000Z".to_owned(),
        next_probe_seconds: Some(228.0),
    });
    let mut spent = error("quota_insufficient", 1, 0);
    spent.minutes[52] = 1;
    let mut refused = error("weir_billing_block", 0, 1_874);
    refused.minutes[53..].copy_from_slice(&[210, 260, 255, 270, 281, 302, 296]);
    status.errors = vec![refused, spent, overloaded(3, 0, 17)];
    status.failures = vec![
        failure(
            "w-001874",
            "weir_billing_block",
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            1_874,
        ),
        failure(
            "w-000001",
            "quota_insufficient",
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            1,
        ),
    ];
    status
}

pub(super) fn outage() -> Status {
    let mut status = healthy();
    status.callers = vec![
        waiting(caller("checkout", 4, 14, 12, 0, 18.0), 20.0),
        waiting(caller("search-index", 2, 26, 26, 0, 27.5), 30.0),
        caller("nightly-batch", 1, 0, 0, 0, 0.0),
    ];
    status.scopes[0].waiting = 38;
    status.scopes[0].retry_budget = 0.0;
    status.scopes[0].breaker = BreakerStatus {
        state: BreakerState::Open,
        failing_since: Some("2026-11-22T03:02:11.000Z".to_owned()),
        failing_seconds: Some(260.0),
        next_probe_seconds: Some(3.2),
        last_class: Some("overloaded".to_owned()),
    };
    let mut failing = overloaded(96, 14, 60);
    failing.minutes[55..].copy_from_slice(&[41, 12, 9, 8, 9]);
    let mut reset = error("connection_reset", 7, 2);
    reset.minutes[55..].copy_from_slice(&[5, 0, 0, 2, 0]);
    let mut broken = error("weir_breaker_open", 0, 51);
    broken.minutes[56..].copy_from_slice(&[6, 15, 14, 16]);
    status.errors = vec![failing, broken, reset];
    status.failures = vec![
        failure("w-000067", "weir_breaker_open", 503, "The upstream has been failing for 4 min 12 s.", 51),
        failure(
            "w-000016",
            "connection_reset",
            502,
            "The connection to the upstream broke before an answer came.",
            2,
        ),
        failure("w-000014", "overloaded", 503, "The server is currently overloaded with other requests.", 14),
    ];
    status
}

/// A state in which all untrusted text is hostile.
pub(super) fn hostile() -> Status {
    let evil =
        || "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\u{202e}\u{0}\u{1b}[2J&".to_owned();
    let mut status = outage();
    status.upstream = evil();
    status.build.revision = evil();
    status.reload = Reload { successful: false, time: evil(), error: Some(evil()), waiting: vec![evil()] };
    status.time = evil();
    status.mode = evil();
    status.host = evil();
    status.listen = evil();
    status.callers[0].name = evil();
    status.callers[0].top_class = Some(evil());
    status.scopes[0].held_by = Some(evil());
    status.callers[0].mode = Some(evil());
    status.scopes[0].name = evil();
    status.scopes[0].limits[0].name = evil();
    status.scopes[0].limits[0].source = evil();
    status.scopes[0].limits[0].limit = f64::NAN;
    status.scopes[0].limits[1].used = f64::INFINITY;
    status.scopes[0].breaker.last_class = Some(evil());
    status.scopes[0].breaker.failing_since = Some(evil());
    status.scopes[1].quota_spent =
        Some(QuotaSpent { code: evil(), since: evil(), next_probe_seconds: Some(-1.0) });
    status.errors[0] = ErrorStatus {
        class: evil(),
        cause: evil(),
        solution: evil(),
        weir_does: evil(),
        ..status.errors[0].clone()
    };
    status.failures[0] = FailureLine {
        id: evil(),
        request_id: evil(),
        upstream_request_id: Some(evil()),
        time: evil(),
        class: evil(),
        status: Some(999),
        code: Some(evil()),
        message: evil(),
        model: Some(evil()),
        endpoint: evil(),
        caller: evil(),
        occurrences: u64::MAX,
    };
    status
}

fn caller(
    name: &str,
    weight: u32,
    in_flight: u64,
    interactive: u64,
    background: u64,
    longest: f64,
) -> CallerStatus {
    CallerStatus {
        name: name.to_owned(),
        weight,
        lane: if name.contains("batch") { "background" } else { "interactive" }.to_owned(),
        in_flight,
        waiting_interactive: interactive,
        waiting_background: background,
        longest_wait_seconds: longest,
        ..CallerStatus::default()
    }
}

/// A pool with an upstream in each state.
pub(super) fn pool() -> Status {
    let mut status = healthy();
    let upstream = |name: &str, state, because: Option<&str>| UpstreamStatus {
        name: name.to_owned(),
        state,
        because: because.map(str::to_owned),
        since: because.map(|_| "2026-11-22T03:02:11.000Z".to_owned()),
        next_probe_seconds: because.map(|_| 3.2),
        limits: status.scopes[0].limits.clone(),
        attempts: 1_204,
        ..UpstreamStatus::default()
    };
    status.scopes[0].upstreams = vec![
        upstream("azure-eu", UpstreamState::Serving, None),
        upstream("azure-us", UpstreamState::Failing, Some("overloaded")),
        upstream("openai", UpstreamState::Refused, Some("insufficient_quota")),
        upstream("reserved", UpstreamState::Thinning, None),
    ];
    status
}

fn waiting(caller: CallerStatus, predicted: f64) -> CallerStatus {
    CallerStatus { predicted_wait_seconds: Some(predicted), ..caller }
}

fn scope(name: &str, limits: &[(&str, f64, f64)]) -> ScopeStatus {
    let limit = |(name, limit, used): &(&str, f64, f64)| LimitStatus {
        name: (*name).to_owned(),
        limit: *limit,
        used: *used,
        admitted_last_minute: Some(*used),
        window_seconds: 60.0,
        source: "learned".to_owned(),
        burst: limit / 30.0,
        ..LimitStatus::default()
    };
    ScopeStatus {
        name: name.to_owned(),
        limits: limits.iter().map(limit).collect(),
        in_flight: 4,
        retry_budget: 20.0,
        retry_budget_capacity: 20.0,
        ..ScopeStatus::default()
    }
}

fn overloaded(attempts: u64, requests: u64, last_minute: u32) -> ErrorStatus {
    let mut overloaded = error("overloaded", attempts, requests);
    overloaded.minutes[20] = 3.min(last_minute);
    overloaded.last_seen_minutes = if requests > 0 { 0 } else { 39 };
    if requests == 0 {
        overloaded.callers.clear();
    }
    overloaded
}

/// An error, described by the catalog.
fn error(class: &str, attempts: u64, requests: u64) -> ErrorStatus {
    let words = catalog::entry(ErrorClass::named(class).expect("a class"), None);
    ErrorStatus {
        class: class.to_owned(),
        attempts,
        requests,
        minutes: vec![0; 60],
        last_seen_minutes: 0,
        callers: if attempts + requests > 0 { vec![met("checkout", attempts, requests)] } else { Vec::new() },
        cause: words.cause.clone(),
        solution: words.solution.clone(),
        weir_does: words.weir_does.clone(),
    }
}

/// Recent errors of a caller.
pub(super) fn met(name: &str, attempts: u64, requests: u64) -> CallerErrors {
    CallerErrors {
        name: name.to_owned(),
        attempts,
        requests,
        queued: false,
        last_seconds: 2.0,
        last: "2026-11-22T03:06:29.204Z".to_owned(),
    }
}

fn failure(id: &str, class: &str, status: u16, message: &str, occurrences: u64) -> FailureLine {
    FailureLine {
        id: id.to_owned(),
        request_id: format!("req_weir_{id}"),
        upstream_request_id: (!class.starts_with("weir_")).then(|| "req_0123".to_owned()),
        time: "2026-11-22T03:06:29.881Z".to_owned(),
        class: class.to_owned(),
        status: Some(status),
        code: None,
        message: message.to_owned(),
        model: Some("gpt-5-mini".to_owned()),
        endpoint: "chat_completions".to_owned(),
        caller: "checkout".to_owned(),
        occurrences,
    }
}

//! The final response to a caller: Weir's headers, and whether the SDK may retry.

use std::time::Duration;

use weir::internals::caller::Mode;
use weir::internals::classify::ErrorClass;
use weir::internals::clock;
use weir::internals::openai::Endpoint;

use super::world::{Call, Setup, World};

#[tokio::test(start_paused = true)]
async fn the_sdk_is_stopped_where_weir_gave_up_and_nowhere_else() {
    let upload = || Call::post("/v1/fine_tuning/jobs", r#"{"model":"gpt-4o-mini","training_file":"file-1"}"#);
    for (call, directive, status, attempts, should_retry) in [
        // Weir's retries failed.
        (Call::chat(), "status=500", 500, 6, Some("false")),
        (Call::chat(), "status=503", 503, 6, Some("false")),
        // A retry is useless for anyone.
        (Call::chat(), "error=insufficient_quota", 429, 1, Some("false")),
        (Call::chat(), "error=request_too_large", 429, 1, Some("false")),
        // Not retried by Weir for safety; the SDK may retry.
        (upload(), "status=500", 500, 1, None),
        (upload(), "error=html-502", 502, 1, None),
        // Never retried by Weir; the SDK's own retry stays as it is.
        (Call::chat(), "error=request_timeout", 408, 1, None),
        (Call::chat(), "error=conflict", 409, 1, None),
        (Call::chat(), "error=invalid_value", 400, 1, None),
        // The upstream's `x-should-retry` is obeyed and forwarded.
        (Call::chat(), "status=500;should-retry=false", 500, 1, Some("false")),
        (Call::chat(), "error=invalid_value;should-retry=true", 400, 1, Some("true")),
    ] {
        let world = World::new(Setup::default());
        let answer = world.call(&call.timeout(300).simulate(directive)).await;
        assert_eq!((answer.status.as_u16(), answer.attempts()), (status, attempts), "{directive}");
        assert_eq!(answer.header("x-should-retry"), should_retry, "{directive}");
        assert_eq!(world.simulator.stats().requests, attempts, "{directive}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_any_work_is_retried_on_every_endpoint() {
    for error in ["server_is_overloaded", "slow_down", "rate_limit_plain", "no_healthy_upstream"] {
        let world = World::new(Setup::default());
        let call =
            Call::post("/v1/responses", r#"{"model":"gpt-4o-mini","store":true,"input":"Three words."}"#);
        let call = call.timeout(300).with("x-job-id", "once").simulate(&format!("error={error};times=1"));
        let answer = world.call(&call).await;
        assert!(
            answer.is_success() && answer.attempts() == 2,
            "{error}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn excluded_endpoints_are_attempted_once() {
    let mut setup = Setup::default();
    setup.policy.never_retried = vec![Endpoint::ChatCompletions];
    let world = World::new(setup);
    for (excluded, directive) in
        ["status=500;times=1", "error=rate_limit_plain;times=1"].into_iter().enumerate()
    {
        let job = format!("excluded-{excluded}");
        let answer = world.call(&Call::chat().timeout(60).with("x-job-id", &job).simulate(directive)).await;
        assert!(!answer.is_success() && answer.attempts() == 1, "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), None, "the SDK's own retry stays as it is");
    }
    let embeddings =
        Call::post("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"Three words."}"#);
    let other = embeddings.timeout(60).with("x-job-id", "other").simulate("status=500;times=1");
    assert_eq!(world.call(&other).await.attempts(), 2);
    assert_eq!(world.metric("weir_retries_stopped_total{reason=\"excluded\"}"), 2);
    assert_eq!(world.metric("weir_retries_stopped_total{reason=\"body_not_kept\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn compressed_errors_are_understood_and_passed_as_they_are() {
    for encoding in ["gzip", "deflate"] {
        let world = World::new(Setup::default());
        let call = Call::chat().simulate(&format!("error=insufficient_quota;encoding={encoding}"));
        let answer = world.call(&call).await;
        assert_eq!(answer.header("x-weir-error-class"), Some("quota_insufficient"), "{encoding}");
        assert_eq!(answer.header("content-encoding"), Some(encoding));
        assert!(
            serde_json::from_slice::<serde_json::Value>(&answer.body).is_err(),
            "the upstream's own bytes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_response_becomes_an_error_in_the_apis_envelope() {
    for (directive, status, code) in
        [("fault=reset", 502, "connection_reset"), ("fault=garbage", 502, "malformed_response")]
    {
        let world = World::new(Setup::default());
        let answer = world.call(&Call::chat().timeout(300).simulate(directive)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.attempts()),
            (status, 6),
            "{directive}: {}",
            answer.text()
        );
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&"weir_error".into(), &code.into()));
        assert!(answer.header("x-request-id").is_some());
    }
    let world = World::new(Setup::default());
    let late = world.call(&Call::chat().timeout(10).simulate("fault=stall-head")).await;
    assert_eq!((late.status.as_u16(), late.attempts()), (504, 1));
    assert!(late.took() >= Duration::from_secs(10), "never before its SDK gives up: {:?}", late.took());
    assert!(late.took() <= Duration::from_secs(13), "an attempt has an end: {:?}", late.took());
    assert_eq!(late.header("x-should-retry"), Some("false"), "the upstream may still be at work");
}

#[tokio::test(start_paused = true)]
async fn a_retry_without_enough_time_is_not_made() {
    let world = World::new(Setup::default());
    // Heads take four seconds here.
    for _ in 0..20 {
        assert!(world.call(&Call::chat().simulate("after=4s")).await.is_success());
    }
    // Nine seconds: enough for one attempt of four seconds, but not for two and a backoff.
    let answer = world.call(&Call::chat().timeout(9).simulate("status=500;after=4500ms")).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (500, 1));
    assert_eq!(answer.header("x-should-retry"), None, "Weir did not try again: the SDK may");
    assert!(answer.took() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_limit_counts_no_attempt() {
    let world = World::new(Setup::default());
    let call = Call::chat().timeout(600).with("x-job-id", "limited");
    let answer = world.call(&call.simulate("error=rate_limit_plain;times=8;retry-after=1")).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(answer.attempts(), 9);
    assert_eq!(
        world.attempt_errors(ErrorClass::RateLimitOther)
            + world.attempt_errors(ErrorClass::RateLimitRequests),
        8
    );
}

#[tokio::test(start_paused = true)]
async fn observe_and_bypass_neither_hold_nor_retry() {
    for mode in [Mode::Observe, Mode::Bypass] {
        let mut setup = Setup::default();
        setup.policy.mode = mode;
        let world = World::new(setup);
        let answer = world.call(&Call::chat().simulate("status=500")).await;
        assert_eq!((answer.status.as_u16(), answer.attempts()), (500, 1), "{mode:?}");
        assert_eq!(answer.header("x-should-retry"), None);
        let reported = u64::from(mode == Mode::Observe);
        assert_eq!(world.metric("weir_observe_would_total{action=\"retried\"}"), reported);
        assert_eq!(world.metrics.errors.count(ErrorClass::InternalServerError), 1);
        // The head of a stream is not held either: its preamble arrives a second before the rest.
        let (response, _sender) =
            world.open(&Call::response_stream().simulate("after=0s;chunks=3;chunk-delay=900ms")).await;
        assert_eq!(response.status(), 200);
        assert!(world.now() <= Duration::from_millis(150), "{mode:?}: {:?}", world.now());
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_waiting_requests_and_lets_the_sdk_retry() {
    let world = World::new(Setup::default());
    assert!(world.call(&Call::chat()).await.is_success());
    let waiting = {
        let world = std::sync::Arc::clone(&world);
        clock::spawn(async move {
            world.call(&Call::chat().timeout(300).simulate("status=500;retry-after=20")).await
        })
    };
    clock::sleep(Duration::from_secs(1)).await;
    world.scopes.drain();
    let last = waiting.await.expect("no panic");
    assert_eq!((last.status.as_u16(), last.attempts()), (500, 1), "its last answer, not nothing");
    assert_eq!(last.header("x-should-retry"), None);
    assert_eq!(world.metric("weir_retries_stopped_total{reason=\"draining\"}"), 1);
    let refused = world.call(&Call::chat()).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-weir-error-class")), (503, Some("weir_draining")));
}

#[tokio::test(start_paused = true)]
async fn a_nonsensical_retry_count_is_ignored() {
    let world = World::new(Setup::default());
    for count in ["-1", "many", "", "1e9", "99999999999999999999", "0x1", "1.5"] {
        assert!(
            world.call(&Call::chat().with("x-stainless-retry-count", count)).await.is_success(),
            "{count}"
        );
    }
    assert_eq!(world.metric("weir_sdk_retries_seen_total{caller=\"default\"}"), 0);
    assert!(world.call(&Call::chat().with("x-stainless-retry-count", "1")).await.is_success());
    assert_eq!(world.metric("weir_sdk_retries_seen_total{caller=\"default\"}"), 1);
}

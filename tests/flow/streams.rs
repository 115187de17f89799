//! Streams: hidden errors are detected, and truncation is visible.

use std::time::Duration;

use http_body_util::BodyExt;
use weir::internals::classify::ErrorClass;
use weir::internals::clock;

use super::scripted::{leaked, scripted_in};
use super::world::{Call, Setup, World};

#[tokio::test(start_paused = true)]
async fn an_error_hidden_before_any_output_is_retried_like_its_status() {
    for call in [Call::chat_stream(), Call::response_stream()] {
        for (error, class) in [
            ("server_is_overloaded", ErrorClass::Overloaded),
            ("server_error", ErrorClass::InternalServerError),
            ("rate_limit_requests", ErrorClass::RateLimitRequests),
        ] {
            let world = World::new(Setup::default());
            let hidden = call.clone().timeout(60).with("x-job-id", "hidden");
            let answer = world.call(&hidden.simulate(&format!("fault=hidden:{error};times=1"))).await;
            assert!(answer.is_success() && answer.attempts() == 2, "{error}: {}", answer.text());
            assert!(!answer.text().contains("error\":{"), "{error}: {}", answer.text());
            assert_eq!(world.attempt_errors(class), 1, "{error}");
            assert_eq!(world.metrics.errors.count(class), 0, "no caller saw it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_decides_about_hidden_errors_too() {
    let world = World::new(Setup::default());
    // A stored response may have been created; an overload error precedes that.
    let stored =
        Call::post("/v1/responses", r#"{"model":"gpt-4o-mini","stream":true,"input":"Three words."}"#);
    let failed = world.call(&stored.clone().simulate("fault=hidden:server_error")).await;
    assert_eq!((failed.status.as_u16(), failed.attempts()), (200, 1));
    assert_eq!(failed.header("x-weir-error-class"), Some("internal_server_error"));
    assert_eq!(failed.header("x-should-retry"), None);
    assert!(
        failed.text().contains("event: error"),
        "the caller gets the upstream's words: {}",
        failed.text()
    );
    let refused = world
        .call(&stored.with("x-job-id", "stored").simulate("fault=hidden:server_is_overloaded;times=1"))
        .await;
    assert!(refused.is_success() && refused.attempts() == 2, "{}", refused.text());
    let bad = world.call(&Call::chat_stream().simulate("fault=hidden:invalid_value")).await;
    assert_eq!(bad.attempts(), 1, "what is wrong stays wrong");
}

#[tokio::test(start_paused = true)]
async fn with_the_hold_turned_off_a_hidden_error_is_passed_and_counted() {
    let mut setup = Setup::default();
    setup.policy.hold = Duration::ZERO;
    let world = World::new(setup);
    let answer = world.call(&Call::chat_stream().simulate("fault=hidden:server_error")).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (200, 1));
    assert_eq!(world.metrics.errors.count(ErrorClass::StreamError), 1);
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"error\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_after_output_is_aborted() {
    for fault in ["reset-mid-body", "truncate"] {
        let world = World::new(Setup::default());
        let call = Call::chat_stream().simulate(&format!("fault={fault};chunks=20;chunk-delay=20ms"));
        let answer = world.call(&call).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.whole, "{fault}: it must not end cleanly");
        assert!(answer.text().contains("data: "), "{fault}: what came before is passed on");
        assert!(!answer.text().contains("stream_cut"), "{fault}: nothing is added unasked");
        assert_eq!(world.metrics.errors.count(ErrorClass::StreamCut), 1, "{fault}");
        assert_eq!(world.attempt_errors(ErrorClass::StreamCut), 1, "{fault}");
        assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"cut\"}"), 1, "{fault}");
        assert_eq!(world.simulator.stats().requests, 1, "{fault}: never retried after output");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_well_after_its_finish_reason_is_whole() {
    let world = World::new(Setup::default());
    let answer = world.call(&Call::chat_stream().simulate("fault=close-without-done;chunks=5")).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"complete\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_error_event_is_opt_in_and_stands_between_events() {
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                       22\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n\r\n0\r\n\r\n";
    let mut setup = Setup::default();
    setup.policy.stream.error_event = true;
    let (world, _) = scripted_in(setup, leaked(vec![CUT.to_owned()]));
    let answer = world.call(&Call::chat_stream()).await;
    assert!(!answer.whole, "the event announces the abort, it does not replace it");
    let text = answer.text();
    let (_, event) =
        text.rsplit_once("\n\n").and_then(|(before, _)| before.rsplit_once("\n\n")).expect("events");
    assert!(event.starts_with("event: error\ndata: {\"error\":{"), "{event}");
    assert!(event.contains("\"code\":\"stream_cut\""), "{event}");
    // No event is inserted into an encoded stream.
    let mut setup = Setup::default();
    setup.policy.stream.error_event = true;
    let world = World::new(setup);
    let encoded = Call::chat_stream().simulate("fault=reset-mid-body;chunks=20;encoding=gzip");
    let answer = world.call(&encoded).await;
    assert!(!answer.whole);
    assert!(!answer.text().contains("weir_error"));
}

#[tokio::test(start_paused = true)]
async fn a_stall_between_chunks_ends_by_its_own_timeout() {
    let mut setup = Setup::default();
    setup.policy.stream.idle_timeout = Some(Duration::from_secs(20));
    let world = World::new(setup);
    let answer = world.call(&Call::chat_stream().simulate("fault=stall-body;chunks=20")).await;
    assert!(!answer.whole);
    let silent = answer.ended.saturating_sub(answer.head);
    assert!(silent >= Duration::from_secs(20) && silent < Duration::from_secs(21), "{silent:?}");
    assert_eq!(world.metrics.errors.count(ErrorClass::TimeoutIdle), 1);
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"idle\"}"), 1);
    assert_eq!(world.simulator.stats().in_flight, 0, "the attempt ends upstream");
}

#[tokio::test(start_paused = true)]
async fn chunks_are_never_held_back_once_the_stream_has_begun() {
    let world = World::new(Setup::default());
    let call = Call::chat_stream().simulate("chunks=10;chunk-delay=300ms");
    let (response, _sender) = world.open(&call).await;
    let mut body = response.into_body();
    let mut at = vec![];
    while let Some(frame) = body.frame().await {
        frame.expect("whole");
        at.push(clock::now());
    }
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 9, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(310)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_late_is_not_held_longer_than_the_hold() {
    let world = World::new(Setup::default());
    // The first event of a response stream is a preamble; the output follows three seconds later.
    let (response, _sender) = world.open(&Call::response_stream().simulate("chunks=3;chunk-delay=3s")).await;
    let head = world.now();
    assert!(head <= Duration::from_millis(1_200), "{head:?}");
    assert_eq!(response.status(), 200);
}

//! `stream.keepalive` while streams wait, and attempts whose stream does not start.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use weir::internals::classify::ErrorClass;
use weir::internals::proxy::FirstEventTimeout;

use super::scripted::{json, leaked, scripted_in};
use super::world::{Call, Setup, World};

const COMMENT: &str = ": weir\n";
const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const ROLE: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}"#;
const WORD: &str = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;

fn events(events: &[&str], end: &str) -> String {
    let chunks = events.iter().map(|event| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8));
    format!("{STREAM}{}{end}", chunks.collect::<String>())
}

fn whole() -> String {
    events(&[ROLE, WORD, "[DONE]"], "0\r\n\r\n")
}

fn patient(seconds: u64) -> Setup {
    let mut setup = Setup::default();
    setup.policy.keepalive = Some(Duration::from_secs(seconds));
    setup
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gets_its_head_and_comments_and_then_what_it_would_have_got() {
    let direct = World::new(Setup::default()).call(&Call::chat_stream().simulate("after=1s")).await;
    let world = World::new(patient(5));
    let call = Call::chat_stream().timeout(300).simulate("after=22s");
    let (response, _sender) = world.open(&call).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let head = world.now();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&head), "{head:?}");
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    // After 5, 10, 15 and 20 s.
    assert!(text.starts_with(&COMMENT.repeat(4)) && text.matches(COMMENT).count() == 4, "{text}");
    assert_eq!(text.matches("data: ").count(), direct.text().matches("data: ").count());
    assert!(text.contains("data: [DONE]"));
    assert_eq!(world.metric("weir_streams_kept_alive_total"), 1);
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"complete\"}"), 1);
    assert_eq!(world.simulator.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_has_no_comment_and_its_own_head() {
    let world = World::new(patient(5));
    for call in [
        Call::chat_stream().simulate("after=4500ms"),
        Call::response_stream(),
        // Other requests get no keep-alive.
        Call::chat().simulate("after=30s"),
    ] {
        let answer = world.call(&call.timeout(100)).await;
        assert!(answer.is_success() && !answer.text().contains(COMMENT), "{}", answer.text());
        assert_eq!(answer.header("x-weir-attempts"), Some("1"));
    }
    // An error in time keeps its status.
    let refused = world.call(&Call::chat_stream().simulate("fault=error:invalid_value")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(world.metric("weir_streams_kept_alive_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn until_the_first_event_an_attempt_is_retried() {
    let failed =
        json("503 Service Unavailable", "", r#"{"error":{"message":"busy","code":"server_is_overloaded"}}"#);
    let hidden = r#"{"error":{"message":"m","type":"server_error","code":"server_error"}}"#;
    // A head and a role, then ten minutes of silence, which the first-event timeout ends.
    let stalled = format!("{}|", events(&[ROLE], ""));
    for bad in [failed, events(&[ROLE, hidden], "0\r\n\r\n"), events(&[ROLE], ""), stalled] {
        let mut setup = patient(1);
        setup.policy.first_event_timeout = Some(FirstEventTimeout::After(Duration::from_secs(30)));
        let (world, asked) = scripted_in(setup, leaked(vec![bad.clone(), whole()]));
        let answer = world.call(&Call::chat_stream().timeout(300)).await;
        assert!(answer.whole && answer.text().ends_with("data: [DONE]\n\n"), "{bad}: {}", answer.text());
        assert_eq!(asked.load(Ordering::Relaxed), 2, "{bad}");
        assert_eq!(answer.text().matches("data: ").count(), 3, "{bad}: {}", answer.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_an_event_in_the_endpoints_form() {
    let spent = r#"{"error":{"message":"You exceeded your quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    for (call, name) in [(Call::chat_stream(), ""), (Call::response_stream(), "event: error\n")] {
        // The head of the response arrives after ten minutes.
        let late = format!("|{}", json("429 Too Many Requests", "", spent));
        let (world, _) = scripted_in(patient(20), leaked(vec![late]));
        let answer = world.call(&call.timeout(900)).await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let event = text.trim_start_matches(COMMENT);
        assert!(answer.whole && event.starts_with(&format!("{name}data: {{")), "{text}");
        assert!(
            event.contains("\"message\":\"You exceeded your quota.\"") && event.ends_with("\n\n"),
            "{text}"
        );
        assert!(event.contains("\"error\":{"), "{text}");
        assert_eq!(world.metrics.errors.count(ErrorClass::QuotaInsufficient), 1);
    }
    // An error of Weir: the deadline.
    let mut setup = patient(1);
    setup.policy.first_event_timeout = Some(FirstEventTimeout::After(Duration::from_secs(3)));
    let (world, asked) = scripted_in(setup, leaked(vec!["|".to_owned()]));
    let answer = world.call(&Call::chat_stream().timeout(60)).await;
    assert!(answer.text().contains("\"code\":\"timeout_response\""), "{}", answer.text());
    assert!(answer.text().contains("no event of the upstream's stream arrived in time"), "{}", answer.text());
    assert_eq!(asked.load(Ordering::Relaxed), 2, "it is asked for once more");
    assert_eq!(world.metrics.errors.count(ErrorClass::TimeoutResponse), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_it_is_kept_alive_ends_the_attempt() {
    let world = World::new(patient(1));
    let (response, sender) = world.open(&Call::chat_stream().timeout(300).simulate("after=100s")).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.expect("a comment").expect("whole").into_data().unwrap(), COMMENT);
    drop((body, sender));
    weir::internals::clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.simulator.stats().in_flight, 0);
    assert_eq!(world.metrics.errors.count(ErrorClass::WeirClientClosed), 1);
}

#[tokio::test(start_paused = true)]
async fn without_keepalive_a_late_stream_is_asked_for_once_more_too() {
    let mut setup = Setup::default();
    setup.policy.first_event_timeout = Some(FirstEventTimeout::After(Duration::from_secs(3)));
    let (world, asked) = scripted_in(setup, leaked(vec![format!("{}|", events(&[ROLE], "")), whole()]));
    let answer = world.call(&Call::chat_stream().timeout(60)).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(world.attempt_errors(ErrorClass::TimeoutResponse), 1);
    // A stored response may have been created, so it is not retried.
    let mut setup = Setup::default();
    setup.policy.first_event_timeout = Some(FirstEventTimeout::After(Duration::from_secs(3)));
    let (world, asked) = scripted_in(setup, leaked(vec![format!("{STREAM}|")]));
    let stored = Call::post("/v1/responses", r#"{"model":"gpt-4o","stream":true,"input":"a"}"#);
    let answer = world.call(&stored.timeout(60)).await;
    assert_eq!((answer.status.as_u16(), asked.load(Ordering::Relaxed)), (504, 1));
}

//! The timeout of an attempt: at least that of the caller's SDK.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir::internals::classify::ErrorClass;
use weir::internals::clock;

use super::scripted::{GOOD, json, leaked, scripted, scripted_in};
use super::world::{Call, Setup, World};

#[tokio::test(start_paused = true)]
async fn an_answer_within_the_sdks_timeout_arrives() {
    for (header, timeout, after) in [
        ("x-stainless-timeout", "1", "700ms"),
        ("x-stainless-read-timeout", "1", "900ms"),
        // Node sends 1 for 1.5 s.
        ("x-stainless-timeout", "1", "1400ms"),
        ("x-stainless-read-timeout", "3", "2900ms"),
        ("x-stainless-timeout", "600", "599s"),
    ] {
        let world = World::new(Setup::default());
        let call = Call::chat().with(header, timeout).simulate(&format!("after={after}"));
        let answer = world.call(&call).await;
        assert!(answer.is_success(), "{header}: {timeout}, {after}: {}", answer.text());
        assert_eq!(answer.attempts(), 1);
    }
}

/// A client that sends its body at this pace. Returns its response.
async fn upload(world: &World, headers: &str, pieces: usize, piece: usize, pause: Duration) -> String {
    let mut client = world.connect();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        pieces * piece
    );
    client.write_all(head.as_bytes()).await.expect("a pipe");
    for _ in 0..pieces {
        clock::sleep(pause).await;
        client.write_all(&vec![b'x'; piece]).await.expect("a pipe");
    }
    let mut answer = String::new();
    let until = clock::now() + Duration::from_mins(1);
    clock::timeout_at(until, client.read_to_string(&mut answer)).await.expect("in time").expect("text");
    answer
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_upload_is_not_response_time() {
    // Kept for a retry, and streamed.
    for keep in [8 << 20, 1 << 10] {
        let mut setup = Setup::default();
        setup.policy.replay.keep = keep;
        setup.policy.response_timeout = Some(Duration::from_secs(1));
        let world = World::new(setup);
        let read_timeout = "x-stainless-read-timeout: 5\r\n";
        let answer = upload(&world, read_timeout, 16, 64 << 10, Duration::from_millis(500)).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert!(!answer.starts_with("HTTP/1.1 504"), "{keep}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_timeout_runs_from_the_requests_end() {
    let mut setup = Setup::default();
    setup.policy.response_timeout = Some(Duration::from_secs(5));
    let world = World::new(setup);
    let late = world.call(&Call::chat().simulate("fault=stall-head")).await;
    assert_eq!((late.status.as_u16(), late.header("x-should-retry")), (504, Some("false")));
    assert!(
        late.took() >= Duration::from_secs(5) && late.took() < Duration::from_secs(6),
        "{:?}",
        late.took()
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_longer_between_two_bytes_is_given_its_time() {
    // The script pauses for ten minutes.
    let silent = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n|\
                  e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    for (timeout, whole) in [(700, true), (20, false)] {
        let mut setup = Setup::default();
        setup.policy.stream.idle_timeout = Some(Duration::from_secs(5));
        let (world, _) = scripted_in(setup, leaked(vec![silent.to_owned()]));
        let answer = world.call(&Call::chat_stream().timeout(timeout)).await;
        assert_eq!(answer.whole, whole, "{timeout}");
    }
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn events(events: &[&str], end: &str) -> String {
    let chunks = events.iter().map(|event| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8));
    format!("{STREAM}{}{end}", chunks.collect::<String>())
}

const ROLE: &str =
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const WORD: &str = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const SECOND: &str = r#"{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}"#;
const END: &str = "0\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_before_its_first_event_ends_as_an_answer_of_weirs_own() {
    for broken in [STREAM.to_owned(), events(&[ROLE], "")] {
        let (world, asked) = scripted(leaked(vec![broken]));
        let answer = world.call(&Call::chat_stream().timeout(120)).await;
        assert_eq!((answer.status.as_u16(), answer.attempts()), (502, 6), "{}", answer.text());
        assert!(answer.text().contains("\"code\":\"stream_cut\""), "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 6);
    }
    // An unsafe request is attempted once, and the SDK decides.
    let (world, _) = scripted(leaked(vec![STREAM.to_owned()]));
    let stored = Call::post("/v1/responses", r#"{"model":"gpt-4o","stream":true,"input":"a"}"#);
    let answer = world.call(&stored).await;
    assert_eq!((answer.status.as_u16(), answer.attempts()), (502, 1));
    assert_eq!(answer.header("x-should-retry"), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_complete_by_its_last_event() {
    for (answer, whole, outcome) in [
        (events(&[WORD, STOP], END), true, "complete"),
        (events(&[WORD, SECOND, STOP], END), false, "cut"),
        (events(&[WORD], END), false, "cut"),
        // After the last event the end of the connection does not matter, but it is forwarded
        // unchanged.
        (events(&[WORD, "[DONE]"], ""), false, "complete"),
    ] {
        let (world, _) = scripted(leaked(vec![answer.clone()]));
        let got = world.call(&Call::chat_stream()).await;
        assert_eq!(got.whole, whole, "{answer}");
        let series = format!("weir_stream_outcomes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(world.metric(&series), 1, "{answer}");
        let errors = world.metrics.errors.count(ErrorClass::StreamCut);
        assert_eq!(errors, u64::from(outcome == "cut"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_behind_an_announcement_is_repeated() {
    let filters =
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#;
    let error = r#"{"error":{"message":"m","type":"server_error","code":"server_error"}}"#;
    for before in [ROLE, filters] {
        let good = events(&[ROLE, WORD, STOP, "[DONE]"], END);
        let (world, asked) = scripted(leaked(vec![events(&[before, error], END), good]));
        let answer = world.call(&Call::chat_stream().timeout(60)).await;
        assert!(answer.is_success() && !answer.text().contains("error"), "{}", answer.text());
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_200_that_is_no_answer_is_counted_and_repeated_where_that_is_safe() {
    let page = "<html><body>maintenance</body></html>";
    let typed = |kind: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    for (bad, class) in [
        (json("200 OK", "", r#"{"error":{"message":"upstream failed","code":502}}"#), ErrorClass::BadGateway),
        (json("200 OK", "", "\r\n\r\n"), ErrorClass::EmptyResponse),
        (typed("text/html", page), ErrorClass::MalformedResponse),
        (events(&["[DONE]"], END), ErrorClass::EmptyResponse),
    ] {
        let (world, asked) = scripted(leaked(vec![bad.clone(), json("200 OK", "", GOOD)]));
        let answer = world.call(&Call::chat().timeout(60)).await;
        assert_eq!(answer.text(), GOOD, "{bad}");
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2, "{bad}");
        assert_eq!(world.attempt_errors(class), 1, "{bad}");
        // The last response is forwarded unchanged.
        let (world, _) = scripted(leaked(vec![bad.clone()]));
        let answer = world.call(&Call::chat().timeout(60)).await;
        assert_eq!((answer.status.as_u16(), answer.attempts()), (200, 6), "{bad}");
        assert_eq!(world.metrics.errors.count(class), 1, "{bad}");
    }
}

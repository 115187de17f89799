//! Bypass and observe: a caller gets the same response as without Weir, at the same time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir::internals::caller::Mode;
use weir::internals::classify::ErrorClass;
use weir::internals::clock;
use weir::internals::simulate::Simulator;

use super::scripted::{json, leaked, scripted_in};
use super::world::{Call, Setup, World};

const TRANSPARENT: [Mode; 2] = [Mode::Observe, Mode::Bypass];

fn setup(mode: Mode) -> Setup {
    let mut setup = Setup::default();
    setup.policy.mode = mode;
    setup
}

#[tokio::test(start_paused = true)]
async fn no_deadline_ends_an_attempt() {
    for mode in TRANSPARENT {
        for header in ["x-stainless-timeout", "x-stainless-read-timeout", "x-weir-deadline"] {
            let mut setup = setup(mode);
            setup.policy.response_timeout = Some(Duration::from_secs(1));
            let world = World::new(setup);
            let answer = world.call(&Call::chat().with(header, "3").simulate("after=20s")).await;
            assert!(answer.is_success(), "{mode:?} {header}: {}", answer.text());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_its_last_event_ends_as_it_did() {
    const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                          39\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\r\n0\r\n\r\n";
    for mode in TRANSPARENT {
        let (world, _) = scripted_in(setup(mode), leaked(vec![STREAM.to_owned()]));
        let answer = world.call(&Call::chat_stream()).await;
        assert!(answer.is_success(), "{mode:?}: {}", answer.text());
    }
    let (world, _) = scripted_in(setup(Mode::Enforce), leaked(vec![STREAM.to_owned()]));
    assert!(!world.call(&Call::chat_stream()).await.whole, "enforce tells a cut");
}

#[tokio::test(start_paused = true)]
async fn silence_cuts_nothing() {
    // The script pauses for ten minutes.
    let silent = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n|\
                  e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    for mode in TRANSPARENT {
        let mut setup = setup(mode);
        setup.policy.stream.idle_timeout = Some(Duration::from_secs(5));
        let (world, _) = scripted_in(setup, leaked(vec![silent.to_owned()]));
        assert!(world.call(&Call::chat_stream()).await.is_success(), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_errors_head_is_not_held_for_its_body_and_both_are_counted_once_they_passed() {
    let body = r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"m"}}"#;
    let stalled = json("429 Too Many Requests", "", body).replace("\r\n\r\n", "\r\n\r\n|");
    for mode in TRANSPARENT {
        let (world, asked) = scripted_in(setup(mode), leaked(vec![stalled.clone()]));
        let answer = world.call(&Call::chat()).await;
        assert!(answer.took() < Duration::from_secs(1), "{mode:?}: {:?}", answer.took());
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (429, body));
        assert_eq!(answer.header("x-should-retry"), None);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        let known = world.metrics.attempt_errors.count(ErrorClass::RateLimitOther);
        assert_eq!(known, 0, "{mode:?}: the body tells the class");
    }
}

/// As without Weir, the upstream gets the head and first bytes before the client has sent the last.
#[tokio::test(start_paused = true)]
async fn in_bypass_a_body_goes_on_as_it_comes() {
    let (seen, mut tell) = tokio::sync::mpsc::unbounded_channel::<()>();
    let setup = setup(Mode::Bypass);
    let simulator = Simulator::new(setup.simulator.clone());
    let world = World::before(setup, simulator, move |mut io| {
        let seen = seen.clone();
        clock::spawn(async move {
            let (mut read, mut more) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = io.read(&mut more).await {
                read.extend_from_slice(&more[..count]);
                if read.ends_with(b"{\"model\":\"gpt") {
                    seen.send(()).expect("the test listens");
                }
                if read.ends_with(b"}}") {
                    drop(io.write_all(json("200 OK", "", "{}").as_bytes()).await);
                }
            }
        });
    });
    let mut client = world.connect();
    let begin =
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\ncontent-length: 25\r\n\r\n{\"model\":\"gpt";
    client.write_all(begin).await.expect("a pipe");
    let until = clock::now() + Duration::from_secs(1);
    clock::timeout_at(until, tell.recv()).await.expect("the upstream has what was sent so far");
    client.write_all(b"-4o\",\"n\":{}}").await.expect("a pipe");
    let mut answer = [0; 12];
    let until = clock::now() + Duration::from_secs(1);
    clock::timeout_at(until, client.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    clock::sleep(Duration::from_secs(1)).await;
    let series = "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}";
    assert_eq!(world.metric(series), 1);
}

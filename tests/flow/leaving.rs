//! Callers that disconnect: their attempts end upstream, and their permits and tokens are counted.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir::internals::classify::ErrorClass;
use weir::internals::clock;

use super::world::{Call, Setup, World};

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_a_stream_ends_the_attempt_and_its_tokens_count() {
    let world = World::new(Setup::default());
    let (response, sender) = world.open(&Call::chat_stream().simulate("chunks=1000;chunk-delay=50ms")).await;
    let mut body = response.into_body();
    for _ in 0..20 {
        body.frame().await.expect("a chunk").expect("whole");
    }
    assert_eq!(world.simulator.stats().in_flight, 1);
    drop((body, sender));
    clock::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.simulator.stats().in_flight, 0, "ended within 100 ms");
    assert_eq!(world.metrics.errors.count(ErrorClass::WeirClientClosed), 1);
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"client_closed\"}"), 1);
    let output = world.metric("weir_tokens_total{caller=\"default\",kind=\"output\",model=\"other\"}");
    let input = world.metric("weir_tokens_total{caller=\"default\",kind=\"input\",model=\"other\"}");
    assert!((18..=24).contains(&output), "{output} tokens of output");
    assert!(input >= 3, "{input} tokens of input");
    assert_eq!(world.scopes.snapshot()[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_before_the_head_ends_the_attempt() {
    let world = World::new(Setup::default());
    let leaving = {
        let world = std::sync::Arc::clone(&world);
        clock::spawn(async move { world.call(&Call::chat().simulate("after=60s")).await })
    };
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.simulator.stats().in_flight, 1);
    leaving.abort();
    clock::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.simulator.stats().in_flight, 0);
    assert_eq!(world.scopes.snapshot()[0].in_flight, 0);
    assert_eq!(world.metrics.errors.count(ErrorClass::WeirClientClosed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_it_backs_off_makes_no_further_attempt() {
    let world = World::new(Setup::default());
    let leaving = {
        let world = std::sync::Arc::clone(&world);
        clock::spawn(async move {
            world.call(&Call::chat().timeout(600).simulate("status=500;retry-after=20")).await
        })
    };
    clock::sleep(Duration::from_secs(1)).await;
    leaving.abort();
    clock::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.simulator.stats().requests, 1);
    assert_eq!(world.metric("weir_requests_in_flight{caller=\"default\"}"), 0);
}

/// An HTTP/1.0 client can't see a truncation, so it is counted.
#[tokio::test(start_paused = true)]
async fn a_cut_that_its_caller_cannot_see_is_counted() {
    let world = World::new(Setup::default());
    let mut io = world.connect();
    let call = Call::chat_stream().simulate("fault=reset-mid-body;chunks=20;chunk-delay=20ms");
    let mut text =
        format!("POST {} HTTP/1.0\r\nhost: weir.test\r\ncontent-length: {}\r\n", call.path, call.body.len());
    for (name, value) in &call.headers {
        text += name;
        text += ": ";
        text += value;
        text += "\r\n";
    }
    text.push_str("\r\n");
    io.write_all(text.as_bytes()).await.expect("a pipe");
    io.write_all(&call.body).await.expect("a pipe");
    let mut answer = Vec::new();
    // Whether the end is an error or not, the client can't know what is missing.
    drop(io.read_to_end(&mut answer).await);
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(world.metric("weir_stream_outcomes_total{outcome=\"cut_unseen\"}"), 1);
    assert_eq!(world.metrics.errors.count(ErrorClass::StreamCut), 1);
}

//! A caller that does not read delays only itself.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weir::internals::clock;
use weir::internals::simulate::Latency;

use super::world::{Call, Setup, World};

fn setup(http2: bool) -> Setup {
    let mut setup = Setup { http2, ..Setup::default() };
    setup.simulator.after = Latency::Fixed(Duration::from_millis(10));
    setup
}

/// One caller stops reading a stream of many small chunks; other streams are complete and in time.
async fn stalled_reader(http2: bool) {
    let world = World::new(setup(http2));
    // Its pipe contains only what the proxy could write.
    let io = TokioIo::new(world.connect_with_room(2 << 10));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a pipe");
    let connection = clock::spawn(connection);
    let call = Call::chat_stream().simulate("chunks=5000;chunk-delay=1ms");
    let mut stalled = sender.send_request(call.request()).await.expect("an answer").into_body();
    stalled.frame().await.expect("a chunk").expect("whole");
    let mut neighbors = Vec::new();
    for _ in 0..10 {
        let world = Arc::clone(&world);
        let call = Call::chat_stream().simulate("chunks=1000;chunk-delay=2ms");
        neighbors.push(clock::spawn(async move { world.call(&call).await }));
    }
    for neighbor in neighbors {
        let answer = neighbor.await.expect("no panic");
        assert!(answer.is_success(), "a neighbor was killed: {}", answer.text().len());
        assert!(answer.text().contains("[DONE]"));
        let took = answer.ended.saturating_sub(answer.began);
        assert!(took < Duration::from_secs(8), "a neighbor was slowed: {took:?}");
    }
    // The upstream is throttled instead of buffered without bound.
    assert_eq!(world.simulator.stats().in_flight, 1, "the stalled stream is still under way upstream");
    drop((stalled, connection));
}

#[tokio::test(start_paused = true)]
async fn over_http1_a_stalled_reader_harms_no_neighbor() {
    stalled_reader(false).await;
}

#[tokio::test(start_paused = true)]
async fn over_http2_a_thousand_small_frames_kill_no_neighbor() {
    stalled_reader(true).await;
}

/// The same on the caller's side: many streams on one connection, one of them not read.
#[tokio::test(start_paused = true)]
async fn one_stalled_stream_of_a_callers_http2_connection_stalls_no_other() {
    let world = World::new(setup(false));
    let io = TokioIo::new(world.connect());
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), io)
            .await
            .expect("a pipe");
    clock::spawn(connection);
    let mut stalled = ask(&sender, "chunks=1000;chunk-delay=1ms").await;
    stalled.frame().await.expect("a chunk").expect("whole");
    for _ in 0..5 {
        let body =
            ask(&sender, "chunks=1000;chunk-delay=1ms").await.collect().await.expect("whole").to_bytes();
        assert!(body.ends_with(b"data: [DONE]\n\n"));
    }
    // Late, but whole.
    let rest = stalled.collect().await.expect("whole").to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

async fn ask(
    sender: &hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>,
    directive: &str,
) -> hyper::body::Incoming {
    let mut request = Call::chat_stream().simulate(directive).request();
    *request.uri_mut() = "http://weir.test/v1/chat/completions".parse().expect("a URI");
    request.headers_mut().remove("host");
    sender.clone().send_request(request).await.expect("an answer").into_body()
}

/// A client that never opens a stream's window, but answers pings, loses its permit and upstream
/// connection after a time.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_never_read_releases_its_permit() {
    never_read(Call::chat_stream().simulate("chunks=5000;chunk-delay=10ms")).await;
}

async fn never_read(call: Call) {
    let mut setup = setup(false);
    setup.scopes.limits.in_flight = Some(1);
    setup.policy.write_timeout = Duration::from_secs(10);
    let world = World::new(setup);
    let io = TokioIo::new(world.connect());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (mut sender, connection) = builder.handshake(io).await.expect("a pipe");
    clock::spawn(connection);
    let mut request = call.request();
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = "http://weir.test/v1/chat/completions".parse().expect("a URL");
    request.headers_mut().remove("host");
    let unread = sender.send_request(request).await.expect("a head");
    let answer = world.call(&Call::chat().timeout(60)).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert!(answer.took() >= Duration::from_secs(9), "it waited for the permit: {:?}", answer.took());
    assert!(answer.took() <= Duration::from_secs(14), "{:?}", answer.took());
    assert_eq!(world.metric("weir_limits_reached_total{limit=\"answer_unread\"}"), 1);
    drop(unread);
}

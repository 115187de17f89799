//! Scripted upstreams for responses that the simulator can't give: early, long, dated or truncated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weir::internals::clock;
use weir::internals::simulate::Simulator;

use super::world::{Call, Setup, World};

/// Responds to requests, one per connection, with these responses in turn, repeating the last.
/// `pause` is the time before the part after the first `|`; without one the connection is closed
/// after the response.
pub(crate) fn scripted(answers: &'static [String]) -> (Arc<World>, Arc<AtomicU32>) {
    scripted_in(Setup::default(), answers)
}

/// The same behind a proxy of this setup.
pub(crate) fn scripted_in(setup: Setup, answers: &'static [String]) -> (Arc<World>, Arc<AtomicU32>) {
    let asked = Arc::<AtomicU32>::default();
    let behind = {
        let asked = Arc::clone(&asked);
        move |mut io: DuplexStream| {
            let number = asked.fetch_add(1, Ordering::Relaxed) as usize;
            clock::spawn(async move {
                read_request(&mut io).await;
                let answer = &answers[number.min(answers.len() - 1)];
                let (now, later) = answer.split_once('|').unwrap_or((answer, ""));
                drop(io.write_all(now.as_bytes()).await);
                if answer.contains('|') {
                    clock::sleep(Duration::from_mins(10)).await;
                    drop(io.write_all(later.as_bytes()).await);
                }
            });
        }
    };
    let simulator = Simulator::new(setup.simulator.clone());
    (World::before(setup, simulator, behind), asked)
}

/// Reads up to the end of a small request.
pub(crate) async fn read_request(io: &mut DuplexStream) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        match io.read(&mut buffer).await {
            Ok(count @ 1..) => read.extend_from_slice(&buffer[..count]),
            Ok(0) | Err(_) => return,
        }
    }
}

pub(crate) fn leaked(answers: Vec<String>) -> &'static [String] {
    answers.leak()
}

pub(crate) fn json(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) const GOOD: &str = r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[tokio::test(start_paused = true)]
async fn a_date_is_a_minimum_too() {
    let date = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(8));
    let limited = json(
        "503 Service Unavailable",
        &format!("retry-after: {date}\r\n"),
        r#"{"error":{"message":"busy"}}"#,
    );
    let (world, asked) = scripted(leaked(vec![limited, json("200 OK", "", GOOD)]));
    let answer = world.call(&Call::chat().timeout(300)).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // A date has whole seconds, and the wall clock is not paused.
    assert!(
        (Duration::from_secs(6)..Duration::from_secs(10)).contains(&answer.took()),
        "{:?}",
        answer.took()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_only_the_message_names_is_kept() {
    let text = "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3, \
                Requested 1. Please try again in 20s.";
    let body = format!(
        r#"{{"error":{{"message":"{text}","type":"requests","param":null,"code":"rate_limit_exceeded"}}}}"#
    );
    let (world, asked) =
        scripted(leaked(vec![json("429 Too Many Requests", "", &body), json("200 OK", "", GOOD)]));
    let answer = world.call(&Call::chat().timeout(300)).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(
        (Duration::from_secs(20)..Duration::from_secs(23)).contains(&answer.took()),
        "{:?}",
        answer.took()
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_longer_than_the_bound_arrives_whole() {
    let page = format!("<html>{}</html>", "x".repeat(300_000));
    let (world, asked) = scripted(leaked(vec![json("403 Forbidden", "", &page)]));
    let answer = world.call(&Call::chat()).await;
    assert_eq!(answer.status, 403);
    assert!(answer.whole && answer.body.len() == page.len());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_body_stalls_holds_up_no_retry() {
    let stalled = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{|}";
    let (world, asked) = scripted(leaked(vec![stalled.to_owned(), json("200 OK", "", GOOD)]));
    let answer = world.call(&Call::chat().timeout(300)).await;
    assert!(answer.is_success());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(answer.took() < Duration::from_secs(7), "{:?}", answer.took());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_before_it_began_is_tried_again() {
    let empty =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let whole = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                 33\r\ndata: {\"choices\":[{\"text\":\"some\"}]}\n\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    let (world, asked) = scripted(leaked(vec![empty.to_owned(), whole.to_owned()]));
    let answer = world.call(&Call::chat_stream().timeout(60)).await;
    assert!(answer.is_success(), "{}", answer.text());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// Every SDK accepts such an end, so a missing last line break must not abort the stream.
#[tokio::test(start_paused = true)]
async fn a_last_event_needs_no_blank_line_after_it() {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    const OUTPUT: &str = "25\r\ndata: {\"choices\":[{\"text\":\"some\"}]}\n\n\r\n";
    for (end, whole) in [
        ("c\r\ndata: [DONE]\r\n", true),
        ("d\r\ndata: [DONE]\n\r\n", true),
        ("e\r\ndata: [DONE]\r\n\r\n", true),
        ("b\r\ndata: [DONE\r\n", false),
        // An incomplete event does not count, whatever its name.
        ("23\r\nevent: response.completed\ndata: {\"t\r\n", false),
        ("", false),
    ] {
        let (world, asked) = scripted(leaked(vec![format!("{HEAD}{OUTPUT}{end}0\r\n\r\n")]));
        let answer = world.call(&Call::chat_stream().timeout(60)).await;
        assert_eq!(answer.status, 200, "{end:?}");
        assert_eq!(answer.whole, whole, "{end:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_last_event_elsewhere_ends_as_it_did() {
    // A missing last event is a cut only on endpoints that always send one.
    let (world, _) = scripted(leaked(vec![
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
         1a\r\ndata: {\"type\":\"something\"}\r\n0\r\n\r\n"
            .to_owned(),
    ]));
    let answer = world.call(&Call::post("/v1/images/generations", r#"{"stream":true}"#)).await;
    assert!(answer.is_success(), "{}", answer.text());
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_reaches_a_caller_that_still_sends() {
    let (world, asked) = scripted(leaked(vec![json(
        "413 Payload Too Large",
        "connection: close\r\n",
        r#"{"error":{"message":"too large"}}"#,
    )]));
    let io = TokioIo::new(world.connect());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("a pipe");
    clock::spawn(connection);
    let (feed, body) = tokio::sync::mpsc::channel::<Bytes>(4);
    let request = http::Request::post("/v1/files")
        .header("host", "weir.test")
        .header("authorization", "Bearer sk-flow");
    let request = request.header("content-length", 64 << 20).body(Feed(body)).expect("a request");
    let sending = clock::spawn(async move {
        // Until the peer closes the connection.
        while feed.send(Bytes::from(vec![0; 64 << 10])).await.is_ok() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    });
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 413);
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    assert_eq!(&body[..], br#"{"error":{"message":"too large"}}"#);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    sending.abort();
}

/// Frames from a channel.
struct Feed(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}

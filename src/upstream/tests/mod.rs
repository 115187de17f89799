//! Tests of attempts over in-memory connections, on a paused clock.

mod http2;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::classify::{Failure, FailureKind};
use crate::clock;
use crate::replay::Body;

use super::{AnswerBody, Connected, Counters, Destination, HeadLimit, Settings, Target, Upstream};

struct Wire {
    upstream: Upstream,
    counters: Arc<Counters>,
    /// The far ends of new connections.
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Wire {
    /// Spawns an attempt.
    fn begin(&self, request: Request<Body>) -> JoinHandle<Result<Response<AnswerBody>, Failure>> {
        let upstream = self.upstream.clone();
        clock::spawn(async move { upstream.attempt(request, HeadLimit::default()).await })
    }
}

fn wire(http2: bool) -> Wire {
    wire_of(move |_| http2)
}

/// The same, where `http2` returns whether the connection with this number speaks HTTP/2.
fn wire_of(http2: impl Fn(usize) -> bool + Clone + Send + Sync + 'static) -> Wire {
    let (sender, accepted) = mpsc::unbounded_channel();
    let made = Arc::new(AtomicUsize::new(0));
    let connector = tower::service_fn(move |_destination: Destination| {
        let sender = sender.clone();
        let http2 = http2(made.fetch_add(1, Ordering::Relaxed));
        async move {
            let (near, far) = duplex(16 << 10);
            sender.send(far).map_err(|_| Failure::unsent(FailureKind::Refused, ""))?;
            Ok(Connected { io: near, http2 })
        }
    });
    let counters = Arc::new(Counters::default());
    let target = Arc::new(Target::parse("http://upstream.test").unwrap());
    let upstream = Upstream::new(target, Settings::default(), Arc::clone(&counters), connector);
    Wire { upstream, counters, accepted }
}

fn post(body: &'static str) -> Request<Body> {
    let body = Body::from(Bytes::from_static(body.as_bytes()));
    Request::post("/v1/embeddings").header("host", "upstream.test").body(body).unwrap()
}

/// Reads one request, up to `end` in its body.
async fn read_until(far: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        assert_ne!(far.read_buf(&mut read).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

/// Whether the connection was closed without further bytes.
async fn is_closed(far: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    matches!(
        clock::timeout_at(clock::now() + Duration::from_secs(1), far.read_to_end(&mut rest)).await,
        Ok(Ok(0) | Err(_))
    )
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn a_connection_serves_one_attempt_after_the_other() {
    let mut wire = wire(false);
    let far = clock::spawn(async move {
        let mut far = wire.accepted.recv().await.unwrap();
        for _ in 0..3 {
            let request = read_until(&mut far, "body").await;
            assert!(
                request.starts_with("POST /v1/embeddings HTTP/1.1\r\nhost: upstream.test\r\n"),
                "{request}"
            );
            assert!(request.contains("content-length: 4\r\n"), "{request}");
            far.write_all(OK).await.unwrap();
        }
        (far, wire.accepted)
    });
    for _ in 0..3 {
        let answer = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert_eq!(wire.counters.idle(), 1);
    }
    let (mut far, mut accepted) = far.await.unwrap();
    assert!(accepted.try_recv().is_err());
    assert_eq!((wire.counters.open(), wire.counters.connected()), (1, 1));
    // An idle connection is closed within one and a half idle timeouts.
    clock::sleep(Settings::default().idle_timeout.mul_f64(1.5)).await;
    assert!(is_closed(&mut far).await);
    assert_eq!((wire.counters.open(), wire.counters.idle()), (0, 0));
}

/// The frame that a body has available now, if any.
async fn at_once(body: &mut AnswerBody) -> Option<Option<Bytes>> {
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await {
        Poll::Ready(frame) => Some(frame.map(|frame| frame.unwrap().into_data().unwrap())),
        Poll::Pending => None,
    }
}

/// Another task would run only after all other ready connections were read.
#[tokio::test(start_paused = true)]
async fn what_has_come_is_passed_on_without_another_tasks_turn() {
    let mut wire = wire(false);
    let far = clock::spawn(async move {
        let mut far = wire.accepted.recv().await.unwrap();
        read_until(&mut far, "body").await;
        far.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        far
    });
    let mut body = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap().into_body();
    let mut far = far.await.unwrap();
    for event in ["event1", "event2", "event3"] {
        assert_eq!(at_once(&mut body).await, None);
        far.write_all(format!("6\r\n{event}\r\n").as_bytes()).await.unwrap();
        let part = at_once(&mut body).await.unwrap().unwrap();
        assert_eq!(part, event);
        assert!(part.is_unique(), "it holds the buffer that the connection reads into");
    }
    far.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(at_once(&mut body).await, Some(None));
    assert_eq!((wire.counters.open(), wire.counters.idle()), (1, 1));
    // A close by the upstream is noticed at once.
    drop(far);
    tokio::task::yield_now().await;
    assert_eq!((wire.counters.open(), wire.counters.idle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_idle_connection_is_replaced_silently() {
    let mut wire = wire(false);
    let far = clock::spawn(async move {
        for _ in 0..2 {
            let mut far = wire.accepted.recv().await.unwrap();
            read_until(&mut far, "body").await;
            far.write_all(OK).await.unwrap();
        }
    });
    for _ in 0..2 {
        let answer = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    far.await.unwrap();
    assert_eq!(wire.counters.connected(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_after_the_request_is_a_reset() {
    let mut wire = wire(false);
    let far = clock::spawn(async move {
        let mut far = wire.accepted.recv().await.unwrap();
        read_until(&mut far, "body").await;
        far.write_all(OK).await.unwrap();
        read_until(&mut far, "body").await;
        wire.accepted
    });
    let answer = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
    drop(answer.into_body().collect().await.unwrap());
    let failure = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Reset, true));
    assert!(far.await.unwrap().try_recv().is_err(), "nothing may be repeated after it was sent");
}

#[tokio::test(start_paused = true)]
async fn no_head_in_time_ends_the_attempt() {
    let mut wire = wire(false);
    let deadline = clock::now() + Duration::from_secs(3);
    let failure = wire.upstream.attempt(post("body"), HeadLimit::at(deadline)).await.unwrap_err();
    assert_eq!(clock::now(), deadline);
    assert_eq!((failure.kind, failure.sent), (FailureKind::ResponseTimeout, true));
    let mut far = wire.accepted.recv().await.unwrap();
    read_until(&mut far, "body").await;
    assert!(is_closed(&mut far).await);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_attempt_or_its_body_closes_the_connection_at_once() {
    let mut wire = wire(false);
    let attempt = wire.begin(post("body"));
    let mut far = wire.accepted.recv().await.unwrap();
    read_until(&mut far, "body").await;
    attempt.abort();
    assert!(is_closed(&mut far).await);

    let attempt = wire.begin(post("body"));
    let mut far = wire.accepted.recv().await.unwrap();
    read_until(&mut far, "body").await;
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await.unwrap();
    let mut body = attempt.await.unwrap().unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
    drop(body);
    assert!(is_closed(&mut far).await);
    assert_eq!((wire.counters.open(), wire.counters.idle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_passed_on_and_its_connection_closed() {
    let mut wire = wire(false);
    let body = Body::from(Bytes::from(vec![b'x'; 1 << 20]));
    let request = Request::post("/v1/files").header("host", "upstream.test").body(body).unwrap();
    let attempt = wire.begin(request);
    let mut far = wire.accepted.recv().await.unwrap();
    let mut start = vec![0; 1 << 10];
    far.read_exact(&mut start).await.unwrap();
    far.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    let answer = attempt.await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
    let mut rest = Vec::new();
    drop(far.read_to_end(&mut rest).await);
    assert!(rest.len() < 1 << 20, "the upload went on after the answer");
    assert_eq!((wire.counters.open(), wire.counters.idle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn lying_answers_are_malformed_and_their_connection_closed() {
    for lie in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let mut wire = wire(false);
        let attempt = wire.begin(post("body"));
        let mut far = wire.accepted.recv().await.unwrap();
        read_until(&mut far, "body").await;
        far.write_all(lie.as_bytes()).await.unwrap();
        let failure = attempt.await.unwrap().expect_err(lie);
        assert_eq!((failure.kind, failure.sent), (FailureKind::Malformed, true), "{lie}: {failure}");
        assert!(is_closed(&mut far).await, "{lie}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_says_so() {
    let mut wire = wire(false);
    let attempt = wire.begin(post("body"));
    let mut far = wire.accepted.recv().await.unwrap();
    read_until(&mut far, "body").await;
    far.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    let line = format!("x-long: {}\r\n", "a".repeat(1000));
    while far.write_all(line.as_bytes()).await.is_ok() {}
    let failure = attempt.await.unwrap().unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::HeadTooLarge, true), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_says_how() {
    for (answer, kind) in [
        ("content-length: 9\r\n\r\nok", FailureKind::Reset),
        ("transfer-encoding: chunked\r\n\r\n2\r\nok\r\n", FailureKind::Reset),
        ("transfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", FailureKind::Malformed),
    ] {
        let mut wire = wire(false);
        let attempt = wire.begin(post("body"));
        let mut far = wire.accepted.recv().await.unwrap();
        read_until(&mut far, "body").await;
        far.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        drop(far);
        let answer_body = attempt.await.unwrap().unwrap().into_body();
        let failure = answer_body.collect().await.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (kind, true), "{answer}");
        assert_eq!(wire.counters.idle(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_has_its_own_time() {
    let connector = tower::service_fn(|_destination: Destination| {
        std::future::pending::<Result<Connected<DuplexStream>, Failure>>()
    });
    let counters = Arc::new(Counters::default());
    let target = Arc::new(Target::parse("http://upstream.test").unwrap());
    let upstream = Upstream::new(target, Settings::default(), Arc::clone(&counters), connector);
    let began = clock::now();
    let failure = upstream.attempt(post("body"), HeadLimit::default()).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::ConnectTimeout, false));
    assert_eq!(clock::now() - began, Duration::from_secs(5));
    assert_eq!(counters.failed(FailureKind::ConnectTimeout), 1);
}

#[test]
fn the_future_of_an_attempt_stays_small() {
    // It is moved into the future of its request, and allocated with it.
    let upstream = wire(false).upstream;
    let size = size_of_val(&upstream.attempt(post("body"), HeadLimit::at(clock::now())));
    assert!(size <= 2560, "{size} bytes");
}

/// A connection beyond its maximum age is better than none.
#[tokio::test(start_paused = true)]
async fn an_old_connection_is_used_where_no_new_one_can_be_made() {
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let connector = tower::service_fn(move |_: Destination| {
        let (near, far) = duplex(16 << 10);
        // Only the first connection is accepted.
        let made = if sender.is_closed() { Err(()) } else { sender.send(far).map_err(drop) };
        async move {
            made.map_err(|()| Failure::unsent(FailureKind::Dns, ""))?;
            Ok(Connected { io: near, http2: false })
        }
    });
    let target = Arc::new(Target::parse("http://upstream.test").unwrap());
    let settings = Settings { max_age: Duration::from_secs(5), ..Settings::default() };
    let upstream = Upstream::new(target, settings, Arc::default(), connector);
    let far = clock::spawn(async move {
        let mut far: DuplexStream = accepted.recv().await.unwrap();
        drop(accepted);
        for _ in 0..3 {
            read_until(&mut far, "body").await;
            far.write_all(OK).await.unwrap();
        }
    });
    for _ in 0..3 {
        let answer = upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        clock::sleep(Duration::from_secs(10)).await;
    }
    far.await.unwrap();
}

//! Attempts over HTTP/2, and their repetition over HTTP/1.1 after a lost connection.

use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

#[tokio::test(start_paused = true)]
async fn http2_opens_as_many_connections_as_streams_need() {
    let mut wire = wire(true);
    let connections = clock::spawn(async move {
        let mut connections = 0;
        while let Some(far) = wire.accepted.recv().await {
            connections += 1;
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().authority().unwrap(), "upstream.test");
                assert!(!request.headers().contains_key("host"));
                clock::sleep(Duration::from_secs(1)).await;
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            });
            clock::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(40)
                    .serve_connection(TokioIo::new(far), service),
            );
        }
        connections
    });
    for _ in 0..3 {
        let attempts: Vec<_> = (0..200)
            .map(|_| {
                let upstream = wire.upstream.clone();
                clock::spawn(async move {
                    let answer = upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
                    answer.into_body().collect().await.unwrap().to_bytes()
                })
            })
            .collect();
        for attempt in attempts {
            assert_eq!(attempt.await.unwrap(), "ok");
        }
    }
    drop(wire.upstream);
    let connections = connections.await.unwrap();
    assert!(
        (5..=8).contains(&connections),
        "{connections} connections for 200 requests over 40 streams each"
    );
}

/// Middleboxes silently drop the state of idle connections.
#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_was_idle_too_long_is_not_used_again() {
    let Wire { upstream, counters, mut accepted } = wire(true);
    clock::spawn(async move {
        while let Some(far) = accepted.recv().await {
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            clock::spawn(builder.serve_connection(TokioIo::new(far), service));
        }
    });
    let idle = Settings::default().idle_timeout;
    for (pause, connections) in [(Duration::ZERO, 1), (idle / 2, 1), (idle * 3 / 4, 1), (idle, 2)] {
        clock::sleep(pause).await;
        let answer = upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert_eq!(counters.connected(), connections, "after {pause:?}");
    }
}

/// A body of many small frames.
struct Drops(u32);

impl http_body::Body for Drops {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let left = self.0.checked_sub(1);
        Poll::Ready(left.map(|left| {
            self.0 = left;
            Ok(http_body::Frame::data(Bytes::from_static(b"data: {}\n\n")))
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn small_frames_that_nobody_reads_kill_no_stream_beside_them() {
    let mut wire = wire(true);
    let upstream = wire.upstream.clone();
    clock::spawn(async move {
        let far = wire.accepted.recv().await.unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
            let drops = if request.uri().path() == "/v1/embeddings" { 1 } else { 1_000 };
            Ok::<_, std::convert::Infallible>(Response::new(Drops(drops)))
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), service)
            .await;
        drop(serving);
    });
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let stream =
            Request::post("/v1/responses").header("host", "upstream.test").body(Body::empty()).unwrap();
        stalled.push(upstream.attempt(stream, HeadLimit::default()).await.unwrap());
    }
    // 20,000 frames are queued on the one connection.
    clock::sleep(Duration::from_secs(5)).await;
    let beside = upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
    assert_eq!(beside.into_body().collect().await.unwrap().to_bytes().len(), 10);
    for stream in stalled {
        assert_eq!(stream.into_body().collect().await.unwrap().to_bytes().len(), 10_000);
    }
    assert_eq!(wire.counters.connected(), 1);
}

/// A server that silently closes after each response costs a few requests, not every second one.
#[tokio::test(start_paused = true)]
async fn connections_that_are_lost_after_each_answer_are_used_once() {
    let Wire { upstream, counters, mut accepted } = wire(false);
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    clock::spawn(async move {
        while let Some(mut far) = accepted.recv().await {
            let seen = Arc::clone(&seen);
            clock::spawn(async move {
                for answers in [true, false] {
                    let mut request = Vec::new();
                    while !request.ends_with(b"body") {
                        if far.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    if answers {
                        seen.fetch_add(1, Ordering::Relaxed);
                        far.write_all(OK).await.unwrap();
                    }
                }
            });
        }
    });
    let mut lost = 0;
    for _ in 0..200 {
        match upstream.attempt(post("body"), HeadLimit::default()).await {
            Ok(answer) => assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok"),
            Err(failure) => {
                assert_eq!((failure.kind, failure.sent), (FailureKind::Reset, true));
                lost += 1;
            }
        }
    }
    // Three in a row, then the tests after 16, 32, 64 and not yet 128 responses.
    assert_eq!((lost, asked.load(Ordering::Relaxed)), (6, 194));
    assert_eq!(counters.open(), 0);
}

/// A request that an HTTP/2 connection lost is converted for HTTP/1.1.
#[tokio::test(start_paused = true)]
async fn a_request_that_http2_lost_is_well_formed_over_http1() {
    let mut wire = wire_of(|number| number == 0);
    let (cut, lost) = tokio::sync::oneshot::channel::<()>();
    let far = clock::spawn(async move {
        let first = wire.accepted.recv().await.unwrap();
        let service = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::select! {
            _ = builder.serve_connection(TokioIo::new(first), service) => {}
            _ = lost => {}
        }
        let mut second = wire.accepted.recv().await.unwrap();
        let request = read_until(&mut second, "body").await;
        second.write_all(OK).await.unwrap();
        request
    });
    let answer = wire.upstream.attempt(post("body"), HeadLimit::default()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    // Taken while the connection is open, and sent once it is closed.
    let ready = wire.upstream.connection().await.unwrap();
    cut.send(()).unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    let sent = ready.send(post("body"), HeadLimit::default());
    let answer = sent.await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    let request = far.await.unwrap();
    assert!(request.starts_with("POST /v1/embeddings HTTP/1.1\r\n"), "{request}");
    assert_eq!(request.matches("host: upstream.test\r\n").count(), 1, "{request}");
}

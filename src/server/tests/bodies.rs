//! Bodies that fail, that are not read, or whose reader disconnects.

use super::*;

/// A body that yields one chunk, then fails.
struct Broken(u8);

impl From<Bytes> for Broken {
    fn from(_: Bytes) -> Self {
        Self(0)
    }
}

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        self.0 += 1;
        std::task::Poll::Ready(Some(match self.0 {
            1 => Ok(http_body::Frame::data(Bytes::from_static(b"data: the last event\n\n"))),
            _ => Err(std::io::ErrorKind::ConnectionReset.into()),
        }))
    }
}

fn broken_house() -> DuplexStream {
    let (_drain, draining) = Drain::new();
    let make = |_info| {
        tower::service_fn(|_request: Request<ClientBody>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Broken(0))))
        })
    };
    let front = Arc::new(Front::new(Settings::default(), make, render, Arc::default(), draining));
    let (client, io) = duplex(4 << 10);
    clock::spawn(front.serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    client
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_cut_visibly_after_its_last_event() {
    let mut client = broken_house();
    client.write_all(GET).await.unwrap();
    let (answer, _) = read_to_end(&mut client).await;
    assert!(answer.ends_with("data: the last event\n\n\r\n"), "no end of the last chunk: {answer}");

    let client = broken_house();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    clock::spawn(connection);
    let request = Request::get("http://weir/").body(Full::<Bytes>::default()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: the last event\n\n");
    body.frame().await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_at_once() {
    let left = Arc::new(tokio::sync::Notify::new());
    let (_drain, draining) = Drain::new();
    let make = {
        let left = Arc::clone(&left);
        move |_info| {
            let left = Arc::clone(&left);
            tower::service_fn(move |_request: Request<ClientBody>| -> Answer {
                let guard = NotifyOnDrop(Arc::clone(&left));
                Box::pin(async move {
                    let _guard = guard;
                    std::future::pending().await
                })
            })
        }
    };
    let front = Arc::new(Front::new(Settings::default(), make, render, Arc::default(), draining));
    let (mut client, io) = duplex(4 << 10);
    clock::spawn(front.serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    client.write_all(GET).await.unwrap();
    clock::sleep(Duration::from_secs(10)).await;
    let began = clock::now();
    drop(client);
    left.notified().await;
    assert_eq!(clock::now(), began);
}

struct NotifyOnDrop(Arc<tokio::sync::Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Bounds the memory that a client costs which does not read its response.
#[tokio::test(start_paused = true)]
async fn no_more_of_an_answer_is_read_than_the_client_takes_and_the_bound() {
    const PIECE: usize = 16 << 10;
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let make = move |_| {
        let count = Arc::clone(&count);
        tower::service_fn(move |_request: Request<ClientBody>| -> Pin<Box<dyn Future<Output = Result<_, Infallible>> + Send>> {
            Box::pin(std::future::ready(Ok(Response::new(Endless(Arc::clone(&count))))))
        })
    };
    let (_drain, draining) = Drain::new();
    let settings = Settings::default();
    let front = Arc::new(Front::new(settings, make, render, Arc::default(), draining));
    let (mut client, server) = duplex(1 << 10);
    clock::spawn(front.serve(server, ([127, 0, 0, 1], 1).into(), None));
    client.write_all(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n").await.unwrap();
    let held = |taken: usize| read.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(taken);
    clock::sleep(Duration::from_secs(1)).await;
    assert!((settings.unwritten..=settings.unwritten + PIECE).contains(&held(1 << 10)), "{}", held(1 << 10));
    // The rest is read when the client reads.
    let mut taken = vec![0; 1 << 20];
    client.read_exact(&mut taken).await.unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    assert!(held(1 << 20) <= settings.unwritten + 2 * PIECE, "{}", held(1 << 20));
}

/// An endless body that counts the chunks read from it.
struct Endless(Arc<std::sync::atomic::AtomicUsize>);

impl From<Bytes> for Endless {
    fn from(_: Bytes) -> Self {
        Self(Arc::default())
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(16 << 10, std::sync::atomic::Ordering::Relaxed);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[7; 16 << 10])))))
    }
}

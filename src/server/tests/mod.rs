//! Tests of connections in memory, on a paused clock.

mod bodies;
mod upgrades;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::clock::{self, Instant};
use crate::replay::ClientBody;

use super::{Counters, Drain, Front, Refusal, Rule, Settings};
use crate::metrics::Bound;

struct House {
    counters: Arc<Counters>,
    drain: Drain,
    client: DuplexStream,
}

fn render(refusal: Refusal) -> Response<Bytes> {
    let (status, code) = match refusal {
        Refusal::Hygiene(rule) => (rule.status(), rule.as_str()),
        Refusal::Headers => (http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"),
        Refusal::Internal => (http::StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    };
    Response::builder().status(status).body(Bytes::from_static(code.as_bytes())).unwrap()
}

/// Waits for the seconds in the path, then echoes the request's body; `/panic` panics.
async fn echo(request: Request<ClientBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().trim_matches('/').to_owned();
    assert_ne!(path, "panic");
    if let Ok(seconds) = path.parse() {
        clock::sleep(Duration::from_secs(seconds)).await;
    }
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Ok(Response::new(Full::new(body)))
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

fn house(settings: Settings) -> House {
    let counters = Arc::new(Counters::default());
    let (drain, draining) = Drain::new();
    let make = |_info| tower::service_fn(|request| -> Answer { Box::pin(echo(request)) });
    let front = Arc::new(Front::new(settings, make, render, Arc::clone(&counters), draining));
    let (client, io) = duplex(4 << 10);
    clock::spawn(front.serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    House { counters, drain, client }
}

async fn read_answer(client: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        assert_ne!(client.read_buf(&mut read).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

/// Reads until the server closes. Returns the bytes, and the time of the close.
async fn read_to_end(client: &mut DuplexStream) -> (String, Instant) {
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    (String::from_utf8(read).unwrap(), clock::now())
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n";

/// Each open connection has this future, also while idle. A few bytes more would move its task from
/// the allocator's 640-byte class to 768.
#[tokio::test(start_paused = true)]
async fn the_future_of_a_connection_is_small() {
    let (_drain, draining) = Drain::new();
    let make = |_info| tower::service_fn(|request| -> Answer { Box::pin(echo(request)) });
    let front = Front::new(Settings::default(), make, render, Arc::default(), draining);
    let (_client, io) = duplex(1);
    let size = size_of_val(&Arc::new(front).serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    assert!(size <= 512, "{size}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_has_the_time_of_a_head() {
    for start in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: we"] {
        let mut house = house(Settings::default());
        let began = clock::now();
        house.client.write_all(start.as_bytes()).await.unwrap();
        let (answer, closed) = read_to_end(&mut house.client).await;
        assert_eq!(answer, "", "{start}");
        assert_eq!(closed - began, Settings::default().head_timeout, "{start}");
        assert_eq!(house.counters.reached(Bound::HeadTimeout), 1, "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_has_no_more_time() {
    let mut house = house(Settings::default());
    house.client.write_all(GET).await.unwrap();
    read_answer(&mut house.client, "\r\n\r\n").await;
    clock::sleep(Duration::from_secs(20)).await;
    let began = clock::now();
    let (mut reader, mut writer) = tokio::io::split(house.client);
    let drip = clock::spawn(async move {
        while writer.write_all(b"G").await.is_ok() {
            clock::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(clock::now() - began, Settings::default().head_timeout);
    assert_eq!(house.counters.reached(Bound::HeadTimeout), 1);
    drop(reader);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_time_begins_anew_with_each_request() {
    let mut house = house(Settings::default());
    for _ in 0..10 {
        house.client.write_all(GET).await.unwrap();
        read_answer(&mut house.client, "\r\n\r\n").await;
        clock::sleep(Duration::from_secs(70)).await;
    }
    house.client.write_all(GET).await.unwrap();
    read_answer(&mut house.client, "\r\n\r\n").await;
    let began = clock::now();
    let (rest, closed) = read_to_end(&mut house.client).await;
    assert_eq!((rest.as_str(), closed - began), ("", Settings::default().idle_timeout));
    assert_eq!(house.counters.reached(Bound::IdleTimeout), 1);
    assert_eq!(house.counters.reached(Bound::HeadTimeout), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_may_take_its_time() {
    let mut house = house(Settings::default());
    house.client.write_all(b"GET /3600 HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut house.client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for limit in Bound::ALL {
        assert_eq!(house.counters.reached(limit), 0, "{limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut house = house(Settings::default());
    let body = "x".repeat(64 << 10);
    let began = clock::now();
    let request = format!("POST / HTTP/1.1\r\nhost: weir\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    house.client.write_all(request.as_bytes()).await.unwrap();
    clock::sleep(Settings::default().write_timeout + Duration::from_secs(1)).await;
    let (_part, closed) = read_to_end(&mut house.client).await;
    assert!(closed - began < Settings::default().write_timeout + Duration::from_secs(2));
    assert_eq!(house.counters.reached(Bound::WriteTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_idle_connections_last_and_busy_ones_after_their_answer() {
    let mut idle = house(Settings::default());
    idle.client.write_all(GET).await.unwrap();
    let answer = read_answer(&mut idle.client, "\r\n\r\n").await;
    assert!(answer.contains("keep-alive: timeout=74\r\n") && !answer.contains("connection:"), "{answer}");
    idle.drain.announce();
    idle.drain.begin();
    assert!(!idle.drain.finished(clock::now() + Duration::from_secs(1)).await);
    let began = clock::now();
    idle.drain.close_idle();
    let (rest, closed) = read_to_end(&mut idle.client).await;
    assert_eq!((rest.as_str(), closed - began), ("", Duration::ZERO));
    assert!(idle.drain.finished(clock::now() + Duration::from_secs(1)).await);

    // A request on an idle connection during the drain is answered with `Connection: close`.
    let mut last = house(Settings::default());
    last.client.write_all(GET).await.unwrap();
    read_answer(&mut last.client, "\r\n\r\n").await;
    last.drain.announce();
    last.client.write_all(GET).await.unwrap();
    let (answer, _) = read_to_end(&mut last.client).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("keep-alive"), "{answer}");

    let mut busy = house(Settings::default());
    busy.client.write_all(b"GET /10 HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    busy.drain.announce();
    busy.drain.begin();
    busy.drain.close_idle();
    assert!(!busy.drain.finished(clock::now() + Duration::from_secs(5)).await);
    let (answer, _) = read_to_end(&mut busy.client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(busy.drain.finished(clock::now() + Duration::from_secs(1)).await);
}

/// Closing at once would make the kernel reset the connection, and the client could lose the
/// response.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_while_it_sends_is_read_on_for_a_moment() {
    let mut house = house(Settings::default());
    house
        .client
        .write_all(b"POST / HTTP/1.1\r\nhost : weir\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    let began = clock::now();
    for _ in 0..50 {
        clock::sleep(Duration::from_millis(100)).await;
        house.client.write_all(&[b'x'; 4000]).await.unwrap();
    }
    let (answer, _) = read_to_end(&mut house.client).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // A silent client is closed after five seconds.
    house.drain.close_idle();
    assert!(house.drain.finished(clock::now() + Duration::from_secs(6)).await);
    assert!(clock::now() - began < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_is_the_last_request_of_its_connection() {
    let mut house = house(Settings::default());
    house.client.write_all(b"CONNECT evil:443 HTTP/1.1\r\nhost: evil:443\r\n\r\n").await.unwrap();
    house.client.write_all(GET).await.unwrap();
    let (answer, _) = read_to_end(&mut house.client).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_becomes_an_answer() {
    let mut house = house(Settings::default());
    house.client.write_all(b"GET /panic HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut house.client, "internal").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(house.counters.panics(), 1);
    house.client.write_all(GET).await.unwrap();
    read_answer(&mut house.client, "\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_is_answered_and_counted() {
    let mut house = house(Settings::default());
    house.client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = read_answer(&mut house.client, "host_missing").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(house.counters.refused(Rule::HostMissing), 1);
    house.client.write_all(b"GET / HTTP/1.1\r\nhost : weir\r\n\r\n").await.unwrap();
    let (answer, _) = read_to_end(&mut house.client).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(house.client);
    assert!(house.drain.finished(clock::now() + Duration::from_secs(1)).await);
    assert_eq!(house.counters.refused(Rule::Unparsable), 1);
}

#[tokio::test(start_paused = true)]
async fn too_long_a_head_is_answered_and_counted() {
    let mut house = house(Settings::default());
    let long = format!("GET / HTTP/1.1\r\nhost: weir\r\nx-long: {}\r\n\r\n", "a".repeat(65 << 10));
    drop(house.client.write_all(long.as_bytes()).await);
    let (answer, _) = read_to_end(&mut house.client).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    drop(house.client);
    assert!(house.drain.finished(clock::now() + Duration::from_secs(1)).await);
    assert_eq!(house.counters.reached(Bound::Headers), 1);
}

#[tokio::test(start_paused = true)]
async fn http2_is_known_by_its_preface() {
    let house = house(Settings::default());
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(house.client))
        .await
        .unwrap();
    let connection = clock::spawn(connection);
    let request = Request::post("http://weir/3600").body(Full::new(Bytes::from_static(b"body"))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "body");
    let request = Request::get("http://weir/10").body(Full::default()).unwrap();
    let answer = clock::spawn(sender.send_request(request));
    clock::sleep(Duration::from_secs(1)).await;
    house.drain.announce();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    drop(connection.await.unwrap());
    assert!(house.drain.finished(clock::now() + Duration::from_secs(1)).await);
    for limit in Bound::ALL {
        assert_eq!(house.counters.reached(limit), 0, "{limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_told_to_go() {
    let house = house(Settings::default());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(house.client))
            .await
            .unwrap();
    let connection = clock::spawn(connection);
    let request = Request::get("http://weir/").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let began = clock::now();
    connection.await.unwrap().unwrap();
    let lasted = clock::now() - began;
    assert!(lasted >= Settings::default().idle_timeout, "{lasted:?}");
    assert!(lasted < Settings::default().idle_timeout + Duration::from_secs(5), "{lasted:?}");
    assert_eq!(house.counters.reached(Bound::IdleTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_has_its_own_time() {
    let key = rcgen::generate_simple_self_signed(["weir.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let identity = crate::upstream::tls::Identity {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
    };
    std::fs::write(&identity.certificate, key.cert.pem()).unwrap();
    std::fs::write(&identity.key, key.signing_key.serialize_pem()).unwrap();
    let tls = super::ServerTls::load(super::tls::Settings {
        identity,
        clients: None,
        only_tls13: false,
        http2: true,
    })
    .unwrap();
    let counters = Arc::new(Counters::default());
    let (_drain, draining) = Drain::new();
    let make = |_info| tower::service_fn(|request| -> Answer { Box::pin(echo(request)) });
    let front = Front::new(Settings::default(), make, render, Arc::clone(&counters), draining).with_tls(tls);
    let (mut client, io) = duplex(4 << 10);
    clock::spawn(Arc::new(front).serve(io, "192.0.2.1:1000".parse().unwrap(), None));
    let began = clock::now();
    let (_, closed) = read_to_end(&mut client).await;
    assert_eq!(closed - began, Settings::default().handshake_timeout);
    assert_eq!(counters.reached(Bound::HandshakeTimeout), 1);
}

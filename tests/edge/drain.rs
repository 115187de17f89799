//! Drains: clients are notified before their connections close.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::http2;
use crate::process::Weir;
use crate::wire;

const GET: &[u8] = b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n";

fn ask(stream: &mut TcpStream) -> wire::Message {
    stream.write_all(GET).unwrap();
    wire::read_answer(&mut BufReader::new(stream), "GET").expect("an answer")
}

#[test]
fn responses_announce_the_close_from_the_start_of_a_drain() {
    let (upstream, _seen) = wire::plain();
    let mut weir = Weir::start(
        &format!("upstream.url = \"http://{upstream}\"\nserver.idle_timeout = \"60s\"\n"),
        &[("WEIR_SHUTDOWN__DRAIN_DELAY", "3s")],
    );
    let (mut early, mut over_http2) = (wire::connect(weir.address), http2::open(&weir, &[]));
    let answer = ask(&mut early);
    assert_eq!((answer.header("connection"), answer.header("keep-alive")), (None, Some("timeout=59")));
    let flags = http2::END_HEADERS | http2::END_STREAM;
    over_http2.write_all(&http2::frame(http2::HEADERS, flags, 1, &http2::fields(&http2::GET))).unwrap();
    assert_eq!(http2::fate(&mut over_http2, 1), http2::Fate::Status(200));

    let began = std::time::Instant::now();
    assert!(weir.admin("POST", "/drain").starts_with("HTTP/1.1 202"));
    assert_eq!(http2::fate(&mut over_http2, 3), http2::Fate::Closed, "GOAWAY");
    drop(over_http2);
    // Connections are still accepted, and each is told.
    while weir.metric("weir_draining") < 0.5 {
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    let answer = ask(&mut wire::connect(weir.address));
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    let answer = ask(&mut early);
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert_eq!(weir.wait(), Some(0));
}

#[test]
fn a_request_on_an_idle_connection_is_answered_while_the_listener_is_gone_already() {
    let (upstream, _seen) = wire::plain();
    let mut weir = Weir::before(upstream, "");
    let mut streams: Vec<TcpStream> = (0..5).map(|_| wire::connect(weir.address)).collect();
    for stream in &mut streams {
        assert_eq!(ask(stream).status(), 200);
    }
    // One that was just opened.
    let mut fresh = wire::connect(weir.address);
    assert!(weir.admin("POST", "/drain").starts_with("HTTP/1.1 202"));
    let began = std::time::Instant::now();
    while TcpStream::connect(weir.address).is_ok() {
        assert!(began.elapsed() < Duration::from_millis(900), "the listener is there");
        // Each accepted connection would delay the drain.
        std::thread::sleep(Duration::from_millis(10));
    }
    for stream in streams.iter_mut().skip(1).chain([&mut fresh]) {
        let answer = ask(stream);
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    }
    // The admin address is free for the next process, too.
    let free = || TcpStream::connect(weir.admin).is_err();
    while !free() {
        assert!(began.elapsed() < Duration::from_millis(900), "the admin listener is there");
    }
    assert_eq!(weir.wait(), Some(0));
}

/// Without a delay the phases of a drain follow each other at once: a connection that misses one
/// stays open until `server.head_timeout`, 30 s.
#[test]
fn every_drain_closes_the_idle_connections_at_once() {
    let (upstream, _seen) = wire::plain();
    let drains = || {
        for _ in 0..4 {
            let mut weir = Weir::before(upstream, "");
            let mut streams: Vec<TcpStream> = (0..5).map(|_| wire::connect(weir.address)).collect();
            for stream in &mut streams {
                assert_eq!(ask(stream).status(), 200);
            }
            let began = std::time::Instant::now();
            assert_eq!(weir.drain(), Some(0));
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(drains))));
}

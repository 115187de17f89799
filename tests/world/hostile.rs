//! Upstreams with endless or oversized responses: the caller gets a response in time, and memory
//! stays bounded.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::Weir;
use crate::scripted::{CHAT, GOOD, STREAM, chat, each_at_once, good, serve};
use crate::wire;

/// Writes the same bytes repeatedly until the peer closes.
fn endlessly(stream: &mut TcpStream, piece: &[u8], pause: Duration) {
    while stream.write_all(piece).is_ok() {
        std::thread::sleep(pause);
    }
}

/// Runs `misbehave` on the first connection after its request; all others respond regularly.
fn first(
    misbehave: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let address = wire::upstream(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(mut head) = wire::read_head(&mut reader) {
            wire::read_body(&mut reader, &mut head, false);
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                return misbehave(&mut stream);
            }
            if stream.write_all(&good()).is_err() {
                return;
            }
        }
    });
    (address, count)
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// A refusal is recognized by its head and first bytes.
#[test]
fn a_refusal_without_an_end_is_a_refusal() {
    let begun = |stream: &mut TcpStream| {
        let head = format!("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n{CHUNKED}");
        stream.write_all(head.as_bytes()).unwrap();
    };
    let endless: fn(&mut TcpStream) = |stream| {
        let chunk = [b"4000\r\n", &[b' '; 0x4000][..], b"\r\n"].concat();
        endlessly(stream, &chunk, Duration::ZERO);
    };
    let silent: fn(&mut TcpStream) = |stream| drop(stream.read_to_end(&mut Vec::new()));
    each_at_once([("endless", endless), ("silent", silent)], |(name, then)| {
        let (upstream, count) = first(move |stream| {
            begun(stream);
            then(stream);
        });
        let weir = Weir::before(upstream, "");
        let got = chat(&weir, 60, CHAT);
        assert_eq!((got.status(), got.text().as_str(), got.attempts()), (200, GOOD, 2), "{name}");
        assert!(got.took < Duration::from_secs(9), "{name}: {:?}", got.took);
        assert_eq!(count.load(Ordering::SeqCst), 2, "{name}");
    });
}

/// A response without a head within the caller's timeout becomes an error in that time.
#[test]
fn a_head_that_never_ends_costs_the_caller_its_own_time_and_no_more() {
    let interim: fn(&mut TcpStream) =
        |stream| endlessly(stream, b"HTTP/1.1 102 Processing\r\n\r\n", Duration::from_millis(1));
    let dripping: fn(&mut TcpStream) = |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ").unwrap();
        endlessly(stream, b"a", Duration::from_millis(50));
    };
    let silent: fn(&mut TcpStream) = |stream| drop(stream.read_to_end(&mut Vec::new()));
    let cases = [("interim", interim), ("dripping", dripping), ("silent", silent)];
    each_at_once(cases, |(name, misbehave)| {
        let (upstream, _count) = first(misbehave);
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let got = chat(&weir, 4, CHAT);
        assert_eq!((got.status(), got.class()), (504, Some("timeout_response")), "{name}: {}", got.text());
        // Weir's timeout is 2 s longer than the SDK's, so that the SDK ends the wait.
        assert!(got.took < Duration::from_secs(4 + 2 + 1), "{name}: {:?}", got.took);
        assert_eq!(chat(&weir, 4, CHAT).status(), 200, "{name}: the next one is served");
    });
}

/// A head above all limits is aborted.
#[test]
fn a_head_without_an_end_is_given_up() {
    let (upstream, _count) = first(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        endlessly(stream, format!("X-A: {}\r\n", "a".repeat(4000)).as_bytes(), Duration::ZERO);
    });
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, CHAT);
    assert_eq!((got.status(), got.attempts()), (200, 2), "{}", got.text());
    assert!(got.took < Duration::from_secs(3), "{:?}", got.took);
}

/// A stream with one event of 96 MiB is relayed in little memory.
#[test]
fn a_stream_without_a_line_takes_no_memory() {
    const MEBIBYTES: usize = 96;
    let (upstream, _count) = first(|stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{CHUNKED}6\r\ndata: \r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat();
        for _ in 0..MEBIBYTES {
            if stream.write_all(&chunk).is_err() {
                return;
            }
        }
        drop(stream.write_all(b"2\r\n\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"));
    });
    let weir = Weir::before(upstream, "");
    let got = chat(&weir, 60, STREAM);
    assert!(got.message.whole && got.message.body.len() > MEBIBYTES << 20, "{}", got.message.body.len());
    assert!(weir.memory("VmHWM") < 64 << 10, "{} KiB", weir.memory("VmHWM"));
}

/// A compression bomb is decoded only up to a bound.
#[test]
fn a_bomb_is_passed_on_as_it_came() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    for status in ["200 OK", "400 Bad Request", "500 Internal Server Error"] {
        let sent = bomb.clone();
        let (upstream, _count) = first(move |stream| {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                sent.len()
            );
            drop(stream.write_all(&[head.as_bytes(), &sent].concat()));
        });
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let got = chat(&weir, 60, CHAT);
        assert_eq!(got.message.body.len(), bomb.len(), "{status}: the bytes as they came");
        assert!(weir.memory("VmHWM") < 120 << 10, "{status}: {} KiB", weir.memory("VmHWM"));
    }
}

/// An upstream that accepts and closes, or resets, before it reads.
#[test]
fn a_connection_that_dies_at_once_is_tried_again() {
    for reset in [false, true] {
        let accepted = AtomicU32::new(0);
        let upstream = wire::upstream(move |stream| {
            if accepted.fetch_add(1, Ordering::SeqCst) < 2 {
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                return;
            }
            serve(stream);
        });
        let weir = Weir::before(upstream, "");
        for body in [CHAT, STREAM] {
            assert_eq!(chat(&weir, 60, body).status(), 200, "reset: {reset}");
        }
    }
}

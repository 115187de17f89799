//! Attacks over HTTP/2: floods of frames and of streams.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PADDED, PING, POST, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, fields, frame, open,
};
use crate::process::Weir;
use crate::wire;

/// Sends frames until Weir closes the connection, or until the given count. Returns the number
/// sent.
fn flood(stream: &mut TcpStream, most: u32, mut make: impl FnMut(u32) -> Vec<u8>) -> u32 {
    stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut sent = 0;
    while sent < most {
        let batch: Vec<u8> = (sent..sent + 100).flat_map(&mut make).collect();
        if stream.write_all(&batch).is_err() {
            break;
        }
        sent += 100;
    }
    sent
}

/// An attack: its name, whether Weir must close the connection, and the frames.
type Attack = (&'static str, bool, Box<dyn Fn(&mut TcpStream) -> u32 + Sync>);

/// The maximum number of frames of an attack.
const MOST: u32 = 100_000;

/// Attacks that open streams.
fn attacks_by_streams() -> Vec<Attack> {
    vec![
        (
            "rapid reset",
            true,
            Box::new(|stream| {
                flood(stream, MOST, |n| {
                    let id = 2 * n + 1;
                    [
                        frame(HEADERS, END_HEADERS | END_STREAM, id, &fields(&GET)),
                        frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
                    ]
                    .concat()
                })
            }),
        ),
        (
            "streams that Weir is made to reset (CVE-2025-8671)",
            true,
            Box::new(|stream| {
                flood(stream, MOST, |n| {
                    let id = 2 * n + 1;
                    [frame(HEADERS, END_HEADERS, id, &fields(&POST)), frame(WINDOW_UPDATE, 0, id, &[0; 4])]
                        .concat()
                })
            }),
        ),
        (
            "data that is padding alone",
            false,
            Box::new(|stream| {
                stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(&POST))).unwrap();
                let padding: Vec<u8> = [&[200][..], &[0; 200]].concat();
                flood(stream, MOST, |_| frame(DATA, PADDED, 1, &padding))
            }),
        ),
        (
            "headers that never end",
            true,
            Box::new(|stream| {
                stream.write_all(&frame(HEADERS, 0, 1, &fields(&GET))).unwrap();
                flood(stream, MOST, |n| frame(CONTINUATION, 0, 1, &fields(&[("x-more", &n.to_string())])))
            }),
        ),
        (
            "continuations of nothing",
            true,
            Box::new(|stream| {
                stream.write_all(&frame(HEADERS, 0, 1, &fields(&GET))).unwrap();
                flood(stream, MOST, |_| frame(CONTINUATION, 0, 1, &[]))
            }),
        ),
        (
            "empty data",
            false,
            Box::new(|stream| {
                stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(&POST))).unwrap();
                flood(stream, MOST, |_| frame(DATA, 0, 1, &[]))
            }),
        ),
        (
            "more streams than allowed",
            false,
            Box::new(|stream| {
                flood(stream, 20_000, |n| frame(HEADERS, END_HEADERS, 2 * n + 1, &fields(&POST)))
            }),
        ),
    ]
}

/// Attacks without a stream.
fn attacks_on_a_connection() -> Vec<Attack> {
    vec![
        (
            "answers to pings that nobody sent",
            false,
            Box::new(|stream| flood(stream, MOST, |_| frame(PING, ACK, 0, &[0; 8]))),
        ),
        (
            "priorities",
            false,
            Box::new(|stream| flood(stream, MOST, |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 9]))),
        ),
        (
            "pings whose answers nobody reads",
            false,
            Box::new(|stream| flood(stream, 20 * MOST, |_| frame(PING, 0, 0, &[0; 8]))),
        ),
        (
            "settings whose answers nobody reads",
            false,
            Box::new(|stream| flood(stream, 20 * MOST, |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]))),
        ),
        (
            "a window that overflows",
            true,
            Box::new(|stream| {
                flood(stream, MOST, |_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()))
            }),
        ),
        (
            "frames of an unknown kind",
            false,
            Box::new(|stream| flood(stream, MOST, |_| frame(0xbe, 0, 0, &[0; 64]))),
        ),
    ]
}

#[test]
fn attacks_end_their_own_connection_and_harm_no_neighbor() {
    let (upstream, _seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    wire::get(weir.address, "/v1/models");
    let before = weir.memory("VmRSS");
    for (name, ends, attack) in attacks_by_streams().into_iter().chain(attacks_on_a_connection()) {
        let mut stream = open(&weir, &[]);
        std::thread::scope(|scope| {
            let attacking = scope.spawn(|| attack(&mut stream));
            let mut slowest = Duration::ZERO;
            while !attacking.is_finished() {
                let began = Instant::now();
                assert_eq!(wire::get(weir.address, "/v1/models").status(), 200, "{name}");
                slowest = slowest.max(began.elapsed());
            }
            let sent = attacking.join().unwrap();
            let grown = weir.memory("VmRSS").saturating_sub(before);
            say!("{name}: {sent} frames, {grown} KiB, a neighbor waited {slowest:?} at most");
            assert!(slowest < Duration::from_secs(2), "{name}: {slowest:?}");
            assert!(grown < 64 << 10, "{name}: {grown} KiB");
            assert!(!ends || sent < MOST, "{name}: nothing ended it");
        });
    }
    let printed = weir.printed();
    let warnings: Vec<_> = printed.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
    assert!(warnings.len() < 100, "{} lines, such as {}", warnings.len(), warnings[0]);
}

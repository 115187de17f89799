//! Hostile HTTP/2 clients, with frames by hand: other clients are served, and memory stays bounded.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::process::Weir;
use crate::wire;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const PADDED: u8 = 8;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields without compression (RFC 7541, 6.2.2).
pub(crate) fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte holds the length");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "weir"), (":path", "/v1/models")];
pub(crate) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "weir"), (":path", "/v1/files")];

pub(crate) fn open(weir: &Weir, settings: &[(u16, u32)]) -> TcpStream {
    let mut stream = wire::connect(weir.address);
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &payload)).unwrap();
    stream
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Status(u16),
    /// An answer whose status is not in HPACK's static table.
    Answered,
    Reset,
    Closed,
}

pub(crate) fn read_frame(stream: &mut impl Read) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

pub(crate) fn fate(stream: &mut TcpStream, id: u32) -> Fate {
    while let Some((kind, _, of, payload)) = read_frame(stream) {
        match kind {
            HEADERS if of == id => {
                return match payload[0] {
                    0x88 => Fate::Status(200),
                    0x8c => Fate::Status(400),
                    0x8d => Fate::Status(404),
                    0x8e => Fate::Status(500),
                    _ => Fate::Answered,
                };
            }
            RST_STREAM if of == id => return Fate::Reset,
            GOAWAY => return Fate::Closed,
            _ => {}
        }
    }
    Fate::Closed
}

/// Its name, its fields, its body and what becomes of it.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a [u8]>, Fate);

#[test]
fn a_request_that_means_two_things_never_reaches_the_upstream() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    let replaced = |name: &str, value: &'static str| -> Vec<(&'static str, &'static str)> {
        GET.iter().map(|(own, old)| (*own, if *own == name { value } else { *old })).collect()
    };
    let without = |name: &str| -> Vec<_> { GET.iter().copied().filter(|(own, _)| *own != name).collect() };
    let body = |length| [&POST[..], &[("content-length", length)]].concat();
    let cases: Vec<Case<'_>> = vec![
        ("a plain GET", GET.to_vec(), None, Fate::Status(200)),
        ("a body of its length", body("5"), Some(b"hello"), Fate::Status(200)),
        ("te: trailers", with(&[("te", "trailers")]), None, Fate::Status(200)),
        ("Host as the authority", with(&[("host", "weir")]), None, Fate::Status(200)),
        ("a cookie in two", with(&[("cookie", "a=b"), ("cookie", "c=d")]), None, Fate::Status(200)),
        ("a body longer than its length", body("3"), Some(b"hello"), Fate::Reset),
        ("a body shorter than its length", body("9"), Some(b"hello"), Fate::Reset),
        ("a length that is none", body("x"), Some(b"hello"), Fate::Reset),
        ("a length with a sign", body("+5"), Some(b"hello"), Fate::Reset),
        (
            "two equal lengths",
            [body("5"), vec![("content-length", "5")]].concat(),
            Some(b"hello"),
            Fate::Status(200),
        ),
        ("two lengths", [body("5"), vec![("content-length", "6")]].concat(), Some(b"hello"), Fate::Reset),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), None, Fate::Reset),
        ("connection", with(&[("connection", "close")]), None, Fate::Reset),
        ("keep-alive", with(&[("keep-alive", "1")]), None, Fate::Reset),
        ("proxy-connection", with(&[("proxy-connection", "close")]), None, Fate::Reset),
        ("upgrade", with(&[("upgrade", "websocket")]), None, Fate::Reset),
        ("te: gzip", with(&[("te", "gzip")]), None, Fate::Reset),
        ("a name in capitals", with(&[("X-Own", "1")]), None, Fate::Reset),
        ("a name with a space", with(&[("x own", "1")]), None, Fate::Reset),
        ("a name with a colon", with(&[("x:own", "1")]), None, Fate::Reset),
        ("a name with a line end", with(&[("x\r\ny", "1")]), None, Fate::Reset),
        ("an empty name", with(&[("", "1")]), None, Fate::Reset),
        ("a line end in a value", with(&[("x-own", "1\r\nhost: evil")]), None, Fate::Reset),
        ("a bare line feed in a value", with(&[("x-own", "1\nhost: evil")]), None, Fate::Reset),
        ("a NUL in a value", with(&[("x-own", "1\0")]), None, Fate::Reset),
        ("an unknown pseudo-header", with(&[(":own", "1")]), None, Fate::Reset),
        ("a pseudo-header after a field", [&[("x-own", "1")][..], &GET].concat(), None, Fate::Reset),
        (":status in a request", with(&[(":status", "200")]), None, Fate::Reset),
        ("two paths", with(&[(":path", "/evil")]), None, Fate::Reset),
        ("two methods", with(&[(":method", "POST")]), None, Fate::Reset),
        ("no method", without(":method"), None, Fate::Reset),
        ("no path", without(":path"), None, Fate::Reset),
        ("no scheme", without(":scheme"), None, Fate::Reset),
        ("an empty path", replaced(":path", ""), None, Fate::Reset),
        ("a path with a space", replaced(":path", "/a HTTP/1.1"), None, Fate::Reset),
        ("a path with a line end", replaced(":path", "/a\r\nhost: evil"), None, Fate::Reset),
        ("a path that is none", replaced(":path", "evil.example/"), None, Fate::Reset),
        ("a method with a space", replaced(":method", "GET /evil"), None, Fate::Reset),
        ("a user in the authority", replaced(":authority", "me@weir"), None, Fate::Status(400)),
        ("an authority with a path", replaced(":authority", "weir/evil"), None, Fate::Reset),
        ("no authority and no Host", without(":authority"), None, Fate::Status(400)),
        ("another Host", with(&[("host", "evil")]), None, Fate::Status(400)),
        ("two Hosts", with(&[("host", "weir"), ("host", "weir")]), None, Fate::Status(400)),
        ("another scheme", replaced(":scheme", "ftp"), None, Fate::Status(400)),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "evil:443")], None, Fate::Answered),
        (
            "CONNECT with a protocol (RFC 8441), which was not offered",
            with(&[(":protocol", "websocket")]),
            None,
            Fate::Reset,
        ),
        ("TRACE", replaced(":method", "TRACE"), None, Fate::Answered),
    ];
    let mut wrong = Vec::new();
    for (name, list, body, expected) in &cases {
        let mut stream = open(&weir, &[]);
        let flags = END_HEADERS | if body.is_some() { 0 } else { END_STREAM };
        stream.write_all(&frame(HEADERS, flags, 1, &fields(list))).unwrap();
        if let Some(body) = body {
            // It may be closed already.
            drop(stream.write_all(&frame(DATA, END_STREAM, 1, body)));
        }
        let found = fate(&mut stream, 1);
        let reached: Vec<_> = seen.try_iter().collect();
        // RFC 9110, section 8.6: a repeated length must not be forwarded.
        let lengths = |message: &wire::Message| message.by_name().get("content-length").map_or(0, Vec::len);
        assert!(reached.iter().all(|message| lengths(message) <= 1), "{name}: {reached:?}");
        let reached = reached.len();
        // Closing the connection is as safe as resetting the stream.
        let same = found == *expected || (found == Fate::Closed && *expected == Fate::Reset);
        if !same || (reached == 1) != (*expected == Fate::Status(200)) {
            wrong.push(format!("{name}: {found:?}, the upstream saw {reached}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_client_that_does_not_read_holds_only_its_own_windows() {
    let (upstream, _seen) = wire::recording(|_| {
        [b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n".to_vec(), vec![b'x'; 8 << 20]].concat()
    });
    let weir = Weir::before(upstream, "limits.in_flight = 1000\nlimits.requests_per_minute = 100000\n");
    wire::get(weir.address, "/v1/models");
    let before = weir.memory("VmRSS");
    // Without a window, Weir must stop reading responses from the upstream.
    let mut stream = open(&weir, &[(4, 0)]);
    for id in 0..50 {
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * id + 1, &fields(&GET))).unwrap();
    }
    weir.wait_for("weir_upstream_connections{state=\"active\"}", 50.0);
    for _ in 0..3 {
        assert_eq!(wire::get(weir.address, "/v1/models").body.len(), 8 << 20);
    }
    let grown = weir.memory("VmRSS").saturating_sub(before);
    say!("50 answers of 8 MiB that nobody takes: {grown} KiB");
    assert!(grown < 64 << 10, "{grown} KiB");
}

#[test]
fn a_thousand_unread_small_frames_end_no_other_stream() {
    let (upstream, _seen) = wire::plain();
    // A waiting upload is not read beyond the part needed for its cost.
    let weir = Weir::before(
        upstream,
        "limits.requests_per_minute = 1\nlimits.in_flight = 1\nreplay.max_body = \"1KiB\"\nreplay.prefix = \"1KiB\"\n",
    );
    assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
    let mut stream = open(&weir, &[]);
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(&POST))).unwrap();
    for _ in 0..1_000 {
        stream.write_all(&frame(DATA, 0, 1, b"0123456789")).unwrap();
    }
    // Frames are processed in order, so a ping's response follows all earlier frames.
    stream.write_all(&frame(PING, 0, 0, b"all read")).unwrap();
    while read_frame(&mut stream).unwrap() != (PING, ACK, 0, b"all read".to_vec()) {}
    let trace: Vec<_> =
        GET.iter().map(|(name, value)| (*name, if *name == ":method" { "TRACE" } else { *value })).collect();
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &fields(&trace))).unwrap();
    assert_eq!(fate(&mut stream, 3), Fate::Answered);
}

/// Waiting uploads are not read. The window that they use must not block the connection's other
/// bodies.
#[test]
fn uploads_that_wait_hold_up_no_other_body_of_their_connection() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let (upstream, _seen) = wire::recording(move |request| {
        if request.start.contains("/v1/held") {
            held.lock().unwrap().recv().ok();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::before(
        upstream,
        "limits.in_flight = 1\nreplay.max_body = \"1KiB\"\nreplay.prefix = \"1KiB\"\nserver.body_grace = \"500ms\"\n",
    );
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| wire::get(weir.address, "/v1/held").status());
        weir.wait_for("weir_requests_in_flight{caller=\"default\"}", 1.0);
        let mut stream = open(&weir, &[]);
        // Weir's settings, and the connection's window beside the initial one.
        let (mut of_stream, mut of_connection) = (65_535_usize, 65_535_usize);
        let mut seen = 0;
        while seen < 2 {
            let (kind, flags, of, payload) = read_frame(&mut stream).unwrap();
            if kind == SETTINGS && flags == 0 {
                for setting in payload.chunks(6).filter(|setting| setting[1] == 4) {
                    of_stream = u32::from_be_bytes(setting[2..6].try_into().unwrap()) as usize;
                }
                seen += 1;
            } else if kind == WINDOW_UPDATE && of == 0 {
                of_connection += u32::from_be_bytes(payload.try_into().unwrap()) as usize;
                seen += 1;
            }
        }
        // As much as each may send.
        for id in (0..40).map(|number| 2 * number + 1) {
            stream.write_all(&frame(HEADERS, END_HEADERS, id, &fields(&POST))).unwrap();
            let mut left = of_stream.min(of_connection);
            of_connection -= left;
            while left > 0 {
                let now = left.min(16_384);
                stream.write_all(&frame(DATA, 0, id, &vec![b'x'; now])).unwrap();
                left -= now;
            }
        }
        let small = [&POST[..], &[("content-length", "17")]].concat();
        stream.write_all(&frame(HEADERS, END_HEADERS, 101, &fields(&small))).unwrap();
        if of_connection >= 17 {
            stream.write_all(&frame(DATA, END_STREAM, 101, b"{\"model\":\"gpt-5\"}")).unwrap();
        }
        // A slow body that started later is refused by now, so the timer of the small body did not
        // run.
        let slow = b"POST /v1/embeddings HTTP/1.1\r\nHost: weir\r\nContent-Length: 17\r\n\r\n";
        assert_eq!(wire::ask(weir.address, slow).status(), 408);
        for id in (0..40).map(|number| 2 * number + 1) {
            stream.write_all(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8])).unwrap();
        }
        release.send(()).unwrap();
        assert_eq!(holder.join().unwrap(), 200);
        assert_eq!(fate(&mut stream, 101), Fate::Status(200));
    });
    let too_slow = weir.metric("weir_limits_reached_total{limit=\"body_rate\"}");
    assert!((too_slow - 1.0).abs() < 0.5, "only the other connection's: {too_slow}");
}

#[test]
fn header_fields_are_counted_over_http2_as_over_http1() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "server.header_count = 20\nserver.header_bytes = \"4KiB\"\n");
    let ask = |names: usize, length: usize| {
        let names: Vec<String> = (0..names).map(|number| format!("x-{number}")).collect();
        let value = "v".repeat(length);
        let more: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let mut stream = open(&weir, &[]);
        let block = fields(&[&GET[..], &more].concat());
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).unwrap();
        fate(&mut stream, 1)
    };
    assert_eq!(ask(15, 1), Fate::Status(200));
    assert_eq!(seen.try_iter().count(), 1);
    assert_eq!(ask(25, 1), Fate::Answered);
    assert_eq!(ask(19, 126), Fate::Status(200));
    assert_eq!(seen.try_iter().count(), 1);
    assert!((weir.metric("weir_limits_reached_total{limit=\"headers\"}") - 1.0).abs() < 0.1);
    // More names than a header map can hold, in a head of the maximum size.
    let weir = Weir::before(upstream, "server.header_bytes = \"1MiB\"\nserver.header_count = 1000\n");
    let mut stream = open(&weir, &[]);
    let names: Vec<String> = (0..31_000).map(|number| format!("{number:x}")).collect();
    let blocks: Vec<u8> = fields(&GET)
        .into_iter()
        .chain(names.iter().flat_map(|name| fields(&[(name.as_str(), "")])))
        .collect();
    let mut pieces = blocks.chunks(16_384).peekable();
    let first = pieces.next().unwrap();
    stream.write_all(&frame(HEADERS, END_STREAM, 1, first)).unwrap();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        drop(stream.write_all(&frame(CONTINUATION, flags, 1, piece)));
    }
    assert_ne!(fate(&mut stream, 1), Fate::Status(200));
    assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
    assert!(!weir.printed().contains("panic"), "{}", weir.printed());
}

//! Each of the server's limits, when reached: it is enforced and counted, and others are served.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::http2::{self, END_HEADERS, END_STREAM, GET, HEADERS, RST_STREAM, SETTINGS};
use crate::listener_tls::{self, Authority};
use crate::process::Weir;
use crate::wire;

/// The default number of idle and of slow connections; `WEIR_TEST_IDLE` overrides it, up to the
/// limit of open files.
fn crowd() -> (usize, usize) {
    let idle = std::env::var("WEIR_TEST_IDLE").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    (idle, idle / 10)
}

fn reached(limit: &str) -> String {
    format!("weir_limits_reached_total{{limit=\"{limit}\"}}")
}

/// Sends bytes and reads until Weir closes the connection. Returns the response and the time.
fn until_closed(weir: &Weir, send: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let mut stream = wire::connect(weir.address);
    stream.write_all(send).unwrap();
    let mut read = Vec::new();
    drop(stream.read_to_end(&mut read));
    (String::from_utf8_lossy(&read).into_owned(), began.elapsed())
}

#[test]
fn each_limit_holds_and_is_counted() {
    let (upstream, _seen) = wire::recording(|_| {
        [b"HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n".to_vec(), vec![b'x'; 32 << 20]].concat()
    });
    let weir = Weir::before(
        upstream,
        "[server]\nmax_connections = 12\nmax_connections_per_peer = 8\nheader_bytes = \"8KiB\"\nheader_count = 20\n\
         header_timeout = \"500ms\"\nidle_timeout = \"1s\"\nwrite_timeout = \"1s\"\nbody_max = \"1MiB\"\n\
         body_min_rate = \"100KiB\"\nbody_grace = \"300ms\"\nbody_timeout = \"1s\"\n",
    );
    let head = "POST /v1/files HTTP/1.1\r\nHost: weir\r\n";
    let (answer, _) = until_closed(&weir, format!("{head}X: {}\r\n\r\n", "a".repeat(9 << 10)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let (answer, _) = until_closed(&weir, format!("{head}{}\r\n", "X: a\r\n".repeat(30)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    weir.wait_for(&reached("headers"), 2.0);
    let (answer, took) = until_closed(&weir, b"GET / HT");
    assert!(
        answer.is_empty() && took > Duration::from_millis(450) && took < Duration::from_secs(5),
        "{took:?}"
    );
    weir.wait_for(&reached("head_timeout"), 1.0);
    let (answer, _) = until_closed(&weir, format!("{head}Content-Length: 2000000\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("server.body_max"), "{answer}");
    weir.wait_for(&reached("body_size"), 1.0);
    let (answer, _) = until_closed(&weir, format!("{head}Content-Length: 1000\r\n\r\nslow").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    weir.wait_for(&reached("body_rate"), 1.0);
    // Fast at first, then a pause: the rate allows it, the pause is too long.
    let fast = format!("{head}Content-Length: 900000\r\n\r\n{}", "x".repeat(800_000));
    let (answer, _) = until_closed(&weir, fast.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    weir.wait_for(&reached("body_timeout"), 1.0);

    // The client does not read the response.
    let mut stuck = wire::connect(weir.address);
    stuck.write_all(b"GET /v1/x HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    weir.wait_for(&reached("write_timeout"), 1.0);
    // No further request.
    let mut idle = wire::connect(weir.address);
    idle.write_all(b"HEAD /v1/x HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    weir.wait_for(&reached("idle_timeout"), 1.0);
    drop((stuck, idle));
    // This address has its maximum number of connections: the next is closed without a response.
    weir.wait_for_none("weir_connections{state=\"idle\"}");
    weir.wait_for_none("weir_connections{state=\"active\"}");
    let crowd: Vec<TcpStream> = (0..8).map(|_| wire::connect(weir.address)).collect();
    weir.wait_for("weir_connections{state=\"idle\"}", 8.0);
    let (answer, _) = until_closed(&weir, b"");
    assert!(answer.is_empty());
    weir.wait_for(&reached("connections_per_peer"), 1.0);
    drop(crowd);
}

/// A connection from the address 127.0.0.`last`.
fn connect_from(weir: &Weir, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&weir.address.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.into()
}

/// Sends a request on an open connection. Returns the status, or `None` if Weir closed it.
fn asked_on(stream: &TcpStream) -> Option<u16> {
    begin_on(stream)?;
    end_on(stream)
}

/// Sends a request without its body, so that the connection is not idle and is not closed.
fn begin_on(mut stream: &TcpStream) -> Option<()> {
    stream.write_all(b"POST /v1/embeddings HTTP/1.1\r\nHost: weir\r\nContent-Length: 2\r\n\r\n").ok()
}

/// Sends the body. Returns the status, or `None` if Weir closed the connection.
fn end_on(mut stream: &TcpStream) -> Option<u16> {
    stream.write_all(b"{}").ok()?;
    wire::read_answer(&mut BufReader::new(stream), "POST").map(|answer| answer.status())
}

#[test]
fn connections_above_the_total_are_closed_and_closed_ones_free_their_slot() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "server.max_connections = 4\nserver.max_connections_per_peer = 3\n");
    // From two addresses, neither of which has more than its share.
    let mut open: Vec<TcpStream> = [1, 1, 1, 2].map(|last| connect_from(&weir, last)).into();
    for stream in &open {
        assert_eq!(asked_on(stream), Some(200));
        begin_on(stream).unwrap();
    }
    weir.wait_for_none("weir_connections{state=\"idle\"}");
    for round in 1..=3 {
        assert_eq!(asked_on(&connect_from(&weir, 3)), None);
        weir.wait_for(&reached("connections"), f64::from(round));
    }
    assert!(weir.metric(&reached("connections_per_peer")) < 0.5);
    assert!(weir.metric("weir_connections_refused_total{reason=\"too_many\"}") > 2.5);
    for stream in &open {
        assert_eq!(end_on(stream), Some(200));
        begin_on(stream).unwrap();
    }
    assert_eq!(seen.try_iter().count(), 8, "nobody else was served");
    assert!((weir.metric(&reached("connections")) - 3.0).abs() < 0.5);

    drop(open.pop());
    let until = Instant::now() + Duration::from_secs(20);
    while asked_on(&connect_from(&weir, 3)) != Some(200) {
        assert!(Instant::now() < until, "the place of the one that left stays taken");
    }
    // The three connections of one address are open, so its fourth exceeds the other limit. Whether
    // the free slot is taken depends on how soon Weir notices the closed connection.
    let until = Instant::now() + Duration::from_secs(20);
    while weir.metric(&reached("connections_per_peer")) < 0.5 {
        assert_eq!(asked_on(&connect_from(&weir, 1)), None);
        assert!(Instant::now() < until, "four connections of a peer that may have three");
    }
}

#[test]
fn a_stream_above_the_limit_is_refused_and_the_others_continue() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let (upstream, seen) = wire::recording(move |request| {
        if request.start.contains("/v1/files") {
            // The test may have ended.
            held.lock().unwrap().recv().ok();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::before(upstream, "server.max_streams = 2\n");
    let mut stream = http2::open(&weir, &[]);
    let (_, _, _, settings) = http2::read_frame(&mut stream).unwrap();
    let announced = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert_eq!(announced[2..], [0, 0, 0, 2]);
    let files = GET.map(|(name, value)| (name, if name == ":path" { "/v1/files" } else { value }));
    let ask = |stream: &mut TcpStream, id, list: &[(&str, &str)]| {
        let frame = http2::frame(HEADERS, END_HEADERS | END_STREAM, id, &http2::fields(list));
        stream.write_all(&frame).unwrap();
    };
    ask(&mut stream, 1, &files);
    ask(&mut stream, 3, &files);
    weir.wait_for("weir_requests_in_flight{caller=\"default\"}", 2.0);
    weir.wait_for(&reached("streams"), 1.0);

    ask(&mut stream, 5, &GET);
    let refused = loop {
        let (kind, _, id, payload) = http2::read_frame(&mut stream).expect("the connection stays open");
        assert!(kind == SETTINGS || id == 0 || id == 5, "{kind} on {id}");
        if id == 5 {
            break (kind, payload);
        }
    };
    assert_eq!(refused, (RST_STREAM, REFUSED_STREAM.to_vec()));
    // Another connection has streams of its own; and those that were open are as they were.
    let mut neighbor = http2::open(&weir, &[]);
    ask(&mut neighbor, 1, &GET);
    assert_eq!(http2::fate(&mut neighbor, 1), http2::Fate::Status(200));
    release.send(()).unwrap();
    release.send(()).unwrap();
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let (kind, _, id, payload) = http2::read_frame(&mut stream).expect("the connection stays open");
        if kind == HEADERS {
            assert_eq!(payload[0], 0x88, "200, of stream {id}");
            answered.push(id);
        }
        assert!(kind != RST_STREAM, "{id}");
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    ask(&mut stream, 7, &GET);
    assert_eq!(http2::fate(&mut stream, 7), http2::Fate::Status(200));
    assert_eq!(seen.try_iter().count(), 4, "the one that was refused never went upstream");
    assert!((weir.metric(&reached("streams")) - 1.0).abs() < 0.5);
}

#[test]
fn a_handshake_that_takes_too_long_is_closed_and_the_others_are_served() {
    let authority = Authority::new();
    authority.sign("weir", &["weir.test"]);
    let (upstream, _seen) = wire::plain();
    let weir = Weir::before(
        upstream,
        &format!(
            "server.handshake_timeout = \"1s\"\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n",
            authority.show("weir.pem"),
            authority.show("weir.key"),
        ),
    );
    let began = Instant::now();
    let mut silent = wire::connect(weir.address);
    // The start of a record, then a byte at intervals: each is in time, but not the whole.
    let mut slow = wire::connect(weir.address);
    slow.write_all(&[0x16, 3, 1, 0x10, 0, 1, 0, 0x0f, 0xfc, 3, 3]).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (answer, alpn) = listener_tls::ask(&weir, listener_tls::client(&authority, None, &[])).unwrap();
    assert_eq!((answer.status(), alpn), (200, None));
    let served = began.elapsed();
    let left = loop {
        let mut byte = [0];
        match slow.read(&mut byte) {
            Ok(read) => break read,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break 0,
            // The peer has closed it; the next read returns the error.
            Err(_nothing_yet) => drop(slow.write_all(&[0])),
        }
        assert!(began.elapsed() < Duration::from_secs(15), "a byte now and then keeps it open");
    };
    assert_eq!(left, 0, "closed without a word");
    assert!(matches!(silent.read(&mut [0]), Ok(0)));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(950) && took < Duration::from_secs(10), "{took:?}");
    assert!(served < took, "{served:?}: they don't wait behind it");
    weir.wait_for(&reached("handshake_timeout"), 2.0);
    // The timeout ended them, not their content.
    let refused = weir.metric("weir_connections_refused_total{reason=\"tls\"}");
    assert!((weir.metric(&reached("handshake_timeout")) - refused).abs() < 0.5, "{refused}");
    assert!(!weir.printed().contains("TLS handshake failed"), "{}", weir.printed());
    assert!(listener_tls::ask(&weir, listener_tls::client(&authority, None, &[])).is_some());
}

#[test]
fn bodies_that_wait_to_be_sent_have_a_bound_too() {
    // The admitted request gets no response, so the others wait. None is kept for a retry.
    let (_until_the_end, held) = channel::<()>();
    let held = Mutex::new(held);
    let (upstream, seen) = wire::recording(move |_| {
        held.lock().unwrap().recv().ok();
        Vec::new()
    });
    let weir = Weir::before(
        upstream,
        "server.max_buffered_bytes = \"4MiB\"\nreplay.max_body = \"64KiB\"\nreplay.prefix = \"64KiB\"\n\
         limits.in_flight = 1\n",
    );
    let mut first = wire::connect(weir.address);
    first.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    weir.wait_for("weir_requests_in_flight{caller=\"default\"}", 1.0);
    drop(seen);
    let request = "POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: 200000\r\n\r\n";
    let body = vec![b'x'; 100_000];
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut stream = wire::connect(weir.address);
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        waiting.push(stream);
    }
    weir.wait_for(&reached("buffered_bytes"), 10.0);
    let refused = waiting
        .into_iter()
        .filter(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            wire::read_head(&mut BufReader::new(stream)).is_some_and(|answer| answer.status() == 429)
        })
        .count();
    assert!((10..=30).contains(&refused), "{refused}");
}

#[test]
fn many_idle_and_slow_connections_do_not_affect_others() {
    let (upstream, _seen) = wire::plain();
    // Configure a limit: otherwise the search for an unknown limit would affect the measurement.
    let weir = Weir::before(
        upstream,
        "server.max_connections = 15000\nserver.max_connections_per_peer = 15000\n\
         limits.requests_per_minute = 1000000\nlimits.in_flight = 2000\n",
    );
    wire::get(weir.address, "/v1/models");
    let (idle, slow) = crowd();
    let before = weir.memory("VmRSS");
    let mut open = Vec::with_capacity(idle);
    for _ in 0..idle {
        let mut stream = wire::connect(weir.address);
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
        let answer = wire::read_answer(&mut BufReader::new(stream.try_clone().unwrap()), "GET");
        assert_eq!(answer.unwrap().status(), 200);
        open.push(stream);
    }
    let with_idle = weir.memory("VmRSS");
    for _ in 0..slow {
        let mut stream = wire::connect(weir.address);
        stream
            .write_all(b"POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: 100000\r\n\r\nx")
            .unwrap();
        open.push(stream);
    }
    weir.wait_for("weir_connections{state=\"active\"}", f64::from(u32::try_from(slow).unwrap()));
    let with_slow = weir.memory("VmRSS");
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(wire::get(weir.address, "/v1/models").status(), 200);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    say!(
        "{idle} idle connections: {} KiB each; {slow} slow ones: {} KiB each; others meanwhile: median {:?}, p99 {:?}",
        with_idle.saturating_sub(before) / idle as u64,
        with_slow.saturating_sub(with_idle) / slow as u64,
        times[100],
        times[198],
    );
    assert!((with_slow - before) / (idle + slow) as u64 <= 20, "{before} {with_idle} {with_slow} KiB");
    assert!(times[100] < Duration::from_millis(250), "{:?}", times[100]);
    assert!(weir.metric("weir_connections{state=\"idle\"}") >= 1_000.0_f64.min(idle as f64) - 1.0);
}

/// If connections used the last file descriptor, probes would fail and a supervisor would kill a
/// working process.
#[test]
fn with_few_files_there_is_always_one_for_the_admin_address_and_the_upstream() {
    let (upstream, _seen) = wire::plain();
    let weir = Weir::with_files(256, upstream, "");
    assert!(weir.printed().contains("server.max_connections"), "{}", weir.printed());
    let crowd: Vec<TcpStream> = (0..300).map(|_| wire::connect(weir.address)).collect();
    weir.wait_for(&reached("open_files"), 1.0);
    assert_eq!(weir.metric("weir_connections_refused_total{reason=\"too_many\"}").to_bits(), 0);
    // They are accepted in order of arrival.
    for mut stream in crowd {
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"HTTP/1.1 200");
    }
    assert_eq!(weir.metric("weir_upstream_connects_total{result=\"exhausted\"}").to_bits(), 0);
}

/// The streams of one connection can ask for more connections to the upstream than there are files.
#[test]
fn out_of_files_the_upstream_is_not_blamed_and_the_admin_address_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    // It reads everything and never responds.
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<TcpStream>>());
    let weir = Weir::with_files(160, upstream, "[limits]\nrequests_per_minute = 100000\n");
    let mut stream = http2::open(&weir, &[]);
    for id in (1..600).step_by(2) {
        let frame = http2::frame(HEADERS, END_HEADERS | END_STREAM, id, &http2::fields(&GET));
        stream.write_all(&frame).unwrap();
    }
    let exhausted = "weir_upstream_connects_total{result=\"exhausted\"}";
    weir.wait_for(exhausted, 1.0);
    for _ in 0..20 {
        assert!(weir.metric(exhausted) >= 1.0);
    }
    assert_eq!(weir.metric("weir_attempt_errors_total{class=\"connection_refused\"}").to_bits(), 0);
    assert!(weir.metric("weir_errors_total{class=\"weir_internal\"}") >= 1.0);
    assert!(weir.admin("GET", "/").contains("Too many open files"));
}

/// Idle connections that clients keep open must not block new ones.
#[test]
fn idle_connections_are_closed_for_newcomers_at_the_bounds() {
    let (upstream, _seen) = wire::plain();
    let by_count =
        Weir::before(upstream, "server.max_connections = 20\nserver.max_connections_per_peer = 20\n");
    let by_files = Weir::with_files(160, upstream, "");
    for weir in [by_count, by_files] {
        let began = Instant::now();
        let mut kept = Vec::new();
        for number in 0..80 {
            let mut stream = wire::connect(weir.address);
            stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let answer = wire::read_answer(&mut BufReader::new(stream.try_clone().unwrap()), "GET");
            kept.push(stream);
            assert!(answer.is_some_and(|answer| answer.status() == 200), "{number}");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

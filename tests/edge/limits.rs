//! Each limit of the front, reached on purpose: it holds, it is counted, and the others are served.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::wire;

/// Connections without a request, and such that send a byte now and then. `WEIR_TEST_IDLE` says otherwise, up to the limit of
/// open files.
fn crowd() -> (usize, usize) {
    let idle = std::env::var("WEIR_TEST_IDLE").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    (idle, idle / 10)
}

fn reached(limit: &str) -> String {
    format!("weir_limits_reached_total{{limit=\"{limit}\"}}")
}

/// Sends bytes and reads until Weir closes; what came, and how long that took.
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

    // Nobody takes the answer.
    let mut stuck = wire::connect(weir.address);
    stuck.write_all(b"GET /v1/x HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    weir.wait_for(&reached("write_timeout"), 1.0);
    // Nobody asks for more.
    let mut idle = wire::connect(weir.address);
    idle.write_all(b"HEAD /v1/x HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    weir.wait_for(&reached("idle_timeout"), 1.0);
    drop((stuck, idle));
    // All of this address's connections are taken; the next is closed without a word.
    weir.wait_for_none("weir_connections{state=\"idle\"}");
    weir.wait_for_none("weir_connections{state=\"active\"}");
    let crowd: Vec<TcpStream> = (0..8).map(|_| wire::connect(weir.address)).collect();
    weir.wait_for("weir_connections{state=\"idle\"}", 8.0);
    let (answer, _) = until_closed(&weir, b"");
    assert!(answer.is_empty());
    weir.wait_for(&reached("connections_per_peer"), 1.0);
    drop(crowd);
}

#[test]
fn bodies_that_wait_to_be_sent_have_a_bound_too() {
    // The one that is admitted gets no answer, so the others wait; none is kept for another attempt.
    let (upstream, seen) = wire::recording(|_| {
        std::thread::sleep(Duration::from_mins(1));
        Vec::new()
    });
    let weir = Weir::before(
        upstream,
        "server.max_buffered_bytes = \"1MiB\"\nreplay.max_body = \"64KiB\"\nreplay.prefix = \"64KiB\"\n\
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
fn a_crowd_of_idle_and_slow_connections_harms_nobody() {
    let (upstream, _seen) = wire::plain();
    let weir =
        Weir::before(upstream, "server.max_connections = 15000\nserver.max_connections_per_peer = 15000\n");
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
    assert!((with_slow - before) / (idle + slow) as u64 <= 40, "{before} {with_idle} {with_slow} KiB");
    assert!(times[100] < Duration::from_millis(250), "{:?}", times[100]);
    assert!(weir.metric("weir_connections{state=\"idle\"}") >= 1_000.0_f64.min(idle as f64) - 1.0);
}

//! Connections that break, close and change in unusual ways.

use std::io::{BufReader, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::scripted::{CHAT, at_once, chat, good, post, request, scripted, serve};
use crate::wire;

/// After its first response the peer's kernel drops all packets, like a broken path.
#[cfg(target_os = "linux")]
#[test]
fn r04_a_silently_broken_path_is_detected() {
    let connections = AtomicU32::new(0);
    let upstream = wire::upstream(move |mut stream| {
        let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(mut head) = wire::read_head(&mut reader) {
            wire::read_body(&mut reader, &mut head, false);
            if stream.write_all(&good()).is_err() {
                return;
            }
            if first {
                // Sent data must be acknowledged before the path breaks.
                std::thread::sleep(Duration::from_millis(200));
                // BPF_RET | BPF_K 0: every packet is dropped, so that nothing is acknowledged.
                let nothing = socket2::SockFilter::new(6, 0, 0, 0);
                socket2::SockRef::from(&stream).attach_filter(&[nothing]).unwrap();
                std::thread::sleep(Duration::from_mins(1));
                return;
            }
        }
    });
    let weir =
        Weir::start(&format!("upstream.url = \"http://{upstream}\"\n"), &[("WEIR_SERVER__WORKERS", "1")]);
    assert_eq!(chat(&weir, 60, CHAT).status(), 200);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let mut client = wire::connect(weir.address);
    client.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    client.write_all(&request("/v1/chat/completions", "x-stainless-read-timeout: 60\r\n", CHAT)).unwrap();
    let got = wire::read_answer(&mut BufReader::new(client), "POST").unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.header("x-weir-attempts"), Some("2"));
    assert!(began.elapsed() < Duration::from_secs(22), "{:?}", began.elapsed());
}

/// A server that is busy with other requests reads a large one only later. Its kernel acknowledges
/// nothing beyond the receive window meanwhile, and the connection is kept.
#[test]
fn a_server_that_reads_a_large_request_late_answers_it() {
    let upstream = wire::upstream(|stream| {
        std::thread::sleep(Duration::from_secs(18));
        serve(stream);
    });
    let weir = Weir::before(upstream, "");
    let text = "word ".repeat(600_000);
    let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut client = wire::connect(weir.address);
    client.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
    client.write_all(&request("/v1/chat/completions", "", body)).unwrap();
    let got = wire::read_answer(&mut BufReader::new(client), "POST").unwrap();
    assert_eq!(got.status(), 200, "{got:?}");
    assert_eq!(got.header("x-weir-attempts"), Some("1"));
}

/// The server announces its keep-alive timeout: an unsafe request meets no close.
#[test]
fn r16_a_connection_is_closed_before_its_server_closes_it() {
    let upstream = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        // It closes 2 s after each answer, as it says.
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        while let Some(mut head) = wire::read_head(&mut reader) {
            wire::read_body(&mut reader, &mut head, false);
            let answer =
                b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let weir = Weir::before(upstream, "");
    let lost = at_once(20, |number| {
        let mut lost = 0;
        for _ in 0..3 {
            lost += u32::from(post(&weir, "/v1/files", "", b"x").status() != 200);
            // Around the time of the close.
            std::thread::sleep(Duration::from_millis(1_990 + number as u64));
        }
        lost
    });
    assert_eq!(lost.iter().sum::<u32>(), 0);
}

/// A received close is detected before an unsafe request is sent.
#[test]
fn r16_a_received_close_costs_nothing() {
    let upstream = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(mut head) = wire::read_head(&mut reader) else { return };
        wire::read_body(&mut reader, &mut head, false);
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        // Closed with the answer, and not announced.
    });
    let weir = Weir::before(upstream, "");
    for _ in 0..50 {
        let got = post(&weir, "/v1/files", "", b"x");
        assert_eq!(got.status(), 200, "{}", got.text());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `HAProxy` and Node's server end an idle connection with an unsolicited 408, which is no response
/// to the next request.
#[test]
fn an_unsolicited_response_is_discarded() {
    for stray in [
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 408 Request Time-out\r\nContent-Type: text/html\r\n\r\n<html>",
        "0\r\n\r\n",
    ] {
        let upstream = wire::upstream(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let Some(mut head) = wire::read_head(&mut reader) else { return };
            wire::read_body(&mut reader, &mut head, false);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
            std::thread::sleep(Duration::from_millis(20));
            drop(stream.write_all(stray.as_bytes()));
        });
        let weir = Weir::before(upstream, "");
        for _ in 0..20 {
            let got = post(&weir, "/v1/files", "", b"x");
            assert_eq!((got.status(), got.text().as_str()), (200, "ok"), "{stray}: {:?}", got.message);
            std::thread::sleep(Duration::from_millis(60));
        }
    }
}

/// A redirect to the upstream's own address is rewritten to Weir's; others are unchanged.
#[test]
fn r23_a_redirect_leads_through_weir() {
    let own = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&own);
    let (upstream, _seen) = crate::scripted::answering(move |request| {
        let place = if request.start.contains("/elsewhere") {
            "https://files.example.com/v1/x".to_owned()
        } else {
            format!("http://{}/v1/models/", kept.lock().unwrap())
        };
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    });
    *own.lock().unwrap() = upstream.to_string();
    let weir = Weir::before(upstream, "");
    assert_eq!(wire::get(weir.address, "/v1/models").header("location"), Some("/v1/models/"));
    let elsewhere = wire::get(weir.address, "/v1/elsewhere");
    assert_eq!(elsewhere.header("location"), Some("https://files.example.com/v1/x"));
}

/// A load balancer gets Weir's keep-alive timeout.
#[test]
fn r26_a_front_is_told_how_long_its_connection_lives() {
    let (upstream, _seen) = scripted(vec![good()]);
    let weir = Weir::before(upstream, "server.idle_timeout = \"30s\"\n");
    let got = chat(&weir, 60, CHAT);
    assert_eq!(got.message.header("keep-alive"), Some("timeout=29"));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    assert!(page.contains("server.idle_timeout"), "the page says what a balancer needs");
}

/// Java's HTTP client asks for HTTP/2 with each request over clear text.
#[test]
fn r29_an_upgrade_to_h2c_is_ignored_and_the_body_is_complete() {
    let (upstream, seen) = scripted(vec![good()]);
    let weir = Weir::before(upstream, "");
    let mut client = wire::connect(weir.address);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n";
    client.write_all(&request("/v1/chat/completions", wish, CHAT)).unwrap();
    assert_eq!(wire::read_answer(&mut reader, "POST").unwrap().status(), 200);
    let (one, other) = CHAT.split_at(20);
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\n{wish}Transfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n",
        one.len(),
        other.len()
    );
    client.write_all(chunked.as_bytes()).unwrap();
    assert_eq!(wire::read_answer(&mut reader, "POST").unwrap().status(), 200);
    for index in 0..2 {
        let request = seen.request(index);
        assert_eq!(request.body, CHAT.as_bytes());
        for field in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(request.header(field), None, "{field}");
        }
    }
}

/// Weir has sent 100 itself, so the upstream gets no `expect`.
#[test]
fn r31_an_expectation_ends_at_weir() {
    let (upstream, seen) = scripted(vec![good()]);
    let weir = Weir::before(upstream, "");
    let got = post(&weir, "/v1/chat/completions", "Expect: 100-continue\r\n", CHAT);
    assert_eq!(got.status(), 200);
    assert_eq!((seen.request(0).header("expect"), seen.request(0).body.as_slice()), (None, CHAT.as_bytes()));
}

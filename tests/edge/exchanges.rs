//! Corner cases of HTTP/1.1 that random requests do not reach.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::http2;
use crate::process::Weir;
use crate::wire;

#[test]
fn expect_100_continue_is_answered_before_the_body_and_once() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    let head =
        "POST /v1/embeddings HTTP/1.1\r\nHost: weir\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(wire::read_head(&mut reader).unwrap().status(), 100);
    stream.write_all(b"hello").unwrap();
    assert_eq!(wire::read_head(&mut reader).unwrap().status(), 200);
    assert_eq!(seen.recv().unwrap().body, b"hello");
    // After a refusal the body is not sent.
    let large =
        "POST /v1/files HTTP/1.1\r\nHost: weir\r\nExpect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n";
    assert_eq!(wire::ask(weir.address, large.as_bytes()).status(), 413);
    assert!(seen.try_recv().is_err());
}

#[test]
fn answers_without_a_body_have_none() {
    let (upstream, _seen) = wire::recording(|request| {
        let status = request.start.split(' ').nth(1).unwrap().trim_matches('/').to_owned();
        match status.as_str() {
            "204" | "304" => format!("HTTP/1.1 {status} None\r\nETag: \"1\"\r\n\r\n").into_bytes(),
            _ if request.start.starts_with("HEAD") => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec()
            }
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        }
    });
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    // All over one connection, where a wrong body would be parsed as the next response.
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("HEAD", "/file", 200, Some("12345")),
        ("GET", "/0", 200, Some("0")),
        ("HEAD", "/304", 304, None),
    ] {
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: weir\r\n\r\n").as_bytes()).unwrap();
        let answer = wire::read_answer(&mut reader, method).unwrap();
        assert_eq!((answer.status(), answer.header("content-length")), (status, length), "{method} {path}");
        assert!(answer.body.is_empty());
    }
}

#[test]
fn announced_trailers_pass_both_ways_and_dangerous_ones_do_not() {
    let (upstream, seen) = wire::recording(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length\r\n\r\n\
          2\r\nok\r\n0\r\nX-Sum: down\r\nContent-Length: 1\r\n\r\n"
            .to_vec()
    });
    let weir = Weir::before(upstream, "");
    let request = "POST /v1/embeddings HTTP/1.1\r\nHost: weir\r\nTE: trailers\r\nConnection: te\r\n\
                   Transfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: up\r\nHost: evil\r\n\r\n";
    let answer = wire::ask(weir.address, request.as_bytes());
    assert_eq!(answer.body, b"ok");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "down".to_owned())]);
    let seen = seen.recv().unwrap();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "up".to_owned())]);
    assert_eq!((seen.header("te"), seen.header("connection")), (Some("trailers"), Some("te")));
    // The trailers end the response: it counts as complete, and the connection is reused.
    weir.wait_for("weir_requests_total{caller=\"default\",endpoint=\"embeddings\",outcome=\"success\"}", 1.0);
    weir.wait_for("weir_upstream_connections{state=\"idle\"}", 1.0);
}

/// An answer with a trailer, to a chat that speaks JSON.
fn with_a_trailer() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
      10\r\n{\"object\":\"chat\"\r\n1\r\n}\r\n0\r\nX-Sum: down\r\n\r\n"
        .to_vec()
}

#[test]
fn trailers_pass_in_every_mode() {
    for mode in ["enforce", "observe", "bypass"] {
        let (upstream, _seen) = wire::recording(|_| with_a_trailer());
        let weir = Weir::before(upstream, &format!("mode = \"{mode}\"\n"));
        for _ in 0..2 {
            let request = "POST /v1/chat/completions HTTP/1.1\r\nHost: weir\r\nTE: trailers\r\nConnection: te\r\nContent-Length: 2\r\n\r\n{}";
            let answer = wire::ask(weir.address, request.as_bytes());
            assert_eq!(answer.body, br#"{"object":"chat"}"#, "{mode}");
            assert_eq!(answer.trailers, [("x-sum".to_owned(), "down".to_owned())], "{mode}");
        }
        let ended =
            "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}";
        weir.wait_for(ended, 2.0);
        weir.wait_for("weir_upstream_connections{state=\"idle\"}", 1.0);
    }
}

#[test]
fn trailers_pass_to_callers_over_http_2() {
    let (upstream, _seen) = wire::recording(|_| with_a_trailer());
    let weir = Weir::before(upstream, "");
    let mut stream = http2::open(&weir, &[]);
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "weir"),
        (":path", "/v1/chat/completions"),
        ("te", "trailers"),
    ];
    let block = http2::fields(&head);
    stream.write_all(&http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &block)).unwrap();
    stream.write_all(&http2::frame(http2::DATA, http2::END_STREAM, 1, b"{}")).unwrap();
    let (mut frames, mut body) = (Vec::new(), Vec::new());
    while let Some((kind, flags, of, payload)) = http2::read_frame(&mut stream) {
        if of != 1 || !matches!(kind, http2::HEADERS | http2::DATA | http2::RST_STREAM) {
            continue;
        }
        frames.push(kind);
        if kind == http2::DATA {
            body.extend(payload);
        }
        if kind == http2::RST_STREAM || flags & http2::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(body, br#"{"object":"chat"}"#);
    // The head, the body, and the trailers, which end it.
    assert_eq!((frames.first(), frames.last()), (Some(&http2::HEADERS), Some(&http2::HEADERS)), "{frames:?}");
    assert!(frames.len() >= 3, "{frames:?}");
    let ended = "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}";
    weir.wait_for(ended, 1.0);
}

#[test]
fn an_answer_that_comes_while_the_upload_runs_arrives_at_once() {
    let upstream = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        wire::read_head(&mut reader).unwrap();
        // The upstream responds early.
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\nenough")
            .unwrap();
        drop(std::io::copy(&mut reader, &mut std::io::sink()));
    });
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    let total = 64_u64 << 20;
    let head = format!("POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: {total}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // Only a part of the body is ever sent.
    stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    let began = Instant::now();
    let answer = wire::read_answer(&mut BufReader::new(stream), "POST").unwrap();
    assert_eq!((answer.status(), answer.body.as_slice()), (403, &b"enough"[..]));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn clients_of_http_1_0_get_a_body_that_the_connection_ends() {
    let (upstream, seen) = wire::recording(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
            .to_vec()
    });
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    stream.write_all(b"GET /v1/models HTTP/1.0\r\nHost: weir\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "hello world");
    let seen = seen.recv().unwrap();
    assert!(seen.start.ends_with("HTTP/1.1"), "{}", seen.start);
    assert_eq!(seen.header("via"), Some("1.0 weir"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (sent, all_sent) = std::sync::mpsc::channel();
    let all_sent = std::sync::Mutex::new(all_sent);
    let (upstream, _seen) = wire::recording(move |request| {
        let path = request.start.split(' ').nth(1).unwrap();
        if path == "/0" {
            all_sent.lock().unwrap().recv().unwrap();
        }
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()).into_bytes()
    });
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    let mut requests = Vec::new();
    for index in 0..20 {
        write!(requests, "POST /{index} HTTP/1.1\r\nHost: weir\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    }
    stream.write_all(&requests).unwrap();
    sent.send(()).unwrap();
    let mut reader = BufReader::new(stream);
    for index in 0..20 {
        let answer = wire::read_answer(&mut reader, "POST").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), format!("/{index}"));
    }
}

#[test]
fn a_client_that_closes_its_sending_side_has_left() {
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let (answer, may_answer) = std::sync::mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let (upstream, seen) = wire::recording(move |_| {
        arrived.send(()).unwrap();
        // Not before the client has left.
        may_answer.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let weir = Weir::before(upstream, "");
    let mut stream = wire::connect(weir.address);
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    has_arrived.recv_timeout(Duration::from_secs(10)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    answer.send(()).unwrap();
    seen.recv().unwrap();
    let left = "weir_requests_total{caller=\"default\",endpoint=\"models\",outcome=\"client_closed\"}";
    weir.wait_for(left, 1.0);
}

#[test]
fn dot_segments_pass_as_they_are_and_name_no_endpoint() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    for path in ["/v1/../x", "/v1/%2e%2E/x", "/v1/./a//b", "/v1/..%2f..%5C"] {
        assert_eq!(wire::get(weir.address, path).status(), 200, "{path}");
        assert_eq!(seen.recv().unwrap().start, format!("GET {path} HTTP/1.1"));
    }
    let other = "weir_requests_total{caller=\"default\",endpoint=\"other\",outcome=\"success\"}";
    weir.wait_for(other, 4.0);
}

const ON_ITS_WAY: &str = "weir_upstream_connections{state=\"active\"}";

#[test]
fn a_truncated_upload_never_reaches_the_upstream_as_complete() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "replay.max_body = \"64KiB\"\nreplay.prefix = \"4KiB\"\n");
    let head = "POST /v1/files HTTP/1.1\r\nHost: weir\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{head}1;a={}\r\nx\r\n0\r\n\r\n", "b".repeat(20 << 10));
    assert_eq!(wire::ask(weir.address, extension.as_bytes()).status(), 400);
    assert!(seen.try_recv().is_err(), "it was read before anything was sent");
    // Larger than the replay limit, so that it is already being sent at the invalid chunk or the
    // client's disconnect.
    let begun = format!("{head}20000\r\n{}\r\n", "x".repeat(0x20000));
    for end in ["zz\r\n", "5;a\nb\r\nhello", ""] {
        let mut stream = wire::connect(weir.address);
        stream.write_all(begun.as_bytes()).unwrap();
        weir.wait_for(ON_ITS_WAY, 1.0);
        stream.write_all(end.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
        let request = seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!request.whole, "{end:?} ended as if nothing had happened");
        weir.wait_for_none(ON_ITS_WAY);
    }
}

#[test]
fn a_client_that_reads_only_after_it_has_sent_all_gets_an_answer_that_came_before() {
    // More than all buffers hold, in each direction.
    const BYTES: usize = 64 << 20;
    let upstream = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut request = wire::read_head(&mut reader).unwrap();
        let (stuck, is_stuck) = std::sync::mpsc::channel();
        let answering = std::thread::spawn(move || {
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let answer = [b'y'; 8 << 10];
            let mut left = BYTES;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
            while left > 0 {
                match stream.write(&answer[..left.min(answer.len())]) {
                    Ok(written) => left -= written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => drop(stuck.send(())),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        is_stuck.recv().unwrap();
        wire::read_body(&mut reader, &mut request, false);
        assert!(request.whole && request.body.len() == BYTES);
        answering.join().unwrap();
    });
    let weir = Weir::before(upstream, "replay.max_body = \"64KiB\"\nreplay.prefix = \"4KiB\"\n");
    let mut stream = wire::connect(weir.address);
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
    stream.write_all(&vec![b'x'; BYTES]).expect("the upload goes on though the answer is not read");
    let answer = wire::read_answer(&mut BufReader::new(stream), "POST").unwrap();
    assert!(answer.whole && answer.body.len() == BYTES, "{} bytes", answer.body.len());
}

/// The log must not blame clients for responses that a deployment truncates.
#[test]
fn responses_cut_by_a_drain_are_not_logged_as_client_disconnects() {
    let upstream = wire::upstream(|mut stream| {
        wire::read_head(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning").unwrap();
        // Until Weir closes.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let mut weir = Weir::before(upstream, "shutdown.drain_timeout = \"100ms\"\n");
    let mut stream = wire::connect(weir.address);
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    let mut some = [0; 16];
    stream.read_exact(&mut some).unwrap();
    assert_eq!(weir.drain(), Some(0));
    weir.wait_for_printed("\"error_class\":\"weir_draining\"", 1);
    assert!(!weir.printed().contains("weir_client_closed"), "{}", weir.printed());
}

/// A request that hyper can't parse gets an error that SDKs can show.
#[test]
fn an_unparsable_request_gets_an_error_in_the_envelope() {
    let (upstream, _seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    let large = format!("GET / HTTP/1.1\r\nHost: weir\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000));
    for (request, status, code) in [("GET nothing\r\n\r\n", 400, "unparsable"), (&large, 431, "headers")] {
        let answer = wire::ask(weir.address, request.as_bytes());
        assert_eq!((answer.status(), answer.header("connection")), (status, Some("close")));
        assert_eq!(answer.header("x-weir-error-class"), Some("bad_request"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&"weir_error".into(), &code.into()));
    }
}

#[test]
fn the_bytes_of_a_streamed_upload_are_counted() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "log.sample = 1.0\n");
    let size = 9 << 20;
    let mut request =
        format!("POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    request.resize(request.len() + size, b'x');
    assert_eq!(wire::ask(weir.address, &request).status(), 200);
    assert_eq!(seen.recv().unwrap().body.len(), size);
    weir.wait_for_printed(&format!("\"bytes_in\":{size},"), 1);
}

/// hyper would drop a head that arrives together with the end of its connection.
#[test]
fn the_head_of_an_answer_that_breaks_at_once_arrives() {
    let upstream = wire::upstream(|mut stream| {
        wire::read_head(&mut BufReader::new(stream.try_clone().unwrap()));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n"));
    });
    let weir = Weir::before(upstream, "");
    for _ in 0..30 {
        let answer = wire::get(weir.address, "/v1/files/file-1/content");
        assert_eq!((answer.status(), answer.whole), (200, false));
    }
}

/// An early response over HTTP/1.1 has `connection: close`. Over HTTP/2 the rest of the body is
/// read instead of reset, which a client could take for a failure.
#[test]
fn an_early_answer_says_how_the_connection_goes_on() {
    let upstream = wire::upstream(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        wire::read_head(&mut reader);
        drop(stream.write_all(
            b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
        ));
        drop(std::io::copy(&mut reader, &mut std::io::sink()));
    });
    let weir = Weir::before(upstream, "");
    let size = 9 << 20;
    let mut stream = wire::connect(weir.address);
    let head = format!("POST /v1/files HTTP/1.1\r\nHost: weir\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    let answer = wire::read_answer(&mut BufReader::new(stream), "POST").unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (413, Some("close")));
    let mut stream = http2::open(&weir, &[]);
    let length = size.to_string();
    let request = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/files"),
        (":authority", "weir"),
        ("content-length", length.as_str()),
    ];
    let mut sent = http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::fields(&request));
    // The initial window of HTTP/2.
    for _ in 0..4 {
        sent.extend(http2::frame(0, 0, 1, &[b'x'; 16_000]));
    }
    stream.write_all(&sent).unwrap();
    let (mut answered, mut credit) = (false, 0);
    while !answered || credit < 500_000 {
        let (kind, _, id, payload) = http2::read_frame(&mut stream).expect("the connection goes on");
        assert_ne!((kind, id), (http2::RST_STREAM, 1), "{payload:?}");
        answered |= (kind, id) == (http2::HEADERS, 1);
        // The window of the discarded bytes is returned to the client.
        if (kind, id) == (8, 1) {
            let given = u32::from_be_bytes(payload[..4].try_into().unwrap());
            credit += if answered { given } else { 0 };
            for _ in 0..given / 16_000 {
                stream.write_all(&http2::frame(0, 0, 1, &[b'x'; 16_000])).unwrap();
            }
        }
    }
}

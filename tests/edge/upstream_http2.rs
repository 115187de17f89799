//! HTTP/2 to the upstream over TLS with ALPN. The upstream writes frames by hand, so that the test
//! controls the order of responses.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, fields, frame, read_frame,
};
use crate::listener_tls::Authority;
use crate::process::Weir;
use crate::wire::{self, Message};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ACK: u8 = 1;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// One connection of Weir's, on the upstream's side.
struct Upstream {
    tls: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    /// The bodies of incomplete requests.
    bodies: HashMap<u32, Vec<u8>>,
}

impl Upstream {
    fn accept(config: Arc<rustls::ServerConfig>, stream: TcpStream) -> Option<Self> {
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config).ok()?, stream);
        let mut preface = [0; PREFACE.len()];
        tls.read_exact(&mut preface).ok()?;
        assert_eq!((tls.conn.alpn_protocol(), &preface[..]), (Some(&b"h2"[..]), PREFACE));
        let mut upstream = Self { tls, bodies: HashMap::new() };
        upstream.send(SETTINGS, 0, 0, &[]);
        Some(upstream)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // Weir may be gone: the test has ended.
        drop(self.tls.write_all(&frame(kind, flags, stream, payload)));
        drop(self.tls.flush());
    }

    /// The stream and body of the next complete request; `None` at the end of the connection.
    fn request(&mut self) -> Option<(u32, String)> {
        loop {
            let (kind, flags, stream, payload) = read_frame(&mut self.tls)?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload),
                HEADERS => drop(self.bodies.insert(stream, Vec::new())),
                DATA => self.bodies.get_mut(&stream).unwrap().extend_from_slice(&payload),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                let body = self.bodies.remove(&stream).unwrap();
                return Some((stream, String::from_utf8(body).unwrap()));
            }
        }
    }

    fn head(&mut self, stream: u32, content_type: &str) {
        // 200, from the static table.
        let block = [vec![0x88], fields(&[("content-type", content_type)])].concat();
        self.send(HEADERS, END_HEADERS, stream, &block);
    }

    fn answer(&mut self, stream: u32, body: &str) {
        self.head(stream, "application/json");
        self.send(DATA, END_STREAM, stream, body.as_bytes());
    }

    fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Accepts no stream beyond this one.
    fn go_away(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }
}

/// A Weir with one worker, and an upstream that runs `script` for each connection, counted from 1.
fn before(script: impl Fn(usize, &mut Upstream) + Send + Sync + 'static) -> (Weir, Arc<AtomicUsize>) {
    let authority = Authority::new();
    authority.sign("upstream", &["upstream.test"]);
    let certificate = CertificateDer::from_pem_file(authority.path("upstream.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("upstream.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let address = wire::upstream(move |stream| {
        let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(mut upstream) = Upstream::accept(Arc::clone(&config), stream) {
            script(number, &mut upstream);
        }
    });
    let weir = Weir::start(
        &format!(
            "upstream.url = \"https://{address}\"\nupstream.http2 = true\nlimits.requests_per_minute = 100000\n\
             limits.in_flight = 100\n[upstream.tls]\nroots = \"file:{}\"\nserver_name = \"upstream.test\"\n",
            authority.show("roots.pem")
        ),
        &[("WEIR_SERVER__WORKERS", "1")],
    );
    (weir, connections)
}

/// A repeatable request, and one that is not.
const CHAT: &str = "/v1/chat/completions";
const JOBS: &str = "/v1/fine_tuning/jobs";

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request on a separate thread.
fn asking(weir: SocketAddr, path: &'static str, body: &'static str) -> std::thread::JoinHandle<Message> {
    std::thread::spawn(move || wire::ask(weir, &post(path, body)))
}

fn said(answer: &Message) -> (u16, &str, Option<&str>) {
    (answer.status(), std::str::from_utf8(&answer.body).unwrap(), answer.header("x-weir-attempts"))
}

#[test]
fn trailers_of_http_2_pass_to_a_caller_over_http_1() {
    let (weir, _connections) = before(|_, upstream| {
        while let Some((stream, body)) = upstream.request() {
            let block =
                [vec![0x88], fields(&[("content-type", "application/json"), ("trailer", "x-sum")])].concat();
            upstream.send(HEADERS, END_HEADERS, stream, &block);
            upstream.send(DATA, 0, stream, body.as_bytes());
            upstream.send(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&[("x-sum", "down")]));
        }
    });
    for path in [CHAT, JOBS] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: weir\r\nTE: trailers\r\nConnection: te\r\nContent-Length: 8\r\n\r\n{{\"id\":1}}"
        );
        let answer = wire::ask(weir.address, request.as_bytes());
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &br#"{"id":1}"#[..]), "{path}");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "down".to_owned())], "{path}");
    }
    weir.wait_for(
        "weir_requests_total{caller=\"default\",endpoint=\"chat_completions\",outcome=\"success\"}",
        1.0,
    );
}

#[test]
fn requests_and_streams_at_once_share_one_connection() {
    const EACH: usize = 4;
    let (begun, begins): (_, Receiver<()>) = channel();
    let begins = Mutex::new(begins);
    let (weir, connections) = before(move |_, upstream| {
        let (first, body) = upstream.request().unwrap();
        upstream.answer(first, &body);
        // The responses start after all requests have arrived.
        let all: Vec<(u32, String)> = (0..2 * EACH).map(|_| upstream.request().unwrap()).collect();
        let (streams, plain): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, body)| body.contains("\"stream\":true"));
        for (stream, body) in &streams {
            upstream.head(*stream, "text/event-stream");
            upstream.send(DATA, 0, *stream, format!("data: {body}\n\n").as_bytes());
        }
        for (stream, body) in plain.iter().rev() {
            upstream.answer(*stream, body);
        }
        // A stream ends only after its caller has received its start.
        for _ in &streams {
            begins.lock().unwrap().recv().unwrap();
        }
        for (stream, _) in streams.iter().rev() {
            upstream.send(DATA, END_STREAM, *stream, b"data: [DONE]\n\n");
        }
        assert!(upstream.request().is_none());
    });
    assert_eq!(said(&wire::ask(weir.address, &post(JOBS, "{}"))), (200, "{}", Some("1")));
    std::thread::scope(|scope| {
        for number in 0..EACH {
            let address = weir.address;
            scope.spawn(move || {
                let body = format!("{{\"model\":\"gpt-4o\",\"user\":\"{number}\"}}");
                assert_eq!(said(&wire::ask(address, &post(CHAT, &body))), (200, body.as_str(), Some("1")));
            });
            let begun = begun.clone();
            scope.spawn(move || {
                let body = format!("{{\"model\":\"gpt-4o\",\"stream\":true,\"user\":\"{number}\"}}");
                let mut stream = wire::connect(address);
                stream.write_all(&post(CHAT, &body)).unwrap();
                let mut reader = BufReader::new(stream);
                let head = wire::read_head(&mut reader).unwrap();
                assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
                let (mut size, mut event) = (String::new(), String::new());
                reader.read_line(&mut size).unwrap();
                reader.read_line(&mut event).unwrap();
                assert_eq!(event, format!("data: {body}\n"));
                begun.send(()).unwrap();
                let mut rest = String::new();
                while !rest.ends_with("\r\n0\r\n\r\n") {
                    assert_ne!(reader.read_line(&mut rest).unwrap(), 0, "{rest}");
                }
                assert!(rest.contains("data: [DONE]\n\n"), "{rest}");
            });
        }
    });
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert!((weir.metric("weir_upstream_connects_total{result=\"connected\"}") - 1.0).abs() < 0.5);
    weir.wait_for("weir_stream_outcomes_total{outcome=\"complete\"}", 4.0);
}

#[test]
fn after_a_goaway_accepted_streams_finish_and_others_move() {
    let (taken, has_taken) = channel();
    let (finish, finishes) = channel();
    let finishes = Mutex::new(finishes);
    let (weir, connections) = before(move |number, upstream| match number {
        1 => {
            let (first, body) = upstream.request().unwrap();
            taken.send(()).unwrap();
            let (_second, _) = upstream.request().unwrap();
            upstream.go_away(first);
            finishes.lock().unwrap().recv().unwrap();
            upstream.answer(first, &body);
            assert!(upstream.request().is_none());
        }
        // The accepted request may have run; then the connection ends.
        3 | 4 => {
            let (first, _) = upstream.request().unwrap();
            upstream.go_away(first);
        }
        2 | 5 => {
            let (first, body) = upstream.request().unwrap();
            upstream.go_away(first);
            upstream.answer(first, &body);
            assert!(upstream.request().is_none());
        }
        more => panic!("{more} connections"),
    });
    let first = asking(weir.address, JOBS, "{\"first\":1}");
    has_taken.recv().unwrap();
    // Not accepted, so any request can be retried.
    let second = wire::ask(weir.address, &post(JOBS, "{\"second\":2}"));
    assert_eq!(said(&second), (200, "{\"second\":2}", Some("2")));
    finish.send(()).unwrap();
    assert_eq!(said(&first.join().unwrap()), (200, "{\"first\":1}", Some("1")));
    assert_eq!(connections.load(Ordering::Relaxed), 2);

    let lost = wire::ask(weir.address, &post(JOBS, "{}"));
    assert_eq!((lost.status(), lost.header("x-weir-attempts")), (502, Some("1")), "{lost:?}");
    assert_eq!(lost.header("x-weir-error-class"), Some("connection_reset"));
    let chat = "{\"model\":\"gpt-4o\"}";
    assert_eq!(said(&wire::ask(weir.address, &post(CHAT, chat))), (200, chat, Some("2")));
    assert_eq!(connections.load(Ordering::Relaxed), 5);
    assert!((weir.metric("weir_attempt_errors_total{class=\"connection_reset\"}") - 3.0).abs() < 0.5);
}

#[test]
fn a_reset_concerns_one_stream_and_is_retried_where_that_is_safe() {
    let (weir, connections) = before(|_, upstream| {
        let mut tried: HashMap<String, u32> = HashMap::new();
        while let Some((stream, body)) = upstream.request() {
            let times = tried.entry(body.clone()).or_default();
            *times += 1;
            match (*times, body.as_str()) {
                (1, "{\"refused\":1}") => upstream.reset(stream, REFUSED_STREAM),
                (1, "{\"broken\":1}" | "{\"model\":\"gpt-4o\"}") => upstream.reset(stream, INTERNAL_ERROR),
                (_, "{\"model\":\"gpt-4o\",\"stream\":true}") => {
                    upstream.head(stream, "text/event-stream");
                    upstream.send(
                        DATA,
                        0,
                        stream,
                        b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
                    );
                    upstream.reset(stream, INTERNAL_ERROR);
                }
                _ => upstream.answer(stream, &body),
            }
        }
    });
    let ask = |path, body| wire::ask(weir.address, &post(path, body));
    assert_eq!(said(&ask(JOBS, "{\"refused\":1}")), (200, "{\"refused\":1}", Some("2")));
    let broken = ask(JOBS, "{\"broken\":1}");
    assert_eq!((broken.status(), broken.header("x-weir-attempts")), (502, Some("1")), "{broken:?}");
    assert_eq!(broken.header("x-weir-error-class"), Some("connection_reset"));
    let chat = "{\"model\":\"gpt-4o\"}";
    assert_eq!(said(&ask(CHAT, chat)), (200, chat, Some("2")));
    // After its first event it is not retried, and the cut is visible.
    let cut = ask(CHAT, "{\"model\":\"gpt-4o\",\"stream\":true}");
    assert_eq!((cut.status(), cut.whole), (200, false), "{cut:?}");
    assert!(cut.body.starts_with(b"data: {\"choices\""), "{cut:?}");
    weir.wait_for("weir_stream_outcomes_total{outcome=\"cut\"}", 1.0);
    assert_eq!(said(&ask(JOBS, "{}")), (200, "{}", Some("1")));
    assert_eq!(connections.load(Ordering::Relaxed), 1, "no reset costs the connection");
}

#[test]
fn a_response_that_breaks_the_protocol_is_malformed_not_a_closed_connection() {
    let violations = [
        [vec![0x88], fields(&[("X-Upper", "1")])].concat(),
        [vec![0x88], fields(&[("connection", "keep-alive")])].concat(),
        vec![0xff; 5],
    ];
    let (weir, _connections) = before(move |_, upstream| {
        while let Some((stream, number)) = upstream.request() {
            let block = &violations[number.parse::<usize>().unwrap()];
            upstream.send(HEADERS, END_HEADERS | END_STREAM, stream, block);
        }
    });
    for number in ["0", "1", "2"] {
        let answer = wire::ask(weir.address, &post(JOBS, number));
        assert_eq!(answer.header("x-weir-error-class"), Some("malformed_response"), "{number}: {answer:?}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains("is not valid HTTP: HTTP/2: "), "{text}");
    }
}

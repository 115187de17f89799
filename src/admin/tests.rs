use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::connection;
use super::*;
use crate::caller::Secret;
use crate::caller::origin::Origins;
use crate::telemetry::SharedLogThrottle;

/// A client on the network.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

/// A source with a fixed status, which records the requested actions.
struct Told {
    status: Status,
    drained: AtomicBool,
    refused: AtomicUsize,
}

impl Told {
    fn new(status: Status) -> Arc<Self> {
        Arc::new(Self { status, drained: AtomicBool::new(false), refused: AtomicUsize::new(0) })
    }
}

impl Source for Told {
    fn status(&self) -> Status {
        self.status.clone()
    }

    fn metrics(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"weir_up 1\n");
    }

    fn not_ready(&self) -> Vec<&'static str> {
        if self.drained.load(Ordering::Relaxed) { vec!["draining"] } else { Vec::new() }
    }

    fn reports(&self) -> Vec<Report> {
        Vec::new()
    }

    fn report(&self, _id: &str) -> Option<Report> {
        None
    }

    fn config(&self) -> String {
        "mode = \"enforce\"\n".to_owned()
    }

    fn token_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn drain(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    fn reload(&self) -> Result<(), String> {
        Err("weir.toml:3: unknown key".to_owned())
    }
}

async fn ask(source: &Arc<Told>, settings: &Settings, request: &str) -> String {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let source: Arc<dyn Source> = source.clone();
    let exchange = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let throttle = SharedLogThrottle::default();
    let ((), answer) = tokio::join!(connection(server, PEER, settings, source, &throttle), exchange);
    answer
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost:8081\r\nConnection: close\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn every_path_answers() {
    let source = Told::new(samples::healthy());
    let settings = Settings::default();
    for (line, status, part) in [
        ("GET /livez", 200, "ok"),
        ("GET /readyz", 200, "ready"),
        ("GET /metrics", 200, "text/plain; version=0.0.4"),
        ("GET /status", 200, "\"sentence\":\"Healthy"),
        ("GET /reports", 200, "[]"),
        ("GET /reports/w-000001", 404, "No such report"),
        ("GET /config", 200, "mode = "),
        ("GET /", 200, "<h1 id=\"verdict\">Healthy"),
        ("GET /?part=main", 200, "<section class=\"verdict ok\""),
        ("HEAD /", 200, "content-length"),
        ("GET /drain", 405, "allow: POST"),
        ("DELETE /", 405, "allow: GET, HEAD"),
        ("POST /reload", 422, "weir.toml:3: unknown key"),
        ("GET /nothing", 404, "requests for the API go to 127.0.0.1:8080"),
        ("POST /v1/chat/completions", 404, "{\"error\":{\"message\":\"This is Weir's admin address"),
        ("GET /runbook", 200, "<a id=\"connection_dns\">"),
        ("GET /reports/", 404, "Not found."),
        ("POST /drain", 202, "draining"),
        ("GET /readyz", 503, "not ready: draining"),
        ("GET /livez", 200, "ok"),
    ] {
        let answer = ask(&source, &settings, &request(line)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains(part), "{line}: {answer}");
        assert!(answer.contains("cache-control: no-store"), "{line}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_opens_what_is_closed_off_loopback() {
    let source = Told::new(samples::healthy());
    let access = Access { loopback: false, token: Some(Secret::from("s3cret")), origins: Origins::any() };
    let current = CurrentAccess::new(access);
    let settings = Settings { access: current.clone(), ..Settings::default() };
    let refused = ask(&source, &settings, &request("POST /drain")).await;
    assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("www-authenticate: "), "{refused}");
    assert!(!source.drained.load(Ordering::Relaxed));
    let with = request("POST /drain").replace("Connection", "Authorization: Bearer s3cret\r\nConnection");
    assert!(ask(&source, &settings, &with).await.starts_with("HTTP/1.1 202 "));
    assert!(source.drained.load(Ordering::Relaxed));

    // A wrong token is counted, and its response takes a second; without a token it comes at once.
    let began = crate::clock::now();
    assert!(ask(&source, &settings, &request("GET /status")).await.starts_with("HTTP/1.1 401 "));
    assert_eq!((crate::clock::now() - began, source.refused.load(Ordering::Relaxed)), (Duration::ZERO, 0));
    let wrong = with.replace("s3cret", "guess");
    assert!(ask(&source, &settings, &wrong).await.starts_with("HTTP/1.1 401 "));
    assert_eq!(source.refused.load(Ordering::Relaxed), 1);
    assert_eq!(crate::clock::now() - began, Duration::from_secs(1));

    // A reload replaces the token.
    let rotated = Access { token: Some(Secret::from("rotated")), ..Access::default() };
    current.replace(rotated);
    assert!(ask(&source, &settings, &with).await.starts_with("HTTP/1.1 401 "));
    assert!(ask(&source, &settings, &with.replace("s3cret", "rotated")).await.starts_with("HTTP/1.1 202 "));
}

#[tokio::test(start_paused = true)]
async fn silence_and_floods_are_cut() {
    let source = Told::new(samples::healthy());
    let settings = Settings::default();
    let (client, server) = tokio::io::duplex(64);
    let began = crate::clock::now();
    connection(server, PEER, &settings, source.clone(), &SharedLogThrottle::default()).await;
    assert_eq!(crate::clock::now() - began, settings.head_timeout, "a silent client");
    drop(client);
    let flood = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(ask(&source, &settings, &flood).await.starts_with("HTTP/1.1 431 "));
}

/// Liveness depends on probes: clients that keep connections open must not block them.
#[tokio::test]
async fn for_one_connection_more_the_oldest_is_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { max_connections: 3, ..Settings::default() };
    let serving = server::serve(listener, settings, Told::new(samples::healthy()), std::future::pending());
    let asking = async {
        let mut idle = Vec::new();
        for _ in 0..3 {
            idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let mut probe = tokio::net::TcpStream::connect(address).await.unwrap();
        probe.write_all(request("GET /livez").as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        probe.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        assert_eq!(idle[0].read(&mut answer).await.unwrap(), 0);
        // The others stay open.
        idle[1].write_all(request("GET /livez").as_bytes()).await.unwrap();
        idle[1].read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    tokio::select! {
        () = serving => {}
        () = asking => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_carries_its_policy() {
    let answer = ask(&Told::new(samples::outage()), &Settings::default(), &request("GET /")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let nonce = head.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert_eq!(nonce.len(), 32);
    assert!(head.contains("default-src 'none'") && head.contains("frame-ancestors 'none'"));
    assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(!body.contains("style=\""), "the policy forbids styles in attributes");
    let again = ask(&Told::new(samples::outage()), &Settings::default(), &request("GET /")).await;
    assert!(!again.contains(nonce), "a nonce is used once");
    assert!(!body.contains("src=\"") && !body.contains("@import"), "no asset from elsewhere");
}

#[test]
fn a_status_survives_its_json() {
    let status = samples::outage().judged();
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    let hostile = serde_json::to_string(&samples::hostile().judged()).unwrap();
    assert!(serde_json::from_str::<Status>(&hostile).is_ok(), "also where a figure is none");
    let older: Status = serde_json::from_str("{\"mode\":\"enforce\",\"unknown\":1}").unwrap();
    assert_eq!(older.mode, "enforce", "an older or newer Weir can be asked too");
}

#[test]
fn the_table_reads_like_the_page() {
    let text = table(&samples::outage().judged(), 120);
    for words in [
        "✖ The upstream has been failing since 03:02:11 UTC",
        "acme · gpt-5",
        "412 of 10,000",
        "on weir-7d9f",
        "open, probe in 3.2 s",
        "weir_breaker_open",
        "w-000067",
        "38 waiting · 2 under way",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.lines().skip(2).all(|line| line.chars().count() <= 120), "{text}");
}

#[tokio::test]
async fn the_client_asks_a_real_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = Told::new(samples::outage());
    let access = Access { loopback: false, token: Some(Secret::from("s3cret")), origins: Origins::any() };
    let settings = Settings { access: CurrentAccess::new(access), ..Settings::default() };
    let serving = server::serve(listener, settings, source.clone(), std::future::pending());
    let asking = async {
        let client = Client::new(address, Some("s3cret"));
        assert_eq!(client.status().await.unwrap(), samples::outage().judged());
        assert!(client.reports().await.unwrap().is_empty());
        let missing = client.report("../w-000001?x").await.unwrap_err();
        assert!(missing.to_string().contains("answered 404"), "{missing}");
        let rejected = client.reload().await.unwrap_err();
        assert!(rejected.to_string().contains("weir.toml:3: unknown key"), "{rejected}");
        assert_eq!(client.health(false).await.unwrap(), "ready\n");
        client.drain().await.unwrap();
        let draining = client.health(false).await.unwrap_err();
        assert!(draining.to_string().contains("not ready: draining"), "{draining}");
        assert_eq!(client.health(true).await.unwrap(), "ok\n");
        assert!(source.drained.load(Ordering::Relaxed));
        let stranger = Client::new(address, None).status().await.unwrap_err();
        assert!(stranger.to_string().contains("answered 401"), "{stranger}");
    };
    tokio::select! {
        () = serving => panic!("the server ended"),
        () = asking => {}
    }
    let gone = Client::new(address, None).status().await.unwrap_err();
    assert!(gone.to_string().contains("no Weir answers at 127.0.0.1:"), "{gone}");
}

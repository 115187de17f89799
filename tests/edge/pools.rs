//! A pool over real sockets: the bytes that each upstream receives, and reloads.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use crate::process::Weir;
use crate::wire::{self, Message};

const KEYS: [(&str, &str); 2] = [("KEY_A", "key-of-upstream-a"), ("KEY_B", "key-of-upstream-b")];
const BODY: &str =
    r#"{ "messages":[{"role":"user","content":"\"model\":\"gpt-5\""}], "model" : "gpt-5" ,"n":1}"#;

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn member(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[[upstreams]]\nname = \"{name}\"\nurl = \"http://{address}/openai/v1\"\n{more}\n")
}

fn chat(weir: &Weir, path: &str) -> Message {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-own\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    wire::ask(weir.address, request.as_bytes())
}

fn next(seen: &Receiver<Message>) -> Message {
    seen.recv_timeout(std::time::Duration::from_secs(20)).expect("a request")
}

#[test]
fn each_upstream_gets_its_own_key_path_and_name_of_the_model_and_nothing_else_changes() {
    let (a, seen_by_a) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let (b, seen_by_b) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let named = r#"names = [{ model = "gpt-5", name = "prod" }]"#;
    let configuration = member("a", a, &format!("credential = \"env:KEY_A\"\nauth = \"api-key\"\n{named}"))
        + &member("b", b, "credential = \"env:KEY_B\"");
    let weir = Weir::start(&configuration, &KEYS);
    for path in ["/v1/chat/completions", "/openai/deployments/gpt-5/chat/completions?api-version=1"] {
        for _ in 0..2 {
            assert_eq!(chat(&weir, path).status(), 200);
        }
        let (at_a, at_b) = (next(&seen_by_a), next(&seen_by_b));
        assert_eq!(at_a.header("api-key"), Some("key-of-upstream-a"));
        assert_eq!(at_a.header("authorization"), None);
        assert_eq!(at_b.header("authorization"), Some("Bearer key-of-upstream-b"));
        assert_eq!(at_a.header("host"), Some(a.to_string().as_str()));
        assert_eq!(at_b.header("host"), Some(b.to_string().as_str()));
        assert_eq!(at_b.body, BODY.as_bytes());
        let renamed = BODY.replacen("\"model\" : \"gpt-5\"", "\"model\" : \"prod\"", 1);
        assert_eq!(at_a.body, renamed.as_bytes());
        assert_eq!(at_a.header("content-length"), Some(renamed.len().to_string().as_str()));
        let below = path.strip_prefix("/v1").unwrap_or(path);
        assert!(at_b.start.contains(&format!(" /openai/v1{below} ")), "{}", at_b.start);
        let below = below.replace("gpt-5", "prod");
        assert!(at_a.start.contains(&format!(" /openai/v1{below} ")), "{}", at_a.start);
    }
}

#[test]
fn a_compressed_body_is_decoded_for_an_upstream_that_names_the_model_otherwise_and_for_no_other() {
    let (a, seen_by_a) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let (b, seen_by_b) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let configuration =
        member("a", a, r#"names = [{ model = "gpt-5", name = "prod" }]"#) + &member("b", b, "");
    let weir = Weir::start(&configuration, &[]);
    let gzip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let send = |body: &[u8]| {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        assert_eq!(wire::ask(weir.address, &[head.as_bytes(), body].concat()).status(), 200);
    };
    let whole = gzip(BODY.as_bytes());
    for _ in 0..2 {
        send(&whole);
    }
    let (at_a, at_b) = (next(&seen_by_a), next(&seen_by_b));
    let renamed = BODY.replacen("\"model\" : \"gpt-5\"", "\"model\" : \"prod\"", 1);
    assert_eq!(at_a.body, renamed.as_bytes());
    assert_eq!(at_a.header("content-encoding"), None);
    assert_eq!(at_a.header("content-length"), Some(renamed.len().to_string().as_str()));
    assert_eq!((&at_b.body, at_b.header("content-encoding")), (&whole, Some("gzip")));
    // A body that can't be decoded completely is forwarded unchanged.
    let cut = &whole[..whole.len() / 2];
    for _ in 0..2 {
        send(cut);
    }
    for seen in [&seen_by_a, &seen_by_b] {
        let seen = next(seen);
        assert_eq!((&*seen.body, seen.header("content-encoding")), (cut, Some("gzip")));
    }
}

#[test]
fn a_refused_key_takes_its_upstream_out_and_a_reload_brings_another() {
    let refusal = r#"{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let (a, seen_by_a) = wire::recording(move |_| answer("401 Unauthorized", refusal));
    let (b, seen_by_b) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let (c, seen_by_c) = wire::recording(|_| answer("200 OK", r#"{"choices":[{"message":{}}]}"#));
    let pool = member("a", a, "credential = \"env:KEY_A\"")
        + &member("b", b, "credential = \"env:KEY_B\"\npriority = 1\nlimits.requests_per_minute = 300");
    let weir = Weir::start(&format!("server.workers = 1\n{pool}"), &KEYS);
    for _ in 0..5 {
        assert_eq!(chat(&weir, "/v1/chat/completions").status(), 200);
    }
    assert_eq!((seen_by_a.try_iter().count(), seen_by_b.try_iter().count()), (1, 5), "one asked, and is out");
    assert!((weir.metric("weir_upstream_serves{upstream=\"a\"}")).abs() < 0.1);
    let limit = "weir_upstream_limit{limit=\"requests_per_minute\",scope=\"gpt-5\",upstream=\"b\"}";
    assert!((weir.metric(limit) - 300.0).abs() < 0.1);
    // A request's level drains within 200 ms, so repeat it until the level is seen.
    let mut more = 0;
    while weir.metric(&limit.replace("_limit{", "_limit_level{")) <= 0.0 {
        assert!(more < 20, "no level of {limit}");
        assert_eq!(chat(&weir, "/v1/chat/completions").status(), 200);
        more += 1;
    }
    assert_eq!((seen_by_a.try_iter().count(), seen_by_b.try_iter().count()), (0, more));
    let status = weir.admin("GET", "/status");
    assert!(status.contains("\"state\":\"refused\",\"because\":\"invalid_api_key\""), "{status}");
    assert!(weir.admin("GET", "/").contains("refusing: invalid_api_key"));
    weir.wait_for_printed("\"upstream\":\"b\"", 5);
    // Replace b by another upstream.
    let pool = member("a", a, "credential = \"env:KEY_A\"")
        + &member("c", c, "credential = \"env:KEY_B\"\npriority = 1");
    weir.configure(&format!("server.workers = 1\n{pool}"));
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 200"));
    for _ in 0..5 {
        assert_eq!(chat(&weir, "/v1/chat/completions").status(), 200);
    }
    let counts = (seen_by_a.try_iter().count(), seen_by_b.try_iter().count(), seen_by_c.try_iter().count());
    assert_eq!(counts, (0, 0, 5), "what was known of a stays");
    // A reload that is wrong changes nothing.
    weir.configure(&(pool.clone() + &pool));
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 422"));
    assert_eq!(chat(&weir, "/v1/chat/completions").status(), 200);
}

#[test]
fn the_upstream_may_have_a_path() {
    let (upstream, seen) = wire::plain();
    let weir = Weir::start(&format!("upstream.url = \"http://{upstream}/llm/v1/\""), &[]);
    for (path, expected) in
        [("/v1/models?limit=2", "/llm/v1/models?limit=2"), ("/files/x", "/llm/v1/files/x")]
    {
        assert_eq!(wire::get(weir.address, path).status(), 200);
        let first = next(&seen).start;
        assert!(first.contains(&format!(" {expected} ")), "{first}");
    }
}

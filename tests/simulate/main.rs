//! Tests of the simulator over loopback sockets in real time, and in memory on a paused clock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod limits;

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use weir::internals::clock;
use weir::internals::simulate::{Dialect, Latency, Limits, Running, Settings, Simulator, serve};

type Answer = Response<Incoming>;

async fn start(settings: Settings) -> Running {
    serve(settings, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

/// Sends a request over a connection of its own.
async fn send_over<T>(io: T, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    clock::spawn(connection);
    sender.send_request(request).await
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    send_over(TcpStream::connect(address).await.unwrap(), request).await
}

/// Sends a request in memory, on the test's clock.
async fn send_within(simulator: &Simulator, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let simulator = simulator.clone();
    clock::spawn(async move { simulator.serve_connection(server).await });
    send_over(client, request).await
}

fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "simulated")
        .header("authorization", "Bearer sk-any")
        .body(Full::new(body.into()))
        .unwrap()
}

fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    request(Method::POST, path, body.to_string())
}

fn chat(model: &str) -> Request<Full<Bytes>> {
    post(
        "/v1/chat/completions",
        &json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }] }),
    )
}

fn streamed() -> Request<Full<Bytes>> {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    post("/v1/chat/completions", &json!({ "model": "gpt-4o", "messages": messages, "stream": true }))
}

fn directed(mut request: Request<Full<Bytes>>, directive: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("x-simulate", directive.parse().unwrap());
    request
}

fn keyed(mut request: Request<Full<Bytes>>, key: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn text(answer: Answer) -> Result<String, hyper::Error> {
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

async fn json_of(answer: Answer) -> Value {
    serde_json::from_str(&text(answer).await.unwrap()).unwrap()
}

fn rpm(limit: u64) -> Settings {
    Settings { limits: Limits { rpm: Some(limit), ..Limits::NONE }, ..Settings::default() }
}

fn unlimited() -> Settings {
    Settings { limits: Limits::NONE, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn streams_keep_their_pace_and_tell_their_usage() {
    let simulator = Simulator::new(unlimited());
    let mut request = streamed();
    *request.body_mut() = Full::new(Bytes::from(
        json!({
            "model": "gpt-4o", "messages": [{ "role": "user", "content": "Hi" }], "stream": true,
            "stream_options": { "include_usage": true },
        })
        .to_string(),
    ));
    let begun = clock::now();
    let answer = send_within(&simulator, directed(request, "chunks=5 chunk-delay=1s")).await.unwrap();
    let body = text(answer).await.unwrap();
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 1 + 5 + 1 + 1 + 1, "role, words, finish, usage, [DONE]");
    assert_eq!(clock::now() - begun, Duration::from_secs(8));
    assert_eq!(events[8], "data: [DONE]");
    let usage: Value = serde_json::from_str(events[7].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(5)));
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way_and_cuts_off_the_rest() {
    let running = start(unlimited()).await;
    let address = running.address();
    let under_way = clock::spawn(send(address, directed(chat("gpt-4o"), "after=150ms")));
    let stalled = clock::spawn(send(address, directed(chat("gpt-4o"), "fault=stall-head")));
    let simulator = running.simulator().clone();
    while simulator.stats().in_flight < 2 {
        clock::sleep(Duration::from_millis(1)).await;
    }
    running.stop(Duration::from_millis(400)).await;
    assert_eq!(under_way.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(stalled.await.unwrap().is_err());
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(simulator.stats().in_flight, 0);
}

#[tokio::test]
async fn an_echo_contains_the_request() {
    let running = start(unlimited()).await;
    let mut request = request(Method::PUT, "/v1/echo/a%20b?x=1&y=%2F", "hello");
    request.headers_mut().append("x-twice", "one".parse().unwrap());
    request.headers_mut().append("x-twice", "two".parse().unwrap());
    let echo = json_of(send(running.address(), request).await.unwrap()).await;
    assert_eq!(
        (&echo["method"], &echo["path"], &echo["query"]),
        (&json!("PUT"), &json!("/v1/echo/a%20b"), &json!("x=1&y=%2F"))
    );
    let twice: Vec<_> =
        echo["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == "x-twice").collect();
    assert_eq!(twice, [&json!(["x-twice", "one"]), &json!(["x-twice", "two"])]);
    assert_eq!(echo["body"], json!({ "length": 5, "fnv1a64": "a430d84680aabd0b", "base64": "aGVsbG8=" }));
    let echo = json_of(send(running.address(), directed(chat("gpt-4o"), "echo")).await.unwrap()).await;
    assert_eq!(echo["path"], "/v1/chat/completions");
}

#[tokio::test]
async fn the_control_api_reads_and_changes_it() {
    let running = start(rpm(1)).await;
    let address = running.address();
    for status in [200, 429] {
        assert_eq!(send(address, chat("gpt-4o")).await.unwrap().status().as_u16(), status);
    }
    let set = |change: Value| post("/simulate/set", &change);
    let wrong = send(address, set(json!({ "limits": "rps=1" }))).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert!(text(wrong).await.unwrap().contains("limits: `rps`"));
    send(address, set(json!({ "limits": "rpm=5", "faults": ["418=100%"] }))).await.unwrap();
    assert_eq!(send(address, chat("gpt-4o")).await.unwrap().status(), StatusCode::IM_A_TEAPOT);
    send(address, set(json!({ "faults": [] }))).await.unwrap();
    let answer = send(address, chat("gpt-4o")).await.unwrap();
    assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some("2"), "what was used stays used");
    let stats = json_of(send(address, request(Method::GET, "/simulate/stats", "")).await.unwrap()).await;
    assert_eq!((&stats["requests"], &stats["refused"]), (&json!(4), &json!({ "rpm": 1 })));
    send(address, post("/simulate/reset", &json!({}))).await.unwrap();
    assert_eq!(running.simulator().stats().requests, 0);
    assert_eq!(
        send(address, request(Method::GET, "/simulate/nothing", "")).await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn files_come_back_as_they_were() {
    let running = start(unlimited()).await;
    let content = "\r\n--not the boundary\r\n{\"a\": 1}\n".repeat(5_000);
    let body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--XX\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{content}\r\n--XX--\r\n"
    );
    let mut upload = request(Method::POST, "/v1/files", body);
    upload.headers_mut().insert("content-type", "multipart/form-data; boundary=XX".parse().unwrap());
    let file = json_of(send(running.address(), upload).await.unwrap()).await;
    assert_eq!((&file["filename"], &file["bytes"]), (&json!("a.jsonl"), &json!(content.len())));
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    let get = |path: &str| request(Method::GET, path, "");
    let back = text(send(running.address(), get(&format!("{path}/content"))).await.unwrap()).await.unwrap();
    assert!(back == content);
    send(running.address(), request(Method::DELETE, &path, "")).await.unwrap();
    assert_eq!(send(running.address(), get(&path)).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_a_request_of_the_api_is_refused_in_its_envelope() {
    let running = start(Settings { max_body: 1_000, ..unlimited() }).await;
    for (request, status, code) in [
        (request(Method::POST, "/v1/nothing", ""), 404, json!("unknown_url")),
        (request(Method::GET, "/v1/chat/completions", ""), 405, json!("method_not_supported")),
        (request(Method::POST, "/v1/chat/completions", "not JSON"), 400, json!(null)),
        (post("/v1/chat/completions", &json!({ "messages": [] })), 400, json!(null)),
        (chat("does-not-exist"), 404, json!("model_not_found")),
        (
            post("/v1/responses", &json!({ "model": "does-not-exist", "input": "" })),
            400,
            json!("model_not_found"),
        ),
        (request(Method::POST, "/v1/chat/completions", vec![b' '; 1_001]), 413, json!(null)),
        (keyed(chat("gpt-4o"), "sk-invalid-key"), 401, json!("invalid_api_key")),
        (directed(chat("gpt-4o"), "fault=typo"), 400, json!(null)),
    ] {
        let what = format!("{request:?}");
        let answer = send(running.address(), request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{what}");
        assert_eq!(json_of(answer).await["error"]["code"], code, "{what}");
    }
}

#[tokio::test]
async fn json_is_encoded_if_the_client_accepts_it() {
    let running = start(unlimited()).await;
    let mut request = chat("gpt-4o");
    request.headers_mut().insert("accept-encoding", "gzip, deflate".parse().unwrap());
    let answer = send(running.address(), request).await.unwrap();
    assert_eq!(header(&answer, "content-encoding"), Some("gzip"));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let mut decoded = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut decoded).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&decoded).unwrap()["object"], "chat.completion");
    let plain = send(running.address(), chat("gpt-4o")).await.unwrap();
    assert_eq!(header(&plain, "content-encoding"), None);
}

#[tokio::test]
async fn it_speaks_http_2_and_tls() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let running = start(Settings { tls: Some(Arc::new(tls)), ..unlimited() }).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect("localhost".try_into().unwrap(), TcpStream::connect(running.address()).await.unwrap())
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    clock::spawn(connection);
    let over_h2 = |mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = format!("https://localhost{}", request.uri().path()).parse().unwrap();
        request.headers_mut().remove("host");
        request
    };
    let answer = sender.send_request(over_h2(chat("gpt-4o"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let broken = sender.send_request(over_h2(directed(streamed(), "fault=reset-mid-body"))).await.unwrap();
    assert!(text(broken).await.is_err(), "a stream reset");
}

/// Weir classifies each dialect's refusals correctly by their headers and body.
#[tokio::test]
async fn a_dialects_refusals_are_understood() {
    use weir::internals::classify::{self, ErrorClass as C};
    for (dialect, requests, full) in [
        (Dialect::Openai, Some(C::RateLimitRequests), C::SlowDown),
        (Dialect::Azure, Some(C::RateLimitRequests), C::SlowDown),
        (Dialect::Openrouter, Some(C::RateLimitRequests), C::BadGateway),
        (Dialect::Gemini, Some(C::RateLimitRequests), C::Overloaded),
        (Dialect::Anthropic, Some(C::RateLimitRequests), C::Overloaded),
        (Dialect::Groq, Some(C::RateLimitRequests), C::ResourceUnavailable),
        (Dialect::Mistral, Some(C::RateLimitRequests), C::SlowDown),
        (Dialect::Vllm, None, C::SlowDown),
        (Dialect::Sglang, None, C::SlowDown),
        (Dialect::Tgi, None, C::SlowDown),
        (Dialect::Ollama, None, C::SlowDown),
    ] {
        let limits = Limits { rpm: requests.map(|_| 2), ..Limits::NONE };
        let after = Latency::Fixed(Duration::from_mins(10));
        let slots = Some(1);
        let settings =
            Settings { dialect: Some(dialect), limits, slots, queue: Some(0), after, ..Settings::default() };
        let running = start(settings).await;
        let address = running.address();
        clock::spawn(async move { send(address, chat("gpt-4o")).await });
        while running.simulator().stats().in_flight == 0 {
            tokio::task::yield_now().await;
        }
        let class = async |expected: C| {
            let answer = send(address, chat("gpt-4o")).await.unwrap();
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let found = classify::response(
                weir::internals::openai::Endpoint::ChatCompletions,
                parts.status,
                &parts.headers,
                &body,
                clock::wall(),
            );
            let text = String::from_utf8_lossy(&body);
            assert_eq!(found.class, expected, "{dialect:?}: {} {text}", parts.status);
        };
        class(full).await;
        if let Some(requests) = requests {
            class(requests).await;
        }
        running.stop(Duration::ZERO).await;
    }
}

/// OpenAI's API requires a versioned path and a bearer key; other dialects do not.
#[tokio::test]
async fn the_openai_dialect_is_strict() {
    let without_version = || {
        let mut request = chat("gpt-4o");
        *request.uri_mut() = "/chat/completions".parse().unwrap();
        request
    };
    let with_api_key = || {
        let mut request = chat("gpt-4o");
        let key = request.headers_mut().remove("authorization").unwrap();
        request.headers_mut().insert("api-key", key);
        request
    };
    for (dialect, path, key) in
        [(Some(Dialect::Openai), 404, 401), (Some(Dialect::Azure), 200, 200), (None, 200, 200)]
    {
        let running = start(Settings { dialect, ..Settings::default() }).await;
        let status = async |request| send(running.address(), request).await.unwrap().status().as_u16();
        assert_eq!(status(without_version()).await, path, "{dialect:?}");
        assert_eq!(status(with_api_key()).await, key, "{dialect:?}");
        assert_eq!(status(chat("gpt-4o")).await, 200, "{dialect:?}");
        running.stop(Duration::ZERO).await;
    }
}

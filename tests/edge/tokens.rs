//! Token exchanges, with tokens that are valid for seconds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::Weir;
use crate::wire;

/// The lifetime of a token.
const LIFE: Duration = Duration::from_secs(2);

/// A token endpoint, and an upstream that accepts its valid tokens.
struct Platform {
    endpoint: SocketAddr,
    upstream: SocketAddr,
    tokens: Arc<Mutex<Vec<(String, Instant)>>>,
    refused: Arc<AtomicU64>,
    /// The endpoint fails.
    down: Arc<AtomicBool>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Platform {
    fn start() -> Self {
        let tokens = Arc::<Mutex<Vec<(String, Instant)>>>::default();
        let (refused, down) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let (given, failing, seen) = (Arc::clone(&tokens), Arc::clone(&down), Arc::clone(&bodies));
        let (endpoint, _) = wire::recording(move |request| {
            seen.lock().unwrap().push(String::from_utf8_lossy(&request.body).into_owned());
            if failing.load(Ordering::SeqCst) {
                return answer(503, r#"{"error":"temporarily_unavailable"}"#);
            }
            let mut given = given.lock().unwrap();
            let token = format!("token-{}-0123456789", given.len());
            given.push((token.clone(), Instant::now()));
            answer(200, &format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":2}}"#))
        });
        let (known, count) = (Arc::clone(&tokens), Arc::clone(&refused));
        let (upstream, _) = wire::recording(move |request| {
            let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            let known = known.lock().unwrap();
            let valid = known.iter().any(|(token, since)| bearer == Some(token) && since.elapsed() < LIFE);
            if valid {
                return answer(200, "{}");
            }
            count.fetch_add(1, Ordering::SeqCst);
            answer(
                401,
                r#"{"error":{"message":"The token is over","type":"invalid_request_error","code":"token_expired","param":null}}"#,
            )
        });
        Self { endpoint, upstream, tokens, refused, down, bodies }
    }

    fn configuration(&self, subject: &str) -> String {
        format!(
            "upstream.url = \"http://{}\"\nupstream.credential = \"exchange:openai\"\n[[exchanges]]\nname = \"openai\"\n\
             url = \"http://{}/oauth/token\"\nsubject_token = \"file:{subject}\"\nidentity_provider_id = \"idp_1\"\n\
             service_account_id = \"sa_1\"\n",
            self.upstream, self.endpoint
        )
    }

    fn tokens(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    format!("{head}\r\n\r\n{body}").into_bytes()
}

fn get(weir: &Weir) -> u16 {
    wire::ask(weir.address, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").status()
}

/// Sends requests until `enough`. Returns the number of requests, and of those without 200.
fn request_until(weir: &Weir, enough: impl Fn() -> bool) -> (usize, usize) {
    let (mut calls, mut failed) = (0, 0);
    while !enough() {
        calls += 1;
        failed += usize::from(get(weir) != 200);
    }
    (calls, failed)
}

#[test]
fn tokens_of_two_seconds_fail_no_call_and_a_revoked_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("jwt");
    std::fs::write(&subject, "subject-jwt-1").unwrap();
    let platform = Platform::start();
    let weir = Weir::start(&platform.configuration(&subject.display().to_string()), &[]);
    assert_eq!(platform.tokens(), 1, "it is there before the first request");
    let (calls, failed) = request_until(&weir, || platform.tokens() >= 3);
    assert_eq!(failed, 0, "of {calls}");
    assert!(calls > 50, "{calls}");
    assert_eq!(platform.refused.load(Ordering::SeqCst), 0);
    let left = weir.metric("weir_credential_expires_seconds{credential=\"openai\"}");
    assert!((0.0..=2.0).contains(&left), "{left}");

    // The subject token is read anew each time.
    std::fs::write(&subject, "subject-jwt-2").unwrap();
    let before = platform.tokens();
    request_until(&weir, || platform.tokens() > before + 1);
    let bodies = platform.bodies.lock().unwrap().clone();
    let body: serde_json::Value = serde_json::from_str(bodies.last().unwrap()).unwrap();
    assert_eq!(body["subject_token"], "subject-jwt-2");
    assert_eq!(body["identity_provider_id"], "idp_1");

    // While the endpoint fails, the old token is used until it expires; then callers get an error.
    platform.down.store(true, Ordering::SeqCst);
    weir.wait_for_printed("the exchange gave no token; the one before is used", 1);
    assert_eq!(get(&weir), 200);
    let began = Instant::now();
    while get(&weir) == 200 {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(get(&weir), 401);
    assert!(weir.admin("GET", "/").contains("The exchange openai gives no new token"));
    platform.down.store(false, Ordering::SeqCst);
    weir.wait_for_printed("the exchange gives tokens again", 1);
    let (_, failed) = request_until(&weir, || platform.tokens() > before + 3);
    assert!(failed <= 1, "{failed}");
    no_secret_is_printed(&weir);
}

#[test]
fn a_reload_that_names_another_exchange_has_its_token_first_or_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("jwt");
    std::fs::write(&subject, "subject-jwt-2").unwrap();
    let platform = Platform::start();
    let weir = Weir::start(&platform.configuration(&subject.display().to_string()), &[]);
    let other = platform.configuration(&subject.display().to_string()).replace("openai", "other");
    platform.down.store(true, Ordering::SeqCst);
    weir.configure(&other.replace("file:", "file:/nowhere"));
    let said = weir.admin("POST", "/reload");
    assert!(said.starts_with("HTTP/1.1 422") && said.contains("nowhere"), "{said}");
    // While one waits for it, probes and requests are answered.
    let (tell, asked) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let (silent, _seen) = wire::recording(move |_| {
        tell.lock().unwrap().send(()).unwrap();
        std::thread::park();
        Vec::new()
    });
    let endpoint = platform.endpoint.to_string();
    weir.configure(&other.replace(&endpoint, &silent.to_string()));
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| weir.admin("POST", "/reload"));
        asked.recv().unwrap();
        for _ in 0..3 {
            assert!(weir.admin("GET", "/livez").starts_with("HTTP/1.1 200"));
            get(&weir);
        }
        assert!(!reload.is_finished(), "it still waits");
        assert!(reload.join().unwrap().starts_with("HTTP/1.1 422"));
    });
    platform.down.store(false, Ordering::SeqCst);
    weir.configure(&other);
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 200"));
    assert_eq!(get(&weir), 200);
    no_secret_is_printed(&weir);
}

fn no_secret_is_printed(weir: &Weir) {
    let printed = weir.printed();
    for secret in ["subject-jwt", "token-0", "token-1"] {
        assert!(!printed.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_start_without_a_token_names_the_exchange_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("jwt").display().to_string();
    std::fs::write(&subject, "subject-jwt-1").unwrap();
    let (endpoint, _) = wire::recording(|_| {
        answer(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS700024: the assertion has expired"}"#,
        )
    });
    let configuration = Platform::start().configuration(&subject);
    let mut lines: Vec<String> = configuration.lines().map(str::to_owned).collect();
    lines[4] = format!("url = \"http://{endpoint}/oauth/token\"");
    let output = Weir::fails(&lines.join("\n"), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("exchanges[0] (\"openai\"): no token: 400 Bad Request: invalid_grant: AADSTS700024"),
        "{said}"
    );
}

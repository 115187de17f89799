//! Callers by token (JWT): the keys come from a file or a URL, and no token goes upstream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::process::Weir;
use crate::wire;

struct Signer {
    name: &'static str,
    pkcs8: Vec<u8>,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        Self { name, pkcs8 }
    }

    fn jwks(&self) -> String {
        let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.name, "x": x}]})
            .to_string()
    }

    /// A token that is valid for this time in seconds, which may be negative.
    fn token(&self, subject: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let ends = now.checked_add_signed(seconds).unwrap();
        let claims = json!({"iss": "https://issuer", "aud": "weir", "sub": subject, "exp": ends});
        let header = Header { kid: Some(self.name.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&self.pkcs8)).unwrap()
    }
}

fn configuration(upstream: std::net::SocketAddr, keys: &str) -> String {
    format!(
        "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:UPSTREAM_KEY\"\n\
         server.allow_unknown_callers = true\n\
         [[issuers]]\nname = \"cluster\"\nissuer = \"https://issuer\"\naudience = \"weir\"\n{keys}\n\
         [[callers]]\nname = \"search\"\ntoken = {{ issuer = \"cluster\", value = \"system:search\" }}\n"
    )
}

const KEY: &[(&str, &str)] = &[("UPSTREAM_KEY", "sk-upstream-0123456789")];

fn ask(weir: &Weir, token: &str) -> (u16, String) {
    let request =
        format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let answer = wire::ask(weir.address, request.as_bytes());
    (answer.status(), String::from_utf8_lossy(&answer.body).into_owned())
}

/// Asks until the answer has this status.
fn request_until(weir: &Weir, token: &str, status: u16) {
    let began = Instant::now();
    while ask(weir, token).0 != status {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", ask(weir, token));
    }
}

#[test]
fn keys_from_a_url_are_followed_and_stay_when_it_is_gone() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let document = Arc::new(Mutex::new(one.jwks()));
    let down = Arc::<AtomicBool>::default();
    let (served, failing) = (Arc::clone(&document), Arc::clone(&down));
    let answer = |status: u16, body: &str| {
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    let (issuer, _) = wire::recording(move |_| {
        if failing.load(Ordering::SeqCst) { answer(503, "") } else { answer(200, &served.lock().unwrap()) }
    });
    let (upstream, seen) = wire::recording(move |_| answer(200, "{}"));
    let keys = format!("jwks_url = \"http://{issuer}/jwks\"");
    let weir = Weir::start(&configuration(upstream, &keys), KEY);

    assert_eq!(
        ask(&weir, &one.token("system:search", 60)).0,
        200,
        "the keys are there before the first request"
    );
    assert!(
        weir.metric("weir_requests_total{caller=\"search\",endpoint=\"models\",outcome=\"success\"}") >= 1.0
    );
    for (token, why) in [
        (one.token("system:search", -60), "it is expired"),
        (one.token("system:other", 60), "no [[callers]] entry has its claims"),
        (Signer::new("one").token("system:search", 60), "its signature is wrong"),
    ] {
        // Although unknown callers are allowed: the token is not the caller's own credential.
        let (status, body) = ask(&weir, &token);
        assert!(status == 401 && body.contains(why) && body.contains("cluster"), "{status} {body}");
    }
    // The first token with an unknown key id triggers a fetch of the keys.
    *document.lock().unwrap() = two.jwks();
    request_until(&weir, &two.token("system:search", 60), 200);
    assert_eq!(ask(&weir, &one.token("system:search", 60)).0, 401, "the old one is gone");

    down.store(true, Ordering::SeqCst);
    assert_eq!(ask(&weir, &one.token("system:search", 60)).0, 401);
    weir.wait_for_printed("the issuer's keys can't be read; those known stay", 1);
    assert_eq!(ask(&weir, &two.token("system:search", 60)).0, 200);
    assert!(weir.metric("weir_issuer_failures_total{issuer=\"cluster\"}") >= 1.0);
    assert!(weir.metric("weir_issuer_keys_age_seconds{issuer=\"cluster\"}") < 60.0);
    assert!(weir.admin("GET", "/").contains("The keys of the issuer cluster can't be read"));

    for request in seen.try_iter() {
        assert_eq!(request.header("authorization"), Some("Bearer sk-upstream-0123456789"));
        assert!(!format!("{request:?}").contains("eyJ"), "no token goes upstream");
    }
    assert!(!weir.printed().contains("eyJ"), "nor into the log");
}

#[test]
fn keys_from_a_file_are_there_at_the_start_or_the_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let signer = Signer::new("one");
    let (upstream, _) = wire::recording(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    let keys = format!("jwks_file = \"{}\"", file.display());
    for (text, problem) in [(None, "No such file"), (Some("<html>"), "it is no JWKS document")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let output = Weir::fails(&configuration(upstream, &keys), KEY);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("issuers (\"cluster\")") && said.contains(problem), "{said}");
    }
    std::fs::write(&file, signer.jwks()).unwrap();
    let weir = Weir::start(&configuration(upstream, &keys), KEY);
    let token = signer.token("system:search", 60);
    assert_eq!(ask(&weir, &token).0, 200);
    // Names and keys stay through a reload, also when the file is gone.
    std::fs::remove_file(&file).unwrap();
    let more = configuration(upstream, &keys) + "weight = 3\n";
    weir.configure(&more);
    assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 200"));
    assert_eq!(ask(&weir, &token).0, 200);
    assert!(
        weir.metric("weir_requests_total{caller=\"search\",endpoint=\"models\",outcome=\"success\"}") >= 2.0
    );
    let value: Value =
        serde_json::from_str(weir.admin("GET", "/status").split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(value["issuers"][0]["name"], "cluster");
}

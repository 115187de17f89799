//! Keys, tokens and certificates that are replaced while Weir runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::process::Weir;
use crate::wire;

const OLD: &str = "sk-old-0123456789abcdef";
const NEW: &str = "sk-new-0123456789abcdef";

/// An upstream that accepts one key, after `delay`, and counts requests with another.
fn upstream(delay: Duration) -> (std::net::SocketAddr, Arc<Mutex<(String, usize)>>) {
    let state = Arc::new(Mutex::new((OLD.to_owned(), 0)));
    let known = Arc::clone(&state);
    let (address, _seen) = wire::recording(move |request| {
        std::thread::sleep(delay);
        let mut known = known.lock().unwrap();
        if request.header("authorization") == Some(&format!("Bearer {}", known.0)) {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        }
        known.1 += 1;
        let body = r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key","param":null}}"#;
        format!(
            "HTTP/1.1 401 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    (address, state)
}

/// A request without a key of its own.
fn get(weir: &Weir) -> u16 {
    wire::ask(weir.address, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").status()
}

/// Rotates the key during many concurrent requests. Returns their statuses.
fn statuses(weir: &Weir, rotate: impl FnOnce() + Send) -> Vec<u16> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..60).map(|_| scope.spawn(|| get(weir))).collect();
        weir.wait_for("weir_requests_in_flight{caller=\"default\"}", 20.0);
        rotate();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn a_key_that_is_replaced_while_requests_wait_is_seen_by_no_caller() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, OLD).unwrap();
    let (address, state) = upstream(Duration::from_millis(60));
    let weir = Weir::start(
        &format!(
            "upstream.url = \"http://{address}\"\nupstream.credential = \"file:{}\"\nlimits.in_flight = 3\n",
            file.display()
        ),
        &[],
    );
    // The old key is revoked when the file gets the new one, without a reload.
    let seen = statuses(&weir, || {
        std::fs::write(&file, NEW).unwrap();
        state.lock().unwrap().0 = NEW.to_owned();
    });
    assert_eq!(seen.iter().filter(|status| **status == 200).count(), 60, "{seen:?}");
    let refused = state.lock().unwrap().1;
    assert!((1..=6).contains(&refused), "only what was on its way: {refused}");
    // One scope before and after.
    assert!((weir.metric("weir_scopes") - 1.0).abs() < 0.1);

    // After a reload, waiting requests use the new key. Only requests in flight are refused.
    let before = refused;
    let seen = statuses(&weir, || {
        std::fs::write(&file, OLD).unwrap();
        assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 200"));
        state.lock().unwrap().0 = OLD.to_owned();
    });
    assert_eq!(seen.iter().filter(|status| **status == 200).count(), 60, "{seen:?}");
    assert!(state.lock().unwrap().1 - before <= 6, "{}", state.lock().unwrap().1);

    // If the new key is refused too, the caller gets that error after one read of the file.
    state.lock().unwrap().0 = "revoked".to_owned();
    assert_eq!(get(&weir), 401);
    // An empty file is not used.
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(get(&weir), 401);
    weir.wait_for_printed("a secret can't be read again; the one in use stays", 1);
    state.lock().unwrap().0 = OLD.to_owned();
    assert_eq!(get(&weir), 200);
}

#[test]
fn the_admin_token_follows_its_file_and_a_file_that_was_cut_is_no_reload() {
    let folder = tempfile::tempdir().unwrap();
    let [token, redis] = ["token", "redis"].map(|name| folder.path().join(name));
    std::fs::write(&token, "old-token-0123456789").unwrap();
    std::fs::write(&redis, "redis://127.0.0.1:9/0").unwrap();
    let (upstream, _seen) = wire::plain();
    let configuration = format!(
        "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:KEY\"\nadmin.token = \"file:{}\"\nreplicas.redis = \"file:{}\"\n\
         [[callers]]\nname = \"one\"\nkey = \"env:ONE\"\n[[callers]]\nname = \"two\"\nkey = \"env:TWO\"\n",
        token.display(),
        redis.display()
    );
    let weir = Weir::start(
        &configuration,
        &[
            ("WEIR_ADMIN__LISTEN", "0.0.0.0:0"),
            ("KEY", NEW),
            ("ONE", "weir-one-0123456789"),
            ("TWO", "weir-two-0123456789"),
        ],
    );
    let ask = |method: &str, path: &str, token: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = wire::ask(weir.admin, request.as_bytes());
        (answer.status(), String::from_utf8_lossy(&answer.body).into_owned())
    };
    assert_eq!(ask("GET", "/status", "old-token-0123456789").0, 200);
    std::fs::write(&token, "new-token-0123456789").unwrap();
    std::fs::write(&redis, "redis://127.0.0.1:10/0").unwrap();
    assert_eq!(ask("POST", "/reload", "old-token-0123456789").0, 200);
    assert_eq!(ask("GET", "/status", "new-token-0123456789").0, 200);
    assert_eq!(ask("GET", "/status", "old-token-0123456789").0, 401);
    weir.wait_for_printed("the admin address refused a wrong token", 1);
    assert!((weir.metric("weir_admin_tokens_refused_total") - 1.0).abs() < 0.1);

    // Truncated at any line, the callers and the credential stay.
    for cut in ["", "# to come\n", &configuration[..configuration.find("upstream.credential").unwrap()]] {
        weir.configure(cut);
        let (status, problem) = ask("POST", "/reload", "new-token-0123456789");
        assert!(status == 422 && problem.contains("stays"), "{cut:?}: {status} {problem}");
    }
    weir.configure(&configuration[..configuration.rfind("[[callers]]").unwrap()]);
    assert_eq!(ask("POST", "/reload", "new-token-0123456789").0, 200);
    weir.wait_for_printed("callers are no longer configured", 1);
    assert!(weir.printed().contains("\"callers\":\"two\""), "{}", weir.printed());
}

#[test]
fn a_callers_key_is_replaced_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&old, "weir-old-0123456789").unwrap();
    std::fs::write(&new, "weir-new-0123456789").unwrap();
    let (upstream, _seen) = wire::plain();
    let configuration = |keys: &str| {
        format!(
            "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:KEY\"\n\
             server.allow_unknown_callers = false\n[[callers]]\nname = \"search\"\n{keys}\n"
        )
    };
    let weir = Weir::start(&configuration(&format!("key = \"file:{old}\"")), &[("KEY", NEW)]);
    let status = |key: &str| {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer {key}\r\n\r\n");
        wire::ask(weir.address, request.as_bytes()).status()
    };
    let both = || ["weir-old-0123456789", "weir-new-0123456789"].map(status);
    assert_eq!(both(), [200, 401]);
    for (keys, expected) in [
        (format!("keys = [\"file:{old}\", \"file:{new}\"]"), [200, 200]),
        (format!("keys = [\"file:{new}\"]"), [401, 200]),
    ] {
        weir.configure(&configuration(&keys));
        assert!(weir.admin("POST", "/reload").starts_with("HTTP/1.1 200"));
        assert_eq!(both(), expected, "{keys}");
    }
    let series = "weir_requests_total{caller=\"search\",endpoint=\"models\",outcome=\"success\"}";
    weir.wait_for(series, 4.0);
}

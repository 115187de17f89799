//! Rights: forbidden requests never reach the upstream in any spelling; allowed ones do.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use weir::internals::websocket::{Kind, write};

use crate::frames::{self, Frame, KEY, open};
use crate::process::Weir;
use crate::wire::{self, Message};

const CONFIGURATION: &str = "upstream.credential = \"env:KEY\"\nserver.allow_unknown_callers = true\nadmission.max_wait = \"2s\"\n\
    [[callers]]\nname = \"plain\"\nkey = \"env:PLAIN\"\n\
    [[callers]]\nname = \"bounded\"\nkey = \"env:BOUNDED\"\nallow = [\"*\"]\nmodels = [\"gpt-5*\", \"whisper-1\"]\n\
    [[callers]]\nname = \"alien\"\nkey = \"env:OTHER\"\nallow = [\"other:read\", \"other:write\", \"models\"]\n";
const PLAIN: &str = "weir-plain-0123456789";
const BOUNDED: &str = "weir-bounded-0123456789";
const OTHER: &str = "weir-other-0123456789";

fn weir(mode: &str) -> (Weir, Receiver<Message>) {
    let (upstream, seen) = wire::plain();
    let weir = Weir::start(
        &format!("mode = \"{mode}\"\nupstream.url = \"http://{upstream}\"\n{CONFIGURATION}"),
        &[("KEY", "sk-configured-0123456789"), ("PLAIN", PLAIN), ("BOUNDED", BOUNDED), ("OTHER", OTHER)],
    );
    (weir, seen)
}

fn request(key: &str, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const JSON: &str = "Content-Type: application/json\r\n";
const CHAT: &str = "POST /v1/chat/completions";

/// Requests for the account's objects, in spellings that a server may accept.
const HOSTILE_TARGETS: [(&str, &str, &str); 34] = [
    (PLAIN, "DELETE /v1/files/file-1", ""),
    (PLAIN, "GET /v1/files", ""),
    (PLAIN, "POST /v1/files", ""),
    (PLAIN, "GET //v1/files", ""),
    (PLAIN, "GET /v1//files", ""),
    (PLAIN, "GET /v1/embeddings/../files", ""),
    (PLAIN, "GET /v1/embeddings/%2e%2E/files", ""),
    (PLAIN, "POST /v1/chat/completions/../../files", ""),
    (PLAIN, "POST /v1/embeddings/..%2ffiles", ""),
    (PLAIN, "POST /v1/embeddings/..%5cfiles", ""),
    (PLAIN, "POST /v1/embeddings/..\\files", ""),
    (PLAIN, "GET /v1/./files", ""),
    (PLAIN, "GET /v1/models/..;/files", ""),
    (PLAIN, "GET /v1/models/%252e%252e/files", ""),
    (PLAIN, "GET /v1/models;/../files", ""),
    (PLAIN, "GET /v1/responses/resp_1", ""),
    (PLAIN, "DELETE /v1/responses/resp_1", ""),
    (PLAIN, "GET /v1/chat/completions", ""),
    (PLAIN, "POST /v1/batches", ""),
    (PLAIN, "POST /v1/fine_tuning/jobs", ""),
    (PLAIN, "POST /v1/fine-tunes", ""),
    (PLAIN, "POST /v1/realtime/client_secrets", ""),
    (PLAIN, "GET /v1/organization/admin_api_keys", ""),
    (PLAIN, "GET /openai/files?api-version=1", ""),
    (PLAIN, "DELETE /v1/models/ft:gpt-4o", ""),
    (PLAIN, "GET http://upstream.invalid/v1/files", ""),
    (PLAIN, "POST /v1/chat/completions", "X-HTTP-Method-Override: DELETE\r\n"),
    (OTHER, "GET /v1/%66iles", ""),
    (OTHER, "GET /v1/FILES", ""),
    (OTHER, "GET /v1/Files/f", ""),
    (OTHER, "POST /v1/x%2F..%2Ffiles", ""),
    (OTHER, "GET /v1/x%00/files", ""),
    (OTHER, "GET /v1/models/m?x=1", "X-Method-Override: DELETE\r\n"),
    (OTHER, "POST /v1/x//files", ""),
];

/// Bodies, queries and paths that name a forbidden model, or whose model is ambiguous.
fn hostile_models() -> Vec<(&'static str, String, Vec<u8>)> {
    let json = |body: &str| (CHAT, JSON.to_owned(), body.as_bytes().to_vec());
    let mut cases: Vec<(&str, String, Vec<u8>)> = [
        r#"{"model":"o3","messages":[]}"#,
        r#"{"model":"gpt-5","model":"o3"}"#,
        r#"{"model":"o3","model":"gpt-5"}"#,
        r#"{"model":"gpt-5","mod\u0065l":"o3"}"#,
        r#"{"model":"gpt-5","\u006d\u006f\u0064\u0065\u006c":"o3"}"#,
        r#"{"model":"gpt-5","Model":"o3"}"#,
        r#"{"MODEL":"o3","model":"gpt-5"}"#,
        r#"{"model":"\u006f3"}"#,
        r#"{"model":"GPT-5"}"#,
        r#"{"model":" gpt-5"}"#,
        r#"{"model":["gpt-5","o3"]}"#,
        r#"{"model":{"name":"gpt-5"}}"#,
        r#"{"model":"gpt-5","models":["o3"]}"#,
        r#"{"model":"gpt-5","fallbacks":[{"model":"o3"}]}"#,
        r#"{"model":"gpt-5","tools":[{"type":"image_generation","model":"gpt-image-1"}]}"#,
        r#"{"messages":[{"role":"user","content":"no model at all"}]}"#,
        r#"{"model":null}"#,
        r#"{"model":"gpt-5"}{"model":"o3"}"#,
        r#"[{"model":"gpt-5"}]"#,
        r#"{"model":"gpt-5","x":"#,
        "{\"model\":\"gpt-5\"/*,*/,\"model\":\"o3\"}",
        "\u{feff}{\"model\":\"gpt-5\"}",
        "",
    ]
    .into_iter()
    .map(json)
    .collect();
    // A second model beyond the part that a proxy keeps.
    let image = "A".repeat(9 << 20);
    cases.push(json(&format!(r#"{{"model":"gpt-5","x":"{image}","model":"o3"}}"#)));
    let with = |line: &'static str, headers: &str, body: &str| (line, headers.to_owned(), body.into());
    let good = r#"{"model":"gpt-5"}"#;
    let utf16 = r#"{"model":"o3"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    cases.push((CHAT, JSON.to_owned(), utf16));
    cases.push(with(CHAT, "Content-Type: application/x-www-form-urlencoded\r\n", "model=o3"));
    cases.push(with(
        CHAT,
        "Content-Type: application/x-www-form-urlencoded\r\n",
        r#"{"model":"gpt-5","x":"&model=o3"}"#,
    ));
    cases.push(with(CHAT, "Content-Type: application/json\r\nContent-Type: text/plain\r\n", good));
    cases.push(with(CHAT, "Content-Type: application/json; charset=utf-7\r\n", good));
    cases.push(with(CHAT, "Content-Type: application/json\r\nContent-Encoding: snappy\r\n", good));
    cases.push(with("POST /v1/chat/completions?model=o3", JSON, good));
    cases.push(with("POST /v1/chat/completions?MODEL[]=o3", JSON, good));
    cases.push(with("POST /v1/chat/completions?mod%65l=%6f3", JSON, good));
    cases.push(with("POST /openai/deployments/o3/chat/completions", JSON, good));
    cases.push(with("POST /openai/deployments/%6f3/chat/completions", JSON, good));
    cases.push(with("POST /v1/engines/o3/completions", JSON, good));
    cases.push(with("GET /v1/models/o3", "", ""));
    cases.push(with("POST /v1/batches", JSON, r#"{"input_file_id":"file-1"}"#));
    cases.push(with(
        "POST /v1/realtime/client_secrets",
        JSON,
        r#"{"session":{"type":"realtime","model":"gpt-realtime"}}"#,
    ));
    cases.push(with("POST /v1/fine_tuning/jobs", JSON, r#"{"model":"gpt-4o"}"#));
    for parts in [
        "Content-Disposition: form-data; name=\"model\"\r\n\r\no3\r\n--b--",
        "Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\nContent-Disposition: form-data; name=model\r\n\r\no3\r\n--b--",
        "Content-Disposition: form-data; name*=utf-8''model\r\n\r\no3\r\n--b--",
        "Content-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\no3\r\n--b--",
        "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nno model\r\n--b--",
    ] {
        cases.push(with(
            "POST /v1/audio/transcriptions",
            "Content-Type: multipart/form-data; boundary=b\r\n",
            &format!("--b\r\n{parts}\r\n"),
        ));
    }
    cases
}

#[test]
fn no_spelling_of_what_is_not_allowed_reaches_the_upstream() {
    for mode in ["enforce", "observe", "bypass"] {
        let (weir, seen) = weir(mode);
        let targets = HOSTILE_TARGETS.map(|(key, line, headers)| (key, line, headers.to_owned(), Vec::new()));
        let models = hostile_models().into_iter().map(|(line, headers, body)| (BOUNDED, line, headers, body));
        let mut refused = 0;
        for (key, line, headers, body) in targets.into_iter().chain(models) {
            let told = format!("{mode} {line} {headers} {:.100}", String::from_utf8_lossy(&body));
            let answer = wire::ask(weir.address, &request(key, line, &headers, &body));
            // Invalid HTTP is refused before the check of rights.
            assert!([400, 403].contains(&answer.status()), "{told}: {}", answer.start);
            if answer.status() == 403 {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(
                    body.contains("not_allowed") && body.contains("This caller may not"),
                    "{told}: {body}"
                );
                refused += 1;
            }
            assert!(seen.try_recv().is_err(), "{told}");
        }
        assert!(refused >= 70, "{refused} of them by its rights");
        let counted = weir.metric("weir_errors_total{class=\"weir_not_allowed\"}");
        assert!((counted - f64::from(refused)).abs() < 0.5, "{counted} of {refused}");
    }
}

#[test]
fn allowed_requests_pass_in_every_mode() {
    for mode in ["enforce", "observe", "bypass"] {
        let (weir, seen) = weir(mode);
        let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--b--\r\n";
        let long =
            format!(r#"{{"model":"gpt-5-mini","messages":[{{"content":"{}"}}]}}"#, "A".repeat(10 << 20));
        for (key, line, headers, body) in [
            (PLAIN, CHAT, JSON, r#"{"model":"anything","model":"o3"}"#),
            (PLAIN, "GET /v1/models", "", ""),
            (PLAIN, "GET /v1/models/ft%3Agpt-4o", "", ""),
            (PLAIN, "POST /v1/responses/compact", JSON, "{}"),
            (BOUNDED, CHAT, JSON, r#"{"model":"gpt-5","metadata":{"model":"o3"}}"#),
            (BOUNDED, CHAT, JSON, &long),
            (BOUNDED, "POST /openai/deployments/gpt-5-eu/chat/completions", JSON, r#"{"messages":[]}"#),
            (
                BOUNDED,
                "POST /v1/audio/transcriptions",
                "Content-Type: multipart/form-data; boundary=b\r\n",
                form,
            ),
            (BOUNDED, "DELETE /v1/files/file-1", "", ""),
            (BOUNDED, "GET /v1/models/gpt-5", "", ""),
            (OTHER, "POST /v1/rerank", JSON, r#"{"model":"any"}"#),
            ("sk-nobody-0123456789", CHAT, JSON, r#"{"model":"o3"}"#),
        ] {
            let answer = wire::ask(weir.address, &request(key, line, headers, body.as_bytes()));
            assert_eq!(answer.status(), 200, "{mode} {line}: {}", String::from_utf8_lossy(&answer.body));
            let request = seen.recv_timeout(Duration::from_secs(5)).unwrap();
            assert_eq!(request.body, body.as_bytes(), "{mode} {line}");
        }
    }
}

#[test]
fn a_refusal_names_the_rule_and_its_line() {
    let (weir, _seen) = weir("enforce");
    let told = |key, line, body: &str| {
        let answer = wire::ask(weir.address, &request(key, line, JSON, body.as_bytes()));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.header("x-weir-error-class"), Some("weir_not_allowed"));
        assert_eq!(body["error"]["code"], "not_allowed");
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    let model = told(BOUNDED, CHAT, r#"{"model":"o3"}"#);
    assert!(model.contains("\"o3\"") && model.contains("callers[1].models (line 13)"), "{model}");
    let right = told(OTHER, "DELETE /v1/files/f", "");
    assert!(right.contains("files:write is not in callers[2].allow (line 17)"), "{right}");
    let default = told(PLAIN, "GET /v1/files", "");
    assert!(default.contains("files:read") && default.contains("rights.allow"), "{default}");
}

/// An upstream that keeps the text frames it reads.
fn keeping() -> (std::net::SocketAddr, Receiver<Frame>) {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let address = frames::upstream(move |mut socket, _| {
        while let Some(frame) = socket.next() {
            if frame.kind != Kind::Close {
                drop(sender.lock().unwrap().send(frame));
            }
        }
    });
    (address, seen)
}

#[test]
fn no_frame_names_a_model_that_is_not_allowed() {
    let (upstream, seen) = keeping();
    for mode in ["enforce", "bypass"] {
        let weir = Weir::start(
            &format!("mode = \"{mode}\"\nupstream.url = \"http://{upstream}\"\n{CONFIGURATION}"),
            &[("KEY", "sk-configured-0123456789"), ("PLAIN", PLAIN), ("BOUNDED", BOUNDED), ("OTHER", OTHER)],
        );
        let key = format!("Authorization: Bearer {BOUNDED}\r\n");
        for (path, message) in [
            ("/v1/responses", r#"{"type":"response.create","model":"o3"}"#),
            ("/v1/responses", r#"{"type":"response.create","model":"gpt-5","model":"o3"}"#),
            ("/v1/responses", r#"{"type":"response.create","model":"gpt-5","mod\u0065l":"o3"}"#),
            ("/v1/responses", r#"{"type":"response.create","input":"no model"}"#),
            ("/v1/responses", r#"{"type":"response.create","response":{"model":"o3"},"model":"gpt-5"}"#),
            ("/v1/responses", r#"{"type":"response.create","model":"gpt-5""#),
            ("/v1/realtime?model=gpt-5-realtime", r#"{"type":"session.update","session":{"model":"o3"}}"#),
            (
                "/v1/realtime?model=gpt-5-realtime",
                r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
            ),
        ] {
            let mut client = open(weir.address, path, &key);
            for kind in [Kind::Text, Kind::Binary] {
                client.raw(&write(kind, message.as_bytes(), Some(KEY)));
                let error = client.next().unwrap().json();
                assert_eq!(error["error"]["code"], "not_allowed", "{mode} {message}: {error}");
            }
            // A message that comes in two frames is one message.
            let (first, second) = message.as_bytes().split_at(message.len() / 2);
            let mut frame = write(Kind::Text, first, Some(KEY));
            frame[0] &= 0x7f;
            client.raw(&[frame, write(Kind::Continuation, second, Some(KEY))].concat());
            assert_eq!(client.next().unwrap().json()["error"]["code"], "not_allowed", "{mode} {message}");
            assert!(seen.try_recv().is_err(), "{mode} {message}");
        }
        let mut client = open(weir.address, "/v1/responses", &key);
        let good = r#"{"type":"response.create","model":"gpt-5","input":"x"}"#;
        client.raw(&write(Kind::Text, good.as_bytes(), Some(KEY)));
        assert_eq!(seen.recv_timeout(Duration::from_secs(5)).unwrap().json()["model"], "gpt-5");
        for path in ["/v1/realtime", "/v1/realtime?model=o3", "/v1/realtime?model=gpt-5&model=o3"] {
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            let mut stream = wire::connect(weir.address);
            stream.write_all(head.as_bytes()).unwrap();
            let answer = wire::read_head(&mut std::io::BufReader::new(stream)).unwrap();
            assert_eq!(answer.status(), 403, "{mode} {path}");
        }
    }
}

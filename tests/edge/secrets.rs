//! No output of Weir contains a secret.

use std::io::Write;

use crate::http2;
use crate::process::Weir;
use crate::wire;

/// The secrets of the configuration. The tests search for the middle of each, because a masked key
/// keeps its ends.
const UPSTREAM: &str = "sk-proj-UpstreamSecret0123456789";
const CALLER: &str = "weir-CallerSecret0123456789";
const STRANGER: &str = "sk-StrangerSecret0123456789abcdef";
const ADMIN: &str = "admin-TokenSecret0123456789";

const NEEDLES: [&str; 7] = [
    "UpstreamSecret",
    "CallerSecret",
    "StrangerSecret",
    "TokenSecret",
    "ProxySecret",
    // The same in Base64, as a proxy's password is sent.
    "UHJveHlTZWNyZXQ",
    "veHlTZWNyZXQwMTIz",
];

fn answer(path: &str) -> Vec<u8> {
    let error = |status: &str, code: &str, message: &str| {
        let body = format!(
            r#"{{"error":{{"message":"{message}","type":"invalid_request_error","code":"{code}","param":null}}}}"#
        );
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let echoed = format!("Incorrect API key provided: {UPSTREAM}. You can find your API key at https://x.");
    match path {
        "/v1/401" => error("401", "invalid_api_key", &echoed),
        "/v1/400" => error("400", "bad", &format!("The header Bearer {STRANGER} is odd")),
        "/v1/429" => error("429", "insufficient_quota", &format!("You exceeded your quota, {UPSTREAM}")),
        "/v1/500" => error("500", "server_error", &format!("key={STRANGER}")),
        "/v1/503" => error("503", "server_is_overloaded", UPSTREAM),
        "/v1/lie" => format!("HTTP/1.1 200 OK\r\nX {UPSTREAM}\r\n\r\n").into_bytes(),
        "/v1/cut" => format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{STRANGER}").into_bytes(),
        "/v1/stream" => {
            let data =
                format!("data: {{\"error\":{{\"message\":\"{echoed}\",\"code\":\"invalid_api_key\"}}}}\n\n");
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{data}",
                data.len()
            )
            .into_bytes()
        }
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    }
}

#[test]
fn no_key_is_seen_in_anything_that_is_printed_or_shown() {
    let upstream = wire::upstream(|mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while let Some(mut request) = wire::read_head(&mut reader) {
            wire::read_body(&mut reader, &mut request, false);
            let path = request.start.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            if path == "/v1/reset"
                || stream.write_all(&answer(&path)).is_err()
                || path == "/v1/cut"
                || path == "/v1/lie"
            {
                return;
            }
        }
    });
    let mut weir = Weir::start(
        &format!(
            "upstream.url = \"http://{upstream}\"\nupstream.credential = \"env:UPSTREAM\"\nadmin.token = \"env:ADMIN\"\n\
             log.level = \"trace\"\nlog.sample = 1.0\nserver.body_max = \"1KiB\"\nretry.base = \"10ms\"\nretry.floor = \"1ms\"\n\
             outage.max_wait = 0\n[[callers]]\nname = \"team\"\nkey = \"env:CALLER\"\n"
        ),
        &[("UPSTREAM", UPSTREAM), ("ADMIN", ADMIN), ("CALLER", CALLER)],
    );
    let large = format!("Content-Length: 5000\r\n\r\n{CALLER}");
    for (path, more) in [
        ("/v1/models", "\r\n"),
        ("/v1/401", "\r\n"),
        ("/v1/400", "\r\n"),
        ("/v1/500", "\r\n"),
        ("/v1/503", "\r\n"),
        ("/v1/lie", "\r\n"),
        ("/v1/cut", "\r\n"),
        ("/v1/reset", "\r\n"),
        ("/v1/stream", "\r\n"),
        ("/v1/models", "Transfer-Encoding: gzip\r\n\r\n"),
        ("/v1/models", "Host: another\r\n\r\n"),
        ("/v1/models", "Connection: authorization\r\n\r\n"),
        ("/v1/models", &large),
        ("/v1/realtime", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("/v1/files", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("/v1/models?api_key=sk-StrangerSecret0123456789abcdef", "\r\n"),
        ("/v1/429", "\r\n"),
        ("/v1/models", "\r\n"),
    ] {
        for key in [CALLER, STRANGER] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer {key}\r\nApi-Key: {key}\r\n{more}"
            );
            let mut stream = wire::connect(weir.address);
            stream.write_all(request.as_bytes()).unwrap();
            drop(wire::read_answer(&mut std::io::BufReader::new(stream), "POST"));
        }
    }
    // Over HTTP/2, whose library traces what it reads.
    for path in ["/v1/models", "/v1/401"] {
        let mut stream = http2::open(&weir, &[]);
        let bearer = format!("Bearer {CALLER}");
        let list = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "weir"),
            (":path", path),
            ("authorization", &bearer),
            ("api-key", STRANGER),
        ];
        let flags = http2::END_HEADERS | http2::END_STREAM;
        stream.write_all(&http2::frame(http2::HEADERS, flags, 1, &http2::fields(&list))).unwrap();
        http2::fate(&mut stream, 1);
    }
    // Not HTTP at all, with a key in it.
    let mut stream = wire::connect(weir.address);
    stream.write_all(format!("{CALLER}\r\n\r\n").as_bytes()).unwrap();
    drop(wire::read_answer(&mut std::io::BufReader::new(stream), "GET"));

    let mut shown = Vec::new();
    for path in ["/metrics", "/status", "/", "/reports", "/reports/last", "/config", "/readyz", "/livez"] {
        let page = weir.admin("GET", path);
        assert!(page.starts_with("HTTP/1.1 200") || path == "/reports/last", "{path}: {page}");
        shown.push((path, page));
    }
    let id = shown[3].1.split("weir_").nth(1).map(|rest| rest[..32].to_owned());
    if let Some(id) = id {
        shown.push(("/reports/ID", weir.admin("GET", &format!("/reports/weir_{id}"))));
    }
    assert_eq!(weir.drain(), Some(0));
    let printed = weir.printed();
    assert!(printed.lines().count() > 20, "the log tells of all this");
    shown.push(("the log", printed));
    for (place, text) in &shown {
        for needle in NEEDLES {
            let at = text.find(needle);
            assert!(at.is_none(), "{place}: {}", &text[at.unwrap().saturating_sub(300)..][..400]);
        }
    }
}

#[test]
fn a_wrong_configuration_does_not_show_its_secrets() {
    for configuration in [
        "upstream.credential = \"sk-proj-UpstreamSecret0123456789\"\n",
        "upstream.url = \"https://user:ProxySecret0123456789@api.openai.com\"\n",
        "upstream.proxy = \"http://user:ProxySecret0123456789@proxy:1\"\n",
        "admin.token = \"admin-TokenSecret0123456789\"\n",
        "upstream.credential = \"env:BROKEN\"\nupstream.url = \"http://127.0.0.1:9\"\n",
    ] {
        let variables = [
            ("BROKEN", "sk-proj-UpstreamSecret\n0123456789"),
            ("HTTPS_PROXY", "socks5://user:ProxySecret0123456789@x"),
        ];
        let output = Weir::fails(configuration, &variables);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(2), "{configuration} {text}");
        assert!(!NEEDLES.iter().any(|needle| text.contains(needle)), "{configuration} {text}");
    }
}

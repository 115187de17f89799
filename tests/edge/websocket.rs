//! WebSocket connections through Weir: rights, destinations, limits and ends.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use weir::internals::websocket::{Kind, Sender, write};

use crate::frames::{KEY, Socket};
use crate::process::Weir;
use crate::wire::{self, Message};

const ASK: &str = "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: weir\r\nAuthorization: Bearer own-key-0123456789\r\n\
                   Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.own-key-0123456789\r\n\r\n";

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: realtime\r\n\
                        X-Request-Id: req_ws\r\n\r\n";

/// An upstream that echoes all bytes after the upgrade, or, for `/v1/responses`, never reads.
fn echoing() -> (SocketAddr, Receiver<Message>) {
    let (sender, seen) = channel();
    let sender = std::sync::Mutex::new(sender);
    let address = wire::upstream(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(head) = wire::read_head(&mut reader) else { return };
        let path = head.start.clone();
        if sender.lock().unwrap().send(head).is_err() || stream.write_all(SWITCH).is_err() {
            return;
        }
        if path.contains("/v1/responses") {
            std::thread::sleep(Duration::from_mins(1));
        }
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

fn open(weir: &Weir, ask: &str) -> (Message, TcpStream) {
    let mut stream = wire::connect(weir.address);
    stream.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    // Byte by byte, because the bytes after the head belong to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (wire::read_head(&mut &head[..]).unwrap(), stream)
}

fn ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

const UPGRADED: &str = "weir_connections{state=\"upgraded\"}";

#[test]
fn a_bypassed_caller_speaks_unread_with_the_configured_key_and_a_drain_cuts_it() {
    let (upstream, seen) = echoing();
    let mut weir = Weir::start(
        &format!(
            "mode = \"bypass\"\nupstream.url = \"http://{upstream}\"\nupstream.credential = \"env:KEY\"\n\
             server.allow_unknown_callers = false\n[[callers]]\nname = \"voice\"\nkey = \"env:OWN\"\n"
        ),
        &[("KEY", "sk-upstream-0123456789"), ("OWN", "own-key-0123456789")],
    );
    let (head, mut stream) = open(&weir, ASK);
    assert_eq!(head.start, "HTTP/1.1 101 Switching Protocols");
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "realtime"),
        ("x-request-id", "req_ws"),
        ("x-weir-attempts", "1"),
    ] {
        assert_eq!(head.header(name), Some(value), "{head:?}");
    }
    let asked = seen.recv().unwrap();
    assert_eq!(asked.start, "GET /v1/realtime?model=gpt-realtime HTTP/1.1");
    for (name, value) in [
        ("authorization", "Bearer sk-upstream-0123456789"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "realtime"),
        ("host", &upstream.to_string()),
    ] {
        assert_eq!(asked.header(name), Some(value), "{asked:?}");
    }
    assert!(!format!("{asked:?}").contains("own-key"), "{asked:?}");

    // Far more than all buffers, in both directions at once.
    let total = 16 << 20;
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let block: Vec<u8> = (0..64 << 10).map(|byte: u32| byte.to_le_bytes()[0]).collect();
        for _ in 0..total / block.len() {
            writer.write_all(&block).unwrap();
        }
    });
    let mut back = vec![0; total];
    stream.read_exact(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back.iter().enumerate().all(|(index, byte)| usize::from(*byte) == index % 256));

    weir.wait_for(UPGRADED, 1.0);
    let success = "weir_requests_total{caller=\"voice\",endpoint=\"realtime\",outcome=\"success\"}";
    assert!(weir.metric(success) > 0.5);
    assert!(weir.metric("weir_requests_in_flight{caller=\"voice\"}") < 0.5, "it is a connection now");
    let began = Instant::now();
    assert_eq!(weir.drain(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Weir adds no byte: a close frame would mean a regular end.
    let mut rest = Vec::new();
    assert!(matches!(stream.read_to_end(&mut rest), Ok(0)), "{rest:?}");
}

#[test]
fn only_listed_paths_known_callers_and_a_limited_number() {
    let (upstream, seen) = echoing();
    let weir = Weir::before(
        upstream,
        "upstream.websocket = { paths = [\"/v1/realtime\"], max = 2, idle_timeout = \"1s\" }\n",
    );
    let refused = wire::ask(weir.address, ASK.replace("/v1/realtime", "/v1/responses").as_bytes());
    assert_eq!(refused.status(), 403);
    assert!(String::from_utf8_lossy(&refused.body).contains("upstream.websocket.paths"), "{refused:?}");
    assert!(weir.metric("weir_http_refusals_total{rule=\"upgrade\"}") > 0.5);
    assert!(seen.try_recv().is_err(), "the upstream never heard of it");

    let (_, mut first) = open(&weir, ASK);
    let (_, mut second) = open(&weir, ASK);
    let third = wire::ask(weir.address, ASK.as_bytes());
    assert_eq!(third.status(), 429);
    assert!(third.header("retry-after").is_some(), "{third:?}");
    weir.wait_for("weir_limits_reached_total{limit=\"websockets\"}", 1.0);
    // Both close as idle, with the reason, and free their slots.
    let (code, reason) = Socket::new(first.try_clone().unwrap(), Sender::Server).next().unwrap().close();
    assert_eq!(code, 1001);
    assert!(reason.contains("upstream.websocket.idle_timeout"), "{reason}");
    assert!(ended(&mut first) && ended(&mut second));
    drop((first, second));
    weir.wait_for("weir_limits_reached_total{limit=\"websocket_idle\"}", 2.0);
    weir.wait_for_none(UPGRADED);
    let (head, _third) = open(&weir, ASK);
    assert_eq!(head.status(), 101);
}

#[test]
fn a_side_that_does_not_read_stops_the_other_from_sending() {
    let (upstream, _seen) = echoing();
    let weir = Weir::before(upstream, "");
    let (_, mut stream) = open(&weir, &ASK.replace("/v1/realtime", "/v1/responses"));
    let before = weir.memory("VmRSS");
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let block = write(Kind::Binary, &vec![0; 64 << 10], Some(KEY));
    let mut sent = 0;
    while let Ok(written) = stream.write(&block) {
        sent += written;
        assert!(sent < 256 << 20, "nothing holds it back");
    }
    let grown = weir.memory("VmRSS").saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB for {sent} bytes sent");
}

#[test]
fn an_upstream_that_declines_is_heard_and_other_protocols_are_ignored() {
    let (upstream, seen) = wire::recording(|_| {
        let body = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#;
        format!(
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let weir = Weir::before(upstream, "");
    let answer = wire::ask(weir.address, ASK.as_bytes());
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.header("x-weir-error-class"), Some("authentication_incorrect_key"));
    assert!(seen.recv().unwrap().header("upgrade").is_some());
    // curl's h2c: RFC 9110, section 7.8, lets a server ignore it.
    let request = "GET /v1/models HTTP/1.1\r\nHost: weir\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(wire::ask(weir.address, request.as_bytes()).status(), 401);
    let seen = seen.recv().unwrap();
    assert!(seen.header("upgrade").is_none() && seen.header("http2-settings").is_none(), "{seen:?}");
}

//! Requests as other clients write them: forwarded unchanged, and recognized.

use std::io::{BufReader, Write};

use crate::process::Weir;
use crate::requests::coded;
use crate::scripted::{CHAT, GOOD, answering, good, json, scope_names, scripted};
use crate::wire;

/// A chat as its client writes it, and whether Weir can parse and so retry it.
fn sent(head: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{head}\r\nHost: weir\r\nAuthorization: Bearer sk\r\n{fields}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn a_chat_is_known_however_its_client_writes_it() {
    const HEAD: &str = "POST /v1/chat/completions HTTP/1.1";
    const TYPE: &str = "Content-Type: application/json\r\n";
    let utf16: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain(CHAT.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let bom = [b"\xEF\xBB\xBF", CHAT.as_bytes()].concat();
    let spaced = format!("\r\n\t {CHAT}\n");
    let twice = coded("gzip", &coded("gzip", CHAT.as_bytes()));
    let long = format!("{TYPE}X-Long: {}\r\n", "a".repeat(48 << 10));
    let many: String = (0..80).map(|number| format!("X-{number}: a\r\n")).collect::<Vec<_>>().concat();
    let mut wrong = Vec::new();
    for (name, request, body, is_read) in [
        ("no type", sent(HEAD, "", CHAT.as_bytes()), CHAT.as_bytes(), true),
        (
            "a type in capitals",
            sent(HEAD, "CONTENT-TYPE: Application/JSON; Charset=UTF-8\r\n", CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "a browser's type",
            sent(HEAD, "Content-Type: text/plain;charset=UTF-8\r\n", CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "a vendor's type",
            sent(HEAD, "Content-Type: application/vnd.api+json\r\n", CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "curl's type",
            sent(HEAD, "Content-Type: application/x-www-form-urlencoded\r\n", CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        ("a BOM", sent(HEAD, TYPE, &bom), &bom, true),
        ("spaces around", sent(HEAD, TYPE, spaced.as_bytes()), spaced.as_bytes(), true),
        ("UTF-16", sent(HEAD, TYPE, &utf16), &utf16, false),
        (
            "a coding in capitals",
            sent(HEAD, &format!("{TYPE}Content-Encoding: GZIP\r\n"), &coded("gzip", CHAT.as_bytes())),
            &coded("gzip", CHAT.as_bytes()),
            true,
        ),
        (
            "packed twice",
            sent(HEAD, &format!("{TYPE}Content-Encoding: gzip, gzip\r\n"), &twice),
            &twice,
            false,
        ),
        (
            "a slash too many",
            sent("POST /v1/chat/completions/ HTTP/1.1", TYPE, CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "two slashes",
            sent("POST //v1//chat/completions HTTP/1.1", TYPE, CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "the version twice",
            sent("POST /v1/v1/chat/completions HTTP/1.1", TYPE, CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "a query",
            sent(
                "POST /v1/chat/completions?api-version=2024-10-21&beta=true HTTP/1.1",
                TYPE,
                CHAT.as_bytes(),
            ),
            CHAT.as_bytes(),
            true,
        ),
        ("a field of 48 KB", sent(HEAD, &long, CHAT.as_bytes()), CHAT.as_bytes(), true),
        ("eighty fields", sent(HEAD, &format!("{TYPE}{many}"), CHAT.as_bytes()), CHAT.as_bytes(), true),
        (
            "an expectation in capitals",
            sent(HEAD, &format!("{TYPE}EXPECT: 100-Continue\r\n"), CHAT.as_bytes()),
            CHAT.as_bytes(),
            true,
        ),
        (
            "bare line feeds",
            String::from_utf8(sent(HEAD, TYPE, CHAT.as_bytes())).unwrap().replace("\r\n", "\n").into_bytes(),
            CHAT.as_bytes(),
            true,
        ),
        (
            "empty lines before",
            [b"\r\n\r\n", &sent(HEAD, TYPE, CHAT.as_bytes())[..]].concat(),
            CHAT.as_bytes(),
            true,
        ),
    ] {
        let (upstream, seen) = scripted(vec![json("500 Internal Server Error", "", "{}"), good()]);
        let weir = Weir::before(upstream, "");
        let got = wire::ask(weir.address, &request);
        let attempts = if is_read { 2 } else { 1 };
        let is_whole = (0..seen.count()).all(|index| seen.request(index).body == body);
        let is_known = scope_names(&weir).contains(&"gpt-4o".to_owned());
        if (seen.count(), is_whole, is_known) != (attempts, true, is_read) {
            wrong.push(format!(
                "{name}: {} attempts, whole {is_whole}, known {is_known}: {got:?}",
                seen.count()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Single bytes, or the head in two pieces.
#[test]
fn a_request_may_come_in_any_pieces() {
    let (upstream, seen) = scripted(vec![good()]);
    let weir = Weir::before(upstream, "");
    let request =
        sent("POST /v1/chat/completions HTTP/1.1", "Content-Type: application/json\r\n", CHAT.as_bytes());
    let mut client = wire::connect(weir.address);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for size in [1, 3, 50, 4096] {
        for piece in request.chunks(size) {
            client.write_all(piece).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        let got = wire::read_answer(&mut reader, "POST").unwrap();
        assert_eq!((got.status(), got.body.as_slice()), (200, GOOD.as_bytes()), "by {size}");
    }
    assert_eq!(seen.count(), 4);
    assert!((0..4).all(|index| seen.request(index).body == CHAT.as_bytes()));
}

/// Other requests pass with their method, query and body.
#[test]
fn other_methods_pass_as_they_are() {
    let (upstream, seen) = answering(|request| {
        let body = request.start.split(' ').next().unwrap().to_owned();
        let fields = "Allow: GET, HEAD\r\nAccess-Control-Allow-Methods: *\r\n";
        if body == "HEAD" {
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 77\r\n\r\n").into_bytes()
        } else {
            json("200 OK", fields, &body)
        }
    });
    let weir = Weir::before(upstream, "");
    for (index, (start, body)) in [
        ("OPTIONS /v1/chat/completions HTTP/1.1", ""),
        ("OPTIONS * HTTP/1.1", ""),
        ("HEAD /v1/models HTTP/1.1", ""),
        ("GET /v1/models?limit=2&after=a%2Fb HTTP/1.1", "{}"),
        ("DELETE /v1/files/file-1 HTTP/1.1", r#"{"reason":"x"}"#),
        ("PATCH /v1/assistants/a HTTP/1.1", "{}"),
        ("PUT /v1/custom HTTP/1.1", "{}"),
        ("REPORT /v1/custom HTTP/1.1", ""),
        ("get /v1/models HTTP/1.1", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let got = wire::ask(weir.address, &sent(start, "Origin: http://127.0.0.1\r\n", body.as_bytes()));
        assert_eq!((got.status(), got.header("allow")), (200, Some("GET, HEAD")), "{start}: {got:?}");
        assert_eq!(
            (seen.request(index).start.as_str(), seen.request(index).body.as_slice()),
            (start, body.as_bytes())
        );
        if start.starts_with("HEAD") {
            assert_eq!(got.header("content-length"), Some("77"));
        }
    }
}

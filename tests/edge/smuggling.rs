//! The table of smuggling cases against the real binary, checked by what the upstream received.

use std::io::{BufReader, Write};

use serde::Deserialize;

use crate::process::Weir;
use crate::wire;

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    send: String,
    answers: Vec<u16>,
    saw: Vec<String>,
    open: Option<bool>,
}

const AFTER: &str = "GET /after HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n";

/// The target in origin form: the only difference between the table's service and the upstream.
fn origin_form(saw: &str) -> String {
    let Some((method, rest)) = saw.split_once(" http://") else { return saw.to_owned() };
    let path = rest.find('/').map_or("/", |slash| &rest[slash..]);
    format!("{method} {path}")
}

#[test]
fn the_upstream_sees_what_the_table_says_and_nothing_else() {
    let table: Table = toml::from_str(include_str!("../smuggling/cases.toml")).unwrap();
    let (upstream, seen) = wire::plain();
    let weir = Weir::before(upstream, "");
    let mut wrong = Vec::new();
    for case in &table.case {
        let mut stream = wire::connect(weir.address);
        stream.write_all(format!("{}{AFTER}", case.send).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut answers = Vec::new();
        while let Some(answer) = wire::read_answer(&mut reader, "GET") {
            answers.push(answer.status());
        }
        let mut saw: Vec<String> = seen
            .try_iter()
            .map(|request| {
                let mut words = request.start.split(' ');
                let (method, path) = (words.next().unwrap(), words.next().unwrap());
                format!("{method} {path} {}", String::from_utf8_lossy(&request.body))
            })
            .collect();
        let open = saw.last().is_some_and(|last| last == "GET /after ");
        if open {
            saw.pop();
            answers.pop();
        }
        // In the table the service reports a truncated body; here Weir does.
        let expected: Vec<u16> =
            case.answers.iter().map(|status| if *status == 499 { 400 } else { *status }).collect();
        let expected_saw: Vec<String> = case.saw.iter().map(|saw| origin_form(saw)).collect();
        if answers != expected || saw != expected_saw || case.open.is_some_and(|expected| expected != open) {
            wrong.push(format!("{}: answers {answers:?}, saw {saw:?}, open {open}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.case.len(), wrong.join("\n"));
}

#[test]
fn a_lying_upstream_is_a_502_and_its_connection_is_dropped() {
    for lie in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (upstream, seen) = wire::recording(|_| lie.as_bytes().to_vec());
        // Not retried: the retry would get the same response.
        let weir = Weir::before(upstream, "retry.max_attempts = 1\n");
        let answer = wire::get(weir.address, "/v1/models");
        assert_eq!(answer.status(), 502, "{lie:?} {answer:?}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains("weir_error"), "{lie:?} {text}");
        assert_eq!(seen.try_iter().count(), 1, "{lie:?}");
        assert!(weir.metric("weir_upstream_connections{state=\"idle\"}") < 0.5, "{lie:?}");
    }
}

//! The ends of turns: by a drain, a disconnect, or a protocol violation.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use weir::internals::websocket::{Kind, write};

use crate::frames::{self, KEY, open};
use crate::process::Weir;
use crate::turns::{OK, RESPONSES, answer, answering, create};

#[test]
fn a_client_disconnect_ends_its_turns() {
    let (upstream, _seen) = answering();
    let weir = Weir::before(upstream, "limits.requests_per_minute = 3\n");
    let mut client = open(weir.address, RESPONSES, "");
    for lane in ["a", "b", "c"] {
        client.say(&create(Some(lane), "x"));
    }
    client.event("response.completed");
    client.send(Kind::Close, &[0x03, 0xe8]);
    drop(client);
    let left = "weir_requests_total{caller=\"default\",endpoint=\"responses\",outcome=\"client_closed\"}";
    weir.wait_for(left, 2.0);
    weir.wait_for_none("weir_requests_in_flight{caller=\"default\"}");
    weir.wait_for_none("weir_connections{state=\"upgraded\"}");
}

#[test]
fn an_upstream_disconnect_cuts_its_turns() {
    let upstream = frames::upstream(move |mut socket, _| {
        socket.next();
        socket.say(&json!({ "type": "response.created", "stream_id": "a", "response": { "id": "r" } }));
    });
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "");
    client.say(&create(Some("a"), "x"));
    client.event("response.created");
    assert!(client.next().is_none(), "no close frame that the upstream did not send");
    weir.wait_for("weir_errors_total{class=\"stream_cut\"}", 1.0);
}

/// Protocol violations, with the expected close codes.
fn hostile() -> Vec<(&'static str, Vec<u8>, u16)> {
    let masked = |mut frame: Vec<u8>, change: &dyn Fn(&mut Vec<u8>)| {
        change(&mut frame);
        frame
    };
    let turn = create(None, "x").to_string();
    let text = || write(Kind::Text, turn.as_bytes(), Some(KEY));
    vec![
        ("not masked", write(Kind::Text, turn.as_bytes(), None), 1002),
        ("a reserved bit", masked(text(), &|frame| frame[0] |= 0x40), 1002),
        ("another reserved bit", masked(text(), &|frame| frame[0] |= 0x10), 1002),
        ("a reserved opcode", masked(text(), &|frame| frame[0] = 0x83), 1002),
        ("a reserved opcode of a control frame", masked(text(), &|frame| frame[0] = 0x8b), 1002),
        ("a length of 2^63", [&[0x81, 0xff, 0x80][..], &[0; 7], &KEY].concat(), 1002),
        ("a length of 2^63 - 1", [&[0x81, 0xff, 0x7f][..], &[0xff; 7], &KEY].concat(), 1009),
        ("a length in too many bytes", [&[0x81, 0xfe, 0, 5][..], &KEY, b"abcde"].concat(), 1002),
        ("a fragmented ping", masked(write(Kind::Ping, b"x", Some(KEY)), &|frame| frame[0] &= 0x7f), 1002),
        ("a ping of 126 bytes", [&[0x89, 0xfe, 0, 126][..], &KEY, &[0; 126]].concat(), 1002),
        (
            "a fragmented close",
            masked(write(Kind::Close, &[3, 232], Some(KEY)), &|frame| frame[0] &= 0x7f),
            1002,
        ),
        ("a pong of 2^16 bytes", [&[0x8a, 0xff, 0, 0, 0, 0, 0, 1, 0, 0][..], &KEY].concat(), 1002),
        (
            "a fragmented ping within a message",
            [
                masked(text(), &|frame| frame[0] &= 0x7f),
                masked(write(Kind::Ping, b"x", Some(KEY)), &|frame| frame[0] &= 0x7f),
            ]
            .concat(),
            1002,
        ),
        (
            "fragments that are longer together than a message may be",
            [
                masked(write(Kind::Text, &[b' '; 40_000], Some(KEY)), &|frame| frame[0] &= 0x7f),
                write(Kind::Continuation, &[b' '; 40_000], Some(KEY)),
            ]
            .concat(),
            1009,
        ),
        ("a continuation of nothing", write(Kind::Continuation, turn.as_bytes(), Some(KEY)), 1002),
        ("a message within another", [masked(text(), &|frame| frame[0] &= 0x7f), text()].concat(), 1002),
        ("longer than it may be", write(Kind::Text, &vec![b' '; 70_000], Some(KEY)), 1009),
    ]
}

#[test]
fn a_protocol_violation_ends_the_session_and_no_turn_is_sent() {
    let (upstream, seen) = answering();
    let weir = Weir::before(upstream, "upstream.websocket.max_message = \"64KiB\"\n");
    let mut broken = 0.0;
    for (what, bytes, code) in hostile() {
        let mut client = open(weir.address, RESPONSES, "");
        client.raw(&bytes);
        let (told, reason) = client.next().unwrap().close();
        assert_eq!(told, code, "{what}");
        assert!(!reason.is_empty(), "{what}");
        assert!(client.next().is_none(), "{what}");
        broken += f64::from(u8::from(code == 1002));
    }
    weir.wait_for("weir_http_refusals_total{rule=\"websocket_frame\"}", broken);
    weir.wait_for("weir_limits_reached_total{limit=\"websocket_message\"}", 3.0);
    while let Ok(frame) = seen.recv_timeout(Duration::from_millis(200)) {
        assert_eq!(frame.kind, Kind::Close, "{frame:?}");
    }
    // The upstream checks UTF-8: Weir does not need it to parse a message.
    let mut client = open(weir.address, RESPONSES, "");
    client.send(Kind::Text, b"{\"type\":\"response.create\",\"input\":\"\xff\xc0\",\"stream_id\":\"a\"}");
    client.event("response.completed");
    weir.wait_for(OK, 1.0);
}

#[test]
fn an_upstream_that_breaks_the_protocol_ends_the_session() {
    let part = |mut frame: Vec<u8>| {
        frame[0] &= 0x7f;
        frame
    };
    let text = || write(Kind::Text, b"{}", None);
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("masked", write(Kind::Text, b"masked", Some(KEY))),
        ("a reserved bit", vec![0xc1, 0]),
        ("another reserved bit", vec![0x91, 0]),
        ("a reserved opcode", vec![0x83, 0]),
        ("a reserved opcode of a control frame", vec![0x8b, 0]),
        ("a length of 2^63", [&[0x81, 127, 0x80][..], &[0; 7]].concat()),
        ("a length in too many bytes", vec![0x81, 126, 0, 2, b'{', b'}']),
        ("a fragmented close", part(write(Kind::Close, &[0x03, 0xe8], None))),
        ("a ping of 126 bytes", [&[0x89, 126, 0, 126][..], &[0; 126]].concat()),
        ("a continuation of nothing", write(Kind::Continuation, b"{}", None)),
        ("a message within another", [part(text()), text()].concat()),
        ("a fragmented close within a message", [part(text()), part(write(Kind::Close, b"", None))].concat()),
    ];
    let next = Mutex::new(hostile.clone().into_iter());
    let upstream = frames::upstream(move |mut socket, _| {
        socket.next();
        let (_, bytes) = next.lock().unwrap().next().unwrap();
        socket.raw(&bytes);
        while socket.next().is_some() {}
    });
    let weir = Weir::before(upstream, "");
    for (what, _) in &hostile {
        let mut client = open(weir.address, RESPONSES, "");
        client.say(&create(None, "x"));
        let told = client.next().unwrap_or_else(|| panic!("{what}: ended without a word"));
        assert_eq!(told.close().0, 1011, "{what}");
        assert!(client.next().is_none(), "{what}");
    }
    weir.wait_for("weir_http_refusals_total{rule=\"websocket_frame\"}", hostile.len() as f64);
    // The running turns got no response.
    weir.wait_for("weir_errors_total{class=\"connection_reset\"}", hostile.len() as f64);
}

#[test]
fn a_drain_lets_turns_finish_begins_none_and_says_so() {
    let (sender, seen) = channel();
    let (answers, go) = channel::<()>();
    let (sender, go) = (Mutex::new(sender), Mutex::new(go));
    let upstream = frames::upstream(move |mut socket, _| {
        let Some(frame) = socket.next().filter(|frame| frame.kind == Kind::Text) else { return };
        sender.lock().unwrap().send(frame).unwrap();
        go.lock().unwrap().recv().unwrap();
        answer(&mut socket, Some("a"), "resp_1");
        socket.next();
    });
    let mut weir = Weir::before(upstream, "shutdown.drain_timeout = \"20s\"\n");
    let mut idle = open(weir.address, RESPONSES, "");
    let mut busy = open(weir.address, RESPONSES, "");
    busy.say(&create(Some("a"), "x"));
    seen.recv().unwrap();
    busy.say(&create(Some("a"), "behind it"));
    weir.admin("POST", "/drain");
    let (code, reason) = idle.next().unwrap().close();
    assert_eq!(code, 1012);
    assert!(reason.contains("shutting down"), "{reason}");
    let refused = busy.next().unwrap().json();
    assert_eq!((&refused["error"]["code"], &refused["stream_id"]), (&json!("draining"), &json!("a")));
    busy.say(&create(Some("b"), "x"));
    assert_eq!(busy.next().unwrap().json()["stream_id"], "b");
    answers.send(()).unwrap();
    busy.event("response.completed");
    assert_eq!(busy.next().unwrap().close().0, 1012);
    drop((idle, busy));
    assert_eq!(weir.wait(), Some(0));
}

#[test]
fn turns_longer_than_the_drain_get_an_error() {
    let upstream = frames::upstream(move |mut socket, _| while socket.next().is_some() {});
    let mut weir = Weir::before(upstream, "shutdown.drain_timeout = \"1s\"\n");
    let mut client = open(weir.address, RESPONSES, "");
    client.say(&create(Some("a"), "x"));
    client.send(Kind::Ping, b"");
    weir.wait_for("weir_requests_in_flight{caller=\"default\"}", 1.0);
    weir.admin("POST", "/drain");
    let (code, reason) = client.next().unwrap().close();
    assert_eq!(code, 1012);
    assert!(reason.contains("drain timeout"), "{reason}");
    drop(client);
    assert_eq!(weir.wait(), Some(0));
    assert!(weir.printed().contains("\"error_class\":\"weir_draining\""), "{}", weir.printed());
}

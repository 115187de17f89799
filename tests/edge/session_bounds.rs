//! The limits of WebSocket sessions, when reached: memory, turns and idle time.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};
use weir::internals::websocket::{Kind, write};

use crate::frames::{self, KEY, Socket, open};
use crate::process::Weir;
use crate::turns::{OK, RESPONSES, answer, answering, count, create};

const UNDER_WAY: &str = "weir_requests_in_flight{caller=\"default\"}";

fn reached(limit: &str) -> String {
    format!("weir_limits_reached_total{{limit=\"{limit}\"}}")
}

/// Sends a message and waits until Weir has read it, by a ping that this upstream answers.
fn say_and_wait(client: &mut Socket, value: &Value) -> Vec<Value> {
    client.say(value);
    client.send(Kind::Ping, b"read");
    let mut told = Vec::new();
    loop {
        let frame = client.next().unwrap();
        if frame.kind == Kind::Pong {
            return told;
        }
        told.push(frame.json());
    }
}

/// An upstream that answers pings and turns, but `held` turns only on request.
fn holding() -> (SocketAddr, Sender<()>) {
    let (answers, go) = channel::<()>();
    let go = Mutex::new(go);
    let address = frames::upstream(move |mut socket, _| {
        while let Some(frame) = socket.next() {
            if frame.kind == Kind::Ping {
                socket.send(Kind::Pong, &frame.payload);
            } else if frame.kind == Kind::Text && frame.json()["type"] == "response.create" {
                if frame.json()["input"] == "held" {
                    go.lock().unwrap().recv().unwrap();
                }
                answer(&mut socket, frame.json()["stream_id"].as_str(), "resp_1");
            }
        }
    });
    (address, answers)
}

#[test]
fn a_turn_for_which_there_is_no_memory_is_refused_alone() {
    let (upstream, answers) = holding();
    let weir = Weir::before(
        upstream,
        "limits.in_flight = 1\nreplay.max_total = 0\nserver.max_buffered_bytes = \"1MiB\"\n",
    );
    let mut first = open(weir.address, RESPONSES, "");
    first.say(&create(Some("first"), "held"));
    weir.wait_for(UNDER_WAY, 1.0);
    let mut client = open(weir.address, RESPONSES, "x-weir-deadline: 60s\r\n");
    let text = "x".repeat(12_000);
    let mut refused = 0;
    for turn in 0..100 {
        let lane = format!("lane_{turn}");
        for told in say_and_wait(&mut client, &create(Some(&lane), &text)) {
            assert_eq!((&told["type"], &told["status"]), (&json!("error"), &json!(429)), "{told}");
            assert_eq!((&told["error"]["code"], &told["stream_id"]), (&json!("queue_full"), &json!(lane)));
            assert_eq!(told["error"]["headers"]["x-weir-error-class"], "weir_queue_full", "{told}");
            refused += 1;
        }
    }
    assert!((10..20).contains(&refused), "{refused} of 100 turns of 12 kB refused");
    weir.wait_for(&reached("buffered_bytes"), f64::from(refused));
    // A fragmented message that does not fit in memory ends only its own session.
    let mut other = open(weir.address, RESPONSES, "");
    let mut begin = write(Kind::Text, &vec![b' '; 200_000], Some(KEY));
    begin[0] &= 0x7f;
    other.raw(&begin);
    assert_eq!(other.next().unwrap().close().0, 1013);
    weir.wait_for(&reached("buffered_bytes"), f64::from(refused + 1));
    // All others are answered.
    answers.send(()).unwrap();
    first.event("response.completed");
    for _ in 0..100 - refused {
        client.event("response.completed");
    }
    assert!(say_and_wait(&mut client, &json!({ "type": "response.steer" })).is_empty());
}

#[test]
fn a_turn_above_the_limit_is_refused_alone() {
    let (upstream, answers) = holding();
    let weir = Weir::before(upstream, "limits.in_flight = 1\n");
    let mut client = open(weir.address, RESPONSES, "x-weir-deadline: 60s\r\n");
    client.say(&create(Some("first"), "held"));
    weir.wait_for(UNDER_WAY, 1.0);
    for turn in 0..300 {
        client.say(&create(Some(&format!("lane_{turn}")), "x"));
    }
    for turn in 256..300 {
        let told = client.next().unwrap().json();
        let expected = (json!("queue_full"), json!(429), json!(format!("lane_{turn}")));
        assert_eq!(
            (told["error"]["code"].clone(), told["status"].clone(), told["stream_id"].clone()),
            expected
        );
    }
    assert_eq!(count(&weir, &reached("websocket_turns")), 44);
    answers.send(()).unwrap();
    for _ in 0..257 {
        client.event("response.completed");
    }
    weir.wait_for_none(UNDER_WAY);
}

#[test]
fn a_client_that_does_not_read_releases_its_permits() {
    let upstream = frames::upstream(move |mut socket, _| {
        while let Some(frame) = socket.next().filter(|frame| frame.kind == Kind::Text) {
            let lane = frame.json()["stream_id"].clone();
            socket.say(&json!({ "type": "response.created", "stream_id": lane, "response": { "id": "r" } }));
            if lane != "endless" {
                answer(&mut socket, lane.as_str(), "r");
                continue;
            }
            let kind = "response.output_text.delta";
            let delta = json!({ "type": kind, "stream_id": lane, "delta": "x".repeat(60_000) });
            let event = write(Kind::Text, delta.to_string().as_bytes(), None);
            while std::io::Write::write_all(&mut socket.stream, &event).is_ok() {}
        }
    });
    let weir = Weir::before(upstream, "limits.in_flight = 1\nserver.write_timeout = \"1s\"\n");
    let mut stalled = open(weir.address, RESPONSES, "");
    stalled.say(&create(Some("endless"), "x"));
    weir.wait_for(UNDER_WAY, 1.0);
    let mut neighbor = open(weir.address, RESPONSES, "");
    neighbor.say(&create(Some("a"), "x"));
    neighbor.event("response.completed");
    weir.wait_for(&reached("write_timeout"), 1.0);
    weir.wait_for(&OK.replace("success", "client_closed"), 1.0);
    weir.wait_for_printed("\"end\":\"unread\"", 1);
}

#[test]
fn a_turn_without_a_response_releases_its_permit() {
    let (forgotten, until) = channel::<()>();
    let until = Mutex::new(until);
    let upstream = frames::upstream(move |mut socket, _| {
        let lane = socket.next().unwrap().json()["stream_id"].clone();
        if lane == "lost" {
            until.lock().unwrap().recv().unwrap();
        }
        answer(&mut socket, lane.as_str(), "resp_1");
        while socket.next().is_some() {}
    });
    let weir = Weir::before(
        upstream,
        "limits.in_flight = 1\nupstream.idle_timeout = \"1s\"\nserver.write_timeout = \"1s\"\n",
    );
    let mut client = open(weir.address, RESPONSES, "");
    client.say(&create(Some("lost"), "x"));
    weir.wait_for(UNDER_WAY, 1.0);
    let mut neighbor = open(weir.address, RESPONSES, "");
    neighbor.say(&create(Some("a"), "x"));
    neighbor.event("response.completed");
    weir.wait_for(&reached("websocket_turn_idle"), 1.0);
    // A late response counts too: two turns, two handshakes.
    forgotten.send(()).unwrap();
    assert_eq!(client.event("response.completed")["stream_id"], "lost");
    weir.wait_for(OK, 4.0);
}

#[test]
fn status_and_page_show_turns_as_requests() {
    let (upstream, _seen) = answering();
    let weir = Weir::before(upstream, "limits.requests_per_minute = 1\n");
    let mut client = open(weir.address, RESPONSES, "x-weir-deadline: 300s\r\n");
    client.say(&create(Some("served"), "x"));
    client.event("response.completed");
    client.say(&create(Some("waits"), "x"));
    weir.wait_for(UNDER_WAY, 1.0);
    let status = || serde_json::from_str::<Value>(&weir.command(&["status", "--json"])).unwrap();
    let scope = |told: &Value| {
        let scopes = told["scopes"].as_array().unwrap();
        scopes.iter().find(|scope| scope["name"] == "gpt-5").unwrap().clone()
    };
    let told = status();
    let caller = &told["callers"][0];
    assert_eq!((&caller["waiting_interactive"], &caller["in_flight"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(scope(&told)["waiting"], 1, "{told}");
    let waits = "1 request for gpt-5 (1 requests per minute)";
    for shown in [weir.command(&["status"]), weir.admin("GET", "/")] {
        assert!(shown.contains(waits), "{shown}");
    }
    // A turn that fails is a failure there too.
    let mut hurried = open(weir.address, RESPONSES, "x-weir-deadline: 1s\r\n");
    hurried.say(&create(Some("late"), "x"));
    assert_eq!(hurried.next().unwrap().json()["error"]["code"], "deadline");
    weir.wait_for("weir_errors_total{class=\"weir_deadline\"}", 1.0);
    let told = status();
    assert!(told["errors"].to_string().contains("weir_deadline"), "{told}");
    for shown in [weir.command(&["status"]), weir.admin("GET", "/"), weir.admin("GET", "/reports")] {
        assert!(shown.contains("weir_deadline"), "{shown}");
    }
}

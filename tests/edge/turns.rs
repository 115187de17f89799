//! The turns of WebSocket sessions: relaying, waiting, counting and ending.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir::internals::simulate::{Settings, serve};
use weir::internals::websocket::{Kind, write};

use crate::frames::{self, Frame, KEY, Socket, open};
use crate::process::Weir;

pub(crate) const RESPONSES: &str = "/v1/responses";

/// A create for a lane.
pub(crate) fn create(lane: Option<&str>, text: &str) -> Value {
    let mut create = json!({ "type": "response.create", "model": "gpt-5", "store": false, "input": text });
    if let Some(lane) = lane {
        create["stream_id"] = json!(lane);
    }
    create
}

/// The events that answer a turn.
pub(crate) fn answer(socket: &mut Socket, lane: Option<&str>, id: &str) {
    let response = json!({ "id": id, "status": "completed", "usage": {
        "input_tokens": 7, "input_tokens_details": { "cached_tokens": 2 }, "output_tokens": 3, "total_tokens": 10 } });
    for kind in ["response.created", "response.output_text.delta", "response.completed"] {
        let mut event = json!({ "type": kind, "response": response });
        if let Some(lane) = lane {
            event["stream_id"] = json!(lane);
        }
        socket.say(&event);
    }
}

/// An upstream that answers each create at once, and the frames it read.
pub(crate) fn answering() -> (SocketAddr, Receiver<Frame>) {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let address = frames::upstream(move |mut socket, _| {
        let mut turns = 0;
        while let Some(frame) = socket.next() {
            drop(sender.lock().unwrap().send(frame.clone()));
            if frame.kind == Kind::Text && frame.last && frame.json()["type"] == "response.create" {
                turns += 1;
                answer(&mut socket, frame.json()["stream_id"].as_str(), &format!("resp_{turns}"));
            }
        }
    });
    (address, seen)
}

fn simulator(settings: Settings) -> SocketAddr {
    let (sender, address) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let running = serve(settings, listener).await.unwrap();
            sender.send(running.address()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}

/// The value of a counter.
pub(crate) fn count(weir: &Weir, series: &str) -> u64 {
    let value = weir.metric(series);
    format!("{value}").parse().unwrap()
}

pub(crate) const OK: &str =
    "weir_requests_total{caller=\"default\",endpoint=\"responses\",outcome=\"success\"}";

#[test]
fn frames_pass_both_ways_as_they_came() {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let down = [
        write(Kind::Ping, b"are you there", None),
        [&[0x01, 5][..], b"{\"ty\xff", &[0x8a, 0], &[0x80, 2], b"\"}"].concat(),
        write(Kind::Text, &vec![b'x'; 300_000], None),
        write(Kind::Binary, &vec![0; 70_000], None),
        write(Kind::Close, &[0x03, 0xe8, b'b', b'y', b'e'], None),
    ]
    .concat();
    let sent = down.clone();
    let upstream = frames::upstream(move |mut socket, head| {
        socket.raw(&sent);
        let mut raw = Vec::new();
        while let Some(frame) = socket.next() {
            raw.extend(frame.raw);
            if frame.kind == Kind::Close {
                break;
            }
        }
        sender.lock().unwrap().send((head, raw)).unwrap();
    });
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let mut fragment = write(Kind::Text, b"{\"type\":\"session", Some(KEY));
    fragment[0] &= 0x7f;
    let up = [
        &write(Kind::Pong, b"yes", Some(KEY))[..],
        &write(Kind::Text, create(Some("a"), "x").to_string().as_bytes(), Some([9, 8, 7, 6])),
        &fragment,
        &write(Kind::Continuation, b".update\"}", Some([0, 0, 0, 0])),
        &write(Kind::Text, b"\xff not JSON, nor UTF-8", Some(KEY)),
        &write(Kind::Binary, &vec![7; 100_000], Some(KEY)),
        &write(Kind::Close, &[0x03, 0xe8], Some(KEY)),
    ]
    .concat();
    for piece in up.chunks(1_000) {
        client.raw(piece);
    }
    let (head, read) = seen.recv().unwrap();
    assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
    assert!(read == up, "{} bytes of {}", read.len(), up.len());
    let mut came = Vec::new();
    while let Some(frame) = client.next() {
        came.extend(frame.raw);
    }
    assert!(came == down, "{} bytes of {}", came.len(), down.len());
}

#[test]
fn a_ping_within_a_message_does_not_wait_for_its_end() {
    let (upstream, seen) = answering();
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "");
    let mut begin = write(Kind::Text, b"{\"a\":", Some(KEY));
    begin[0] &= 0x7f;
    client.raw(&begin);
    client.send(Kind::Ping, b"now");
    assert_eq!(seen.recv().unwrap().kind, Kind::Ping);
    client.send(Kind::Continuation, b"1}");
    assert_eq!(seen.recv().unwrap().payload, b"{\"a\":");
    assert_eq!(seen.recv().unwrap().payload, b"1}");
}

#[test]
fn a_turn_is_a_request_in_metrics_and_log() {
    let (upstream, seen) = answering();
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "");
    for lane in [Some("a"), None] {
        client.say(&create(lane, "12345678"));
        assert_eq!(seen.recv().unwrap().json()["stream_id"].as_str(), lane);
        let done = client.event("response.completed");
        assert_eq!(done["stream_id"].as_str(), lane);
    }
    // The handshake is one too.
    weir.wait_for(OK, 3.0);
    assert_eq!(count(&weir, "weir_tokens_total{caller=\"default\",kind=\"input\",model=\"gpt-5\"}"), 14);
    assert_eq!(count(&weir, "weir_tokens_total{caller=\"default\",kind=\"cached\",model=\"gpt-5\"}"), 4);
    assert_eq!(count(&weir, "weir_tokens_total{caller=\"default\",kind=\"output\",model=\"gpt-5\"}"), 6);
    assert_eq!(count(&weir, "weir_requests_in_flight{caller=\"default\"}"), 0);
    weir.wait_for_printed("\"tokens_input\":7", 2);
    let line = weir.printed().lines().find(|line| line.contains("\"tokens_input\":7")).unwrap().to_owned();
    for part in ["\"model\":\"gpt-5\"", "\"stream\":true", "\"status\":200", "\"endpoint\":\"responses\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn turns_wait_for_the_limit_and_other_frames_do_not() {
    let (upstream, seen) = answering();
    let weir = Weir::before(upstream, "limits.requests_per_minute = 30\n");
    let mut client = open(weir.address, RESPONSES, "");
    let began = Instant::now();
    for turn in 0..6 {
        client.say(&create(Some(&format!("lane_{turn}")), "x"));
    }
    client.say(&json!({ "type": "response.steer", "previous_response_id": "r", "input": "x" }));
    client
        .say(&json!({ "type": "response.create", "stream_id": "warm", "generate": false, "model": "gpt-5" }));
    client.send(Kind::Ping, b"p");
    let (mut creates, mut others) = (0, 0);
    while others < 3 {
        let frame = seen.recv_timeout(Duration::from_secs(5)).unwrap();
        let is_turn = frame.kind == Kind::Text
            && frame.json()["type"] == "response.create"
            && frame.json()["generate"] != json!(false);
        if is_turn {
            creates += 1;
        } else {
            others += 1;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(2), "they wait");
    assert!(creates <= 3, "{creates} of 6 at once");
    while let Ok(frame) = seen.recv_timeout(Duration::from_secs(3).saturating_sub(began.elapsed())) {
        creates += usize::from(frame.kind == Kind::Text);
    }
    assert!(creates <= 3, "{creates} of 6 in 3 s");
    let waiting: f64 = weir
        .admin("GET", "/metrics")
        .lines()
        .filter(|line| line.starts_with("weir_queue_depth{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(waiting > 0.5, "they wait in the queue of all");
}

#[test]
fn turns_of_one_lane_keep_their_order_and_go_one_at_a_time() {
    let (sender, seen) = channel();
    let (answers, go) = channel::<()>();
    let (sender, go) = (Mutex::new(sender), Mutex::new(go));
    let upstream = frames::upstream(move |mut socket, _| {
        for turn in 1..=3 {
            let Some(frame) = socket.next() else { return };
            sender.lock().unwrap().send(frame.json()["input"].as_str().unwrap().to_owned()).unwrap();
            go.lock().unwrap().recv().unwrap();
            answer(&mut socket, Some("a"), &format!("resp_{turn}"));
        }
        socket.next();
    });
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "");
    for text in ["one", "two", "three"] {
        client.say(&create(Some("a"), text));
    }
    for text in ["one", "two", "three"] {
        assert_eq!(seen.recv().unwrap(), text);
        assert!(seen.recv_timeout(Duration::from_millis(100)).is_err(), "the next one waits for {text}");
        answers.send(()).unwrap();
    }
    for id in ["resp_1", "resp_2", "resp_3"] {
        assert_eq!(client.event("response.completed")["response"]["id"], id);
    }
}

#[test]
fn a_refusal_is_an_event_for_that_turn_alone() {
    let (upstream, _seen) = answering();
    let weir = Weir::before(upstream, "limits.requests_per_minute = 1\n");
    let mut client = open(weir.address, RESPONSES, "x-weir-deadline: 2s\r\n");
    client.say(&create(Some("first"), "x"));
    client.event("response.completed");
    client.say(&create(Some("late"), "x"));
    let refused = client.next().unwrap().json();
    assert_eq!(
        (&refused["type"], &refused["status"], &refused["stream_id"]),
        (&json!("error"), &json!(503), &json!("late"))
    );
    assert_eq!(
        (&refused["error"]["type"], &refused["error"]["code"]),
        (&json!("weir_error"), &json!("deadline"))
    );
    let headers = &refused["error"]["headers"];
    assert_eq!(headers["x-weir-error-class"], "weir_deadline");
    assert!(headers["retry-after"].is_string(), "{refused}");
    // The session goes on.
    client.say(&json!({ "type": "response.create", "stream_id": "warm", "generate": false }));
    assert_eq!(client.event("response.completed")["stream_id"], "warm");
    weir.wait_for("weir_errors_total{class=\"weir_deadline\"}", 1.0);
}

/// Creates that the simulator answers once with this error, and then regularly.
fn failing_once(lane: &str, error: &str, job: &str) -> Value {
    let mut create = create(Some(lane), "x");
    create["metadata"] = json!({ "x-simulate": format!("error={error}; times=1"), "x-job-id": job });
    create
}

#[test]
fn errors_in_frames_have_their_class_and_what_may_be_is_tried_again() {
    let weir = Weir::before(simulator(Settings::default()), "");
    let mut client = open(weir.address, RESPONSES, "");
    for (error, class) in [("server_is_overloaded", "overloaded"), ("server_error", "internal_server_error")]
    {
        client.say(&failing_once("a", error, error));
        // The error event never comes.
        assert_eq!(client.event("response.completed")["stream_id"], "a");
        assert_eq!(count(&weir, &format!("weir_attempt_errors_total{{class=\"{class}\"}}")), 1, "{class}");
        assert_eq!(count(&weir, &format!("weir_errors_total{{class=\"{class}\"}}")), 0, "{class}");
    }
    // The upstream removes the response that a failed turn continued, so a retry would fail.
    client.say(&create(Some("b"), "x"));
    let parent = client.event("response.completed")["response"]["id"].clone();
    let mut again = failing_once("b", "server_is_overloaded", "continued");
    again["previous_response_id"] = parent.clone();
    client.say(&again);
    let error = client.next().unwrap().json();
    assert_eq!((&error["status"], &error["error"]["code"]), (&json!(503), &json!("server_is_overloaded")));
    assert_eq!(count(&weir, "weir_errors_total{class=\"overloaded\"}"), 1);
    let mut gone = create(Some("b"), "x");
    gone["previous_response_id"] = parent;
    client.say(&gone);
    assert_eq!(client.next().unwrap().json()["error"]["code"], "previous_response_not_found");
    weir.wait_for("weir_errors_total{class=\"websocket_previous_response_not_found\"}", 1.0);
}

#[test]
fn an_error_of_the_whole_connection_is_counted_and_passes() {
    let event = json!({ "type": "error", "status": 400, "error": { "type": "invalid_request_error",
        "code": "websocket_connection_limit_reached", "message": "Create a new websocket connection to continue." } });
    let text = event.to_string();
    let upstream = frames::upstream(move |mut socket, _| {
        socket.next();
        socket.send(Kind::Text, text.as_bytes());
        socket.next();
    });
    let weir = Weir::before(upstream, "");
    let mut client = open(weir.address, RESPONSES, "");
    client.send(Kind::Ping, b"");
    assert_eq!(client.next().unwrap().json(), event);
    weir.wait_for("weir_errors_total{class=\"websocket_connection_limit\"}", 1.0);
}

#[test]
fn a_realtime_session_is_paced_by_its_answers_and_learns_its_limits() {
    let weir = Weir::before(simulator(Settings::default()), "");
    let mut client = open(weir.address, "/v1/realtime?model=gpt-realtime", "");
    client.event("session.created");
    client.say(&json!({ "type": "response.create", "event_id": "e1", "response": { "instructions": "Hi" } }));
    client.event("rate_limits.updated");
    assert_eq!(client.event("response.done")["response"]["status"], "completed");
    client.say(&json!({ "type": "response.create" }));
    assert_eq!(client.event("response.done")["response"]["status"], "completed");
    let ok = "weir_requests_total{caller=\"default\",endpoint=\"realtime\",outcome=\"success\"}";
    weir.wait_for(ok, 3.0);
    let limit = "weir_limit{dimension=\"requests_per_minute\",scope=\"gpt-realtime\"}";
    assert_eq!(count(&weir, limit), 500);
}

#[test]
fn sound_does_not_wait_behind_an_answer_and_the_conversation_does() {
    let (upstream, seen) = answering();
    let weir = Weir::before(upstream, "limits.requests_per_minute = 2\n");
    let mut client = open(weir.address, "/v1/realtime?model=gpt-realtime", "");
    client.say(&json!({ "type": "response.create" }));
    client.event("response.completed");
    client.say(&json!({ "type": "response.create", "event_id": "e2" }));
    client.say(&json!({ "type": "conversation.item.create", "item": {} }));
    client.say(&json!({ "type": "input_audio_buffer.append", "audio": "AAAA" }));
    assert_eq!(seen.recv().unwrap().json()["type"], "response.create");
    assert_eq!(seen.recv().unwrap().json()["type"], "input_audio_buffer.append");
    // A response that has not started is withdrawn, and the waiting turn continues.
    client.say(&json!({ "type": "response.cancel" }));
    let told = client.next().unwrap().json();
    assert_eq!((&told["error"]["code"], &told["error"]["event_id"]), (&json!("cancelled"), &json!("e2")));
    assert_eq!(seen.recv().unwrap().json()["type"], "conversation.item.create");
}

#[test]
fn the_observe_mode_delays_and_keeps_back_nothing() {
    let weir =
        Weir::before(simulator(Settings::default()), "mode = \"observe\"\nlimits.requests_per_minute = 20\n");
    let mut client = open(weir.address, RESPONSES, "");
    for lane in ["a", "b", "c"] {
        client.say(&create(Some(lane), "x"));
        client.event("response.completed");
    }
    client.say(&failing_once("a", "server_is_overloaded", "observed"));
    assert_eq!(client.next().unwrap().json()["error"]["code"], "server_is_overloaded");
    weir.wait_for("weir_observe_would_total{action=\"retried\"}", 1.0);
}

/// The default number of concurrent sessions.
const CROWD: usize = 500;

#[test]
fn a_session_between_turns_takes_little_memory() {
    let (upstream, _seen) = answering();
    let weir = Weir::before(upstream, "");
    let one_turn = |client: &mut Socket| {
        client.say(&create(Some("a"), &"x".repeat(5_000)));
        client.event("response.completed");
    };
    let mut sessions: Vec<Socket> = (0..20).map(|_| open(weir.address, RESPONSES, "")).collect();
    sessions.iter_mut().for_each(one_turn);
    let before = weir.memory("VmRSS");
    let mut crowd: Vec<Socket> = (0..CROWD).map(|_| open(weir.address, RESPONSES, "")).collect();
    crowd.iter_mut().for_each(one_turn);
    let each = weir.memory("VmRSS").saturating_sub(before) as f64 / CROWD as f64;
    say!("a session between turns, of {CROWD}: {each:.1} KiB");
    // Permanent buffers of 16 KiB each way would show.
    assert!(each < 16.0, "{each:.1} KiB");
}

#[test]
fn turns_go_on_where_no_body_is_kept() {
    let (upstream, _seen) = answering();
    let weir = Weir::before(upstream, "replay.max_total = 0\n");
    let mut client = open(weir.address, RESPONSES, "");
    for text in ["x".to_owned(), "x".repeat(300 << 10)] {
        client.say(&create(Some("a"), &text));
        client.event("response.completed");
    }
}
